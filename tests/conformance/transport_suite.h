/* SPDX-License-Identifier: Apache-2.0 */
/*
 * transport_suite.h - what every transport must do.
 *
 * Out-of-tree transports can run it too: it uses the table alone.
 */
#ifndef GP_TRANSPORT_SUITE_H
#define GP_TRANSPORT_SUITE_H

#include <gradpush/transport.h>

/* Runs all cases; returns the number of failed ones. `settings` are names and
 * values of the configuration, ended by NULL; `listen` an address that lets
 * the transport choose port or name. */
int transport_suite(const char *label, const gp_transport_ops *ops,
                    const char *const *settings, const char *listen);

#endif
