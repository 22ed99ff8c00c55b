/* SPDX-License-Identifier: Apache-2.0 */
/*
 * doctor_netdev.c - what the kernel alone knows of a network interface: the
 * priorities with flow control (PFC), and the driver's own counters.
 *
 * Both are questions that change nothing. Answers come from the kernel, yet
 * their lengths are checked: drivers fill them in.
 */
#include <errno.h>
#include <linux/dcbnl.h>
#include <linux/ethtool.h>
#include <linux/rtnetlink.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "base/base.h"
#include "doctor.h"

/* More than any driver has; an interface with 128 queues has some 20,000. */
#define STATS_MAX (1u << 20)

/* --- PFC, by data centre bridging over netlink --- */

typedef struct dcb_request {
    struct nlmsghdr head;
    struct dcbmsg dcb;
    struct rtattr name_head;
    char name[RTA_ALIGN(IFNAMSIZ)];
} dcb_request;

/* The attribute of a kind among `length` bytes, or NULL. */
static const struct rtattr *
find_attribute(const struct rtattr *first, size_t length, unsigned kind)
{
    int left = (int)GP_MIN(length, (size_t)INT_MAX);

    for (const struct rtattr *a = first; RTA_OK(a, left); a = RTA_NEXT(a, left))
        if ((a->rta_type & NLA_TYPE_MASK) == kind)
            return a;
    return NULL;
}

int
gp_doctor_read_pfc(const void *answer, size_t length, uint8_t *enabled)
{
    const struct nlmsghdr *head = answer;
    const struct rtattr *ieee, *pfc;
    struct ieee_pfc value;
    size_t skip = NLMSG_SPACE(sizeof(struct dcbmsg));

    if (length < sizeof(*head) || !NLMSG_OK(head, length))
        return EPROTO;
    if (head->nlmsg_type == NLMSG_ERROR) {
        const struct nlmsgerr *e = NLMSG_DATA(head);

        return head->nlmsg_len >= NLMSG_LENGTH(sizeof(*e)) && e->error < 0
                   ? -e->error
                   : EPROTO;
    }
    if (head->nlmsg_len < skip)
        return EPROTO;
    ieee = find_attribute(
        (const struct rtattr *)(const void *)((const char *)head + skip),
        head->nlmsg_len - skip, DCB_ATTR_IEEE);
    pfc = ieee ? find_attribute(RTA_DATA(ieee), RTA_PAYLOAD(ieee),
                                DCB_ATTR_IEEE_PFC)
               : NULL;
    if (!pfc || RTA_PAYLOAD(pfc) < sizeof(value))
        return EOPNOTSUPP;
    memcpy(&value, RTA_DATA(pfc), sizeof(value));
    *enabled = value.pfc_en;
    return 0;
}

static int
ask_dcb(int fd, const char *netdev, uint8_t *enabled)
{
    dcb_request request = {
        .head = {.nlmsg_type = RTM_GETDCB, .nlmsg_flags = NLM_F_REQUEST},
        .dcb = {.dcb_family = AF_UNSPEC, .cmd = DCB_CMD_IEEE_GET}};
    struct timeval limit = {2, 0};
    _Alignas(struct nlmsghdr) char answer[8192];
    ssize_t n;
    size_t name = strlen(netdev) + 1;

    if (name > IFNAMSIZ)
        return ENODEV;
    memcpy(request.name, netdev, name);
    request.name_head.rta_type = DCB_ATTR_IFNAME;
    request.name_head.rta_len = (unsigned short)RTA_LENGTH(name);
    request.head.nlmsg_len =
        (uint32_t)(offsetof(dcb_request, name_head) + RTA_SPACE(name));
    if (setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit)) ||
        send(fd, &request, request.head.nlmsg_len, 0) < 0)
        return errno;
    n = recv(fd, answer, sizeof(answer), 0);
    if (n < 0)
        return errno;
    return gp_doctor_read_pfc(answer, (size_t)n, enabled);
}

int
gp_doctor_pfc(const char *netdev, uint8_t *enabled)
{
    int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE), rc;

    if (fd < 0)
        return errno;
    rc = ask_dcb(fd, netdev, enabled);
    close(fd);
    return rc;
}

/* --- counters, by ethtool's interface --- */

static int
ask_ethtool(int fd, const char *netdev, void *command)
{
    struct ifreq request = {.ifr_data = command};

    if (strlen(netdev) >= sizeof(request.ifr_name))
        return ENODEV;
    strcpy(request.ifr_name, netdev);
    return ioctl(fd, SIOCETHTOOL, &request) ? errno : 0;
}

/* The number of counters; 0 when the driver has none, or does not say. The
 * kernel later writes that many, whatever room it was told of, so a number that
 * is out of the question is none. */
static uint32_t
count_stats(int fd, const char *netdev)
{
    _Alignas(struct ethtool_sset_info) char room[64] = {0};
    struct ethtool_sset_info *info = (void *)room;

    info->cmd = ETHTOOL_GSSET_INFO;
    info->sset_mask = 1ull << ETH_SS_STATS;
    if (ask_ethtool(fd, netdev, info) ||
        !(info->sset_mask & 1ull << ETH_SS_STATS))
        return 0;
    return info->data[0] <= STATS_MAX ? info->data[0] : 0;
}

static int
fill_stats(int fd, const char *netdev, uint32_t count, gp_doctor_stats *out)
{
    struct ethtool_gstrings *names =
        calloc(1, sizeof(*names) + (size_t)count * ETH_GSTRING_LEN);
    struct ethtool_stats *values =
        calloc(1, sizeof(*values) + (size_t)count * sizeof(uint64_t));
    int rc = names && values ? 0 : ENOMEM;

    if (!rc) {
        *names = (struct ethtool_gstrings){
            .cmd = ETHTOOL_GSTRINGS, .string_set = ETH_SS_STATS, .len = count};
        *values =
            (struct ethtool_stats){.cmd = ETHTOOL_GSTATS, .n_stats = count};
        rc = ask_ethtool(fd, netdev, names);
    }
    if (!rc)
        rc = ask_ethtool(fd, netdev, values);
    if (!rc && !(out->list = calloc(count, sizeof(*out->list))))
        rc = ENOMEM;
    out->count = rc ? 0 : GP_MIN(GP_MIN(names->len, values->n_stats), count);
    for (uint32_t i = 0; i < out->count; i++) {
        memcpy(out->list[i].name, names->data + (size_t)i * ETH_GSTRING_LEN,
               sizeof(out->list[i].name) - 1);
        out->list[i].value = values->data[i];
    }
    free(names);
    free(values);
    return rc;
}

int
gp_doctor_read_stats(const char *netdev, gp_doctor_stats *out)
{
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), rc = 0;
    uint32_t count;

    *out = (gp_doctor_stats){NULL, 0};
    if (fd < 0)
        return errno;
    count = count_stats(fd, netdev);
    rc = count ? fill_stats(fd, netdev, count, out) : EOPNOTSUPP;
    close(fd);
    return rc;
}
