/* SPDX-License-Identifier: Apache-2.0 */
/*
 * config.h - how a process is told what to do.
 *
 * One table of fields, each with a type, a unit, a default and a text, feeds
 * the environment (GRADPUSH_<NAME>), the file named by GRADPUSH_CONFIG, the
 * setter below, `gradpush info --config` and docs/configuration.md. The first
 * of these that names a field wins: gp_config_set, environment, variable of
 * NCCL (for some RDMA fields), file, default.
 */
#ifndef GRADPUSH_CONFIG_H
#define GRADPUSH_CONFIG_H

#include <stddef.h>
#include <stdint.h>

#include <gradpush/status.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct gp_config gp_config;

/** What a field holds, and how its text is read. */
typedef enum gp_config_type {
    GP_CONFIG_STRING = 0,
    GP_CONFIG_INT = 1,     /**< decimal, range given in the field */
    GP_CONFIG_SIZE = 2,    /**< bytes; suffixes K M G are powers of 1024 */
    GP_CONFIG_SECONDS = 3, /**< decimal seconds; suffixes us ms s m */
    GP_CONFIG_BOOL = 4,    /**< 0|1, no|yes, off|on, false|true */
    GP_CONFIG_ENUM = 5     /**< one of the words in `choices` */
} gp_config_type;

/** One row of the table. All strings are static. */
typedef struct gp_config_field {
    const char *name; /**< lower case; the variable is GRADPUSH_ + upper case */
    gp_config_type type;
    const char *value;       /**< the default, as text */
    const char *choices;     /**< "auto|on|off" for an enum, else NULL */
    double minimum, maximum; /**< for int, size and seconds, inclusive */
    int secret;              /**< not 0: never printed or logged */
    const char *text;        /**< one sentence of documentation */
} gp_config_field;

/**
 * A configuration with defaults, file and environment applied.
 *
 * Unknown GRADPUSH_ variables are warned about, with the nearest name. Reads
 * the environment: call it before threads change that.
 *
 * @param out  receives the object; destroy it with gp_config_destroy().
 * @return GP_OK
 *         GP_ERR_CONFIG     a value cannot be read, or the file has a bad line;
 *                           gp_last_error() names the variable or file:line and
 *                           what it takes.
 *         GP_ERR_NO_MEMORY
 */
GP_API GP_MUST_CHECK gp_status gp_config_create(gp_config **out);

/** Frees a configuration; NULL is fine. Objects created from it keep a copy. */
GP_API void gp_config_destroy(gp_config *config);

/**
 * Sets one field, over file and environment.
 *
 * @param name   as in the table, for example "chunk_bytes".
 * @param value  text in the form of the field's type; copied.
 * @return GP_OK, GP_ERR_NOT_FOUND (nearest name in gp_last_error()),
 *         GP_ERR_CONFIG, GP_ERR_NO_MEMORY.
 */
GP_API GP_MUST_CHECK gp_status gp_config_set(gp_config *config,
                                             const char *name,
                                             const char *value);

/**
 * The text of a field, or NULL for a name that is not in the table.
 *
 * The string is borrowed until the field is set again or the object dies.
 */
GP_API const char *gp_config_get(const gp_config *config, const char *name);

/**
 * Where a field's value came from: "default", "file", "environment" or "set";
 * for the fields that have a counterpart in NCCL also the name of its variable,
 * such as "NCCL_IB_HCA". NULL for a name that is not in the table. Static
 * string.
 */
GP_API const char *gp_config_origin(const gp_config *config, const char *name);

/**
 * Typed reads. `name` must be in the table and of that type; anything else
 * gives 0 (a programming error, caught by an assertion in debug builds).
 */
GP_API int64_t gp_config_int(const gp_config *config, const char *name);
GP_API uint64_t gp_config_size(const gp_config *config, const char *name);
GP_API double gp_config_seconds(const gp_config *config, const char *name);
GP_API int gp_config_bool(const gp_config *config, const char *name);

/** The table, for tools that print it. Ends with a row whose name is NULL. */
GP_API const gp_config_field *gp_config_fields(void);

/** Severity of a log line; each level includes those above it. */
typedef enum gp_log_level {
    GP_LOG_NONE = 0,
    GP_LOG_ERROR = 1, /**< the user must act */
    GP_LOG_WARN = 2,  /**< works, but not as expected */
    GP_LOG_INFO = 3,  /**< once per start or connection */
    GP_LOG_DEBUG = 4,
    GP_LOG_TRACE = 5
} gp_log_level;

/**
 * Receives every log line at or above the level.
 *
 * Called from any thread that is inside the library, one call at a time; it
 * must not call back into gradpush. `line` has no newline and is borrowed.
 */
typedef void (*gp_log_callback)(void *user, gp_log_level level,
                                const char *line);

/**
 * Sends log lines to `callback` instead of standard error; NULL restores that.
 *
 * Any thread. Process-wide, because a line may have no object to belong to.
 */
GP_API void gp_log_set_callback(gp_log_callback callback, void *user);

/** Sets the level for the process; the default comes from GRADPUSH_LOG. */
GP_API void gp_log_set_level(gp_log_level level);

#ifdef __cplusplus
}
#endif
#endif
