/* SPDX-License-Identifier: Apache-2.0 */
/*
 * uq_shape.c - the tables of uq's entropy code, and which one fits a section.
 *
 * Tables are ordered by P(0); those near a section's own P(0) are tried, with
 * costs in integers of 1/256 bit, so that all machines choose alike.
 */
#include <pthread.h>
#include <string.h>

#include "base/base.h"
#include "compress/uq.h"

static struct {
    gp_rans_coder coder[GP_UQ_SHAPES];
    gp_rans_decoder decoder[GP_UQ_SHAPES];
    uint16_t cost[GP_UQ_NUMBERS]; /* as gp_uq_frequencies */
} all;

static void
make_tables(void)
{
    for (unsigned s = 0; s < GP_UQ_SHAPES; s++) {
        const uint16_t *f = gp_uq_frequencies + gp_uq_begins[s];
        unsigned largest = gp_uq_largest(s + 1);
        uint16_t frequency[256] = {f[0]};

        for (unsigned m = 1; m <= largest; m++)
            frequency[m] = frequency[256 - m] = f[m];
        frequency[128] = f[largest + 1];
        gp_rans_coder_make(&all.coder[s], frequency, 128);
        gp_rans_decoder_make(&all.decoder[s], frequency);
    }
    for (size_t i = 0; i < GP_UQ_NUMBERS; i++)
        all.cost[i] = (uint16_t)gp_rans_cost(gp_uq_frequencies[i]);
}

void
gp_uq_tables_make(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;

    pthread_once(&once, make_tables);
}

const gp_rans_coder *
gp_uq_coder(unsigned shape)
{
    return &all.coder[shape - 1];
}

const gp_rans_decoder *
gp_uq_decoder(unsigned shape)
{
    return &all.decoder[shape - 1];
}

/* How often each magnitude occurs, 128 for those beyond; returns the largest.
 * Four tables, so that equal neighbours do not wait for one another. */
static unsigned
count_magnitudes(const int8_t *codes, size_t n, uint32_t count[129])
{
    uint32_t of[4][256];
    unsigned largest = 0;
    size_t i = 0;

    memset(of, 0, sizeof(of));
    for (; n - i >= 4; i += 4) {
        uint32_t four;

        memcpy(&four, codes + i, 4);
        of[0][four & 255]++;
        of[1][four >> 8 & 255]++;
        of[2][four >> 16 & 255]++;
        of[3][four >> 24]++;
    }
    for (; i < n; i++)
        of[0][(uint8_t)codes[i]]++;
    for (unsigned m = 0; m <= 128; m++) {
        unsigned other = m % 128 ? 256 - m : m;

        count[m] = of[0][m] + of[1][m] + of[2][m] + of[3][m];
        if (other != m)
            count[m] +=
                of[0][other] + of[1][other] + of[2][other] + of[3][other];
        if (count[m])
            largest = m;
    }
    return largest;
}

unsigned
gp_uq_choose(const int8_t *codes, size_t n, bool *escapes)
{
    uint32_t count[129];
    unsigned largest = count_magnitudes(codes, n, count), near, best = 0;
    uint64_t least = UINT64_MAX;

    *escapes = false;
    if (largest == 0)
        return 0;
    near = gp_uq_nearest_shape(count[0], n);
    for (unsigned s = near > GP_UQ_NEAR ? near - GP_UQ_NEAR : 1;
         s <= near + GP_UQ_NEAR && s <= GP_UQ_SHAPES; s++) {
        uint64_t cost = gp_uq_cost_of(all.cost, s, count, largest);

        if (cost < least) {
            least = cost;
            best = s;
        }
    }
    *escapes = largest > gp_uq_largest(best);
    return best;
}
