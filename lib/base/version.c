/* SPDX-License-Identifier: Apache-2.0 */
/* version.c - the version of the library that runs, as it was compiled. */
#include <gradpush/version.h>

const char *
gp_version(void)
{
    return GP_VERSION;
}
