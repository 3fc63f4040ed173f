/* Activations and the weights of convolutions as every kernel of conv.h takes them: channels last, dense. */
#ifndef CLD_CUDA_ACTIVATION_H
#define CLD_CUDA_ACTIVATION_H

#include "kernels/cuda/cuda.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Do a's bytes lie so? Those of a blocked array do, and of a dense one with one channel or one position. */
bool cld_cuda_is_channels_last(const cld_array *a);

typedef enum cld_access { CLD_READ, CLD_WRITE } cld_access;

/* out: a as channels last and of `dtype`. It is a itself where that is so, else in block: a copy of it, or for CLD_WRITE
 * memory that cld_cuda_deliver brings to a once it is written. */
cld_status cld_cuda_channels_last(cld_array *out, cld_scratch_block *block, const cld_array *a,
                                  cld_dtype dtype, cld_access access);
cld_status cld_cuda_deliver(const cld_array *a, const cld_array *out);

#ifdef __cplusplus
}
#endif

#endif
