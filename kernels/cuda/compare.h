#ifndef CLD_CUDA_COMPARE_H
#define CLD_CUDA_COMPARE_H

#include "kernels/backend.h"

#ifdef __cplusplus
extern "C" {
#endif

/* largest (two floats on the device): the largest |a - b|, infinite if only one of the two is finite, and the largest
 * finite |a|. a, b: n elements each, dense. */
cld_status cld_cuda_compare(float *largest, const void *a, const void *b, int64_t n, cld_dtype dtype);

#ifdef __cplusplus
}
#endif

#endif
