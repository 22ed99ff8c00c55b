/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sim_memory_cuda.c - memory of the simulated devices.
 *
 * Blocks of whole segments may lie in files without a name, so that a
 * descriptor can stand for them; address sanitizers see the ends of the others.
 */
#include "tests/gpu/sim_memory_cuda.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "tests/gpu/sim_cuda.h"
#include "tests/gpu/sim_stream_cuda.h"

#define BLOCKS  4096
#define PAGE    ((size_t)4096)
#define SEGMENT ((size_t)2 << 20)

uint32_t sim_objects;
uint8_t sim_block_first = 0xff;
static sim_block blocks[BLOCKS];
static int ever; /* of blocks: those behind were never used */

/* Of large blocks most is only ever filled, so they come in large pages, and
 * not from where ThreadSanitizer looks at each word of what is freed. */
#ifdef __SANITIZE_ADDRESS__
#define LARGE SIZE_MAX
#else
#define LARGE SEGMENT
#endif

static size_t
rounded(size_t bytes)
{
    return (bytes + PAGE - 1) / PAGE * PAGE;
}

static void *
plain_new(size_t bytes)
{
    void *base;

    if (bytes < LARGE) {
        base = aligned_alloc(PAGE, rounded(bytes));
    } else {
        base = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (base == MAP_FAILED)
            return NULL;
    }
    if (base && bytes >= SEGMENT)
        (void)madvise(base, bytes, MADV_HUGEPAGE);
    return base;
}

/* Memory that a descriptor can stand for: only that others map it, too. */
static void *
segment_new(size_t bytes, int *fd)
{
    void *base;

    *fd = memfd_create("simulated device memory", MFD_CLOEXEC);
    if (*fd < 0 || ftruncate(*fd, (off_t)bytes) != 0)
        return NULL;
    base = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE,
                *fd, 0);
    return base == MAP_FAILED ? NULL : base;
}

static void
block_release(const sim_block *b)
{
    if (b->fd < 0 && b->bytes < LARGE) {
        free(b->base);
        return;
    }
    munmap(b->base, b->bytes);
    if (b->fd >= 0)
        close(b->fd);
}

/* Nobody else knows it yet, so ThreadSanitizer, which keeps as many bytes of
 * its own for what it sees, and asks the kernel for them, need not see it. */
#ifdef __SANITIZE_THREAD__
__attribute__((no_sanitize("thread"))) static void
fill(void *base, uint8_t value, size_t bytes)
{
    volatile uint64_t *words = base; /* a plain loop becomes a memset */

    for (size_t i = 0; i < bytes / sizeof(*words); i++)
        words[i] = value * (UINT64_MAX / 255);
}
#else
#define fill memset
#endif

CUresult
sim_block_new(size_t bytes, int device, bool mapped, void **out)
{
    sim_block b = {.bytes = bytes, .device = device, .fd = -1};

    if (bytes > (size_t)1 << 30)
        return CUDA_ERROR_OUT_OF_MEMORY;
    if (mapped && device >= 0 && bytes && bytes % SEGMENT == 0)
        b.base = segment_new(bytes, &b.fd);
    else
        b.base = plain_new(bytes);
    if (!b.base)
        return CUDA_ERROR_OUT_OF_MEMORY;
    fill(b.base, sim_block_first, rounded(bytes));
    pthread_mutex_lock(&sim_lock);
    for (int i = 0; i < BLOCKS; i++)
        if (!blocks[i].base) {
            blocks[i] = b;
            ever = i < ever ? ever : i + 1;
            sim_objects++;
            *out = b.base;
            pthread_mutex_unlock(&sim_lock);
            return CUDA_SUCCESS;
        }
    pthread_mutex_unlock(&sim_lock);
    block_release(&b);
    return CUDA_ERROR_OUT_OF_MEMORY;
}

/* --- what network devices write --- */

typedef struct hidden {
    struct hidden *next;
    uint8_t *to;
    size_t bytes;
    uint8_t copy[];
} hidden;

static bool hides;
static hidden *first_hidden, **last_hidden = &first_hidden;

void
gp_sim_cuda_hide(bool hide)
{
    pthread_mutex_lock(&sim_lock);
    hides = hide;
    if (!hide)
        sim_block_show();
    pthread_mutex_unlock(&sim_lock);
}

void
gp_sim_cuda_store(void *to, const void *from, size_t bytes)
{
    hidden *h;

    pthread_mutex_lock(&sim_lock);
    h = hides ? malloc(sizeof(*h) + bytes) : NULL;
    if (h) {
        *h = (hidden){.to = to, .bytes = bytes};
        memcpy(h->copy, from, bytes);
        *last_hidden = h;
        last_hidden = &h->next;
    } else {
        memcpy(to, from, bytes);
    }
    pthread_mutex_unlock(&sim_lock);
}

void
sim_block_show(void)
{
    hidden *h;

    while ((h = first_hidden)) {
        first_hidden = h->next;
        memcpy(h->to, h->copy, h->bytes);
        free(h);
    }
    last_hidden = &first_hidden;
}

static void
forget_hidden(const sim_block *b)
{
    hidden **at = &first_hidden, *h;

    while ((h = *at)) {
        if ((uintptr_t)h->to - (uintptr_t)b->base >= b->bytes) {
            at = &h->next;
            continue;
        }
        *at = h->next;
        free(h);
    }
    last_hidden = at;
}

CUresult
sim_block_free(void *base)
{
    pthread_mutex_lock(&sim_lock);
    for (int i = 0; i < ever; i++)
        if (blocks[i].base == base) {
            sim_block gone = blocks[i];

            blocks[i].base = NULL;
            sim_objects--;
            forget_hidden(&gone);
            pthread_mutex_unlock(&sim_lock);
            block_release(&gone);
            return CUDA_SUCCESS;
        }
    pthread_mutex_unlock(&sim_lock);
    return CUDA_ERROR_INVALID_VALUE;
}

sim_block
sim_block_find(uintptr_t at)
{
    sim_block found = {.device = -2};

    pthread_mutex_lock(&sim_lock);
    for (int i = 0; i < ever; i++)
        if (blocks[i].base && at - (uintptr_t)blocks[i].base < blocks[i].bytes)
            found = blocks[i];
    pthread_mutex_unlock(&sim_lock);
    return found;
}

int
sim_block_export(uintptr_t base, size_t bytes)
{
    int fd = -1;

    pthread_mutex_lock(&sim_lock);
    for (int i = 0; i < ever; i++)
        if ((uintptr_t)blocks[i].base == base && blocks[i].fd >= 0 &&
            blocks[i].bytes == bytes)
            fd = fcntl(blocks[i].fd, F_DUPFD_CLOEXEC, 0);
    pthread_mutex_unlock(&sim_lock);
    return fd;
}

bool
gp_sim_cuda_owns(const void *pointer)
{
    return sim_block_find((uintptr_t)pointer).device >= 0;
}

bool
gp_sim_cuda_holds(const void *at, size_t bytes)
{
    uintptr_t p = (uintptr_t)at;
    sim_block b = sim_block_find(p);

    return b.device >= 0 && p - (uintptr_t)b.base <= b.bytes &&
           b.bytes - (p - (uintptr_t)b.base) >= bytes;
}
