/* SPDX-License-Identifier: Apache-2.0 */
/*
 * crc32c.c - CRC32C (Castagnoli, reflected polynomial 0x82f63b78): the portable
 * kernel and the choice among kernels.
 *
 * A checksum is linear: the table entry of a byte is the sum (exclusive or) of
 * the entries of its bits. So eight numbers per table are written down and the
 * compiler forms the tables, which need no initialization at run time.
 */
#include "base/crc32c.h"
#include "base/base.h"
#include "base/bytes.h"

#include <gradpush/transport.h>

#define BIT(n, i, entry) ((n) >> (i)&1 ? (entry) : 0u)
#define ENTRY(n, a, b, c, d, e, f, g, h)                         \
    (BIT(n, 0, a) ^ BIT(n, 1, b) ^ BIT(n, 2, c) ^ BIT(n, 3, d) ^ \
     BIT(n, 4, e) ^ BIT(n, 5, f) ^ BIT(n, 6, g) ^ BIT(n, 7, h))
#define ROW4(n, ...)                                    \
    ENTRY(n, __VA_ARGS__), ENTRY((n) + 1, __VA_ARGS__), \
        ENTRY((n) + 2, __VA_ARGS__), ENTRY((n) + 3, __VA_ARGS__)
#define ROW16(n, ...)                                 \
    ROW4(n, __VA_ARGS__), ROW4((n) + 4, __VA_ARGS__), \
        ROW4((n) + 8, __VA_ARGS__), ROW4((n) + 12, __VA_ARGS__)
#define ROW64(n, ...)                                    \
    ROW16(n, __VA_ARGS__), ROW16((n) + 16, __VA_ARGS__), \
        ROW16((n) + 32, __VA_ARGS__), ROW16((n) + 48, __VA_ARGS__)
#define TABLE(...)                                           \
    {                                                        \
        ROW64(0, __VA_ARGS__), ROW64(64, __VA_ARGS__),       \
            ROW64(128, __VA_ARGS__), ROW64(192, __VA_ARGS__) \
    }

/* tables[k][n]: the effect of byte n on the state k bytes later. */
static const uint32_t tables[8][256] = {
    TABLE(0xf26b8303, 0xe13b70f7, 0xc79a971f, 0x8ad958cf, 0x105ec76f,
          0x20bd8ede, 0x417b1dbc, 0x82f63b78),
    TABLE(0x13a29877, 0x274530ee, 0x4e8a61dc, 0x9d14c3b8, 0x3fc5f181,
          0x7f8be302, 0xff17c604, 0xfbc3faf9),
    TABLE(0xa541927e, 0x4f6f520d, 0x9edea41a, 0x38513ec5, 0x70a27d8a,
          0xe144fb14, 0xc76580d9, 0x8b277743),
    TABLE(0xdd45aab8, 0xbf672381, 0x7b2231f3, 0xf64463e6, 0xe964b13d,
          0xd725148b, 0xaba65fe7, 0x52a0c93f),
    TABLE(0x38116fac, 0x7022df58, 0xe045beb0, 0xc5670b91, 0x8f2261d3,
          0x1ba8b557, 0x37516aae, 0x6ea2d55c),
    TABLE(0xef306b19, 0xdb8ca0c3, 0xb2f53777, 0x6006181f, 0xc00c303e,
          0x85f4168d, 0x0e045beb, 0x1c08b7d6),
    TABLE(0x68032cc8, 0xd0065990, 0xa5e0c5d1, 0x4e2dfd53, 0x9c5bfaa6,
          0x3d5b83bd, 0x7ab7077a, 0xf56e0ef4),
    TABLE(0x493c7d27, 0x9278fa4e, 0x211d826d, 0x423b04da, 0x847609b4,
          0x0d006599, 0x1a00cb32, 0x34019664),
};

uint32_t
gp_crc32c_portable(uint32_t state, const uint8_t *data, size_t length)
{
    for (; length >= 8; data += 8, length -= 8) {
        uint32_t a = gp_get32(data) ^ state, b = gp_get32(data + 4);

        state = tables[7][a & 255] ^ tables[6][a >> 8 & 255] ^
                tables[5][a >> 16 & 255] ^ tables[4][a >> 24] ^
                tables[3][b & 255] ^ tables[2][b >> 8 & 255] ^
                tables[1][b >> 16 & 255] ^ tables[0][b >> 24];
    }
    for (; length; data++, length--)
        state = state >> 8 ^ tables[0][(state ^ *data) & 255];
    return state;
}

static bool
always(void)
{
    return true;
}

const gp_crc32c_choice gp_crc32c_choices[] = {
#if defined(__x86_64__)
    {"avx512", gp_crc32c_avx512, gp_crc32c_has_avx512},
    {"sse4.2", gp_crc32c_sse42, gp_crc32c_has_sse42},
#endif
    {"portable", gp_crc32c_portable, always},
};
const size_t gp_crc32c_choice_count = GP_COUNT_OF(gp_crc32c_choices);

static uint32_t choose(uint32_t state, const uint8_t *data, size_t length);

/* Threads that come first at the same time all store the same choice. */
static _Atomic(gp_crc32c_kernel) kernel = choose;

static uint32_t
choose(uint32_t state, const uint8_t *data, size_t length)
{
    const gp_crc32c_choice *choice = gp_crc32c_choices;

    while (!choice->supported())
        choice++;
    atomic_store_explicit(&kernel, choice->kernel, memory_order_relaxed);
    return choice->kernel(state, data, length);
}

uint32_t
gp_crc32c(uint32_t crc, const void *data, size_t length)
{
    gp_crc32c_kernel f = atomic_load_explicit(&kernel, memory_order_relaxed);

    return ~f(~crc, data, length);
}
