/* Host memory through which copies to the device go: page-locked, so that the copy is queued, and the caller's memory is
 * free at once. For device.c. */
#ifndef CLD_CUDA_STAGING_H
#define CLD_CUDA_STAGING_H

#include <cuda_runtime_api.h>

#include "kernels/backend.h"

typedef struct cld_staged cld_staged;

/* Memory to fill, or CUDA's reason why there is none. captured: the copy is recorded, and reads it at every launch of the
 * graph. */
cudaError_t cld__staging_take(void **out, size_t bytes, bool captured);
/* The copy from it is queued. */
void cld__staging_sent(void *staged, cudaStream_t stream);
/* What was taken since the capture began: the graph's from now on. */
cld_staged *cld__staging_captured(void);
void cld__staging_free(cld_staged *list);

/* Of a call whose failure concerns no one: the runtime would report it once more, after the next launch. */
static inline void cld__ignore(cudaError_t error) {
    if (error != cudaSuccess) cudaGetLastError();
}

#endif
