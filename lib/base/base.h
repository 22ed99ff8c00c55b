/* SPDX-License-Identifier: Apache-2.0 */
/*
 * base.h - what every part of the library uses: errors, log, clock, small
 * helpers. Nothing here knows about gradients or networks.
 */
#ifndef GP_BASE_H
#define GP_BASE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <gradpush/config.h>
#include <gradpush/status.h>

#define GP_COUNT_OF(array) (sizeof(array) / sizeof((array)[0]))
#define GP_CONTAINER_OF(pointer, type, member) \
    ((type *)(void *)((char *)(pointer)-offsetof(type, member)))
#define GP_MIN(a, b) ((a) < (b) ? (a) : (b))
#define GP_MAX(a, b) ((a) > (b) ? (a) : (b))

/* Sets the thread's last error and returns `status`:
 *     return gp_fail(GP_ERR_CONFIG, "GRADPUSH_RANK is '%s': ...", text);
 * Does not log: whoever detects a fault that nobody returns to a caller logs.
 */
gp_status gp_fail(gp_status status, const char *format, ...) GP_PRINTF(2, 3);

/* The same with the text of errno appended: ": Connection refused". */
gp_status gp_fail_errno(gp_status status, int error, const char *format, ...)
    GP_PRINTF(3, 4);

/* One line: "gradpush [12:01:02.345] rank 3 tcp.c:214 warn: text". The level
 * test comes first, so a disabled line costs one load. */
#define GP_LOG(level, ...)                                                 \
    do {                                                                   \
        if ((int)(level) <=                                                \
            atomic_load_explicit(&gp_log_threshold, memory_order_relaxed)) \
            gp_log_write((level), __FILE__, __LINE__, __VA_ARGS__);        \
    } while (0)
#define GP_ERROR(...) GP_LOG(GP_LOG_ERROR, __VA_ARGS__)
#define GP_WARN(...)  GP_LOG(GP_LOG_WARN, __VA_ARGS__)
#define GP_INFO(...)  GP_LOG(GP_LOG_INFO, __VA_ARGS__)
#define GP_DEBUG(...) GP_LOG(GP_LOG_DEBUG, __VA_ARGS__)
#define GP_TRACE(...) GP_LOG(GP_LOG_TRACE, __VA_ARGS__)
extern atomic_int gp_log_threshold;
void gp_log_write(gp_log_level level, const char *file, int line,
                  const char *format, ...) GP_PRINTF(4, 5);

/* What strangers may put into the log: ten lines in ten seconds. All zero is a
 * fresh one; belongs to one thread at a time. */
typedef struct gp_log_budget {
    uint64_t window_ns;
    uint32_t lines, dropped;
} gp_log_budget;

/* Whether one more line may be written now. Says how many were left out before,
 * as `who`. */
bool gp_log_may(gp_log_budget *budget, const char *who);

/* Who this thread speaks for in log lines: "rank 3", "shard 1"; copied, at most
 * 31 bytes. */
void gp_log_identity(const char *text);

/* Applies `log` and `log_file` of a configuration to the process. */
gp_status gp_log_configure(const gp_config *config);

/* CLOCK_MONOTONIC in nanoseconds. */
uint64_t gp_clock_ns(void);

/* now + seconds, saturating; negative seconds give UINT64_MAX (never). */
uint64_t gp_deadline(double seconds);

static inline bool
gp_expired(uint64_t deadline_ns)
{
    return deadline_ns != UINT64_MAX && gp_clock_ns() >= deadline_ns;
}

/* Milliseconds left for poll and epoll_wait: rounded up, 0 when passed, -1 for
 * never, at most INT_MAX. */
int gp_deadline_ms(uint64_t deadline_ns);

/* The variable of another library that a field also reads, "NCCL_IB_HCA" for
 * ib_hca; NULL for most. Static. */
const char *gp_config_alias(const char *name);

/* A copy of a configuration. */
gp_status gp_config_copy(const gp_config *config, gp_config **out);

/* The word of `choices` ("auto|on|off") nearest to `text` by edit distance, or
 * NULL when none is near; static storage of the caller's list, copied to out.
 */
bool gp_nearest(const char *text, const char *const *words, size_t count,
                const char **out);

/* a * b and a + b that do not wrap: false on overflow. */
static inline bool
gp_mul(size_t a, size_t b, size_t *out)
{
    return !__builtin_mul_overflow(a, b, out);
}

static inline bool
gp_add(size_t a, size_t b, size_t *out)
{
    return !__builtin_add_overflow(a, b, out);
}

/* 64-byte aligned memory, from 16 KiB on aligned to pages of 4 KiB, for slabs,
 * slots and arenas; free() releases it. NULL when out of memory. */
void *gp_alloc_aligned(size_t bytes);

/* 16 hex digits worth of identity from text: FNV-1a 64 then a finalizer. Not
 * for secrets. */
uint64_t gp_hash(const void *data, size_t length);

/* Random bytes from the kernel. */
gp_status gp_random(void *out, size_t length);

#endif
