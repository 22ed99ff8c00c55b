/* SPDX-License-Identifier: Apache-2.0 */
/*
 * device.h - memory of the host and of accelerators behind one table, and the
 * order in which work on it happens.
 *
 * Two ways to use a device. Calls without a stream are complete when they
 * return. Calls with a stream queue work and return at once: the work of one
 * stream runs in order, and what it leaves in memory is visible to the host
 * once an event that was recorded after it is done. Streams are the user's: a
 * `void *` is what the device's own interface calls a stream (a CUstream, which
 * is a cudaStream_t), so that a trainer's work and ours lie in one queue.
 *
 * Threads: a device may be used from any thread, at the same time; one event by
 * one thread at a time. Nothing here allocates on the device but alloc() and
 * its like.
 */
#ifndef GP_DEVICE_H
#define GP_DEVICE_H

#include "base/base.h"

typedef struct gp_device gp_device;
typedef struct gp_device_event gp_device_event;

/* What a device's queues are called when they belong to nobody: the one that
 * waits for all others (NULL), and the calling thread's own. */
#define GP_STREAM_DEFAULT    NULL
#define GP_STREAM_PER_THREAD ((void *)2)

/* What writes_ordering says when work of the host's that begins after a network
 * device has reported a write sees it on the device; less: a flush before. */
#define GP_DEVICE_WRITES_OWNER 100

/* What is known about a device once it is open. */
typedef struct gp_device_properties {
    char name[128];        /* "host", "NVIDIA H100 ..." */
    uint64_t memory_bytes; /* all of it; 0: not known */
    uint32_t index;        /* among devices of this kind */
    uint32_t major, minor; /* CUDA compute capability; 0 for the host */
    bool host_accessible;  /* a CPU may load and store through pointers */
    bool unified;          /* pointers are unique across host and device */
    uint32_t processors;   /* streaming multiprocessors; 0 for the host */
    uint32_t
        block_shared; /* bytes of shared memory that a launch may ask for */
    char bus[16];     /* "0000:3b:00.0"; "" for the host */
    /* For network cards that read and write the device's memory. */
    bool dma_buf;        /* ranges can be exported */
    bool rdma;           /* the driver lets other devices in at all */
    int writes_ordering; /* CU_GPU_DIRECT_RDMA_WRITES_ORDERING_*: 0 none */
    bool host_flush;     /* flush_writes() does something */
} gp_device_properties;

/* What a pointer points at. */
typedef struct gp_device_range {
    bool device;    /* memory of this device; false: of the host */
    bool pinned;    /* of the host, and the device may access it */
    bool managed;   /* moves between the two: no network card may have it */
    bool pooled;    /* of a stream-ordered pool: likewise */
    uint32_t index; /* of the device whose memory it is */
    void *base;     /* of the allocation it lies in ... */
    size_t bytes;   /* ... and its length */
} gp_device_range;

/* The functions that run on a device. */
typedef enum gp_kernel_id {
#define GP_KERNEL(file, name) GP_KERNEL_##name,
#include "device/kernels.def"
#undef GP_KERNEL
    GP_KERNEL_COUNT
} gp_kernel_id;

/* One launch of one of them. */
typedef struct gp_launch {
    gp_kernel_id kernel;
    uint32_t grid, block; /* blocks, and threads of each */
    uint32_t shared;      /* bytes of dynamic shared memory: at most the
                             device's block_shared */
    void **args;          /* pointers to the arguments, copied by the call */
} gp_launch;

/* c (m x n) = op(a) (m x k) op(b) (k x n) of fp32, all by columns, `ld` apart,
 * at multiples of 16 bytes. */
typedef struct gp_product {
    bool ta, tb; /* the factor is transposed */
    size_t m, n, k;
    const float *a, *b;
    float *c;
    size_t lda, ldb, ldc;
} gp_product;

/* One kind of device. No member that an open device can be used with is NULL.
 * `device` is one that this kind's open
 * returned; pointers named `device_*` came from its alloc (or lie inside such a
 * block), the others are host memory. A size of 0 is fine and does nothing. */
typedef struct gp_device_ops {
    const char *kind; /* "host", "cuda"; what a person types */

    /* How many there are. GP_ERR_UNSUPPORTED with the reason when this machine
     * cannot have any: no driver, a driver that refuses. */
    gp_status (*count)(uint32_t *out);

    /* Takes hold of device `index`. GP_ERR_NOT_FOUND when there are fewer. */
    gp_status (*open)(uint32_t index, gp_device **out);

    /* All blocks must have been freed. NULL is fine. */
    void (*close)(gp_device *device);

    void (*properties)(const gp_device *device, gp_device_properties *out);

    /* At least 64-byte aligned, content unspecified. GP_ERR_NO_MEMORY. */
    gp_status (*alloc)(gp_device *device, size_t bytes, void **out);
    void (*free)(gp_device *device, void *device_block); /* NULL is fine */

    /* Complete on return. Blocks do not overlap, except in copy_within, which
     * behaves as memmove. */
    gp_status (*copy_in)(gp_device *device, void *device_to, const void *from,
                         size_t bytes);
    gp_status (*copy_out)(gp_device *device, void *to, const void *device_from,
                          size_t bytes);
    gp_status (*copy_within)(gp_device *device, void *device_to,
                             const void *device_from, size_t bytes);

    /* Every byte becomes `value`. */
    gp_status (*fill)(gp_device *device, void *device_block, uint8_t value,
                      size_t bytes);

    /* Waits for everything that was queued on the device, by anyone in this
     * process; returns the error of work that failed. */
    gp_status (*synchronize)(gp_device *device);

    /* Memory of the host that the device reads and writes where it lies, and
     * copies from and to without a detour; page-aligned. */
    gp_status (*alloc_pinned)(gp_device *device, size_t bytes, void **out);
    void (*free_pinned)(gp_device *device, void *block); /* NULL is fine */

    /* GP_ERR_NOT_FOUND: memory that the device has never heard of, such as
     * what malloc() gives; it is the host's. */
    gp_status (*range_of)(gp_device *device, const void *pointer,
                          gp_device_range *out);

    /* A stream of our own: waits for no other one. */
    gp_status (*stream_create)(gp_device *device, void **out);
    void (*stream_destroy)(gp_device *device, void *stream);

    /* Whether a graph is being captured from the stream: then nothing may be
     * queued on it that depends on the moment. */
    gp_status (*is_capturing)(gp_device *device, void *stream, bool *out);

    /* Queue a copy between any two memories, or a fill. Memory of the host must
     * be pinned, or the call waits. */
    gp_status (*copy_async)(gp_device *device, void *to, const void *from,
                            size_t bytes, void *stream);
    gp_status (*fill_async)(gp_device *device, void *to, uint8_t value,
                            size_t bytes, void *stream);

    gp_status (*event_create)(gp_device *device, gp_device_event **out);
    void (*event_destroy)(gp_device *device, gp_device_event *event);
    /* Marks a place in a stream; an earlier place is forgotten. */
    gp_status (*event_record)(gp_device *device, gp_device_event *event,
                              void *stream);
    /* GP_OK: all before the place is done, GP_PENDING, or why it failed. */
    gp_status (*event_query)(gp_device *device, gp_device_event *event);
    /* What is queued on the stream from here on waits for the place. */
    gp_status (*event_wait)(gp_device *device, gp_device_event *event,
                            void *stream);

    /* What is queued on the stream from here on waits until the host, or
     * another device, has made the number in pinned memory at least `value`,
     * with numbers going round at 2^32. GP_ERR_UNSUPPORTED. */
    gp_status (*wait_value)(gp_device *device, const uint32_t *pinned,
                            uint32_t value, void *stream);

    /* Queues a call on the host, by a thread of the driver's, which must not
     * use the device. GP_ERR_UNSUPPORTED. */
    gp_status (*call_host)(gp_device *device, void (*call)(void *), void *with,
                           void *stream);

    /* Loads what a launch needs of its kernel and its shared memory: the first
     * launch of one that was not loaded may wait for all streams, of which one
     * may wait for what the caller does next. GP_ERR_NOT_FOUND: this build has
     * no such kernel for the device. */
    gp_status (*load)(gp_device *device, const gp_launch *launch);
    gp_status (*launch)(gp_device *device, const gp_launch *launch,
                        void *stream);

    /* Whether there is a library for products, which is loaded. Else
     * GP_ERR_UNSUPPORTED says what to install. */
    gp_status (*multiplies)(gp_device *device);
    /* Queues a product, in fp32 throughout: the same bits in every run. */
    gp_status (*multiply)(gp_device *device, const gp_product *product,
                          void *stream);

    /* A file descriptor that stands for memory of the device, which a network
     * card registers; the caller closes it. Both ends of the range are those of
     * host pages, and inside one allocation. GP_ERR_UNSUPPORTED. */
    gp_status (*export_range)(gp_device *device, void *device_base,
                              size_t bytes, int *fd);

    /* What network cards wrote into the device, and have reported as written,
     * is visible to work that is queued after this. */
    gp_status (*flush_writes)(gp_device *device);
} gp_device_ops;

struct gp_device {
    const gp_device_ops *ops; /* the first member of every implementation */
};

extern const gp_device_ops gp_device_host;

/* Loads libcuda.so.1 when first used. In a build without cuda.h every call
 * says so with GP_ERR_UNSUPPORTED. */
extern const gp_device_ops gp_device_cuda;

/* Opens what a person typed: "cpu" or "host", "cuda", "cuda:1", or "auto" (the
 * first CUDA device, else the host). GP_ERR_CONFIG for anything else;
 * GP_ERR_UNSUPPORTED, GP_ERR_NOT_FOUND. */
gp_status gp_device_open(const char *text, gp_device **out);

/* device->ops->close(), for NULL too. */
void gp_device_close(gp_device *device);

#endif
