/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cuda.h - gradients and results in the memory of CUDA devices, in the order of
 * a stream.
 *
 * A tensor lives where its option `device` says: in memory of the host ("cpu",
 * also NULL), or of a CUDA device ("cuda", "cuda:1"; counted as the CUDA
 * runtime of this process does). Workers of one job may differ in it: results
 * are the same to the last bit (but see docs/gpu.md for codecs with block=0).
 * The calls whose names end in _on take pointers into that device's memory and
 * a stream; all others that take pointers refuse such a tensor.
 *
 * No header of CUDA is needed, and no library at link time: `stream` is a
 * cudaStream_t or CUstream of the tensor's device. NULL is the default stream
 * that waits for others, (void *)2, which is cudaStreamPerThread, the calling
 * thread's own; code compiled with --default-stream per-thread means the latter
 * with 0 and has to say so here.
 *
 *     backward(stream);                          // writes grad
 *     gp_push_pull_on(t, grad, out, stream, &r);
 *     ...
 *     gp_wait_stream(&r, stream);                // returns at once
 *     optimizer(stream);                         // reads out
 *
 * How data goes: once what is on the stream before the push is done, gradients
 * are copied to pinned memory, chunk by chunk, by priority, while earlier
 * chunks are encoded on the host and sent. Where the device has kernels for the
 * tensor's one pipeline, it encodes, and messages of the same bytes, by the
 * rules of docs/gpu.md, are copied instead. Results are copied back as they
 * come, or as messages that the device decodes, where it has kernels for that.
 * All of that is on streams of the worker's own, so that it overlaps with the
 * caller's work and never holds it up. Error feedback and checkpoints work as
 * ever; mode local:H and jobs with `experiment` do not, see
 * gp_tensor_register().
 *
 * Memory: pinned memory as long as the tensor, and its messages, for each of
 * its requests that are open at once, taken when it is first needed, one in
 * gp_worker_ready(); memory of the device for residuals. All of it is kept
 * until the worker ends, rounded to 2 MiB per device and kind, and counted in
 * gp_stats.memory.
 */
#ifndef GRADPUSH_CUDA_H
#define GRADPUSH_CUDA_H

#include <gradpush/worker.h>

#ifdef __cplusplus
extern "C" {
#endif

/**
 * gp_push_pull() of a tensor on a device.
 *
 * `grad` is read after what the stream has been given before this call; then,
 * and not before, `out` is written. Both are borrowed until the request has
 * ended: what is put on a stream after gp_wait_stream(), or after gp_wait() has
 * returned, may use them again.
 *
 * Queues and returns: neither the host nor the stream waits (the first
 * operation does, see gp_worker_ready(); and one that finds more requests open
 * than ever before may, for pinned memory).
 *
 * @param grad    the tensor's elements in its device's memory; may equal out.
 * @param stream  of the same device.
 * @return as gp_push_pull()
 *         GP_ERR_INVALID      the tensor is on the host, or a pointer is to
 *                             memory of the host or of another device, or to
 *                             too little
 *         GP_ERR_UNSUPPORTED  a graph is being captured from the stream: what
 *                             a push does cannot be replayed. Push before
 *                             cudaStreamBeginCapture() or after
 *                             cudaStreamEndCapture().
 *         GP_ERR_NO_MEMORY, GP_ERR_SYSTEM  from the driver, with its name
 */
GP_API GP_MUST_CHECK gp_status gp_push_pull_on(gp_tensor *tensor,
                                               const void *grad, void *out,
                                               void *stream,
                                               gp_request **request);

/**
 * gp_push() and gp_pull() of a tensor on a device, with the rules above. What
 * waits for a push may write to `grad` again; `out` is written after what the
 * stream has been given before the pull.
 *
 * @return as gp_push() and gp_pull(), and the errors above
 */
GP_API GP_MUST_CHECK gp_status gp_push_on(gp_tensor *tensor, const void *grad,
                                          void *stream, gp_request **request);
GP_API GP_MUST_CHECK gp_status gp_pull_on(gp_tensor *tensor, void *out,
                                          void *stream, gp_request **request);

/** gp_broadcast() of a tensor on a device, with the rules above. */
GP_API GP_MUST_CHECK gp_status gp_broadcast_on(gp_tensor *tensor, void *values,
                                               uint32_t root, void *stream,
                                               gp_request **request);

/**
 * Makes a stream wait for a request, instead of the host: what is put on the
 * stream from here on sees the result in `out`. Returns at once. The request
 * then ends by itself; gp_wait() and gp_test() are the other way to end it.
 *
 * A stream never hangs on a job that fails: it goes on, with unspecified
 * content in `out`. Every later call on the worker says what the job has died
 * of, gp_worker_ready() also when there is nothing else to call. A request that
 * has failed before this call gives its status here. As long as nothing fails
 * and another worker does not push, the stream waits, without a deadline;
 * gp_worker_destroy() ends that, too.
 *
 * @param request  of a call whose name ends in _on. Set to NULL, but
 *                 left alone with the first three errors below. A pointer to
 *                 NULL is fine and gives GP_OK.
 * @param stream   of the tensor's device; may be another one than the push's.
 * @return GP_OK
 *         GP_ERR_INVALID      NULL, or a request of another kind
 *         GP_ERR_UNSUPPORTED  the stream is being captured, or the driver lets
 *                             no stream wait for a number: call gp_wait()
 *         GP_ERR_SYSTEM       from the driver, with its name
 *         otherwise why the request failed
 */
GP_API GP_MUST_CHECK gp_status gp_wait_stream(gp_request **request,
                                              void *stream);

#ifdef __cplusplus
}
#endif
#endif
