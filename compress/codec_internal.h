/* SPDX-License-Identifier: Apache-2.0 */
/*
 * codec_internal.h - what the engine and the tests use of compress/ beside the
 * public interface: folds over fp32, casts, and the choice of SIMD kernels.
 *
 * All kernels of one name give the same bits, whatever the level, as long as
 * the thread is in the default rounding mode.
 */
#ifndef GP_CODEC_INTERNAL_H
#define GP_CODEC_INTERNAL_H

#include <stdbool.h>
#include <stddef.h>

#include <gradpush/codec.h>

/* Instruction sets with kernels of their own, each includes the ones before. */
typedef enum gp_simd {
    GP_SIMD_SCALAR = 0,
    GP_SIMD_AVX2 = 1,
    GP_SIMD_AVX512 = 2
} gp_simd;
#define GP_SIMD_LEVELS 3

/* The level in use; the best of this machine until gp_simd_set(). */
gp_simd gp_simd_get(void);

/* Forces a level for the whole process, for tests and measurements. False when
 * the machine or the build lacks it; the level then stays. */
bool gp_simd_set(gp_simd level);

/* "scalar", "avx2", "avx512". */
const char *gp_simd_name(gp_simd level);

/* acc[i] += src[i] */
void gp_add_fp32(float *acc, const float *src, size_t n);

/* x[i] *= factor */
void gp_scale_fp32(float *x, float factor, size_t n);

/* Casts of tensors that are not fp32: the same numbers as the codecs fp16 and
 * bf16, little endian 16-bit elements at any alignment. */
void gp_fp32_to_fp16(void *out, const float *in, size_t n);
void gp_fp16_to_fp32(float *out, const void *in, size_t n);
void gp_fp32_to_bf16(void *out, const float *in, size_t n);
void gp_bf16_to_fp32(float *out, const void *in, size_t n);

/* The built-in codecs. */
extern const gp_codec_ops gp_codec_none, gp_codec_fp16, gp_codec_bf16,
    gp_codec_q8;
extern const gp_codec_ops gp_codec_intsum, gp_codec_thc, gp_codec_powersgd;
#ifdef GP_HAVE_LZ4
extern const gp_codec_ops gp_codec_lz4;
#endif
#ifdef GP_HAVE_ZSTD
extern const gp_codec_ops gp_codec_zstd;
#endif
extern const gp_codec_ops gp_codec_uq, gp_codec_ans, gp_codec_shuffle,
    gp_codec_bitshuffle;

/* Why this build has no codec of that name, or NULL when it knows none such. */
const char *gp_codec_absent(const char *name);

/* Most parameters a codec can have, and most stages of a pipeline. */
#define GP_CODEC_PARAMS    16
#define GP_PIPELINE_STAGES 12

#endif
