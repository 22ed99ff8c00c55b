/* SPDX-License-Identifier: Apache-2.0 */
/*
 * timer_cuda.c - two events that keep the time.
 */
#include "device/timer_cuda.h"

#include <stdlib.h>

#include "base/base.h"

#ifndef GP_HAVE_CUDA

gp_status
gp_cuda_timer_create(gp_device *device, gp_cuda_timer **out)
{
    (void)device;
    (void)out;
    return gp_fail(GP_ERR_UNSUPPORTED, "this build has no CUDA");
}

void
gp_cuda_timer_destroy(gp_cuda_timer *timer)
{
    (void)timer;
}

gp_status
gp_cuda_timer_start(gp_cuda_timer *timer, void *stream)
{
    (void)timer;
    (void)stream;
    return GP_ERR_UNSUPPORTED;
}

gp_status
gp_cuda_timer_stop(gp_cuda_timer *timer, void *stream)
{
    return gp_cuda_timer_start(timer, stream);
}

gp_status
gp_cuda_timer_read(gp_cuda_timer *timer, double *microseconds)
{
    (void)timer;
    (void)microseconds;
    return GP_ERR_UNSUPPORTED;
}

#else

#include "device/driver_cuda.h"

struct gp_cuda_timer {
    gp_device *device;
    CUevent event[2];
};

gp_status
gp_cuda_timer_create(gp_device *device, gp_cuda_timer **out)
{
    gp_cuda_timer *t;
    gp_status status = GP_OK;

    if (device->ops != &gp_device_cuda || !gp_cuda.cuEventElapsedTime_)
        return gp_fail(GP_ERR_UNSUPPORTED,
                       "the device %s has no clock for streams",
                       device->ops->kind);
    t = calloc(1, sizeof(*t));
    if (!t)
        return gp_fail(GP_ERR_NO_MEMORY, "out of memory");
    t->device = device;
    for (int i = 0; i < 2 && status == GP_OK; i++) {
        status = gp_cuda_enter(device);
        if (status == GP_OK)
            status = gp_cuda_leave(
                gp_cuda.cuEventCreate_(&t->event[i], CU_EVENT_DEFAULT),
                "cuEventCreate");
    }
    if (status == GP_OK)
        *out = t;
    else
        gp_cuda_timer_destroy(t);
    return status;
}

void
gp_cuda_timer_destroy(gp_cuda_timer *t)
{
    if (!t)
        return;
    for (int i = 0; i < 2; i++)
        gp_cuda_event_destroy(t->device, (gp_device_event *)t->event[i]);
    free(t);
}

gp_status
gp_cuda_timer_start(gp_cuda_timer *t, void *stream)
{
    return gp_cuda_event_record(t->device, (gp_device_event *)t->event[0],
                                stream);
}

gp_status
gp_cuda_timer_stop(gp_cuda_timer *t, void *stream)
{
    return gp_cuda_event_record(t->device, (gp_device_event *)t->event[1],
                                stream);
}

gp_status
gp_cuda_timer_read(gp_cuda_timer *t, double *microseconds)
{
    float ms = 0;
    gp_status status = gp_cuda_enter(t->device);

    if (status != GP_OK)
        return status;
    status = gp_cuda_leave(
        gp_cuda.cuEventElapsedTime_(&ms, t->event[0], t->event[1]),
        "cuEventElapsedTime");
    if (status == GP_OK)
        *microseconds = (double)ms * 1e3;
    return status;
}

#endif
