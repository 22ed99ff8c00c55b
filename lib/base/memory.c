/* SPDX-License-Identifier: Apache-2.0 */
/* memory.c - aligned memory, hashes of bytes, random bytes. */
#include "base/base.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/random.h>
#include <sys/types.h>

#define ALIGNMENT 64u
#define PAGE      4096u

/* What is long begins with a page: devices move it in packets of a page at
 * most, which would otherwise each lie in two. */
void *
gp_alloc_aligned(size_t bytes)
{
    size_t alignment = bytes < 4 * PAGE ? ALIGNMENT : PAGE;

    if (bytes > PTRDIFF_MAX - PAGE) /* no object is larger */
        return NULL;
    bytes = (GP_MAX(bytes, 1) + alignment - 1) / alignment * alignment;
    return aligned_alloc(alignment, bytes);
}

uint64_t
gp_hash(const void *data, size_t length)
{
    const uint8_t *p = data;
    uint64_t h = 0xcbf29ce484222325u;

    for (size_t i = 0; i < length; i++)
        h = (h ^ p[i]) * 0x100000001b3u;
    /* FNV mixes its high bits little; these rounds spread them. */
    h = (h ^ h >> 33) * 0xff51afd7ed558ccdu;
    h = (h ^ h >> 33) * 0xc4ceb9fe1a85ec53u;
    return h ^ h >> 33;
}

gp_status
gp_random(void *out, size_t length)
{
    uint8_t *p = out;

    while (length) {
        ssize_t n = getrandom(p, length, 0);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return gp_fail_errno(GP_ERR_SYSTEM, errno, "getrandom");
        p += n;
        length -= (size_t)n;
    }
    return GP_OK;
}
