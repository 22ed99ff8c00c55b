/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_codec_rewritten.c - a peer that writes its message again while it is
 * decoded, as one can whose device may write into a shard's landing slots.
 *
 * No second thread could hit the moment: the message lies in memory that faults
 * when it is read, and after a chosen number of such reads it is another one.
 * What comes out may be anything. Message and results end where a page ends
 * that cannot be touched at all, so that a step too far shows in every build.
 */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/base.h"
#include "tests/fuzz/pipeline_fuzz.h"

/* It takes single steps, and signal handlers at once. */
#if !defined(__x86_64__) || defined(__SANITIZE_THREAD__)
#define CAN_STEP 0
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define CAN_STEP 0
#endif
#endif
#ifndef CAN_STEP
#define CAN_STEP 1
#endif

#if CAN_STEP

#define COUNT  100u
#define POINTS 8     /* moments at which the message changes */
#define FRONT  12    /* bytes in which numbers are that others depend on */
#define STEP   0x100 /* the processor's flag for one instruction */

static const gp_codec_context context = {
    .seed = 1, .size = 3, .rank = 1, .shared = 0.5f};

/* `size` bytes before a page that cannot be touched. */
typedef struct edge {
    uint8_t *map, *end;
    size_t mapped;
} edge;

static edge
edge_make(size_t size)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    edge e = {.mapped = (size / page + 2) * page};

    e.map = mmap(NULL, e.mapped, PROT_READ | PROT_WRITE,
                 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_true(e.map != MAP_FAILED);
    e.end = e.map + e.mapped - page;
    assert_int_equal(mprotect(e.end, page, PROT_NONE), 0);
    return e;
}

static void
edge_free(const edge *e)
{
    munmap(e->map, e->mapped);
}

static edge live;               /* the message, at the end */
static const uint8_t *original; /* what was sent */
static size_t length;
static unsigned long reads, change_at;
static uint64_t dice;
static const char *text; /* of the pipeline */

static unsigned
roll(unsigned sides)
{
    dice = dice * 6364136223846793005u + 1442695040888963407u;
    return (unsigned)(dice >> 33) % sides;
}

static void
permit(int protection)
{
    if (mprotect(live.map, (size_t)(live.end - live.map), protection))
        abort();
}

/* Some numbers become others. */
static void
change(void)
{
    static const uint8_t numbers[] = {0, 1, 2, 3, 7, 0x7F, 0x80, 0xFF};
    unsigned size = (unsigned)length, front = GP_MIN(size, FRONT);

    for (unsigned i = 1 + roll(6); size && i; i--) {
        uint8_t *at = live.end - size + roll(roll(3) ? front : size);

        *at = roll(3) ? numbers[roll(8)] : (uint8_t)(*at ^ 1u << roll(8));
    }
}

/* A read of the message: it may happen, alone before the change. */
static void
on_fault(int number, siginfo_t *info, void *at)
{
    ucontext_t *c = at;
    uint8_t *place = info->si_addr;

    if (place < live.map || place >= live.end) {
        static const char what[] = " goes beyond its memory\n";

        (void)!write(STDERR_FILENO, text, strlen(text));
        (void)!write(STDERR_FILENO, what, sizeof(what) - 1);
        signal(number, SIG_DFL);
        return;
    }
    permit(PROT_READ | PROT_WRITE);
    if (++reads == change_at) {
        change();
        return; /* and stays like that */
    }
    c->uc_mcontext.gregs[REG_EFL] |= STEP;
}

static void
on_step(int number, siginfo_t *info, void *at)
{
    ucontext_t *c = at;

    (void)number;
    (void)info;
    permit(PROT_NONE);
    c->uc_mcontext.gregs[REG_EFL] &= ~(greg_t)STEP;
}

static size_t
encode(const gp_pipeline *p, uint8_t *out, size_t bound, void *workspace)
{
    gp_codec_memory *memory;
    float source[COUNT];
    size_t size = 0;

    for (size_t i = 0; i < COUNT; i++)
        source[i] = i / 64 % 3 == 1 ? 0 : (float)(i * 37 % 101) * 0.01f - 0.4f;
    assert_int_equal(gp_codec_memory_create(p, 0, COUNT, 0, &memory), GP_OK);
    if (gp_pipeline_needs(p) & GP_PIPELINE_PREPARES)
        assert_int_equal(
            gp_pipeline_prepare(p, &context, memory, source, COUNT), GP_OK);
    assert_int_equal(gp_pipeline_encode(p, &context, memory, source, COUNT, out,
                                        bound, &size, workspace),
                     GP_OK);
    gp_codec_memory_destroy(memory);
    return size;
}

/* Where a call leaves what it makes. */
typedef struct place {
    const gp_pipeline *pipeline;
    edge target, sum;
    void *workspace;
} place;

typedef gp_status reader(const place *p, const gp_codec_input *in,
                         float *target);

static gp_status
decode(const place *p, const gp_codec_input *in, float *target)
{
    return gp_pipeline_decode(p->pipeline, &context, in->bytes, in->length,
                              target, COUNT, p->workspace);
}

static gp_status
decode_add(const place *p, const gp_codec_input *in, float *target)
{
    return gp_pipeline_decode_add(p->pipeline, &context, in->bytes, in->length,
                                  target, COUNT, p->workspace);
}

static gp_status
fold(const place *p, const gp_codec_input *in, float *target)
{
    const gp_codec_input three[3] = {*in, *in, *in};

    return gp_pipeline_fold(p->pipeline, three, 3, 0, target, COUNT,
                            p->workspace);
}

static gp_status
aggregate(const place *p, const gp_codec_input *in, float *target)
{
    const gp_codec_input three[3] = {*in, *in, *in};
    size_t room = gp_pipeline_bound(p->pipeline, COUNT), size;

    if (!(gp_pipeline_needs(p->pipeline) & GP_PIPELINE_AGGREGATES))
        return decode(p, in, target);
    return gp_pipeline_aggregate(p->pipeline, three, 3, COUNT,
                                 p->sum.end - room, room, &size, p->workspace);
}

/* The message is another one after so many reads; 0: it stays. */
static void
read_once(reader *how, const place *p, unsigned long moment)
{
    const gp_codec_input in = {&context, live.end - length, length};
    float *target = (float *)(void *)p->target.end - COUNT;
    gp_status status;

    memset(target, 0, COUNT * sizeof(*target));
    memcpy(live.end - length, original, length);
    reads = 0;
    change_at = moment;
    permit(PROT_NONE);
    status = how(p, &in, target);
    permit(PROT_READ | PROT_WRITE);
    if (moment)
        assert_true(status == GP_OK || status == GP_ERR_CORRUPT ||
                    status == GP_ERR_TOO_LARGE);
    else
        assert_int_equal(status, GP_OK);
}

static void
read_at_points(reader *how, const place *p)
{
    unsigned long all;

    read_once(how, p, 0);
    all = reads;
    assert_true(all > 0 || length == 0);
    for (unsigned i = 0; i < POINTS && all; i++)
        read_once(how, p, 1 + (i < POINTS / 2 ? i : roll((unsigned)all)));
}

static void
try_pipeline(const gp_pipeline *pipeline)
{
    static reader *const readers[] = {decode, decode_add, fold, aggregate};
    size_t bound = gp_pipeline_bound(pipeline, COUNT);
    size_t room = gp_pipeline_workspace(pipeline, COUNT);
    place p = {pipeline, edge_make(COUNT * sizeof(float)), edge_make(bound),
               gp_alloc_aligned(room + 1)};
    uint8_t *sent = malloc(bound + 1);

    assert_true(p.workspace && sent);
    text = gp_pipeline_name(pipeline);
    length = encode(pipeline, sent, bound, p.workspace);
    original = sent;
    live = edge_make(length);
    for (size_t i = 0; i < GP_COUNT_OF(readers); i++) {
        gp_fuzz_level(roll(2) ? GP_SIMD_AVX512 : GP_SIMD_SCALAR);
        read_at_points(readers[i], &p);
    }
    edge_free(&live);
    edge_free(&p.target);
    edge_free(&p.sum);
    free(p.workspace);
    free(sent);
}

static void
messages_change_while_they_are_read(void **state)
{
    struct sigaction fault = {.sa_sigaction = on_fault,
                              .sa_flags = SA_SIGINFO | SA_NODEFER};
    struct sigaction step = {.sa_sigaction = on_step, .sa_flags = SA_SIGINFO};
    struct sigaction before[2];

    (void)state;
    dice = 1;
    gp_log_set_level(GP_LOG_NONE);
    assert_int_equal(sigaction(SIGSEGV, &fault, &before[0]), 0);
    assert_int_equal(sigaction(SIGTRAP, &step, &before[1]), 0);
    for (size_t i = 0; i < gp_test_pipeline_count; i++)
        try_pipeline(gp_fuzz_pipeline(i));
    sigaction(SIGSEGV, &before[0], NULL);
    sigaction(SIGTRAP, &before[1], NULL);
    gp_log_set_level(GP_LOG_WARN);
}

#else

static void
messages_change_while_they_are_read(void **state)
{
    (void)state;
    print_message("skipped: no single steps here\n");
    skip();
}

#endif

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(messages_change_while_they_are_read),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
