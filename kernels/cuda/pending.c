/* Empty tables, for those that no file fills in yet. */
#include "kernels/cuda/blas.h"
#include "kernels/cuda/cuda.h"
#include "kernels/cuda/dnn.h"

#define PENDING __attribute__((weak))

PENDING const cld_math_ops cld_cuda_math = {0};
PENDING const cld_conv_ops cld_cuda_conv = {0};
PENDING const cld_loss_ops cld_cuda_loss = {0};
PENDING const cld_optim_ops cld_cuda_optim = {0};
PENDING const cld_image_ops cld_cuda_image = {0};

#ifdef CLD_ON_HOST
PENDING cld_status cld_cuda_product(void *c, const void *a, const void *b, const cld_product *p) {
    (void)c, (void)a, (void)b, (void)p;
    return cld_fail(CLD_UNSUPPORTED, "no products on the host");
}
PENDING cld_status cld_cuda_convolve(cld_dnn_kind kind, void *x, void *w, void *y, const cld_dnn_shape *s) {
    (void)kind, (void)x, (void)w, (void)y, (void)s;
    return cld_fail(CLD_UNSUPPORTED, "no convolutions on the host");
}
PENDING bool cld_cuda_allow_tf32(bool on) { return (void)on, false; }
PENDING bool cld_cuda_tf32(void) { return false; }
PENDING const char *cld_cuda_blas_version(void) { return "no products"; }
PENDING const char *cld_cuda_dnn_version(void) { return "no convolutions"; }
#endif
