/* SPDX-License-Identifier: Apache-2.0 */
/*
 * select.h - what a selection works on, as host and device see it.
 */
#ifndef GP_CUDA_SELECT_H
#define GP_CUDA_SELECT_H

#include "compress/cuda/parts.h"

#define GP_SELECT_TILE 16384u
#define GP_SELECT_BINS 2048u

/* Index stages; gp_select.index. */
enum {
    GP_INDEX_RAW = 0,
    GP_INDEX_RICE = 1,
    GP_INDEX_BITMAP = 2,
    GP_INDEX_AUTO = 3,
    GP_INDEX_IMPLIED = 4 /* what is sent follows from the step */
};

/* What the kernels of a selection tell one another; all zero at first. */
typedef struct gp_select_state {
    uint64_t candidates; /* that reached the bound, there may be no room */
    uint64_t rank;       /* that is looked for, among those of the prefix */
    uint64_t chosen;
    uint64_t index_bytes;
    uint32_t bound, prefix;
    uint32_t dense;     /* candidates are of no use: look at all elements */
    uint32_t all;       /* the message has everything */
    uint32_t mode;      /* of the index stage */
    uint32_t nonfinite; /* was sent */
    uint64_t ties_end;  /* those that equal the cut are chosen before it */
    uint64_t values;    /* bytes of what varies */
    uint32_t first;     /* that is not finite, where the cut is not either */
} gp_select_state;

/* What a look at a whole tensor leaves for its chunks: those above `bits` are
 * chosen, and those that equal it before `ties_end`. What is encoded in place
 * of gradients comes behind it. */
typedef struct gp_select_whole {
    uint64_t ties_end;
    uint32_t bits;
} gp_select_whole;

#define GP_SELECT_WHOLE 256u

/* Where the bits come from that elements are compared with. */
enum {
    GP_CUT_GIVEN = 0,  /* k or `least` */
    GP_CUT_SCALED = 1, /* `value` root mean squares of the chunk */
    GP_CUT_WHOLE = 2   /* the part's `whole` */
};

/* Bytes of what an array stage makes of n elements: a number for each block,
 * and bits for each element, behind a head. */
typedef struct gp_select_layout {
    uint64_t block; /* 0: all elements are one */
    uint32_t per_block, bits;
    uint32_t head, nothing; /* `nothing`: bytes of no elements */
    uint32_t planes;        /* each bit of eight neighbours is a byte */
    uint32_t varies;        /* encoders say how many there are, at most these */
} gp_select_layout;

/* Of a tile: where its candidates are, and what becomes of them. */
typedef struct gp_select_tile {
    uint64_t at;
    uint64_t start; /* of the chosen ones */
    uint32_t count;
    uint32_t above, equal;
} gp_select_tile;

typedef struct gp_select {
    gp_select_state *state;
    uint32_t *bins;
    gp_select_tile *tile;
    uint32_t *candidate_at;
    float *candidate;
    uint64_t room; /* for candidates */
    uint64_t k;    /* 0: those of at least `least`, or what `cut` says */
    uint64_t most; /* that a message may have */
    uint32_t least;
    uint32_t cut;    /* GP_CUT_* */
    double value;    /* GP_CUT_SCALED */
    double *squares; /* likewise: of each tile */
    uint32_t index;
    uint64_t samples, sample_rank; /* 0: all are candidates */
    uint64_t capacity;             /* bound of a message */
    uint64_t all_bytes;            /* and of one that has everything */
    gp_select_layout layout;
    uint32_t *chosen_at;
    float *chosen, *undone;
    uint32_t *group;     /* per 32 indices: bits, and the parameter << 16 */
    uint64_t *group_at;  /* the bit where each begins */
    uint32_t *index_out; /* zeros at first, index_words of them */
    uint64_t index_words;
    uint64_t draws;       /* randk: of what is sent, */
    uint32_t left_out;    /* or of what is not */
    float scale;          /* of what is sent; 0: as it is */
    gp_cuda_part *values; /* what the array stage encodes, */
    gp_cuda_part *sent;   /* and decodes: in a grid of its own */
    uint8_t *message;     /* and writes */
} gp_select;

#endif
