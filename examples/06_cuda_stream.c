/* SPDX-License-Identifier: Apache-2.0 */
/*
 * 06_cuda_stream.c - gradients in the memory of a GPU: a step is queued on a
 * stream from the backward pass to the use of the result, and the host waits
 * for nothing but the end.
 *
 *     gradpush run -w 2 -s 2 -- ./06_cuda_stream
 *     ./06_cuda_stream     (a job of one worker)
 *
 * The CUDA runtime is loaded rather than linked, so that this compiles without
 * it; a trainer includes cuda_runtime.h instead. Without a GPU it says so.
 */
#include <gradpush/gradpush.h>

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>

#define N     (1u << 20)
#define STEPS 10

static struct {
    int (*cudaGetDeviceCount)(int *);
    int (*cudaMalloc)(void **, size_t);
    int (*cudaFree)(void *);
    int (*cudaMallocHost)(void **, size_t);
    int (*cudaFreeHost)(void *);
    int (*cudaStreamCreate)(void **);
    int (*cudaStreamDestroy)(void *);
    int (*cudaStreamSynchronize)(void *);
    int (*cudaMemcpyAsync)(void *, const void *, size_t, int, void *);
} cuda;

static void
need(int good, const char *what)
{
    if (good)
        return;
    fprintf(stderr, "06_cuda_stream: %s\n", what);
    exit(1);
}

static void
check(gp_status status)
{
    need(status == GP_OK, gp_last_error());
}

static int
load_runtime(void)
{
    static const char *const names[] = {"libcudart.so", "libcudart.so.12",
                                        "libcudart.so.13"};
    void *library = NULL;
    int devices = 0;

    for (size_t i = 0; i < 3 && !library; i++)
        library = dlopen(names[i], RTLD_NOW);
    if (!library)
        return 0;
#define LOAD(name) *(void **)&cuda.name = dlsym(library, #name)
    LOAD(cudaGetDeviceCount);
    LOAD(cudaMalloc);
    LOAD(cudaFree);
    LOAD(cudaMallocHost);
    LOAD(cudaFreeHost);
    LOAD(cudaStreamCreate);
    LOAD(cudaStreamDestroy);
    LOAD(cudaStreamSynchronize);
    LOAD(cudaMemcpyAsync);
#undef LOAD
    return cuda.cudaMalloc && cuda.cudaFree && cuda.cudaMallocHost &&
           cuda.cudaFreeHost && cuda.cudaStreamCreate &&
           cuda.cudaStreamDestroy && cuda.cudaStreamSynchronize &&
           cuda.cudaMemcpyAsync && cuda.cudaGetDeviceCount &&
           cuda.cudaGetDeviceCount(&devices) == 0 && devices > 0;
}

static gp_tensor *
add_tensor(gp_worker *worker)
{
    gp_tensor_options options = GP_TENSOR_INIT;
    gp_tensor *tensor;

    options.name = "layer";
    options.count = N;
    options.codec = "q8";
    options.device = "cuda";
    check(gp_tensor_register(worker, &options, &tensor));
    return tensor;
}

/* A step: nothing here waits for the GPU or for other workers. */
static void
queue_step(gp_tensor *tensor, float *grad, const float *source, void *stream)
{
    gp_request *request;

    /* Stands for a backward pass. 1: from the host to the device. */
    need(cuda.cudaMemcpyAsync(grad, source, N * sizeof(float), 1, stream) == 0,
         "cudaMemcpyAsync");
    check(gp_push_pull_on(tensor, grad, grad, stream, &request));
    check(gp_wait_stream(&request, stream));
    /* What is queued from here on, an optimizer, finds the mean in grad. */
}

static void
train(gp_worker *worker)
{
    gp_tensor *tensor = add_tensor(worker);
    void *stream = NULL, *grad = NULL, *pinned = NULL;
    float *values;
    float mean = (float)(gp_worker_size(worker) + 1) / 2;

    need(cuda.cudaMallocHost(&pinned, N * sizeof(float)) == 0 &&
             cuda.cudaStreamCreate(&stream) == 0 &&
             cuda.cudaMalloc(&grad, N * sizeof(float)) == 0,
         "no device, or no memory");
    values = pinned;
    for (size_t i = 0; i < N; i++)
        values[i] = (float)(gp_worker_rank(worker) + 1);
    for (int step = 0; step < STEPS; step++)
        queue_step(tensor, grad, values, stream);
    /* 2: from the device to the host. */
    need(cuda.cudaMemcpyAsync(values, grad, N * sizeof(float), 2, stream) ==
                 0 &&
             cuda.cudaStreamSynchronize(stream) == 0,
         "the stream failed");
    check(gp_worker_ready(worker)); /* whether the job is well */
    printf("rank %u: mean %g, expected %g\n", gp_worker_rank(worker), values[0],
           mean);
    cuda.cudaFree(grad);
    cuda.cudaStreamDestroy(stream);
    cuda.cudaFreeHost(pinned);
}

int
main(void)
{
    gp_worker *worker;

    if (!load_runtime()) {
        printf("no CUDA device, or no runtime for it\n");
        return 0;
    }
    check(gp_worker_create(NULL, &worker));
    train(worker);
    gp_worker_destroy(worker);
    return 0;
}
