/* Tensors with regular contents. Computed in f64 on the host, then cast and sent to the device. */
#ifndef CLD_TENSOR_CREATE_H
#define CLD_TENSOR_CREATE_H

#include "runtime/tensor/tensor.h"

/* start, start + step, ... while below stop (above it for a negative step). */
cld_tensor *cld_tensor_arange(cld_dtype dtype, double start, double stop, double step,
                              const cld_backend *device);
/* count values from first to last, both included. */
cld_tensor *cld_tensor_linspace(cld_dtype dtype, double first, double last, int64_t count,
                                const cld_backend *device);
/* Ones on the diagonal, zeros elsewhere. */
cld_tensor *cld_tensor_eye(cld_dtype dtype, int64_t rows, int64_t columns, const cld_backend *device);

#endif
