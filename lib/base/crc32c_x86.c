/* SPDX-License-Identifier: Apache-2.0 */
/*
 * crc32c_x86.c - CRC32C with the crc32 instruction and with carry-less
 * multiplication.
 *
 * State and data are polynomials over GF(2), stored with the bits reversed. A
 * block whose remainder is wanted n bits further on is multiplied by x^n mod P.
 * The product of two reversed words comes out one bit short, and the reduction
 * that follows multiplies by x^32, so the constants below are x^(n - 33) mod P,
 * reversed. Method: Gopal, Ozturk, Guilford, Wolrich, Feghali, Dixon,
 * Karakoyunlu, "Fast CRC Computation for iSCSI Polynomial Using CRC32
 * Instruction" (Intel, 2011), and Gopal et al., "Fast CRC Computation for
 * Generic Polynomials Using PCLMULQDQ Instruction" (Intel, 2009).
 */
#include "base/crc32c.h"

#if defined(__x86_64__)

#include <cpuid.h>
#include <immintrin.h>
#include <string.h>

/* A state over so many bytes, and 16 bytes over so many bits. */
#define SHIFT_128      0x0d3b6092u
#define SHIFT_256      0xb9e02b86u
#define SHIFT_1024     0x170076fau
#define SHIFT_2048     0xa51b6135u
#define FOLD_128_LOW   0xf20c0dfe
#define FOLD_128_HIGH  0x493c7d27
#define FOLD_256_LOW   0x3da6d0cb
#define FOLD_256_HIGH  0xba4fc28e
#define FOLD_384_LOW   0x1c291d04
#define FOLD_384_HIGH  0xddc0152b
#define FOLD_512_LOW   0x740eef02
#define FOLD_512_HIGH  0x9e4addf8
#define FOLD_2048_LOW  0xdcb17aa4
#define FOLD_2048_HIGH 0xb9e02b86

#define SSE42  __attribute__((target("sse4.2,pclmul")))
#define AVX512 __attribute__((target("sse4.2,pclmul,avx512f,vpclmulqdq")))

static inline uint64_t
load64(const uint8_t *data)
{
    uint64_t v;

    memcpy(&v, data, sizeof(v));
    return v;
}

/* One stream: three cycles for eight bytes. */
SSE42 static inline uint32_t
crc_short(uint32_t state, const uint8_t *data, size_t length)
{
    uint64_t wide = state;

    for (; length >= 8; data += 8, length -= 8)
        wide = _mm_crc32_u64(wide, load64(data));
    state = (uint32_t)wide;
    for (; length; data++, length--)
        state = _mm_crc32_u8(state, *data);
    return state;
}

/* Three neighbouring streams of `bytes` each, because the instruction takes
 * three cycles and one can start in each. `shift1` and `shift2` move a state
 * over one and two streams. */
SSE42 static inline uint32_t
crc_three(uint32_t state, const uint8_t *data, size_t bytes, uint32_t shift1,
          uint32_t shift2)
{
    uint64_t a = state, b = 0, c = 0;
    __m128i moved;

    for (size_t i = 0; i < bytes; i += 8) {
        a = _mm_crc32_u64(a, load64(data + i));
        b = _mm_crc32_u64(b, load64(data + bytes + i));
        c = _mm_crc32_u64(c, load64(data + 2 * bytes + i));
    }
    moved =
        _mm_xor_si128(_mm_clmulepi64_si128(_mm_cvtsi64_si128((int64_t)a),
                                           _mm_cvtsi32_si128((int)shift2), 0),
                      _mm_clmulepi64_si128(_mm_cvtsi64_si128((int64_t)b),
                                           _mm_cvtsi32_si128((int)shift1), 0));
    return (uint32_t)(c ^ _mm_crc32_u64(0, (uint64_t)_mm_cvtsi128_si64(moved)));
}

SSE42 uint32_t
gp_crc32c_sse42(uint32_t state, const uint8_t *data, size_t length)
{
    for (; length >= 3 * 1024; data += 3 * 1024, length -= 3 * 1024)
        state = crc_three(state, data, 1024, SHIFT_1024, SHIFT_2048);
    for (; length >= 3 * 128; data += 3 * 128, length -= 3 * 128)
        state = crc_three(state, data, 128, SHIFT_128, SHIFT_256);
    return crc_short(state, data, length);
}

/* next + 'sum, moved over the distance that `shift` stands for': the low half
 * of each 16 bytes is the earlier one and moves 64 bits more. */
AVX512 static inline __m512i
fold(__m512i sum, __m512i shift, __m512i next)
{
    return _mm512_ternarylogic_epi64(_mm512_clmulepi64_epi128(sum, shift, 0x00),
                                     _mm512_clmulepi64_epi128(sum, shift, 0x11),
                                     next, 0x96);
}

/* The state after the 64 bytes that `sum` stands for. */
AVX512 static inline uint32_t
reduce(__m512i sum)
{
    const __m512i shift =
        _mm512_set_epi64(0, 0, FOLD_128_HIGH, FOLD_128_LOW, FOLD_256_HIGH,
                         FOLD_256_LOW, FOLD_384_HIGH, FOLD_384_LOW);
    __m512i moved =
        fold(sum, shift, _mm512_maskz_mov_epi64(0xc0, sum)); /* last 16 stay */
    __m128i a = _mm_xor_si128(_mm512_extracti32x4_epi32(moved, 0),
                              _mm512_extracti32x4_epi32(moved, 1));
    __m128i b = _mm_xor_si128(_mm512_extracti32x4_epi32(moved, 2),
                              _mm512_extracti32x4_epi32(moved, 3));
    uint64_t state;

    a = _mm_xor_si128(a, b);
    state = _mm_crc32_u64(0, (uint64_t)_mm_cvtsi128_si64(a));
    a = _mm_unpackhi_epi64(a, a);
    return (uint32_t)_mm_crc32_u64(state, (uint64_t)_mm_cvtsi128_si64(a));
}

AVX512 static inline __m512i
load512(const uint8_t *data)
{
    return _mm512_loadu_si512(data);
}

/* Four sums of 64 bytes each, 256 bytes a turn: enough independent products to
 * hide the latency of one. */
AVX512 uint32_t
gp_crc32c_avx512(uint32_t state, const uint8_t *data, size_t length)
{
    const __m512i far = _mm512_set_epi64(
        FOLD_2048_HIGH, FOLD_2048_LOW, FOLD_2048_HIGH, FOLD_2048_LOW,
        FOLD_2048_HIGH, FOLD_2048_LOW, FOLD_2048_HIGH, FOLD_2048_LOW);
    const __m512i near = _mm512_set_epi64(
        FOLD_512_HIGH, FOLD_512_LOW, FOLD_512_HIGH, FOLD_512_LOW, FOLD_512_HIGH,
        FOLD_512_LOW, FOLD_512_HIGH, FOLD_512_LOW);
    __m512i a, b, c, d;

    if (length < 256)
        return crc_short(state, data, length);
    a = _mm512_xor_si512(load512(data),
                         _mm512_zextsi128_si512(_mm_cvtsi32_si128((int)state)));
    b = load512(data + 64);
    c = load512(data + 128);
    d = load512(data + 192);
    for (data += 256, length -= 256; length >= 256;
         data += 256, length -= 256) {
        a = fold(a, far, load512(data));
        b = fold(b, far, load512(data + 64));
        c = fold(c, far, load512(data + 128));
        d = fold(d, far, load512(data + 192));
    }
    d = fold(fold(fold(a, near, b), near, c), near, d);
    for (; length >= 64; data += 64, length -= 64)
        d = fold(d, near, load512(data));
    return crc_short(reduce(d), data, length);
}

/* QEMU without an accelerator works the instruction out bit by bit; tables are
 * several times faster there. */
static bool
is_emulated(void)
{
    unsigned a, b = 0, c = 0, d = 0;
    char name[12];

    __cpuid(1, a, b, c, d);
    if (!(c & 1u << 31)) /* no hypervisor */
        return false;
    __cpuid(0x40000000, a, b, c, d);
    memcpy(name, &b, 4);
    memcpy(name + 4, &c, 4);
    memcpy(name + 8, &d, 4);
    return !memcmp(name, "TCGTCGTCGTCG", sizeof(name));
}

bool
gp_crc32c_has_sse42(void)
{
    return __builtin_cpu_supports("sse4.2") &&
           __builtin_cpu_supports("pclmul") && !is_emulated();
}

/* Not every compiler's __builtin_cpu_supports() knows vpclmulqdq. The test for
 * avx512f includes whether the kernel saves the wide registers. */
bool
gp_crc32c_has_avx512(void)
{
    unsigned a, b, c, d;

    return gp_crc32c_has_sse42() && __builtin_cpu_supports("avx512f") &&
           __get_cpuid_count(7, 0, &a, &b, &c, &d) && (c & bit_VPCLMULQDQ);
}

#endif
