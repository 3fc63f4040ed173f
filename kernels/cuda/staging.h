/* Host memory through which copies to the device go: page-locked, so that the copy is queued, and the caller's memory is
 * free at once. For device.c. */
#ifndef CLD_CUDA_STAGING_H
#define CLD_CUDA_STAGING_H

#include <cuda_runtime_api.h>

#include "kernels/backend.h"

/* Queues the copy. Waits while the ring has no room: for copies of long before. */
cudaError_t cld__staging_copy(void *device, const void *host, size_t bytes, cudaStream_t stream);
/* Records the copy, from memory of its own, which every launch of the graph reads. */
cudaError_t cld__staging_capture(void *device, const void *host, size_t bytes, cudaStream_t stream);

/* What was captured since this was last asked for: the graph's from now on. */
typedef struct cld_staged cld_staged;
cld_staged *cld__staging_captured(void);
void cld__staging_free(cld_staged *list);

/* Of a call whose failure concerns no one: the runtime would report it once more, after the next launch. */
static inline void cld__ignore(cudaError_t error) {
    if (error != cudaSuccess) cudaGetLastError();
}

#endif
