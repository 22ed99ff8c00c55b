/* SPDX-License-Identifier: Apache-2.0 */
/*
 * codec.h - what a codec author implements, and pipelines of codecs.
 *
 * A codec is one table. A pipeline chains stages of these kinds, in this
 * order; only the array stage must be there, and is `none` when left out:
 *
 *   fake        sends what would be decoded, as fp32: for experiments
 *   memory      what is remembered between steps: ef, ef21, momentum
 *   zeros       leaves out blocks of zeros
 *   select      some of the elements: topk, randk, threshold
 *   transform   fp32 -> fp32, as many, invertible: hadamard
 *   array       fp32 elements -> bytes: none, fp16, q8, sign, qsgd, uq, ...
 *   bytes       bytes -> bytes, exact: shuffle, lz4, zstd; on the values
 *   index       which elements were selected -> bytes: raw, rice, bitmap
 *   bytes       once more; on the whole message
 *
 * as in "q8:block=256+lz4" and "topk:0.01,scope=tensor+q8:block=256+rice".
 * Grammar: stage ("+" stage)*; stage = name (":" argument ("," argument)*)?
 * argument = key "=" value | value (the codec's first parameter). Names such as
 * "onebit:deepspeed" stand for longer texts; gp_pipeline_name() shows them.
 *
 * docs/codecs.md gives the byte layout and the mathematics of every codec.
 * All layouts are little endian. Decoders treat their input as hostile: bytes
 * may even change between two reads, since a peer's device can write to where
 * they lie. What a decoder checked and relies on it reads once.
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
#define GP_CODEC_ABI 2u

typedef enum gp_codec_kind {
    GP_CODEC_ARRAY = 1,
    GP_CODEC_BYTES = 2,
    GP_CODEC_SELECT = 3,
    GP_CODEC_INDEX = 4,
    GP_CODEC_TRANSFORM = 5,
    GP_CODEC_MEMORY = 6, /**< built-in ones only */
    GP_CODEC_ZEROS = 7,  /**< built-in one only */
    GP_CODEC_FAKE = 8    /**< likewise */
} gp_codec_kind;

/** Properties, for the engine's choices and for tests of the mathematics. */
#define GP_CODEC_LOSSLESS   0x01u /**< decode(encode(x)) == x bit for bit */
#define GP_CODEC_UNBIASED   0x02u /**< E decode(encode(x)) == x */
#define GP_CODEC_CONTRACTS  0x04u /**< |C(x)-x|^2 <= (1-d)|x|^2, 0 < d <= 1 */
#define GP_CODEC_FIXED_RATE 0x08u /**< size depends on the count alone */
#define GP_CODEC_LINEAR     0x10u /**< C(x+y) == C(x)+C(y) */
/** Works best on a whole tensor: chunks are made as large as can be. */
#define GP_CODEC_WIDE 0x20u
/** Sends differences to what the receiver holds (ef21): a shard adds up all
 *  steps, not the pushes of one. */
#define GP_CODEC_DIFFERENCE 0x40u
/** Encodes signs: as a pull codec it stands for the sign of the sum, 1 for a
 *  tie, also where the messages of workers were summed encoded. */
#define GP_CODEC_VOTES 0x80u

/** What a codec does with NaN and Inf; each has a test. */
typedef enum gp_nonfinite {
    GP_NONFINITE_EXACT = 1,    /**< come out as they went in */
    GP_NONFINITE_PROPAGATE = 2 /**< their block comes out as NaN, or they do */
} gp_nonfinite;

/** A parameter of a codec. The first in the list may be given without a key. */
typedef struct gp_codec_param {
    const char *name;
    double value, minimum, maximum; /**< default and inclusive range */
    int integer;                    /**< not 0: whole numbers only */
    const char *text;
    /** Not NULL: the parameter takes these words, ended by NULL; its value is
     *  the word's index, from 0. minimum, maximum and integer are ignored. */
    const char *const *words;
} gp_codec_param;

/** Of the tensor a pipeline is for. */
typedef struct gp_codec_shape {
    uint64_t count; /**< elements; 0: what one call is given is all there is */
    uint64_t columns; /**< length of a matrix's rows; 0 or 1: a vector */
} gp_codec_shape;

/** In gp_codec_context.rank: encoded by a shard. */
#define GP_RANK_SHARD UINT32_MAX

/**
 * Where the elements come from: everything a codec may depend on beside the
 * numbers. Both ends have the same one, so nothing of it travels. Random codecs
 * key their counter generator with it, so that results depend neither on
 * threads nor on the order of chunks.
 */
typedef struct gp_codec_context {
    uint64_t seed;   /**< of the job, equal on all workers */
    uint64_t tensor; /**< tensor number */
    uint64_t offset; /**< first element's index within the tensor */
    uint64_t step;
    uint32_t rank; /**< of the worker that encodes, or GP_RANK_SHARD */
    uint32_t size; /**< workers; 0 is taken for 1 */
    /** The largest propose() of all workers for this chunk and step. */
    float shared;
    /* For encoders only; the pipeline sets these. */
    const void *prepared; /**< what prepare() wrote, or NULL */
    float *state;         /**< state_count() elements, or NULL */
    void *scratch;        /**< scratch() bytes, 64-byte aligned; decoders too */
} gp_codec_context;

/** One encoded message. */
typedef struct gp_codec_input {
    const gp_codec_context *context;
    const void *bytes;
    size_t length;
} gp_codec_input;

/**
 * The table of a codec. An instance is made once per pipeline by open() and is
 * read-only afterwards: any number of threads use it at once. A codec that
 * needs no instance leaves open and close NULL.
 *
 * Sizes: `count` is elements; every call accepts count 0. Buffers never
 * overlap. fp32 buffers are 4-byte aligned, byte buffers not aligned at all.
 * No call allocates, blocks or logs.
 *
 * Members of other kinds stay NULL, and so may those marked "optional".
 */
typedef struct gp_codec_ops {
    uint32_t abi; /**< GP_CODEC_ABI */
    gp_codec_kind kind;
    uint32_t properties;
    gp_nonfinite nonfinite;
    const char *name;
    const char *text;             /**< one line for `info --codecs` */
    const gp_codec_param *params; /**< ends with name NULL; may be NULL */

    /** @param values  one per parameter, checked against its range.
     *  @param shape   never NULL; {0, 0} when unknown. */
    gp_status (*open)(const double *values, const gp_codec_shape *shape,
                      void **instance);
    void (*close)(void *instance);

    /** Largest encoded size of `size` elements (array), bytes (bytes) or
     *  SIZE_MAX when that overflows. Index stages have index_bound(). */
    size_t (*bound)(const void *instance, size_t size);

    /** What holds for this instance, where parameters decide, in place of
     *  `properties`: those are the ones that hold for all. Optional. */
    uint32_t (*properties_of)(const void *instance);

    /** Bytes of context.scratch that calls for `size` elements or bytes need.
     *  Optional: none. */
    size_t (*scratch)(const void *instance, size_t size);

    /** The NMSE |C(x)-x|^2/|x|^2 that no input of `count` elements exceeds (in
     *  expectation, when it draws random numbers). Optional: no bound. An array
     *  stage that answers more than 2 gets no error feedback unless told to. */
    double (*error_bound)(const void *instance, size_t count);

    /* Array stages. */

    /** @return GP_OK, GP_ERR_TOO_LARGE when capacity < bound. */
    gp_status (*encode)(const void *instance, const gp_codec_context *context,
                        const float *source, size_t count, void *out,
                        size_t capacity, size_t *length);
    /** Encode with error feedback in one pass (Seide 2014; Karimireddy 2019):
     *  u = source + residual; out = encode(u); residual = u - decode(out).
     *  Non-finite u leaves residual 0 for its block. Optional: composed of the
     *  others by the pipeline. */
    gp_status (*encode_feedback)(const void *instance,
                                 const gp_codec_context *context,
                                 const float *source, float *residual,
                                 size_t count, void *out, size_t capacity,
                                 size_t *length);
    /** Any `bytes` give a status; `target` is unspecified after a failure.
     *  @return GP_OK, GP_ERR_CORRUPT. */
    gp_status (*decode)(const void *instance, const gp_codec_context *context,
                        const void *bytes, size_t length, float *target,
                        size_t count);
    /** target[i] += decoded[i], without a dense temporary. After a failure
     *  `target` is untouched: validate first. Optional. */
    gp_status (*decode_add)(const void *instance,
                            const gp_codec_context *context, const void *bytes,
                            size_t length, float *target, size_t count);
    /** target[i] = ((d0[i] + d1[i]) + d2[i]) + ..., the decoded messages in
     *  one pass and with the same bits as decode and decode_add in that order;
     *  with `add`, the first term is target[i]. Target is unspecified after a
     *  failure: messages need not be read twice. `inputs` is at least 1 and at
     *  most GP_CODEC_FOLD. Optional. */
    gp_status (*fold)(const void *instance, const gp_codec_input *input,
                      size_t inputs, int add, float *target, size_t count);
    /** Sums messages without decoding: out is a message of this codec that
     *  decodes to the exact sum. `capacity` is at least bound(count). Messages
     *  come from encode() or aggregate(). Optional; the inputs are at most what
     *  the context's size says. */
    gp_status (*aggregate)(const void *instance, const gp_codec_input *input,
                           size_t inputs, size_t count, void *out,
                           size_t capacity, size_t *length);
    /** Most messages of single workers that one sum can hold; a tensor whose
     *  pushes would be summed is refused in larger jobs. Optional: any. */
    size_t (*most_summed)(const void *instance);
    /** What must agree between workers before this chunk is encoded, such as
     *  the largest magnitude. All encode with the largest answer in
     *  context.shared. A NaN counts as largest. Optional. */
    gp_status (*propose)(const void *instance, const gp_codec_context *context,
                         const float *source, size_t count, float *value);
    /** Tensor scope: a pass over the whole tensor before its chunks are
     *  encoded. `out` has prepare_bytes(), 64-byte aligned, and is what the
     *  chunks see as context.prepared; it may serve as scratch as well.
     *  Optional. */
    gp_status (*prepare)(const void *instance, const gp_codec_context *context,
                         const float *source, size_t count, void *out);
    /** 0, for every count: this instance has chunk scope after all, and
     *  prepare() is not called. Otherwise at least 1, for every count. */
    size_t (*prepare_bytes)(const void *instance, size_t count);
    /** fp32 numbers kept between steps for a tensor of `count` elements, all 0
     *  at first. Only prepare() changes them, which must be there and have
     *  bytes: chunks are encoded by several threads at once, which all see the
     *  same state. Saved in checkpoints. Optional. */
    size_t (*state_count)(const void *instance, size_t count);

    /* Select stages. They may offer prepare and state too. */

    /** Chooses elements: ascending indices, at most `bound(count)` many (here
     *  in elements), and the values to send for them. `indices` and `values`
     *  have that size. */
    gp_status (*select)(const void *instance, const gp_codec_context *context,
                        const float *source, size_t count, uint32_t *indices,
                        float *values, size_t *selected);
    /** The indices alone, for selections that follow from the context: then no
     *  index travels. Optional. */
    gp_status (*imply)(const void *instance, const gp_codec_context *context,
                       size_t count, uint32_t *indices, size_t *selected);

    /* Index stages: exact. */

    /** Largest size of `selected` indices out of `count`. */
    size_t (*index_bound)(const void *instance, size_t selected, size_t count);
    /** @param indices  ascending, each below count. */
    gp_status (*pack_indices)(const void *instance, const uint32_t *indices,
                              size_t selected, size_t count, void *out,
                              size_t capacity, size_t *length);
    /** Must use up all bytes and give ascending indices below count. */
    gp_status (*unpack_indices)(const void *instance, const void *bytes,
                                size_t length, uint32_t *indices,
                                size_t selected, size_t count);

    /* Transform stages. */

    gp_status (*forward)(const void *instance, const gp_codec_context *context,
                         const float *source, size_t count, float *out);
    /** In place. */
    gp_status (*inverse)(const void *instance, const gp_codec_context *context,
                         float *data, size_t count);

    /* Byte stages: exact inverses of one another. The format carries what
     * unpack needs, and stores raw what does not shrink. */

    gp_status (*pack)(const void *instance, const gp_codec_context *context,
                      const void *source, size_t size, void *out,
                      size_t capacity, size_t *length);
    /** @param length  receives the unpacked size, at most `capacity`. */
    gp_status (*unpack)(const void *instance, const gp_codec_context *context,
                        const void *bytes, size_t size, void *out,
                        size_t capacity, size_t *length);
} gp_codec_ops;

/** Most messages one fold or aggregate call takes. */
#define GP_CODEC_FOLD 64

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

/**
 * The names that stand for longer texts, such as "onebit:deepspeed"; for tools.
 *
 * @param index  from 0.
 * @param text   receives what it stands for, '@' being the place of arguments.
 * @param what   receives one line on whose mathematics it is.
 * @return the name, or NULL beyond the last. All live as long as the process.
 */
GP_API const char *gp_codec_alias_at(size_t index, const char **text,
                                     const char **what);

typedef struct gp_pipeline gp_pipeline;

/**
 * Reads a pipeline text.
 *
 * @param text   for example "q8:block=128+lz4".
 * @param shape  of the tensor it is for, or NULL when unknown.
 * @param out    destroy with gp_pipeline_destroy(). Immutable; any number of
 *               threads may use it, each with a workspace of its own.
 * @return GP_OK
 *         GP_ERR_CONFIG  gp_last_error() repeats the text, points at the
 *                        offending character and says what is expected there
 *                        (nearest name for an unknown codec), or why the
 *                        combination cannot be right.
 *         GP_ERR_NO_MEMORY
 */
GP_API GP_MUST_CHECK gp_status gp_pipeline_open(const char *text,
                                                const gp_codec_shape *shape,
                                                gp_pipeline **out);
/** gp_pipeline_open() with an unknown shape. */
GP_API GP_MUST_CHECK gp_status gp_pipeline_parse(const char *text,
                                                 gp_pipeline **out);
GP_API void gp_pipeline_destroy(gp_pipeline *pipeline);

/** Canonical text with every parameter written out:
 *  "q8:block=256,round=nearest,scale=fp32+lz4:acceleration=1". */
GP_API const char *gp_pipeline_name(const gp_pipeline *pipeline);

/** CRC32C of the canonical text; the number that travels in headers. */
GP_API uint32_t gp_pipeline_id(const gp_pipeline *pipeline);

/** Properties that hold for the whole chain (GP_CODEC_*). */
GP_API uint32_t gp_pipeline_properties(const gp_pipeline *pipeline);

/** What a pipeline asks of its users beside encode and decode. */
#define GP_PIPELINE_PREPARES   0x01u /**< gp_pipeline_prepare() first */
#define GP_PIPELINE_PROPOSES   0x02u /**< gp_pipeline_propose() first */
#define GP_PIPELINE_FOLDS      0x04u /**< many messages in one pass */
#define GP_PIPELINE_AGGREGATES 0x08u /**< sums without decoding */
#define GP_PIPELINE_REMEMBERS  0x10u /**< wrong without a memory */
#define GP_PIPELINE_FEEDBACK   0x20u /**< lossy, biased: feedback helps */
#define GP_PIPELINE_SELECTS    0x40u /**< sends some of the elements */
GP_API uint32_t gp_pipeline_needs(const gp_pipeline *pipeline);

/** Largest encoded size of `count` elements; SIZE_MAX on overflow. */
GP_API size_t gp_pipeline_bound(const gp_pipeline *pipeline, size_t count);

/** NMSE that no input exceeds, or infinity when there is no bound. */
GP_API double gp_pipeline_error_bound(const gp_pipeline *pipeline,
                                      size_t count);

/** Bytes of workspace the calls below need for up to `count` elements; may be
 *  0. A workspace is uninitialized memory, 64-byte aligned, one per thread. */
GP_API size_t gp_pipeline_workspace(const gp_pipeline *pipeline, size_t count);

/**
 * What an encoder remembers of one tensor between steps: error-feedback
 * residual, EF21 state, velocity, a codec's own state, and what prepare() gave.
 *
 * Chunks of the tensor may be encoded by different threads at once.
 */
typedef struct gp_codec_memory gp_codec_memory;

/**
 * @param origin    index of the first element covered, within the tensor.
 * @param count     elements covered.
 * @param feedback  1: error feedback, 0: only what the text names and needs.
 *                  A text that names a memory (ef, ef21, momentum) decides
 *                  itself.
 * @param out       destroy with gp_codec_memory_destroy(). NULL is stored when
 *                  nothing needs remembering.
 * @return GP_OK, GP_ERR_NO_MEMORY.
 */
GP_API GP_MUST_CHECK gp_status
gp_codec_memory_create(const gp_pipeline *pipeline, uint64_t origin,
                       size_t count, int feedback, gp_codec_memory **out);
GP_API void gp_codec_memory_destroy(gp_codec_memory *memory);

/** All zero again, as at first. NULL is fine. */
GP_API void gp_codec_memory_reset(gp_codec_memory *memory);

/** Bytes held. NULL: 0. */
GP_API size_t gp_codec_memory_bytes(const gp_codec_memory *memory);

/**
 * One of the arrays that a checkpoint must keep: "residual", "velocity",
 * "history", "state". Between encodes its elements may be read and written.
 *
 * @param index   from 0.
 * @param name    receives a text that lives as long as the process.
 * @param values  receives the array, owned by the memory.
 * @return its number of elements; 0 beyond the last index.
 */
GP_API size_t gp_codec_memory_field(gp_codec_memory *memory, size_t index,
                                    const char **name, float **values);

/**
 * Before the chunks of a step are encoded, when gp_pipeline_needs() says
 * PREPARES: a pass over all elements that the memory covers.
 *
 * @param memory  not NULL.
 */
GP_API GP_MUST_CHECK gp_status gp_pipeline_prepare(
    const gp_pipeline *pipeline, const gp_codec_context *context,
    gp_codec_memory *memory, const float *source, size_t count);

/**
 * Before a chunk is encoded, when gp_pipeline_needs() says PROPOSES: what this
 * worker wants agreed. The largest answer of all goes into context.shared of
 * encoders and decoders.
 */
GP_API GP_MUST_CHECK gp_status gp_pipeline_propose(
    const gp_pipeline *pipeline, const gp_codec_context *context,
    gp_codec_memory *memory, const float *source, size_t count, float *value);

/**
 * Encodes the elements from context.offset on. With a memory, under error
 * feedback or what else it stands for, computed against the final decoded
 * value. After a failure the elements are part of what the memory still owes.
 *
 * @param memory     NULL: remembers nothing.
 * @param out        `capacity` bytes, at least gp_pipeline_bound().
 * @param workspace  gp_pipeline_workspace() bytes.
 */
GP_API GP_MUST_CHECK gp_status
gp_pipeline_encode(const gp_pipeline *pipeline, const gp_codec_context *context,
                   gp_codec_memory *memory, const float *source, size_t count,
                   void *out, size_t capacity, size_t *length, void *workspace);

/** @return GP_OK or GP_ERR_CORRUPT, whatever the bytes are. */
GP_API GP_MUST_CHECK gp_status
gp_pipeline_decode(const gp_pipeline *pipeline, const gp_codec_context *context,
                   const void *bytes, size_t length, float *target,
                   size_t count, void *workspace);

/** target[i] += decoded[i]; target is untouched after a failure. */
GP_API GP_MUST_CHECK gp_status gp_pipeline_decode_add(
    const gp_pipeline *pipeline, const gp_codec_context *context,
    const void *bytes, size_t length, float *target, size_t count,
    void *workspace);

/**
 * target = the sum of the decoded messages in their order, or target plus that
 * with `add`; the bits do not depend on whether FOLDS or how calls are split.
 * Target is unspecified after a failure.
 */
GP_API GP_MUST_CHECK gp_status gp_pipeline_fold(const gp_pipeline *pipeline,
                                                const gp_codec_input *input,
                                                size_t inputs, int add,
                                                float *target, size_t count,
                                                void *workspace);

/** With AGGREGATES: most messages of workers that one sum can hold. */
GP_API size_t gp_pipeline_most_summed(const gp_pipeline *pipeline);

/** With AGGREGATES: one message that decodes to the exact sum. */
GP_API GP_MUST_CHECK gp_status gp_pipeline_aggregate(
    const gp_pipeline *pipeline, const gp_codec_input *input, size_t inputs,
    size_t count, void *out, size_t capacity, size_t *length, void *workspace);

/** Of a message: its length, or behind `fake` the length it would have had. */
GP_API size_t gp_pipeline_real_length(const gp_pipeline *pipeline,
                                      const void *bytes, size_t length);

/**
 * Encode and decode in place: what the receiver would see, bit for bit.
 *
 * @param length     receives the size the message would have had.
 * @param out        gp_pipeline_bound() bytes, overwritten.
 */
GP_API GP_MUST_CHECK gp_status
gp_pipeline_fake(const gp_pipeline *pipeline, const gp_codec_context *context,
                 gp_codec_memory *memory, float *data, size_t count, void *out,
                 size_t capacity, size_t *length, void *workspace);

#ifdef __cplusplus
}
#endif
#endif
