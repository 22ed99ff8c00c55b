/* SPDX-License-Identifier: Apache-2.0 */
/*
 * codec.h - what a codec author implements, and pipelines of codecs.
 *
 * A codec is one table. There are two kinds of stage:
 *
 *   array   fp32 elements -> bytes   (none, fp16, bf16, q8, ...)
 *   bytes   bytes -> bytes, exact    (lz4, ...)
 *
 * A pipeline is one array stage followed by any number of byte stages, written
 * as in "q8:block=256+lz4". A text that begins with a byte stage gets `none` in
 * front of it. Grammar: stage ("+" stage)*; stage = name (":" argument (","
 * argument)*)? argument = key "=" value | value (the codec's first parameter).
 *
 * docs/codecs.md gives the byte layout and the mathematics of every codec.
 * All layouts are little endian. Decoders treat their input as hostile.
 */
#ifndef GRADPUSH_CODEC_H
#define GRADPUSH_CODEC_H

#include <stddef.h>
#include <stdint.h>

#include <gradpush/status.h>

#ifdef __cplusplus
extern "C" {
#endif

/** Version of this interface; a table with another one is refused. */
#define GP_CODEC_ABI 1u

typedef enum gp_codec_kind {
    GP_CODEC_ARRAY = 1,
    GP_CODEC_BYTES = 2
} gp_codec_kind;

/** Properties, for the engine's choices and for tests of the mathematics. */
#define GP_CODEC_LOSSLESS   0x01u /**< decode(encode(x)) == x bit for bit */
#define GP_CODEC_UNBIASED   0x02u /**< E decode(encode(x)) == x */
#define GP_CODEC_CONTRACTS  0x04u /**< |C(x)-x|^2 <= (1-d)|x|^2, 0 < d <= 1 */
#define GP_CODEC_FIXED_RATE 0x08u /**< size depends on the count alone */
#define GP_CODEC_LINEAR     0x10u /**< C(x+y) == C(x)+C(y) */
#define GP_CODEC_WIDE       0x20u /**< wants chunks as large as can be */

/** What a codec does with NaN and Inf; each has a test. */
typedef enum gp_nonfinite {
    GP_NONFINITE_EXACT = 1,    /**< come out as they went in */
    GP_NONFINITE_PROPAGATE = 2 /**< the block comes out as NaN */
} gp_nonfinite;

/** A parameter of a codec. The first in the list may be given without a key. */
typedef struct gp_codec_param {
    const char *name;
    double value, minimum, maximum; /**< default and inclusive range */
    int integer;                    /**< not 0: whole numbers only */
    const char *text;
} gp_codec_param;

/**
 * Where the elements come from. Everything a codec may depend on beside the
 * numbers; random codecs key their counter generator with it.
 */
typedef struct gp_codec_context {
    uint64_t seed;   /**< of the job, equal on all workers */
    uint64_t tensor; /**< tensor number */
    uint64_t offset; /**< first element's index within the tensor */
    uint64_t step;
    uint32_t rank;        /**< UINT32_MAX on a shard */
    const void *prepared; /**< result of prepare(), or NULL */
} gp_codec_context;

/**
 * The table of a codec. An instance is made once per pipeline by open() and is
 * read-only afterwards: any number of threads use it at once. A codec that
 * needs no instance leaves open and close NULL.
 *
 * Sizes: `count` is elements; every call accepts count 0. Buffers never
 * overlap. fp32 buffers are 4-byte aligned, byte buffers not aligned at all.
 * No call allocates, blocks or logs.
 */
typedef struct gp_codec_ops {
    uint32_t abi; /**< GP_CODEC_ABI */
    gp_codec_kind kind;
    uint32_t properties;
    gp_nonfinite nonfinite;
    const char *name;
    const char *text;             /**< one line for `info --codecs` */
    const gp_codec_param *params; /**< ends with name NULL; may be NULL */

    /** @param values  one per parameter, checked against its range. */
    gp_status (*open)(const double *values, void **instance);
    void (*close)(void *instance);

    /** Largest encoded size of `size` elements (array) or bytes (bytes);
     *  SIZE_MAX when that overflows. */
    size_t (*bound)(const void *instance, size_t size);

    /* Array stages. */

    /** @return GP_OK, GP_ERR_TOO_LARGE when capacity < bound. */
    gp_status (*encode)(const void *instance, const gp_codec_context *context,
                        const float *source, size_t count, void *out,
                        size_t capacity, size_t *length);
    /** Encode with error feedback in one pass (Seide 2014; Karimireddy 2019):
     *  u = source + residual; out = encode(u); residual = u - decode(out).
     *  Non-finite u leaves residual 0 for its block. NULL: composed of the
     *  others by the pipeline. */
    gp_status (*encode_feedback)(const void *instance,
                                 const gp_codec_context *context,
                                 const float *source, float *residual,
                                 size_t count, void *out, size_t capacity,
                                 size_t *length);
    /** Any `bytes` give a status; `target` is unspecified after a failure.
     *  @return GP_OK, GP_ERR_CORRUPT. */
    gp_status (*decode)(const void *instance, const void *bytes, size_t length,
                        float *target, size_t count);
    /** target[i] += decoded[i], without a dense temporary. After a failure
     *  `target` is untouched: validate first. NULL: not offered. */
    gp_status (*decode_add)(const void *instance, const void *bytes,
                            size_t length, float *target, size_t count);
    /** Tensor scope: a pass over the whole tensor before its chunks are
     *  encoded. `out` has prepare_bytes. NULL: chunk scope. */
    gp_status (*prepare)(const void *instance, const gp_codec_context *context,
                         const float *source, size_t count, void *out);
    size_t prepare_bytes;

    /* Byte stages: exact inverses of one another. The format carries what
     * unpack needs, and stores raw what does not shrink. */

    gp_status (*pack)(const void *instance, const void *source, size_t size,
                      void *out, size_t capacity, size_t *length);
    /** @param length  receives the unpacked size, at most `capacity`. */
    gp_status (*unpack)(const void *instance, const void *bytes, size_t size,
                        void *out, size_t capacity, size_t *length);
} gp_codec_ops;

/**
 * Adds a codec to those that a pipeline text can name.
 *
 * Any thread, before pipelines that use it are parsed. The table is borrowed
 * for the life of the process.
 *
 * @return GP_OK, GP_ERR_VERSION, GP_ERR_EXISTS, GP_ERR_INVALID (the message
 *         says which member), GP_ERR_NO_MEMORY.
 */
GP_API GP_MUST_CHECK gp_status gp_codec_register(const gp_codec_ops *ops);

/** The codec of that name, or NULL. */
GP_API const gp_codec_ops *gp_codec_find(const char *name);

/** The codec at an index below the count, or NULL; for tools. */
GP_API const gp_codec_ops *gp_codec_at(size_t index);

typedef struct gp_pipeline gp_pipeline;

/**
 * Reads a pipeline text.
 *
 * @param text  for example "q8:block=128+lz4".
 * @param out   destroy with gp_pipeline_destroy(). Immutable; any number of
 *              threads may use it, each with a workspace of its own.
 * @return GP_OK
 *         GP_ERR_CONFIG  gp_last_error() repeats the text, points at the
 *                        offending character and says what is expected there
 *                        (nearest name for an unknown codec).
 *         GP_ERR_NO_MEMORY
 */
GP_API GP_MUST_CHECK gp_status gp_pipeline_parse(const char *text,
                                                 gp_pipeline **out);
GP_API void gp_pipeline_destroy(gp_pipeline *pipeline);

/** Canonical text with every parameter written out:
 *  "q8:block=256+lz4:acceleration=1". */
GP_API const char *gp_pipeline_name(const gp_pipeline *pipeline);

/** CRC32C of the canonical text; the number that travels in headers. */
GP_API uint32_t gp_pipeline_id(const gp_pipeline *pipeline);

/** Properties that hold for the whole chain (GP_CODEC_*). */
GP_API uint32_t gp_pipeline_properties(const gp_pipeline *pipeline);

/** Largest encoded size of `count` elements; SIZE_MAX on overflow. */
GP_API size_t gp_pipeline_bound(const gp_pipeline *pipeline, size_t count);

/** Bytes of workspace the calls below need for up to `count` elements; may be
 *  0. A workspace is uninitialized memory, 64-byte aligned, one per thread. */
GP_API size_t gp_pipeline_workspace(const gp_pipeline *pipeline, size_t count);

/**
 * Encodes; with `residual` not NULL under error feedback, as in
 * gp_codec_ops.encode_feedback, computed against the final decoded value.
 *
 * @param residual   count elements, in and out, or NULL.
 * @param out        `capacity` bytes, at least gp_pipeline_bound().
 * @param workspace  gp_pipeline_workspace() bytes.
 */
GP_API GP_MUST_CHECK gp_status
gp_pipeline_encode(const gp_pipeline *pipeline, const gp_codec_context *context,
                   const float *source, float *residual, size_t count,
                   void *out, size_t capacity, size_t *length, void *workspace);

/** @return GP_OK or GP_ERR_CORRUPT, whatever the bytes are. */
GP_API GP_MUST_CHECK gp_status gp_pipeline_decode(const gp_pipeline *pipeline,
                                                  const void *bytes,
                                                  size_t length, float *target,
                                                  size_t count,
                                                  void *workspace);

/** target[i] += decoded[i]; target is untouched after a failure. */
GP_API GP_MUST_CHECK gp_status gp_pipeline_decode_add(
    const gp_pipeline *pipeline, const void *bytes, size_t length,
    float *target, size_t count, void *workspace);

#ifdef __cplusplus
}
#endif
#endif
