/* Activations and convolution weights in the form that every kernel of conv.h takes: channels last, dense. */
#ifndef CLD_CUDA_ACTIVATION_H
#define CLD_CUDA_ACTIVATION_H

#include "kernels/cuda/cuda.h"

#ifdef __cplusplus
extern "C" {
#endif

/* True if a is laid out this way, as blocked arrays are, and dense ones with one channel or one position. */
bool cld_cuda_is_channels_last(const cld_array *a);

typedef enum cld_access { CLD_READ, CLD_WRITE } cld_access;

/* out: a with channels last and with `dtype`. This is a itself if a already has both. Else it lies in block: for
 * CLD_READ a copy of a, for CLD_WRITE memory to write to, which cld_cuda_deliver then copies to a. */
cld_status cld_cuda_channels_last(cld_array *out, cld_scratch_block *block, const cld_array *a,
                                  cld_dtype dtype, cld_access access);
cld_status cld_cuda_deliver(const cld_array *a, const cld_array *out);

#ifdef __cplusplus
}
#endif

#endif
