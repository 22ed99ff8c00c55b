/* SPDX-License-Identifier: Apache-2.0 */
/*
 * doctor_fixture.h - a machine made of files, and what the doctor says of it.
 *
 * Each test starts with an empty folder as root. Only what a check reads is
 * put there, so a test shows what the check goes by.
 */
#ifndef DOCTOR_FIXTURE_H
#define DOCTOR_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <arpa/inet.h>
#include <cmocka.h>
#include <errno.h>
#include <ftw.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/base.h"
#include "doctor.h"

#define IB "/sys/class/infiniband"

static char root[64];
static gp_doctor doctor;
static gp_config *config;
static int node_error;       /* of every device node */
static const char *spared;   /* but one that ends so, unless NULL */
static const char *own_gid;  /* of this namespace, in full; NULL: none */
static uint32_t given_ipv4;  /* of every interface, 0: none */
static const char *given_to; /* only of this one, unless NULL */

static int
fake_open_node(const char *path)
{
    size_t length = strlen(path), end = spared ? strlen(spared) : 0;

    assert_int_equal(strncmp(path, root, strlen(root)), 0);
    return end && length > end && !strcmp(path + length - end, spared)
               ? 0
               : node_error;
}

static bool
fake_has_address(const struct in6_addr *gid)
{
    struct in6_addr own;

    return own_gid && inet_pton(AF_INET6, own_gid, &own) == 1 &&
           IN6_ARE_ADDR_EQUAL(gid, &own);
}

static bool
fake_address_of(const char *netdev, struct sockaddr_storage *out)
{
    struct sockaddr_in v4 = {.sin_family = AF_INET,
                             .sin_addr.s_addr = htonl(given_ipv4)};

    if (!given_ipv4 || !*netdev || (given_to && strcmp(netdev, given_to) != 0))
        return false;
    memcpy(out, &v4, sizeof(v4));
    return true;
}

static int
fake_adjtime(struct timex *t)
{
    t->status = 0;
    t->maxerror = 1500;
    return TIME_OK;
}

/* PFC on these priorities; negative: an errno value. */
static int given_pfc;
static const gp_doctor_stat *given_stats; /* ends with an empty name */

static int
fake_pfc_of(const char *netdev, uint8_t *enabled)
{
    assert_string_not_equal(netdev, "");
    if (given_pfc < 0)
        return -given_pfc;
    *enabled = (uint8_t)given_pfc;
    return 0;
}

static int
fake_stats_of(const char *netdev, gp_doctor_stats *out)
{
    uint32_t count = 0;

    assert_string_not_equal(netdev, "");
    if (!given_stats)
        return EOPNOTSUPP;
    while (*given_stats[count].name)
        count++;
    out->list = calloc(count + 1, sizeof(*out->list));
    assert_non_null(out->list);
    memcpy(out->list, given_stats, count * sizeof(*out->list));
    out->count = count;
    return 0;
}

static int
remove_one(const char *path, const struct stat *info, int type,
           struct FTW *walk)
{
    (void)info;
    (void)type;
    (void)walk;
    return remove(path);
}

static void
make_parents(const char *path)
{
    char folder[PATH_MAX];

    snprintf(folder, sizeof(folder), "%s", path);
    for (char *p = folder + 1; (p = strchr(p, '/')) != NULL; p++) {
        *p = '\0';
        mkdir(folder, 0755);
        *p = '/';
    }
}

static inline void
put_bytes(const char *path, const void *bytes, size_t length)
{
    char full[PATH_MAX];
    FILE *file;

    snprintf(full, sizeof(full), "%s%s", root, path);
    make_parents(full);
    file = fopen(full, "we");
    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, length, file), length);
    assert_int_equal(fclose(file), 0);
}

/* One file with one text; "\n" is added, as the kernel does. */
static void GP_PRINTF(2, 3) put(const char *path, const char *format, ...)
{
    char text[4096];
    va_list args;
    int length;

    va_start(args, format);
    length = vsnprintf(text, sizeof(text) - 1, format, args);
    va_end(args);
    assert_true(length >= 0 && (size_t)length < sizeof(text) - 1);
    text[length++] = '\n';
    put_bytes(path, text, (size_t)length);
}

/* A link to another path below the root. */
static inline void
put_link(const char *path, const char *target)
{
    char full[PATH_MAX], to[PATH_MAX];

    snprintf(full, sizeof(full), "%s%s", root, path);
    snprintf(to, sizeof(to), "%s%s", root, target);
    make_parents(full);
    make_parents(to);
    mkdir(to, 0755);
    assert_int_equal(symlink(to, full), 0);
}

/* A port in every respect fine. `pci` is its folder, NULL: soft. */
static inline void
put_port(const char *device, unsigned port, const char *layer,
         const char *netdev, const char *pci)
{
    char base[320], path[512];

    snprintf(base, sizeof(base), IB "/%s/ports/%u", device, port);
    snprintf(path, sizeof(path), "%s/state", base);
    put(path, "4: ACTIVE");
    snprintf(path, sizeof(path), "%s/phys_state", base);
    put(path, "5: LinkUp");
    snprintf(path, sizeof(path), "%s/rate", base);
    put(path, "100 Gb/sec (4X EDR)");
    snprintf(path, sizeof(path), "%s/link_layer", base);
    put(path, "%s", layer);
    snprintf(path, sizeof(path), IB "/%s/node_type", device);
    put(path, "1: CA");
    snprintf(path, sizeof(path), "%s/gids/0", base);
    put(path, "fe80:0000:0000:0000:526b:4bff:fe4f:8f41");
    if (!strcmp(layer, "Ethernet")) {
        snprintf(path, sizeof(path), "%s/gid_attrs/types/0", base);
        put(path, "IB/RoCE v1");
        snprintf(path, sizeof(path), "%s/gid_attrs/ndevs/0", base);
        put(path, "%s", netdev);
        snprintf(path, sizeof(path), "%s/gids/3", base);
        put(path, "0000:0000:0000:0000:0000:ffff:0a4d:0001");
        snprintf(path, sizeof(path), "%s/gid_attrs/types/3", base);
        put(path, "RoCE v2");
    }
    snprintf(path, sizeof(path), IB "/%s/device", device);
    if (pci)
        put_link(path, pci);
}

static inline int
set_up(void **state)
{
    (void)state;
    snprintf(root, sizeof(root), "/tmp/gp_doctor_XXXXXX");
    assert_non_null(mkdtemp(root));
    node_error = 0;
    spared = own_gid = NULL;
    given_ipv4 = 0;
    given_to = NULL;
    given_pfc = -EOPNOTSUPP;
    given_stats = NULL;
    assert_int_equal(gp_config_create(&config), GP_OK);
    gp_doctor_init(&doctor, config);
    doctor.root = root;
    doctor.api = NULL;
    snprintf(doctor.api_reason, sizeof(doctor.api_reason), "no libraries");
    doctor.open_node = fake_open_node;
    doctor.address_of = fake_address_of;
    doctor.has_address = fake_has_address;
    doctor.adjtime = fake_adjtime;
    doctor.pfc_of = fake_pfc_of;
    doctor.stats_of = fake_stats_of;
    doctor.cuda = false;
    return 0;
}

static inline int
tear_down(void **state)
{
    (void)state;
    gp_doctor_free(&doctor);
    gp_config_destroy(config);
    return nftw(root, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

/* Scans and runs the checks of one group. */
static void
examine(void (*group)(gp_doctor *doctor))
{
    gp_doctor_free(&doctor);
    doctor.port_count = doctor.device_count = doctor.gpu_count = 0;
    gp_doctor_scan(&doctor);
    group(&doctor);
    assert_false(doctor.incomplete);
}

static inline const gp_check *
find(const char *name, const char *subject)
{
    for (const gp_check *c = doctor.first; c; c = c->next)
        if (!strcmp(c->name, name) && !strcmp(c->subject, subject))
            return c;
    return NULL;
}

/* The check is there, with this status and these words; a warning or failure
 * always has a fix. */
static void
expect(const char *name, const char *subject, gp_check_status status,
       const char *reason, const char *fix)
{
    const gp_check *c = find(name, subject);

    assert_non_null(c);
    if (c->status != status || !strstr(c->reason, reason) ||
        !strstr(c->fix, fix))
        fail_msg("%s %s is %s: %s\nfix: %s\nwanted %s, '%s', fix '%s'", name,
                 subject, gp_check_word(c->status), c->reason, c->fix,
                 gp_check_word(status), reason, fix);
    if (status == GP_CHECK_WARN || status == GP_CHECK_FAIL)
        assert_string_not_equal(c->fix, "");
}

static inline int64_t
number_of(const char *name, const char *subject, const char *value)
{
    const gp_check *c = find(name, subject);

    assert_non_null(c);
    for (size_t i = 0; i < c->value_count; i++)
        if (!strcmp(c->values[i].name, value))
            return c->values[i].number;
    fail_msg("%s has no value %s", name, value);
    return 0;
}

#endif
