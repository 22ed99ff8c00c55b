/* SPDX-License-Identifier: Apache-2.0 */
/* dtype.c - sizes of element types, for everything above lib/base. */
#include <gradpush/worker.h>

size_t
gp_dtype_bytes(gp_dtype dtype)
{
    switch (dtype) {
    case GP_FP32:
        return 4;
    case GP_FP16:
    case GP_BF16:
        return 2;
    default:
        return 0;
    }
}
