/* SPDX-License-Identifier: Apache-2.0 */
/*
 * lowrank_loops.h - the loops of lowrank.h; lowrank.c includes it once per
 * instruction set, with
 *
 *     NAME(x)   the name of function x in this set
 *     TARGET    the target attribute
 *     WIDTH     fp32 numbers per register: 4, 8, 16
 *     GROUP     rows that one pass multiplies: at most 4
 *
 * Sixteen numbers are always PARTS vectors of WIDTH, so the order of summation
 * is in the source and all sets give the same bits. What is left over at the
 * end of a row is filled up with 0; adding 0 changes no sum that began with 0.
 */
#define vector NAME(vector)
#define loose  NAME(loose)
#define PARTS  (LANES / WIDTH)

typedef float vector __attribute__((vector_size(4 * WIDTH)));
/* The same at any address. */
typedef float loose
    __attribute__((vector_size(4 * WIDTH), aligned(1), may_alias));

INLINE float
NAME(by_halves)(const vector *v)
{
    float p[LANES];

    memcpy(p, v, sizeof(p));
    for (size_t width = LANES / 2; width; width /= 2)
        for (size_t j = 0; j < width; j++)
            p[j] += p[j + width];
    return p[0];
}

/* Adds to the sums of `rows` rows and `ranks` columns of q, both constants
 * where inlined, those of 16 elements or the `part` that is left of them. */
INLINE void
NAME(times_step)(const float *m, size_t columns, const float *q,
                 size_t q_stride, size_t rows, size_t ranks, size_t part,
                 vector sum[4][4][PARTS])
{
    vector x[PARTS], y[4][PARTS];

    for (size_t k = 0; k < ranks; k++)
        LOAD(y[k], q + k * q_stride, part);
    for (size_t i = 0; i < rows; i++) {
        LOAD(x, m + i * columns, part);
        for (size_t k = 0; k < ranks; k++)
            for (size_t h = 0; h < PARTS; h++)
                sum[i][k][h] += x[h] * y[k][h];
    }
}

INLINE void
NAME(times_block)(const float *m, size_t columns, size_t n, const float *q,
                  size_t q_stride, float *p, size_t p_stride, size_t rows,
                  size_t ranks)
{
    vector sum[4][4][PARTS];
    size_t j;

    for (size_t i = 0; i < rows; i++)
        for (size_t k = 0; k < ranks; k++)
            for (size_t h = 0; h < PARTS; h++)
                sum[i][k][h] = (vector){0};
    for (j = 0; j + LANES <= n; j += LANES)
        NAME(times_step)
    (m + j, columns, q + j, q_stride, rows, ranks, LANES, sum);
    if (j < n)
        NAME(times_step)
    (m + j, columns, q + j, q_stride, rows, ranks, n - j, sum);
    for (size_t i = 0; i < rows; i++)
        for (size_t k = 0; k < ranks; k++)
            p[k * p_stride + i] = NAME(by_halves)(sum[i][k]);
}

INLINE void
NAME(times_ranks)(const float *m, size_t columns, size_t n, const float *q,
                  size_t q_stride, size_t ranks, float *p, size_t p_stride,
                  size_t rows)
{
#define TIMES(r) \
    NAME(times_block)(m, columns, n, q, q_stride, p, p_stride, rows, (r))
    if (ranks == 4)
        TIMES(4);
    else if (ranks == 3)
        TIMES(3);
    else if (ranks == 2)
        TIMES(2);
    else
        TIMES(1);
#undef TIMES
}

/* A few rows at a time share loads of q; four columns of q at a time. */
TARGET static void
NAME(times)(const float *m, size_t rows, size_t columns, size_t n,
            const float *q, size_t q_stride, size_t rank, float *p,
            size_t p_stride)
{
    for (size_t i = 0; i < rows; i += GROUP)
        for (size_t k = 0; k < rank; k += 4) {
            size_t ranks = rank - k < 4 ? rank - k : 4;
            const float *row = m + i * columns, *from = q + k * q_stride;
            float *to = p + k * p_stride + i;

            if (rows - i >= GROUP) {
                NAME(times_ranks)
                (row, columns, n, from, q_stride, ranks, to, p_stride, GROUP);
                continue;
            }
            for (size_t r = 0; r < rows - i; r++)
                NAME(times_ranks)
            (row + r * columns, columns, n, from, q_stride, ranks, to + r,
             p_stride, 1);
        }
}

/* 16 elements, or the `part` that is left, of a panel of `rows` rows. */
INLINE void
NAME(transposed_step)(const float *m, size_t columns, const float *p,
                      size_t rank, float *q, size_t q_stride, size_t rows,
                      size_t ranks, size_t part)
{
    vector sum[4][PARTS], x[PARTS];

    for (size_t k = 0; k < ranks; k++)
        LOAD(sum[k], q + k * q_stride, part);
    for (size_t i = 0; i < rows; i++) {
        LOAD(x, m + i * columns, part);
        for (size_t k = 0; k < ranks; k++)
            for (size_t h = 0; h < PARTS; h++)
                sum[k][h] += x[h] * p[i * rank + k];
    }
    for (size_t k = 0; k < ranks; k++)
        STORE(q + k * q_stride, sum[k], part);
}

INLINE void
NAME(transposed_block)(const float *m, size_t columns, size_t n, const float *p,
                       size_t rank, float *q, size_t q_stride, size_t rows,
                       size_t ranks)
{
    size_t j;

    for (j = 0; j + LANES <= n; j += LANES)
        NAME(transposed_step)
    (m + j, columns, p, rank, q + j, q_stride, rows, ranks, LANES);
    if (j < n)
        NAME(transposed_step)
    (m + j, columns, p, rank, q + j, q_stride, rows, ranks, n - j);
}

INLINE void
NAME(transposed_ranks)(const float *m, size_t columns, size_t n, const float *p,
                       size_t rank, float *q, size_t q_stride, size_t rows,
                       size_t ranks)
{
#define TRANSPOSED(r) \
    NAME(transposed_block)(m, columns, n, p, rank, q, q_stride, rows, (r))
    if (ranks == 4)
        TRANSPOSED(4);
    else if (ranks == 3)
        TRANSPOSED(3);
    else if (ranks == 2)
        TRANSPOSED(2);
    else
        TRANSPOSED(1);
#undef TRANSPOSED
}

TARGET static void
NAME(transposed)(const float *m, size_t rows, size_t columns, size_t n,
                 const float *p, size_t rank, float *q, size_t q_stride)
{
    for (size_t i = 0; i < rows; i += PANEL)
        for (size_t k = 0; k < rank; k += 4) {
            size_t ranks = rank - k < 4 ? rank - k : 4;
            const float *row = m + i * columns, *from = p + i * rank + k;
            float *to = q + k * q_stride;

            if (rows - i >= PANEL) {
                NAME(transposed_ranks)
                (row, columns, n, from, rank, to, q_stride, PANEL, ranks);
                continue;
            }
            for (size_t r = 0; r < rows - i; r++)
                NAME(transposed_ranks)
            (row + r * columns, columns, n, from + r * rank, rank, to, q_stride,
             1, ranks);
        }
}

INLINE void
NAME(product_step)(const float factor[][GP_RANK_MOST], const uint8_t *q,
                   size_t stride, size_t rank, float *out, size_t columns,
                   size_t rows, bool add, size_t part)
{
    vector sum[4][PARTS], x[PARTS];

    LOAD(x, q, part);
    TO_HOST(x);
    for (size_t i = 0; i < rows; i++)
        for (size_t h = 0; h < PARTS; h++)
            sum[i][h] = x[h] * factor[i][0];
    for (size_t k = 1; k < rank; k++) {
        LOAD(x, q + 4 * k * stride, part);
        TO_HOST(x);
        for (size_t i = 0; i < rows; i++)
            for (size_t h = 0; h < PARTS; h++)
                sum[i][h] += x[h] * factor[i][k];
    }
    for (size_t i = 0; i < rows; i++) {
        if (add) {
            LOAD(x, out + i * columns, part);
            for (size_t h = 0; h < PARTS; h++)
                sum[i][h] = x[h] + sum[i][h];
        }
        STORE(out + i * columns, sum[i], part);
    }
}

INLINE void
NAME(product_rows)(const uint8_t *p, const uint8_t *q, size_t stride,
                   size_t rank, float *out, size_t columns, size_t rows,
                   size_t n, bool add)
{
    float factor[4][GP_RANK_MOST];
    size_t j;

    for (size_t i = 0; i < rows; i++)
        for (size_t k = 0; k < rank; k++) {
            uint32_t b = gp_get32(p + 4 * (i * rank + k));

            memcpy(&factor[i][k], &b, sizeof(b));
        }
    for (j = 0; j + LANES <= n; j += LANES)
        NAME(product_step)
    (factor, q + 4 * j, stride, rank, out + j, columns, rows, add, LANES);
    if (j < n)
        NAME(product_step)
    (factor, q + 4 * j, stride, rank, out + j, columns, rows, add, n - j);
}

TARGET static void
NAME(product)(const uint8_t *p, const uint8_t *q, size_t stride, size_t rank,
              float *out, size_t columns, size_t rows, size_t n, bool add)
{
    size_t i;

    for (i = 0; i + 4 <= rows; i += 4)
        NAME(product_rows)
    (p + 4 * i * rank, q, stride, rank, out + i * columns, columns, 4, n, add);
    for (; i < rows; i++)
        NAME(product_rows)
    (p + 4 * i * rank, q, stride, rank, out + i * columns, columns, 1, n, add);
}

TARGET static void
NAME(subtract)(float *x, float f, const float *y, size_t n)
{
    for (size_t i = 0; i < n; i++)
        x[i] -= f * y[i];
}

static const gp_lowrank_kernels NAME(kernels) = {NAME(times), NAME(transposed),
                                                 NAME(product), NAME(subtract)};

#undef vector
#undef loose
#undef PARTS
#undef NAME
#undef TARGET
#undef WIDTH
#undef GROUP
