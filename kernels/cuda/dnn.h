/* The thin layer over cuDNN, for convolutions, channels last. dnn.c calls the library; host/dnn.cpp has plain loops. */
#ifndef CLD_CUDA_DNN_H
#define CLD_CUDA_DNN_H

#include "kernels/backend.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum cld_dnn_kind { CLD_DNN_FORWARD, CLD_DNN_DATA, CLD_DNN_WEIGHT } cld_dnn_kind;

/* One convolution: x (n, c, h, w) and y (n, o, oh, ow) channels last, weight (o, c / groups, kernel, kernel) likewise:
 * [o][kh][kw][c / groups]. All of one dtype, sums in f32 (f64 for f64); f32 rounds to tf32 if cld_cuda_tf32(). */
typedef struct cld_dnn_shape {
    cld_dtype dtype;
    int64_t n, c, h, w, o, oh, ow;
    int kernel[2], stride[2], padding[2], dilation[2], groups; /* rows, columns */
} cld_dnn_shape;

/* FORWARD: y = x * w. DATA: dx = dy * w. WEIGHT: dw = dy * x. The output is overwritten, not accumulated into. The
 * three pointers are always x, w, y or their gradients. */
cld_status cld_cuda_convolve(cld_dnn_kind kind, void *x, void *w, void *y, const cld_dnn_shape *s);
/* An error if the cuDNN that was found is too old for this library: Python wheels come with many versions. */
cld_status cld_cuda_dnn_check(void);
/* "cuDNN 9.19.0" */
const char *cld_cuda_dnn_version(void);

#ifdef __cplusplus
}
#endif

#endif
