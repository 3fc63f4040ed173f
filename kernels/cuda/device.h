/* The thin layer over the CUDA runtime: everything that the plugin needs from it. There are two implementations:
 * device.c with the CUDA runtime, and host/device.cpp on the host, where a launch runs at once or, while a graph is
 * captured, is kept for the replay. Nothing else in this folder calls the CUDA runtime, except launches (launch.h).
 *
 * All work goes to one stream, except collectives. A failure of the runtime becomes one message: what was being done,
 * and CUDA's own text.
 */
#ifndef CLD_CUDA_DEVICE_H
#define CLD_CUDA_DEVICE_H

#include "kernels/backend.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---- the device ---- */

/* The number of devices. If CUDA cannot tell, an error says what is missing: a driver, or a newer one. */
cld_status cld_cuda_count(int *devices);
cld_status cld_cuda_facts(int ordinal, cld_device_facts *out);
/* Makes it this process's device: creates its context and the stream. */
cld_status cld_cuda_open(int ordinal);
/* "CUDA 13.0, driver 13.0" */
const char *cld_cuda_version(void);
/* Of the open device. */
int cld_cuda_multiprocessors(void);
/* Bytes free now, and in total. */
cld_status cld_cuda_memory(size_t *free_bytes, size_t *total);

/* ---- memory: memory.c caches what comes from here ---- */

cld_status cld_cuda_malloc(void **out, size_t bytes); /* CLD_NOMEM if there is none */
void cld_cuda_free(void *data);
/* Page-locked host memory, zeroed at first and never freed: the target of cld_cuda_queue_to_host. */
cld_status cld_cuda_malloc_locked(void **out, size_t bytes);

/* ---- the stream ---- */

void *cld_cuda_stream(void); /* a cudaStream_t */
/* Queued; the host memory may be reused when this returns. */
cld_status cld_cuda_copy_from_host(void *device, const void *host, size_t bytes);
/* Queued, then waited for. */
cld_status cld_cuda_copy_to_host(void *host, const void *device, size_t bytes);
/* Queued; the data is there after the next wait. */
cld_status cld_cuda_queue_to_host(void *locked, const void *device, size_t bytes);
cld_status cld_cuda_copy(void *to, const void *from, size_t bytes); /* on the device */
cld_status cld_cuda_clear(void *data, size_t bytes);                /* sets bytes to zero */
cld_status cld_cuda_wait(void);
/* Call after a launch: reports what the runtime says about it, as an error of `kernel`. */
cld_status cld_cuda_launched(const char *kernel);
/* Call after a library call has failed: an error that names `what` if the device was lost because of earlier work,
 * which the library does not report; else CLD_OK. */
cld_status cld_cuda_check_lost(const char *what);

/* ---- the lane: a second stream, for collectives ---- */

cld_status cld_cuda_lane_stream(void **out); /* a cudaStream_t */
cld_status cld_cuda_fork_lane(void); /* later work there waits for what was queued on the stream before, */
cld_status cld_cuda_join_lane(void); /* and the other way round */

/* ---- steps: fault.c makes the host wait for those some way back ---- */

#define CLD_STEPS_AHEAD 3

/* 0 <= which < CLD_STEPS_AHEAD. Not while a graph is being captured. */
cld_status cld_cuda_mark_step(int which);
cld_status cld_cuda_wait_for_step(int which); /* for work queued before it was last marked, if it was */

/* ---- time: for choosing among algorithms, and for benchmarks ---- */

/* Milliseconds on the device between two calls of mark; waits. */
cld_status cld_cuda_mark(int which); /* 0: start, 1: end */
cld_status cld_cuda_elapsed(double *milliseconds);

/* ---- capture ---- */

bool cld_cuda_capturing(void);
cld_status cld_cuda_begin_capture(void);
cld_status cld_cuda_end_capture(void **graph); /* ready to be launched */
cld_status cld_cuda_launch_graph(void *graph);
void cld_cuda_free_graph(void *graph);

#ifdef __cplusplus
}
#endif

#endif
