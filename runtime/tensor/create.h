/* Tensors with regular contents. Computed on the host, in i64 or f64, then cast and copied to the device. */
#ifndef CLD_TENSOR_CREATE_H
#define CLD_TENSOR_CREATE_H

#include "runtime/tensor/tensor.h"

/* start, start + step, ... while below stop (above it if step is negative); exact if all three are integers. */
cld_tensor *cld_tensor_arange(cld_dtype dtype, cld_scalar start, cld_scalar stop, cld_scalar step,
                              const cld_backend *device);
/* 0, 1, ... count - 1 */
static inline cld_tensor *cld_tensor_range(cld_dtype dtype, int64_t count, const cld_backend *device) {
    return cld_tensor_arange(dtype, cld_integer(0), cld_integer(count), cld_integer(1), device);
}
/* count values from first to last, both included. */
cld_tensor *cld_tensor_linspace(cld_dtype dtype, cld_scalar first, cld_scalar last, int64_t count,
                                const cld_backend *device);
/* Ones on the diagonal, zeros elsewhere. */
cld_tensor *cld_tensor_eye(cld_dtype dtype, int64_t rows, int64_t columns, const cld_backend *device);

#endif
