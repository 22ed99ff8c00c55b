/* SPDX-License-Identifier: Apache-2.0 */
/*
 * 03_custom_codec.c - a codec of one's own in one file: one bit per element.
 *
 * `sign1` cuts a gradient into blocks and keeps of each the signs and one
 * scale, the mean magnitude (Bernstein 2018; Seide 2014 for the feedback that
 * makes it converge). A stage lz4 behind it is put on by the pipeline's text.
 *
 * Shards decode what workers push, so they must know the codec too. Here every
 * worker hosts a shard; a stand-alone server would be a program that registers
 * the codec before gp_server_create().
 *
 *     gradpush run -w 2 -s 0 -- ./03_custom_codec
 */
#include <gradpush/gradpush.h>

#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/*
 * Layout: per block of `block` elements (the last may be shorter) the scale,
 * fp32 little endian, then one bit per element, lowest first, 1 for negative;
 * spare bits are 0. A block with NaN or Inf in it gets the scale NaN.
 */
typedef struct sign1 {
    size_t block;
} sign1;

static const gp_codec_param sign1_params[] = {
    {"block", 256, 8, 65536, 1, "elements that share a scale", NULL},
    {NULL, 0, 0, 0, 0, NULL, NULL},
};

static gp_status
sign1_open(const double *values, const gp_codec_shape *shape, void **instance)
{
    sign1 *s = malloc(sizeof(*s));

    (void)shape;
    if (!s)
        return GP_ERR_NO_MEMORY;
    s->block = (size_t)values[0];
    *instance = s;
    return GP_OK;
}

static size_t
block_bytes(size_t count)
{
    return 4 + count / 8 + (count % 8 != 0);
}

static size_t
sign1_bound(const void *instance, size_t count)
{
    const sign1 *s = instance;
    size_t whole = count / s->block, rest = count % s->block;

    if (whole > SIZE_MAX / 2 / block_bytes(s->block))
        return SIZE_MAX;
    return whole * block_bytes(s->block) + (rest ? block_bytes(rest) : 0);
}

static void
put_float(uint8_t *out, float value)
{
    uint32_t bits;

    memcpy(&bits, &value, sizeof(bits));
    for (int i = 0; i < 4; i++)
        out[i] = (uint8_t)(bits >> 8 * i);
}

static float
get_float(const uint8_t *in)
{
    uint32_t bits = (uint32_t)in[0] | (uint32_t)in[1] << 8 |
                    (uint32_t)in[2] << 16 | (uint32_t)in[3] << 24;
    float value;

    memcpy(&value, &bits, sizeof(value));
    return value;
}

/* The mean magnitude is the scale that loses least of the block's energy. */
static void
encode_block(const float *source, size_t count, uint8_t *out)
{
    double sum = 0;

    memset(out, 0, block_bytes(count));
    for (size_t i = 0; i < count; i++) {
        sum += fabs((double)source[i]);
        if (signbit(source[i]))
            out[4 + i / 8] |= (uint8_t)(1u << i % 8);
    }
    if (!isfinite(sum))
        memset(out + 4, 0, block_bytes(count) - 4);
    put_float(out, isfinite(sum) ? (float)(sum / (double)count) : NAN);
}

static gp_status
sign1_encode(const void *instance, const gp_codec_context *context,
             const float *source, size_t count, void *out, size_t capacity,
             size_t *length)
{
    const sign1 *s = instance;
    uint8_t *at = out;

    (void)context;
    if (capacity < sign1_bound(instance, count))
        return GP_ERR_TOO_LARGE;
    while (count > 0) {
        size_t n = count < s->block ? count : s->block;

        encode_block(source, n, at);
        at += block_bytes(n);
        source += n;
        count -= n;
    }
    *length = (size_t)(at - (uint8_t *)out);
    return GP_OK;
}

/* Refuses what no encoder writes. */
static int
block_is_good(const uint8_t *in, size_t count)
{
    float scale = get_float(in);

    if (count % 8 && in[3 + block_bytes(count) - 4] >> count % 8)
        return 0;
    return isnan(scale) || (scale >= 0 && scale <= FLT_MAX && !signbit(scale));
}

/* Bytes come from a peer: everything is checked before anything is written. */
static gp_status
check(const sign1 *s, const uint8_t *bytes, size_t length, size_t count)
{
    if (length != sign1_bound(s, count))
        return GP_ERR_CORRUPT;
    while (count > 0) {
        size_t n = count < s->block ? count : s->block;

        if (!block_is_good(bytes, n))
            return GP_ERR_CORRUPT;
        bytes += block_bytes(n);
        count -= n;
    }
    return GP_OK;
}

static float
element(const uint8_t *block, float scale, size_t i)
{
    return block[4 + i / 8] >> i % 8 & 1 ? -scale : scale;
}

static gp_status
sign1_decode(const void *instance, const gp_codec_context *context,
             const void *bytes, size_t length, float *target, size_t count)
{
    const sign1 *s = instance;
    const uint8_t *at = bytes;
    gp_status status = check(s, at, length, count);

    (void)context;
    while (status == GP_OK && count > 0) {
        size_t n = count < s->block ? count : s->block;
        float scale = get_float(at);

        for (size_t i = 0; i < n; i++)
            target[i] = element(at, scale, i);
        at += block_bytes(n);
        target += n;
        count -= n;
    }
    return status;
}

/* The shard adds pushes with this, without a dense copy in between. */
static gp_status
sign1_decode_add(const void *instance, const gp_codec_context *context,
                 const void *bytes, size_t length, float *target, size_t count)
{
    const sign1 *s = instance;
    const uint8_t *at = bytes;
    gp_status status = check(s, at, length, count);

    (void)context;
    while (status == GP_OK && count > 0) {
        size_t n = count < s->block ? count : s->block;
        float scale = get_float(at);

        for (size_t i = 0; i < n; i++)
            target[i] += element(at, scale, i);
        at += block_bytes(n);
        target += n;
        count -= n;
    }
    return status;
}

static const gp_codec_ops sign1_ops = {
    .abi = GP_CODEC_ABI,
    .kind = GP_CODEC_ARRAY,
    .properties = GP_CODEC_CONTRACTS | GP_CODEC_FIXED_RATE,
    .nonfinite = GP_NONFINITE_PROPAGATE,
    .name = "sign1",
    .text = "signs and one scale per block",
    .params = sign1_params,
    .open = sign1_open,
    .close = free,
    .bound = sign1_bound,
    .encode = sign1_encode,
    .decode = sign1_decode,
    .decode_add = sign1_decode_add,
};

enum { COUNT = 100000, STEPS = 100 };

static int
fail(const char *what)
{
    fprintf(stderr, "03_custom_codec: %s: %s\n", what, gp_last_error());
    return EXIT_FAILURE;
}

/* Every worker has its own, with both signs. */
static float
gradient(uint32_t rank, size_t i)
{
    return sinf((float)i * (0.1f + (float)rank));
}

/* How far the mean of `steps` results is from the mean of the gradients. */
static double
error_of(const double *sum, uint32_t size, int steps)
{
    double distance = 0, energy = 0;

    for (size_t i = 0; i < COUNT; i++) {
        double mean = 0;

        for (uint32_t r = 0; r < size; r++)
            mean += gradient(r, i) / (double)size;
        distance += pow(sum[i] / steps - mean, 2);
        energy += mean * mean;
    }
    return sqrt(distance / energy);
}

/*
 * Pushes the same gradient again and again. One result has one bit per element;
 * error feedback sends later what was left out, so the mean of the results
 * comes near the gradient.
 */
static int
repeat(gp_worker *worker, gp_tensor *tensor)
{
    static float grad[COUNT], out[COUNT];
    static double sum[COUNT];
    uint32_t size = gp_worker_size(worker);
    double first = 0, last;
    gp_stats stats;

    for (size_t i = 0; i < COUNT; i++)
        grad[i] = gradient(gp_worker_rank(worker), i);
    for (int step = 1; step <= STEPS; step++) {
        gp_request *request;

        if (gp_push_pull(tensor, grad, out, &request) != GP_OK ||
            gp_wait(&request, -1) != GP_OK)
            return fail("step");
        for (size_t i = 0; i < COUNT; i++)
            sum[i] += out[i];
        if (step == 1)
            first = error_of(sum, size, step);
    }
    last = error_of(sum, size, STEPS);
    gp_worker_stats(worker, &stats);
    printf("worker %u: error %.3f after 1 step, %.3f after %d; pushed %.1f %% "
           "of the dense bytes\n",
           gp_worker_rank(worker), first, last, STEPS,
           100 * (double)stats.bytes_pushed / (4.0 * COUNT * STEPS));
    return last < 0.1 * first ? EXIT_SUCCESS : EXIT_FAILURE;
}

int
main(void)
{
    gp_tensor_options options = GP_TENSOR_INIT;
    gp_worker *worker;
    gp_tensor *tensor;
    int rc;

    if (gp_codec_register(&sign1_ops) != GP_OK)
        return fail("register");
    if (gp_worker_create(NULL, &worker) != GP_OK)
        return fail("join the job");
    options.name = "weights";
    options.count = COUNT;
    options.updater = "mean";
    options.codec = gp_codec_find("lz4") ? "sign1:block=128+lz4" : "sign1:128";
    options.feedback = 1;
    rc = gp_tensor_register(worker, &options, &tensor) == GP_OK
             ? repeat(worker, tensor)
             : fail("tensor");
    gp_worker_destroy(worker);
    return rc;
}
