/* Host memory through which copies to the device go. It is page-locked, so that the copy is queued and the caller's
 * memory is free at once. For device.c. */
#ifndef CLD_CUDA_STAGING_H
#define CLD_CUDA_STAGING_H

#include <cuda_runtime_api.h>

#include "kernels/backend.h"

/* Queues the copy. Waits while the ring is full, for much earlier copies. */
cudaError_t cld__staging_copy(void *device, const void *host, size_t bytes, cudaStream_t stream);
/* Records the copy, from memory of its own, which every launch of the graph reads. */
cudaError_t cld__staging_capture(void *device, const void *host, size_t bytes, cudaStream_t stream);

/* What has been captured since the last call; from now on it belongs to the graph. */
typedef struct cld_staged cld_staged;
cld_staged *cld__staging_captured(void);
void cld__staging_free(cld_staged *list);

/* For a call whose failure does not matter: clears the error, which the runtime would otherwise report after the next
 * launch. */
static inline void cld__ignore(cudaError_t error) {
    if (error != cudaSuccess) cudaGetLastError();
}

#endif
