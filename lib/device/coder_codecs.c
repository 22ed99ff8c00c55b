/* SPDX-License-Identifier: Apache-2.0 */
/*
 * coder_codecs.c - which array stages have kernels, and how they are launched.
 *
 * Tiles are what the kernels of compress/cuda take them for.
 */
#include "device/coder_codecs.h"

#include <string.h>

#include "compress/quant.h"
#include "compress/sign_kernels.h"
#include "compress/stochastic.h"

#define THREADS   256u
#define CAST_TILE 8192u
#define FOLD_TILE 4096u
/* Of formats whose largest number is found first. */
#define LARGEST_TILE 8192u
/* sums.cuh: elements whose sums a block of the grid writes, and their size. */
#define STATS_TILE 16384u
#define STATS      32u
/* sign.cu: in place of what is summed. */
#define SIGN_VOTE 7u
/* random.cu: beside the number of levels. */
#define LEVELS_L2      0x10000u
#define LEVELS_POWERS  0x20000u
#define LEVELS_CENTRED 0x40000u

gp_status
gp_coder_refuse(const gp_pipeline *p, const char *stage)
{
    return gp_fail(GP_ERR_UNSUPPORTED,
                   "codec %s: the stage %s has no kernel for this device; see "
                   "docs/gpu.md, or use the device cpu",
                   p->name, stage);
}

static gp_coder_kernel
kernel(gp_kernel_id id, uint32_t tile)
{
    return (gp_coder_kernel){id, tile, THREADS, false, 0, 0};
}

/* Numbers that decide about rounding, and those that are subtracted. */
static void
plan_random(gp_round round, gp_coder_plan *plan)
{
    static const gp_stream_use uses[] = {0, GP_USE_ROUNDING, GP_USE_STRATIFY,
                                         GP_USE_DITHER};

    plan->use = uses[round];
    plan->round = round;
}

static gp_status
plan_cast(const gp_pipeline *p, gp_coder_plan *plan)
{
    const gp_codec_ops *ops = p->array->ops;

    plan->word[0] = ops == &gp_codec_none ? 0 : ops == &gp_codec_fp16 ? 1 : 2;
    plan->layout.bits = plan->word[0] ? 16 : 32;
    plan->encode[0] = kernel(GP_KERNEL_gp_cuda_cast_encode, CAST_TILE);
    plan->decode[0] = kernel(GP_KERNEL_gp_cuda_cast_decode, CAST_TILE);
    plan->fold[0] = kernel(GP_KERNEL_gp_cuda_cast_fold, FOLD_TILE);
    if (plan->word[0] && p->array->values[0] != 0) {
        plan_random((gp_round)p->array->values[0], plan);
        plan->encode[0] = kernel(GP_KERNEL_gp_cuda_cast_round, CAST_TILE);
    }
    return GP_OK;
}

/* Elements of a block of the grid: 8 warps, each with what blocks.cu gives it.
 */
static uint32_t
blocks_tile(const gp_blocks *f)
{
    uint32_t size = 256 % f->block == 0 ? 256 : (uint32_t)f->block;

    return 8 * size * (size < 1024 ? 1024 / size : 1);
}

#define PLAN_BLOCKS(name)                                                   \
    do {                                                                    \
        plan->encode[0] =                                                   \
            kernel(GP_KERNEL_gp_cuda_##name##_encode, blocks_tile(f));      \
        plan->decode[0] =                                                   \
            kernel(GP_KERNEL_gp_cuda_##name##_decode, FOLD_TILE);           \
        plan->fold[0] = kernel(GP_KERNEL_gp_cuda_##name##_fold, FOLD_TILE); \
    } while (0)

/* Numbers of two bits, where five of three values go to a byte afterwards. */
static size_t
dense_space(const gp_pipeline *p, size_t count)
{
    (void)p;
    return count / 4 + 64;
}

static void
plan_dense(const gp_blocks *f, gp_coder_plan *plan)
{
    plan->space = dense_space;
    plan->layout.bits = 0;
    plan->encode[0] = kernel(GP_KERNEL_gp_cuda_dense_codes, blocks_tile(f));
    plan->encode[1] = kernel(GP_KERNEL_gp_cuda_dense_pack, blocks_tile(f));
    plan->decode[0] = kernel(GP_KERNEL_gp_cuda_dense_decode, FOLD_TILE);
    plan->fold[0] = kernel(GP_KERNEL_gp_cuda_dense_fold, FOLD_TILE);
}

/* largest.cuh: of all, and of each tile. */
static size_t
largest_space(const gp_pipeline *p, size_t count)
{
    (void)p;
    return 4 * (3 + count / LARGEST_TILE);
}

static gp_coder_kernel
largest(gp_kernel_id id, bool per_part)
{
    return (gp_coder_kernel){id, LARGEST_TILE, THREADS, per_part, 0, 0};
}

/* Scales that are multiples of a number for all of a message. */
static void
plan_fine(gp_coder_plan *plan)
{
    plan->space = largest_space;
    plan->layout.head = 4;
    plan->encode[0] = largest(GP_KERNEL_gp_cuda_fine_scan, false);
    plan->encode[1] = largest(GP_KERNEL_gp_cuda_fine_settle, true);
    plan->encode[2] = largest(GP_KERNEL_gp_cuda_fine_encode, false);
    plan->decode[0] = kernel(GP_KERNEL_gp_cuda_fine_decode, FOLD_TILE);
    plan->fold[0] = kernel(GP_KERNEL_gp_cuda_fine_fold, FOLD_TILE);
}

static gp_status
plan_natural(const gp_pipeline *p, gp_coder_plan *plan)
{
    (void)p;
    plan->use = GP_USE_ROUNDING;
    plan->space = largest_space;
    plan->heads = plan->reads = true;
    plan->layout = (gp_select_layout){.bits = 8, .head = 1, .nothing = 1};
    plan->encode[0] = largest(GP_KERNEL_gp_cuda_natural_scan, false);
    plan->encode[1] = largest(GP_KERNEL_gp_cuda_natural_settle, true);
    plan->encode[2] = largest(GP_KERNEL_gp_cuda_natural_encode, false);
    plan->decode[0] = largest(GP_KERNEL_gp_cuda_natural_begin, true);
    plan->decode[1] = largest(GP_KERNEL_gp_cuda_natural_decode, false);
    plan->decode[2] = largest(GP_KERNEL_gp_cuda_natural_check, true);
    return GP_OK;
}

static gp_status
plan_blocks(const gp_pipeline *p, gp_coder_plan *plan)
{
    const gp_blocks *f = p->array->instance;

    plan->word[0] = (uint32_t)f->block;
    plan->word[1] = (uint32_t)f->round | (uint32_t)f->scale << 4 |
                    (uint32_t)f->mantissa << 8 | f->forbidden << 16;
    plan->word[2] = (uint32_t)f->least;
    memcpy(&plan->word[3], &f->levels, sizeof(f->levels));
    plan->word[4] = (uint32_t)f->top;
    plan->word[5] = (uint32_t)f->unit;
    plan->word[6] = f->tiny;
    plan->word[7] = f->largest_scale;
    plan->layout =
        (gp_select_layout){.block = f->block,
                           .per_block = f->scale == GP_SCALE_FP32   ? 4
                                        : f->scale == GP_SCALE_BF16 ? 2
                                                                    : 1,
                           .bits = f->bits};
    plan_random(f->round, plan);
    if (f->integer && f->bits == 8)
        PLAN_BLOCKS(int8);
    else if (f->integer && f->bits == 4)
        PLAN_BLOCKS(int4);
    else if (f->integer && f->bits == 2)
        PLAN_BLOCKS(int2);
    else if (f->bits == 8)
        PLAN_BLOCKS(fp8);
    else if (f->bits == GP_BLOCKS_DENSE)
        plan_dense(f, plan);
    else if (f->bits == 6)
        PLAN_BLOCKS(fp6);
    else if (f->scale == GP_SCALE_E4M3)
        plan_fine(plan);
    else
        PLAN_BLOCKS(fp4);
    return GP_OK;
}

/* The usual one has kernels of its own. */
static gp_status
plan_q8(const gp_pipeline *p, gp_coder_plan *plan)
{
    const gp_blocks *f = p->array->instance;

    if (f->round != GP_ROUND_NEAREST || f->scale != GP_SCALE_FP32)
        return plan_blocks(p, plan);
    plan->word[0] = (uint32_t)f->block;
    plan->layout =
        (gp_select_layout){.block = f->block, .per_block = 4, .bits = 8};
    plan->encode[0] =
        kernel(GP_KERNEL_gp_cuda_q8_encode, (uint32_t)f->block * 32);
    plan->decode[0] =
        kernel(GP_KERNEL_gp_cuda_q8_decode, (uint32_t)f->block * 32);
    plan->fold[0] = kernel(GP_KERNEL_gp_cuda_q8_fold, FOLD_TILE);
    return GP_OK;
}

/* ---- with sums over elements ---- */

static gp_coder_kernel
per_part(gp_kernel_id id)
{
    return (gp_coder_kernel){id, STATS_TILE, THREADS, true, 0, 0};
}

/* Of each tile, and of all; sums.cuh. */
static size_t
stats_space(const gp_pipeline *p, size_t count)
{
    (void)p;
    return STATS * (2 + count / STATS_TILE);
}

static void
plan_signs(gp_coder_plan *plan, uint32_t block, uint32_t what, float threshold)
{
    plan->word[0] = block;
    plan->word[1] = what;
    plan->word[2] = what == GP_SIGN_CLASSES ? 2 : 1;
    memcpy(&plan->word[3], &threshold, sizeof(threshold));
    plan->layout = (gp_select_layout){
        .block = block, .per_block = 4 * plan->word[2], .bits = 1};
    plan->decode[0] = kernel(GP_KERNEL_gp_cuda_sign_decode, FOLD_TILE);
    plan->fold[0] = kernel(GP_KERNEL_gp_cuda_sign_fold, FOLD_TILE);
    if (block) {
        plan->encode[0] = kernel(GP_KERNEL_gp_cuda_sign_encode, 16 * block);
        return;
    }
    plan->space = stats_space;
    plan->encode[0] = kernel(GP_KERNEL_gp_cuda_sign_scan, STATS_TILE);
    plan->encode[1] = per_part(GP_KERNEL_gp_cuda_sign_settle);
    plan->encode[2] = kernel(GP_KERNEL_gp_cuda_sign_finish, STATS_TILE);
}

static gp_status
plan_sign(const gp_pipeline *p, gp_coder_plan *plan)
{
    static const uint32_t sums[] = {GP_SIGN_MAGNITUDES, GP_SIGN_SQUARES,
                                    GP_SIGN_NOTHING};
    const double *v = p->array->values;

    plan_signs(plan, (uint32_t)v[0], sums[(size_t)v[1]], (float)v[2]);
    return GP_OK;
}

static gp_status
plan_onebit(const gp_pipeline *p, gp_coder_plan *plan)
{
    plan_signs(plan, (uint32_t)p->array->values[0], GP_SIGN_CLASSES, 0);
    return GP_OK;
}

static size_t
vote_length(const gp_pipeline *p, size_t count)
{
    (void)p;
    return 4 + count / 8 + (count % 8 != 0);
}

/* The head says how many planes there are, which the kernel checks. */
static bool
vote_right(const gp_pipeline *p, size_t length, size_t count)
{
    size_t stride = vote_length(p, count) - 4;

    return length <= gp_pipeline_bound(p, count) && length >= 4 + stride &&
           (stride ? (length - 4) % stride == 0 : length == 4);
}

static gp_status
plan_vote(const gp_pipeline *p, gp_coder_plan *plan)
{
    plan_signs(plan, 0, SIGN_VOTE, 0);
    plan->word[4] = (uint32_t)p->array->values[0];
    plan->decode[0] = kernel(GP_KERNEL_gp_cuda_vote_decode, FOLD_TILE);
    plan->fold[0] = kernel(GP_KERNEL_gp_cuda_vote_fold, FOLD_TILE);
    plan->heads = true;
    plan->layout.bits = 0;
    plan->length = vote_length;
    plan->right = vote_right;
    return GP_OK;
}

static gp_status
plan_levels(gp_coder_plan *plan, uint32_t block, uint32_t kinds, double clip)
{
    plan->word[0] = block;
    plan->word[1] = kinds | (33u - (uint32_t)__builtin_clz(kinds & 255)) << 8;
    memcpy(&plan->word[2], &clip, sizeof(clip));
    plan->layout = (gp_select_layout){
        .block = block, .per_block = 4, .bits = plan->word[1] >> 8 & 15};
    plan->use = GP_USE_ROUNDING;
    plan->decode[0] = kernel(GP_KERNEL_gp_cuda_random_decode, FOLD_TILE);
    plan->fold[0] = kernel(GP_KERNEL_gp_cuda_random_fold, FOLD_TILE);
    if (block) {
        plan->encode[0] = kernel(GP_KERNEL_gp_cuda_random_encode, 16 * block);
        return GP_OK;
    }
    plan->space = stats_space;
    plan->encode[0] = kernel(GP_KERNEL_gp_cuda_random_scan, STATS_TILE);
    plan->encode[1] = per_part(GP_KERNEL_gp_cuda_random_settle);
    plan->encode[2] = kernel(GP_KERNEL_gp_cuda_random_finish, STATS_TILE);
    return GP_OK;
}

/* qsgd and natural-dither: levels, norm, block. */
static gp_status
plan_qsgd(const gp_pipeline *p, gp_coder_plan *plan)
{
    const double *v = p->array->values;
    uint32_t kinds = (uint32_t)v[0] | (v[1] != 0 ? 0 : LEVELS_L2) |
                     (p->array->ops == &gp_codec_qsgd ? 0 : LEVELS_POWERS);

    return plan_levels(plan, (uint32_t)v[2], kinds, 0);
}

static gp_status
plan_terngrad(const gp_pipeline *p, gp_coder_plan *plan)
{
    const double *v = p->array->values;

    return plan_levels(plan, (uint32_t)v[1],
                       1 | (v[2] != 0 ? LEVELS_CENTRED : 0), v[0]);
}

/* ---- uq ---- */

/* uq.cu: a section, and what is kept of one; of a part. */
#define UQ_TILE    4096u
#define UQ_STATE   8192u
#define UQ_SECTION 32u

/* Codes of a byte, and words of two or escapes of four. */
static size_t
uq_space(const gp_pipeline *p, size_t count)
{
    (void)p;
    return UQ_STATE + UQ_SECTION * (count / UQ_TILE + 1) + 5 * count + 128;
}

/* No more than the sums of sections. */
static size_t
uq_look_space(const gp_pipeline *p, size_t count)
{
    (void)p;
    return UQ_STATE + UQ_SECTION * (count / UQ_TILE + 1);
}

static bool
uq_right(const gp_pipeline *p, size_t length, size_t count)
{
    return length <= gp_pipeline_bound(p, count) && (count > 0) == (length > 0);
}

static gp_coder_kernel
section(gp_kernel_id id)
{
    return kernel(id, UQ_TILE);
}

static gp_coder_kernel
message(gp_kernel_id id, uint32_t threads)
{
    return (gp_coder_kernel){id, UQ_TILE, threads, true, 0, 0};
}

static gp_status
plan_uq(const gp_pipeline *p, gp_coder_plan *plan)
{
    static const gp_round rounds[] = {GP_ROUND_NEAREST, GP_ROUND_STOCHASTIC,
                                      GP_ROUND_DITHER, GP_ROUND_STRATIFIED};
    const double *v = p->array->values;

    plan->word[0] = (uint32_t)v[1];
    memcpy(&plan->word[1], &v[0], sizeof(v[0]));
    plan_random(rounds[(size_t)v[1]], plan);
    plan->space = uq_space;
    plan->right = uq_right;
    plan->heads = plan->varies = plan->reads = true;
    plan->layout =
        (gp_select_layout){.bits = 32, .head = 9, .nothing = 9, .varies = 1};
    if (v[2] != 0) {
        plan->look[0] = section(GP_KERNEL_gp_cuda_uq_look);
        plan->look[1] = message(GP_KERNEL_gp_cuda_uq_mean, THREADS);
        plan->look_space = uq_look_space;
    }
    plan->encode[0] = section(GP_KERNEL_gp_cuda_uq_sum);
    plan->encode[1] = message(GP_KERNEL_gp_cuda_uq_settle, THREADS);
    plan->encode[2] = section(GP_KERNEL_gp_cuda_uq_quantize);
    plan->encode[3] = message(GP_KERNEL_gp_cuda_uq_place, THREADS);
    plan->encode[4] = message(GP_KERNEL_gp_cuda_uq_code, 32);
    plan->encode[5] = section(GP_KERNEL_gp_cuda_uq_write);
    plan->decode[0] = message(GP_KERNEL_gp_cuda_unuq_open, THREADS);
    plan->decode[1] = section(GP_KERNEL_gp_cuda_unuq_decode);
    plan->decode[2] = message(GP_KERNEL_gp_cuda_unuq_check, 32);
    return GP_OK;
}

/* By their array stages. */
static const struct codec {
    const gp_codec_ops *ops;
    /* GP_ERR_UNSUPPORTED says what there is no kernel for. */
    gp_status (*plan)(const gp_pipeline *pipeline, gp_coder_plan *plan);
} codecs[] = {
    {&gp_codec_none, plan_cast},
    {&gp_codec_fp16, plan_cast},
    {&gp_codec_bf16, plan_cast},
    {&gp_codec_q8, plan_q8},
    {&gp_codec_q4, plan_blocks},
    {&gp_codec_q2, plan_blocks},
    {&gp_codec_fp8, plan_blocks},
    {&gp_codec_mxfp8, plan_blocks},
    {&gp_codec_mxfp6, plan_blocks},
    {&gp_codec_mxfp4, plan_blocks},
    {&gp_codec_nvfp4, plan_blocks},
    {&gp_codec_natural, plan_natural},
    {&gp_codec_mxint8, plan_blocks},
    {&gp_codec_sign, plan_sign},
    {&gp_codec_onebit, plan_onebit},
    {&gp_codec_vote, plan_vote},
    {&gp_codec_qsgd, plan_qsgd},
    {&gp_codec_natural_dither, plan_qsgd},
    {&gp_codec_terngrad, plan_terngrad},
    {&gp_codec_drive, gp_coder_plan_eden},
    {&gp_codec_eden, gp_coder_plan_eden},
    {&gp_codec_powersgd, gp_coder_plan_powersgd},
    {&gp_codec_uq, plan_uq},
    {&gp_codec_intsum, gp_coder_plan_intsum},
    {&gp_codec_thc, gp_coder_plan_thc},
    {NULL, NULL},
};

static gp_status
check_stages(const gp_pipeline *p)
{
    if (p->fake)
        return gp_coder_refuse(p, "fake");
    if (p->values.count)
        return gp_coder_refuse(p, p->values.first->ops->name);
    if (p->whole.count)
        return gp_coder_refuse(p, p->whole.first->ops->name);
    return GP_OK;
}

static void
plan_memory(const gp_pipeline *p, gp_coder_plan *plan)
{
    const double *v = p->memory ? p->memory->values : NULL;

    plan->decay = 1;
    if (!v)
        return;
    if (p->memory->ops == &gp_codec_ef) {
        plan->memory = GP_MEMORY_EF;
        plan->decay = (float)v[0];
    } else if (p->memory->ops == &gp_codec_ef21) {
        plan->memory = GP_MEMORY_EF21;
    } else {
        plan->memory = GP_MEMORY_MOMENTUM;
        plan->factor = (float)v[0];
        plan->clip = v[3];
        plan->remember = (v[1] != 0 ? GP_REMEMBER_NESTEROV : 0) |
                         (v[2] != 0 && p->select ? GP_REMEMBER_MASK : 0);
    }
}

/* Whether an array stage looks at tensors of which it gets something else. */
static bool
looks_around(const gp_pipeline *p, const gp_coder_plan *plan)
{
    return plan->look[0].tile && (p->transform || p->zeros || p->select);
}

gp_status
gp_coder_find_plan(const gp_pipeline *p, gp_coder_plan *plan)
{
    gp_status status = check_stages(p);

    if (status != GP_OK)
        return status;
    plan_memory(p, plan);
    for (const struct codec *k = codecs; k->ops; k++)
        if (k->ops == p->array->ops) {
            status = k->plan(p, plan);
            if (status == GP_OK && looks_around(p, plan))
                return gp_coder_refuse(p, p->array->ops->name);
            if (status == GP_OK && p->transform)
                status = gp_coder_plan_rotation(p, plan);
            if (status == GP_OK && p->zeros)
                status = gp_coder_plan_zeros(p, plan);
            if (status == GP_OK && p->select)
                status = gp_coder_plan_select(p, plan);
            return status;
        }
    return gp_coder_refuse(p, p->array->ops->name);
}

gp_status
gp_coder_check_bytes(const void *bytes)
{
    if ((uintptr_t)bytes % 16)
        return gp_fail(GP_ERR_INVALID,
                       "messages on a device begin at multiples of 16 bytes, "
                       "not at %p",
                       bytes);
    return GP_OK;
}
