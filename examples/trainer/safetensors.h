/* SPDX-License-Identifier: Apache-2.0 */
/*
 * safetensors.h - the tensor file format of that name, read and written.
 *
 * u64 little-endian header length, a JSON header, the data. Files written here
 * open in any tool of the ecosystem; files from outside are checked as
 * strictly as the reference does: no holes, no overlaps, no duplicate names,
 * no byte left over.
 */
#ifndef GT_SAFETENSORS_H
#define GT_SAFETENSORS_H

#include "common.h"

#define GT_ST_DIMS_MAX   8
#define GT_ST_HEADER_MAX 100000000u

typedef struct gt_st_tensor {
    const char *name; /* borrowed from the file object */
    char dtype[16];   /* "F32" */
    uint64_t shape[GT_ST_DIMS_MAX];
    size_t dims;
    uint64_t begin, end; /* bytes within the data */
} gt_st_tensor;

typedef struct gt_st_file {
    void *root;            /* json_t */
    gt_st_tensor *tensors; /* by offset */
    size_t count;
    const uint8_t *data; /* borrowed from the caller's bytes */
    const char *name;    /* borrowed; for messages */
} gt_st_file;

/* Checks everything, also the checksum of a file that has one; `bytes` and
 * `name` are borrowed until the file is freed. GP_ERR_CORRUPT,
 * GP_ERR_TOO_LARGE, GP_ERR_NO_MEMORY. */
gp_status gt_st_parse(const uint8_t *bytes, size_t length, const char *name,
                      gt_st_file *out);
void gt_st_free(gt_st_file *file);

/* Copies an F32 tensor of exactly this shape. GP_ERR_NOT_FOUND,
 * GP_ERR_MISMATCH. */
gp_status gt_st_read(const gt_st_file *file, const char *name,
                     const uint64_t *shape, size_t dims, float *out);

/* In __metadata__ of files written here: CRC32C of the whole file with zeros in
 * place of its digits. */
#define GT_ST_CHECKSUM        "checksum"
#define GT_ST_CHECKSUM_PREFIX "\"" GT_ST_CHECKSUM "\":\"crc32c:"
#define GT_ST_CHECKSUM_DIGITS 8u

/* A string of __metadata__, or NULL. */
const char *gt_st_metadata(const gt_st_file *file, const char *key);

/* What gt_st_write() is given. */
typedef struct gt_st_item {
    char name[64];
    uint64_t shape[2];
    size_t dims;
    const float *values;
} gt_st_item;

typedef struct gt_st_text {
    const char *key;
    char value[128];
} gt_st_text;

/* Replaces `path` atomically (atomic_file.h). The checksum is added. */
gp_status gt_st_write(const char *path, const gt_st_item *items, size_t count,
                      const gt_st_text *texts, size_t text_count);

#endif
