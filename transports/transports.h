/* SPDX-License-Identifier: Apache-2.0 */
/*
 * transports.h - the tables that are built in.
 */
#ifndef GP_TRANSPORTS_H
#define GP_TRANSPORTS_H

#include <gradpush/transport.h>

extern const gp_transport_ops gp_loop_ops;
extern const gp_transport_ops gp_tcp_ops;
#ifdef GP_HAVE_VERBS
extern const gp_transport_ops gp_verbs_ops;
#endif

#endif
