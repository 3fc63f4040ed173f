/* Principal components, composed of ops: of the smaller of both products of the centred rows, the eigenvectors of the largest
 * eigenvalues. */
#include "runtime/embed/embed.h"
#include "runtime/ops/ops.h"

#include <math.h>

/* The directions (d, dims) of the largest variance of the centred rows, each of length 1. */
static cld_tensor *directions(cld_tensor *rows, int64_t dims) {
    int64_t n = rows->a.shape[0], d = rows->a.shape[1];
    bool is_wide = d > n; /* by X X^T = U S^2 U^T then, whose X^T U are the directions, S times as long */
    CLD_AUTO cld_tensor *turned = cld_transpose(rows, 0, 1);
    CLD_AUTO cld_tensor *product =
        turned ? is_wide ? cld_matmul(rows, turned) : cld_matmul(turned, rows) : NULL;
    CLD_AUTO cld_tensor *wide = product ? cld_tensor_cast(product, CLD_F64) : NULL;
    CLD_AUTO cld_tensor *least = wide ? cld_mul_scalar(wide, -1) : NULL; /* eigh has the smallest first */
    CLD_AUTO cld_tensor *vectors = NULL, *values = least ? cld_eigh(&vectors, least, dims) : NULL;
    CLD_AUTO cld_tensor *axes = values ? cld_tensor_cast(vectors, CLD_F32) : NULL;
    if (!axes || !is_wide) return cld_tensor_steal(&axes);
    CLD_AUTO cld_tensor *scaled = cld_matmul(turned, axes);
    return scaled ? cld_normalize(scaled, 0) : NULL;
}

/* The largest entry of each direction is positive. */
static void choose_signs(cld_tensor *axes) {
    int64_t d = axes->a.shape[0], dims = axes->a.shape[1];
    float *v = axes->a.data;
    for (int64_t k = 0; k < dims; k++) {
        float largest = 0;
        for (int64_t i = 0; i < d; i++)
            if (fabsf(v[i * dims + k]) > fabsf(largest)) largest = v[i * dims + k];
        for (int64_t i = 0; i < d && largest < 0; i++) v[i * dims + k] = -v[i * dims + k];
    }
}

cld_tensor *cld_pca(cld_tensor *x, int64_t dims) {
    if (x->a.ndim != 2 || (x->a.dtype != CLD_F32 && x->a.dtype != CLD_F64) || x->a.shape[0] < 2)
        return cld_fail_null(CLD_INVALID, "pca: expected at least 2 rows (n, d), f32 or f64, got %s",
                             cld_describe(&x->a));
    if (dims < 1 || dims > x->a.shape[0] || dims > x->a.shape[1])
        return cld_fail_null(CLD_INVALID, "pca: %lld components of %s; expected at most its rows and columns",
                             (long long)dims, cld_describe(&x->a));
    CLD_AUTO cld_tensor *constant = cld_tensor_detach(x);
    CLD_AUTO cld_tensor *here = constant ? cld_tensor_as(constant, CLD_F32, cld_cpu_backend()) : NULL;
    CLD_AUTO cld_tensor *mean = here ? cld_mean(here, (int[]){0}, 1, true) : NULL;
    CLD_AUTO cld_tensor *rows = mean ? cld_sub(here, mean) : NULL;
    CLD_AUTO cld_tensor *found = rows ? directions(rows, dims) : NULL;
    CLD_AUTO cld_tensor *axes = found ? cld_tensor_contiguous(found) : NULL;
    if (!axes) return NULL;
    choose_signs(axes);
    return cld_matmul(rows, axes);
}
