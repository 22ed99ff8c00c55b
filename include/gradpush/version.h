/* SPDX-License-Identifier: Apache-2.0 */
/* version.h - the version of the headers and of the library that runs. */
#ifndef GRADPUSH_VERSION_H
#define GRADPUSH_VERSION_H

#include <gradpush/status.h>

#ifdef __cplusplus
extern "C" {
#endif

#define GP_VERSION_MAJOR 0
#define GP_VERSION_MINOR 1
#define GP_VERSION_PATCH 0
#define GP_VERSION       "0.1.0"

/** The version of the library in use, "major.minor.patch". Static string. */
GP_API const char *gp_version(void);

#ifdef __cplusplus
}
#endif
#endif
