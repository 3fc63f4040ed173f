/* Activations and convolution weights in the form that every kernel of conv.h takes: channels last, dense. */
#ifndef CLD_CUDA_ACTIVATION_H
#define CLD_CUDA_ACTIVATION_H

#include "kernels/cuda/cuda.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Whether a is laid out this way. Blocked arrays are, and so are dense ones with one channel or one position. */
bool cld_cuda_is_channels_last(const cld_array *a);

typedef enum cld_access { CLD_READ, CLD_WRITE } cld_access;

/* out: a as channels last and of `dtype`. This is a itself if it already is, else it lies in block: a copy of a, or for
 * CLD_WRITE memory that cld_cuda_deliver copies to a once it is written. */
cld_status cld_cuda_channels_last(cld_array *out, cld_scratch_block *block, const cld_array *a,
                                  cld_dtype dtype, cld_access access);
cld_status cld_cuda_deliver(const cld_array *a, const cld_array *out);

#ifdef __cplusplus
}
#endif

#endif
