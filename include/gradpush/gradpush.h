/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gradpush.h - moves gradients between trainers and sharded parameter servers.
 *
 * A worker pushes a gradient to the shards that own it and pulls the result
 * back: over RDMA where there is RDMA, over TCP where there is not, compressed
 * where that pays. This is the only header a trainer includes.
 *
 * A complete data-parallel step; `gradpush run -w 2 -s 2 -- ./a.out` starts it:
 *
 *     #include <gradpush/gradpush.h>
 *
 *     gp_worker *worker;
 *     gp_tensor *tensor;
 *     gp_request *request;
 *     gp_tensor_options options = GP_TENSOR_INIT;
 *
 *     if (gp_worker_create(NULL, &worker) != GP_OK)
 *         return fail(gp_last_error());
 *     options.name = "weights";
 *     options.count = n;
 *     options.updater = "mean";
 *     if (gp_tensor_register(worker, &options, &tensor) != GP_OK ||
 *         gp_push_pull(tensor, grad, grad, &request) != GP_OK ||
 *         gp_wait(&request, -1) != GP_OK)
 *         return fail(gp_last_error());
 *     gp_worker_destroy(worker);          // grad is now the mean of all ranks
 *
 * Rules that hold for every function:
 *   - It returns a gp_status or cannot fail. Out arguments come last and are
 *     untouched on failure. gp_last_error() has the sentence for people.
 *   - It never aborts or exits, never writes to standard output, and installs
 *     no signal handler. Every wait has a deadline.
 *   - A _create() has a _destroy() that accepts NULL and leaves no thread.
 *   - Pointers are borrowed for the call unless the contract says longer.
 *   - NULL where a pointer is needed is GP_ERR_INVALID; what cannot fail
 *     returns 0 or NULL for it. Only pipelines, which are called for each
 *     chunk, do not look.
 */
#ifndef GRADPUSH_GRADPUSH_H
#define GRADPUSH_GRADPUSH_H

#include <gradpush/codec.h>
#include <gradpush/collective.h>
#include <gradpush/config.h>
#include <gradpush/cuda.h>
#include <gradpush/rows.h>
#include <gradpush/server.h>
#include <gradpush/status.h>
#include <gradpush/transport.h>
#include <gradpush/updater.h>
#include <gradpush/version.h>
#include <gradpush/worker.h>

#endif
