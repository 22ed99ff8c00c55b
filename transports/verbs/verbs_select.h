/* SPDX-License-Identifier: Apache-2.0 */
/*
 * verbs_select.h - which port of which RDMA device is used.
 *
 * Listing asks the devices and sysfs; choosing works on the list alone and is
 * the same on every machine for the same list. Usable without the headers of
 * libibverbs: numbers that come from there keep their values.
 */
#ifndef GP_VERBS_SELECT_H
#define GP_VERBS_SELECT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#include <gradpush/config.h>
#include <gradpush/status.h>

typedef struct gp_verbs_api gp_verbs_api; /* verbs_api.h */

#define GP_VERBS_NAME_MAX   64u /* a device's name with its end */
#define GP_VERBS_PATH_MAX   256u
#define GP_VERBS_NETDEV_MAX 16u
#define GP_VERBS_GIDS_MAX   32u /* kept of a port: this namespace's, others */
#define GP_VERBS_PORTS_MAX  64u /* enough room for any host known */

#define GP_VERBS_STATE_ACTIVE 4 /* IBV_PORT_ACTIVE */

typedef enum gp_verbs_layer {
    GP_VERBS_LAYER_NONE = 0,
    GP_VERBS_LAYER_INFINIBAND = 1, /* IBV_LINK_LAYER_* */
    GP_VERBS_LAYER_ETHERNET = 2
} gp_verbs_layer;

typedef enum gp_verbs_gid_type {
    GP_VERBS_GID_UNKNOWN = 0, /* sysfs does not say, as in many containers */
    GP_VERBS_GID_IB,          /* InfiniBand, and iWARP's */
    GP_VERBS_GID_ROCE_V1,
    GP_VERBS_GID_ROCE_V2
} gp_verbs_gid_type;

/* One entry that is not empty. */
typedef struct gp_verbs_gid {
    int index; /* in the device's table */
    gp_verbs_gid_type type;
    uint8_t raw[16];
    char netdev[GP_VERBS_NETDEV_MAX]; /* whose it is; "" when not known */
    bool is_here; /* an interface of this network namespace has it */
} gp_verbs_gid;

typedef struct gp_verbs_port {
    char device[GP_VERBS_NAME_MAX];
    uint8_t number; /* from 1 */
    bool is_iwarp;
    bool is_software; /* rxe, siw: no device of its own moves the bytes */
    int state;        /* enum ibv_port_state */
    gp_verbs_layer link_layer;
    uint32_t mtu;       /* active, in bytes; 0: not known */
    uint32_t rate_mbps; /* 400000 for NDR x4; 0: not known */
    uint16_t lid;       /* 0 on Ethernet */
    int numa;           /* -1: not known */
    /* Resolved sysfs path of the device that moves the bytes, of the network
     * device below for software; "" when not known. */
    char pci[GP_VERBS_PATH_MAX];
    char netdev[GP_VERBS_NETDEV_MAX]; /* "" when there is none */
    char firmware[64];
    uint64_t max_mr_size; /* 0: not known */
    uint32_t max_qp_wr;   /* 0: not known */
    bool has_windows;     /* memory windows of type 2 */
    bool asked; /* the device could be opened; what only it knows is 0 if not */
    size_t gid_count;
    gp_verbs_gid gids[GP_VERBS_GIDS_MAX];

    /* The GID that connections use, and the address that selects it when it is
     * given to rdma_bind_addr() (port 0). */
    int gid_index; /* -1: none is usable */
    uint8_t gid[16];
    gp_verbs_gid_type gid_type;
    struct sockaddr_storage address; /* ss_family AF_UNSPEC: none */
} gp_verbs_port;

/*
 * All ports of all devices, by device name and port number. Blocking.
 *
 * api         NULL: only what sysfs says.
 * sysfs_root  where sysfs is; NULL: "/sys".
 * out, max    room; ports beyond it are left out.
 * *count      ports written. No device at all is GP_OK and 0.
 * Returns GP_OK, GP_ERR_SYSTEM.
 */
gp_status gp_verbs_list(const gp_verbs_api *api, const char *sysfs_root,
                        gp_verbs_port *out, size_t max, size_t *count);

/*
 * The ports that a process on this CPU should use, best first: those that are
 * could be opened, are active, have an address and pass GRADPUSH_IB_HCA;
 * hardware before software, near ones before far ones, then fast ones before
 * slow ones, then by name. A second port of a device comes after the first ones
 * of all. Behind the first, only ports of its kind that are at least half as
 * fast are taken: stripes would wait for a slower one.
 *
 * `max` is GRADPUSH_IB_RAILS for the transport. GRADPUSH_IB_GID_INDEX is
 * applied to the copies in `out`.
 * why        one line, also on failure: the reason for the first one, or what
 *            is wrong with each.
 * Returns GP_OK; GP_ERR_UNSUPPORTED when no port is usable; GP_ERR_CONFIG for a
 * filter that cannot be read.
 */
gp_status gp_verbs_choose(const gp_config *config, const gp_verbs_port *ports,
                          size_t count, gp_verbs_port *out, size_t max,
                          size_t *chosen, char *why, size_t capacity);

/* Where the bytes are, for the choice. */
typedef struct gp_verbs_place {
    int numa;                    /* -1: anywhere */
    char pci[GP_VERBS_PATH_MAX]; /* resolved path of a GPU; "": host memory */
} gp_verbs_place;

/* The same as gp_verbs_choose() for bytes at `place`; numa_distance as the
 * kernel gives it (10 is near), NULL: same node or not. */
gp_status gp_verbs_choose_near(const gp_config *config,
                               const gp_verbs_place *place,
                               int (*numa_distance)(int from, int to),
                               const gp_verbs_port *ports, size_t count,
                               gp_verbs_port *out, size_t max, size_t *chosen,
                               char *why, size_t capacity);

/* The NUMA node that this thread runs on, and the distance of two: through
 * hwloc when it is built in, else from the kernel. -1: not known. */
int gp_verbs_numa_here(void);
int gp_verbs_numa_distance(int from, int to);

/* How far two resolved sysfs paths of PCI devices are apart, in bridges; the
 * same switch is nearer than the same root, which is nearer than the rest.
 * INT_MAX when they have no root in common. */
int gp_verbs_pci_distance(const char *a, const char *b);

/* Whether `device`:`port` passes a filter: "mlx5_0:1,mlx5_2", names by their
 * beginning; "=" in front: whole names; "^" in front (also "^="): all but
 * these. "" passes everything. */
gp_status gp_verbs_filter_check(const char *filter);
bool gp_verbs_filter_pass(const char *filter, const char *device, uint8_t port);

/* The entry that connections should use, best first: addresses of this network
 * namespace, RoCE v2 before v1, IPv4 before IPv6 before link-local; NULL when
 * there is none. */
const gp_verbs_gid *gp_verbs_gid_best(const gp_verbs_port *port);

/* Where in that order an entry of a port stands; higher is better. */
int gp_verbs_gid_rank(const gp_verbs_gid *gid);

/* The address that an entry of a RoCE port stands for; false when it stands for
 * none that can be bound here. */
bool gp_verbs_gid_address(const gp_verbs_gid *gid,
                          struct sockaddr_storage *out);

/* Whether the two ports may be rails of one connection, `first` being in use.
 */
bool gp_verbs_same_kind(const gp_verbs_port *first, const gp_verbs_port *other);

/* Words: "ACTIVE", "InfiniBand", "RoCE v2". Static. */
const char *gp_verbs_state_name(int state);
const char *gp_verbs_layer_name(const gp_verbs_port *port);
const char *gp_verbs_gid_type_name(gp_verbs_gid_type type);

#endif
