/* SPDX-License-Identifier: Apache-2.0 */
/*
 * status.h - what every gradpush function that can fail returns.
 *
 * One list, GP_STATUS_MAP, gives the enumeration, the names and the texts. The
 * codes are grouped by what the caller can do about them:
 *
 *     0            success
 *     -1  .. -19   nothing is wrong: call again later, or look again
 *     -20 .. -39   the call or the configuration is wrong: fix it
 *     -40 .. -59   the environment or a peer failed: reconnect, restart, report
 *     -60 .. -79   data from outside is not what it should be
 *     -80 ..       a defect in gradpush: please report it
 */
#ifndef GRADPUSH_STATUS_H
#define GRADPUSH_STATUS_H

#ifdef __cplusplus
extern "C" {
#endif

/** Marks what the library exports; everything else is hidden. */
#if defined(__GNUC__)
#define GP_API        __attribute__((visibility("default")))
#define GP_MUST_CHECK __attribute__((warn_unused_result))
#define GP_PRINTF(text, first) \
    __attribute__((__format__(__printf__, text, first)))
#else
#define GP_API
#define GP_MUST_CHECK
#define GP_PRINTF(text, first)
#endif

#define GP_STATUS_MAP(X)                                                      \
    X(OK, 0, "success")                                                       \
    X(AGAIN, -1, "no credit or nothing ready yet; call again after progress") \
    X(PENDING, -2, "the operation is under way")                              \
    X(ERR_INVALID, -20, "invalid argument")                                   \
    X(ERR_CONFIG, -21, "invalid configuration")                               \
    X(ERR_STATE, -22, "the call is not allowed in this state")                \
    X(ERR_UNSUPPORTED, -23, "not supported by this build or this object")     \
    X(ERR_NOT_FOUND, -24, "no such name")                                     \
    X(ERR_EXISTS, -25, "the name is taken")                                   \
    X(ERR_TOO_LARGE, -26, "larger than the limit")                            \
    X(ERR_MISMATCH, -27, "members of the job disagree")                       \
    X(ERR_NO_MEMORY, -40, "out of memory")                                    \
    X(ERR_SYSTEM, -41, "a system call failed")                                \
    X(ERR_TIMEOUT, -42, "the deadline passed")                                \
    X(ERR_ADDRESS, -43, "the address cannot be used")                         \
    X(ERR_UNREACHABLE, -44, "no connection to the peer")                      \
    X(ERR_PEER_LOST, -45, "a peer died or closed the connection")             \
    X(ERR_PEER_LEFT, -46, "a worker left the job while others wait for it")   \
    X(ERR_REFUSED, -47, "the peer refused")                                   \
    X(ERR_AUTH, -48, "wrong job token")                                       \
    X(ERR_CANCELED, -49, "canceled because the object was destroyed")         \
    X(ERR_PROTOCOL, -60, "the peer broke the protocol")                       \
    X(ERR_VERSION, -61, "protocol versions differ")                           \
    X(ERR_CHECKSUM, -62, "checksum mismatch: the data was damaged")           \
    X(ERR_CORRUPT, -63, "malformed data")                                     \
    X(ERR_INTERNAL, -80, "internal error in gradpush")

typedef enum gp_status {
#define GP_STATUS_ENUM(name, code, text) GP_##name = (code),
    GP_STATUS_MAP(GP_STATUS_ENUM)
#undef GP_STATUS_ENUM
} gp_status;

/**
 * The name of a code, such as "GP_ERR_TIMEOUT".
 *
 * Any thread. Never NULL: "GP_UNKNOWN" for a value that is not in the list. The
 * string is static.
 */
GP_API const char *gp_status_name(gp_status status);

/**
 * One lower-case phrase that says what a code means.
 *
 * Any thread. Never NULL. The string is static.
 */
GP_API const char *gp_status_text(gp_status status);

/**
 * The message of the last failure in the calling thread: which call, which
 * peer, which variable, and the fix where there is one.
 *
 * Set by every public function that returns an error, untouched by success.
 * Empty before the first failure. Valid until the next failing call of the same
 * thread; copy it to keep it.
 */
GP_API const char *gp_last_error(void);

#ifdef __cplusplus
}
#endif
#endif
