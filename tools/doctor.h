/* SPDX-License-Identifier: Apache-2.0 */
/*
 * doctor.h - what the checks of `gradpush doctor` share.
 *
 * A check looks at the machine through a gp_doctor only: files below `root`,
 * the table `api`, and a few functions. Tests put a folder of files and a
 * simulated table there. A check adds results and never fails itself; what it
 * cannot find out is a skip with the reason.
 */
#ifndef GP_DOCTOR_H
#define GP_DOCTOR_H

#include <dirent.h>
#include <limits.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/timex.h>

#include <gradpush/config.h>
#include <gradpush/status.h>

#include "json.h"

struct gp_verbs_api;

typedef enum gp_check_status {
    GP_CHECK_OK,
    GP_CHECK_WARN, /* works, but worse than it could, or not for long */
    GP_CHECK_FAIL, /* does not work */
    GP_CHECK_SKIP  /* nothing to look at here */
} gp_check_status;

/* "ok", "warn", "fail", "skip". */
const char *gp_check_word(gp_check_status status);

#define GP_CHECK_VALUES 24

typedef struct gp_check_value {
    char name[48];
    char text[96]; /* "" for a number */
    int64_t number;
} gp_check_value;

typedef struct gp_check {
    struct gp_check *next;
    const char *group, *name; /* static */
    char subject[64];         /* "mlx5_0:1"; "": the machine */
    gp_check_status status;
    char reason[512];
    char fix[512]; /* "" when there is nothing to do */
    gp_check_value values[GP_CHECK_VALUES];
    size_t value_count;
} gp_check;

/* A port of an RDMA device, as found in sysfs. */
typedef struct gp_doctor_port {
    char device[64];
    unsigned port;
    char label[80];     /* "mlx5_0:1" */
    char netdev[64];    /* "" when there is none */
    char pci[PATH_MAX]; /* folder below /sys/devices, "": no PCI device */
    bool active, ethernet, iwarp, software;
    bool absent; /* of a device that this container was not given */
    unsigned gids, v1, v2, link_local; /* entries of the GID table in use */
    int best_gid;                      /* index; -1: none */
    struct sockaddr_storage address;   /* ss_family 0: none */
    char address_text[64];
} gp_doctor_port;

/* A GPU, as found on the PCI bus; the lower half from the CUDA driver. */
typedef struct gp_doctor_gpu {
    char label[32]; /* "GPU0" */
    char bus_id[32];
    char pci[PATH_MAX];
    char name[128];
    bool cuda;                        /* the driver knows it */
    int dmabuf, gdr, ordering, flush; /* attributes; -1: not known */
    uint32_t ordinal;                 /* the driver's number */
} gp_doctor_gpu;

/* Counters of a network interface, as its driver names them. */
typedef struct gp_doctor_stat {
    char name[33];
    uint64_t value;
} gp_doctor_stat;

typedef struct gp_doctor_stats {
    gp_doctor_stat *list; /* free() releases it */
    uint32_t count;
} gp_doctor_stats;

#define GP_DOCTOR_PORTS 64
#define GP_DOCTOR_GPUS  32

typedef struct gp_doctor {
    const char *root; /* put before every path; "" for the machine itself */
    const gp_config *config;
    bool required; /* GRADPUSH_TRANSPORT=verbs: no RDMA is a failure */
    const struct gp_verbs_api *api; /* NULL: api_reason */
    char api_reason[512];

    /* 0, or an errno value: opens a device node for reading and writing. */
    int (*open_node)(const char *path);
    /* The first IPv4, else global IPv6 address of an interface. */
    bool (*address_of)(const char *netdev, struct sockaddr_storage *out);
    /* Whether a GID is an address of this network namespace. */
    bool (*has_address)(const struct in6_addr *gid);
    int (*adjtime)(struct timex *time);
    /* 0 or an errno value: the priorities of an interface with flow control,
     * bit by bit; its counters. */
    int (*pfc_of)(const char *netdev, uint8_t *enabled);
    int (*stats_of)(const char *netdev, gp_doctor_stats *out);
    bool cuda;  /* whether to ask the CUDA driver */
    bool tries; /* whether to have GPUs' memory written to by adapters */

    gp_doctor_port ports[GP_DOCTOR_PORTS];
    size_t port_count, device_count;
    gp_doctor_gpu gpus[GP_DOCTOR_GPUS];
    size_t gpu_count;
    int cuda_driver; /* 13000 for 13.0; 0: none */
    char cuda_reason[256];

    gp_check *first, *last;
    gp_check spare; /* receives what there is no memory for */
    bool incomplete;
} gp_doctor;

/* The machine itself; `config` is borrowed. */
void gp_doctor_init(gp_doctor *doctor, const gp_config *config);
void gp_doctor_free(gp_doctor *doctor);

/* Fills in ports and GPUs; before any check. */
void gp_doctor_scan(gp_doctor *doctor);

/* --- results --- */

gp_check *gp_doctor_add(gp_doctor *doctor, const char *group, const char *name,
                        const char *subject);
void gp_check_set(gp_check *check, gp_check_status status, const char *format,
                  ...) GP_PRINTF(3, 4);
void gp_check_fix(gp_check *check, const char *format, ...) GP_PRINTF(2, 3);
void gp_check_int(gp_check *check, const char *name, int64_t value);
void gp_check_text(gp_check *check, const char *name, const char *value);

/* GP_CHECK_FAIL when the job insists on RDMA, else `otherwise`. */
gp_check_status gp_doctor_need(const gp_doctor *doctor,
                               gp_check_status otherwise);

/* The worst of all but skips. */
gp_check_status gp_doctor_verdict(const gp_doctor *doctor, size_t counts[4]);

void gp_doctor_print(const gp_doctor *doctor, bool verbose);
void gp_doctor_json(const gp_doctor *doctor, gp_json *document);

/* --- files below the root; the formats give absolute paths --- */

/* First line without white space at its end; false when it cannot be read. */
bool gp_doctor_line(const gp_doctor *doctor, char *out, size_t capacity,
                    const char *format, ...) GP_PRINTF(4, 5);
bool gp_doctor_number(const gp_doctor *doctor, int64_t *out, const char *format,
                      ...) GP_PRINTF(3, 4);
/* Up to capacity - 1 bytes and a NUL; -1 when it cannot be read. */
long gp_doctor_load(const gp_doctor *doctor, void *out, size_t capacity,
                    const char *format, ...) GP_PRINTF(4, 5);
bool gp_doctor_exists(const gp_doctor *doctor, const char *format, ...)
    GP_PRINTF(2, 3);
/* Where links lead, without the root; false when nowhere. */
bool gp_doctor_resolve(const gp_doctor *doctor, char out[PATH_MAX],
                       const char *format, ...) GP_PRINTF(3, 4);

/* The names in a folder, in the order of their numbers; none when it is not
 * there. */
typedef struct gp_doctor_names {
    struct dirent **list;
    int count;
} gp_doctor_names;

void gp_doctor_list(const gp_doctor *doctor, gp_doctor_names *out,
                    const char *format, ...) GP_PRINTF(3, 4);
void gp_doctor_list_free(gp_doctor_names *names);

/* --- the machine --- */

/* 0, or why a device node cannot be opened. */
int gp_doctor_node_error(const gp_doctor *doctor, const char *path);
/* Whether a device is one of the machine that this container was not given. */
bool gp_doctor_absent(const gp_doctor *doctor, const char *device);

/* "docker", "kubernetes", ...; NULL outside of containers. */
const char *gp_doctor_container(const gp_doctor *doctor);

/* Appends to text that is cut at its capacity. */
void gp_doctor_append(char *text, size_t capacity, const char *format, ...)
    GP_PRINTF(3, 4);

/* What gp_doctor.pfc_of and .stats_of are on a machine; doctor_netdev.c. */
int gp_doctor_pfc(const char *netdev, uint8_t *enabled);
/* The kernel's answer to that question, aligned as a netlink message. */
int gp_doctor_read_pfc(const void *answer, size_t length, uint8_t *enabled);
int gp_doctor_read_stats(const char *netdev, gp_doctor_stats *out);

/* How far two PCI devices are from each other, by their folders. */
typedef enum gp_pci_distance {
    GP_PCI_PIX,  /* one switch between them */
    GP_PCI_PXB,  /* several switches, no root complex */
    GP_PCI_PHB,  /* through the root complex */
    GP_PCI_NODE, /* through two root complexes of one NUMA node */
    GP_PCI_SYS   /* through the link between sockets */
} gp_pci_distance;

gp_pci_distance gp_doctor_distance(const gp_doctor *doctor, const char *a,
                                   const char *b);
const char *gp_pci_distance_name(gp_pci_distance distance);

/* CUDA's view of doctor->gpus; doctor_cuda.c. */
void gp_doctor_ask_cuda(gp_doctor *doctor);

/* --- groups of checks --- */

typedef struct gp_doctor_group {
    const char *name;
    void (*run)(gp_doctor *doctor);
    const char *text;
} gp_doctor_group;

/* Ends with name NULL. */
extern const gp_doctor_group gp_doctor_groups[];

void gp_doctor_check_rdma(gp_doctor *doctor);
void gp_doctor_check_ports(gp_doctor *doctor);
void gp_doctor_check_loopback(gp_doctor *doctor);
void gp_doctor_check_counters(gp_doctor *doctor);
/* Part of the counters: PFC, ECN and pauses of a RoCE port. */
void gp_doctor_check_flow(gp_doctor *doctor, const gp_doctor_port *port);
void gp_doctor_check_limits(gp_doctor *doctor);
void gp_doctor_check_gpu(gp_doctor *doctor);
void gp_doctor_check_tcp(gp_doctor *doctor);
void gp_doctor_check_clock(gp_doctor *doctor);
void gp_doctor_check_host(gp_doctor *doctor);

#endif
