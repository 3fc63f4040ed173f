/* Eigenvalues and eigenvectors of symmetric matrices, computed by the device (kernels/backend.h, eigh). No gradient. */
#include "runtime/ops/ops.h"

#include <math.h>

static cld_status check_no_gradient(const char *op, cld_tensor *x) {
    if (!cld_needs_grad(&x, 1)) return CLD_OK;
    return cld_fail(CLD_UNSUPPORTED, "%s has no gradient: give it x:detach()", op);
}

cld_tensor *cld_eigh(cld_tensor **vectors, cld_tensor *x, int64_t k) {
    int d = x->a.ndim;
    if ((x->a.dtype != CLD_F32 && x->a.dtype != CLD_F64) || d < 2 || d > 3 ||
        x->a.shape[d - 1] != x->a.shape[d - 2])
        return cld_fail_null(
            CLD_INVALID,
            "eigh: expected a symmetric matrix (n, n) or several (count, n, n), f32 or f64, got %s",
            cld_describe(&x->a));
    int64_t n = x->a.shape[d - 1], count = d == 3 ? x->a.shape[0] : 1;
    if (k < 0 || k > n)
        return cld_fail_null(CLD_INVALID, "eigh: %lld eigenvectors of %s; expected 0 to %lld", (long long)k,
                             cld_describe(&x->a), (long long)n);
    CLD_TRY_NULL(check_no_gradient("eigh", x));
    CLD_AUTO cld_tensor *a = cld_tensor_contiguous(x);
    CLD_AUTO cld_tensor *many = a ? cld_reshape(a, 3, (int64_t[]){count, n, n}) : NULL;
    CLD_AUTO cld_tensor *values =
        many ? cld_tensor_new(x->a.dtype, 2, (int64_t[]){count, n}, cld_device(x)) : NULL;
    CLD_AUTO cld_tensor *columns =
        values ? cld_tensor_new(x->a.dtype, 3, (int64_t[]){count, n, k}, cld_device(x)) : NULL;
    if (!columns) return NULL;
    CLD_TRY_NULL(cld_kernel(cld_device(x), math, eigh, &values->a, k > 0 ? &columns->a : NULL, &many->a));
    CLD_AUTO cld_tensor *out = cld_reshape(values, d - 1, d == 3 ? values->a.shape : &n);
    CLD_AUTO cld_tensor *found =
        out ? cld_reshape(columns, d, d == 3 ? columns->a.shape : columns->a.shape + 1) : NULL;
    if (!found) return NULL;
    *vectors = cld_tensor_steal(&found);
    return cld_tensor_steal(&out);
}

static cld_status check_finite(const double *a, int64_t n) {
    for (int64_t i = 0; i < n; i++)
        for (int64_t j = 0; j <= i; j++)
            if (!isfinite(a[i * n + j]))
                return cld_fail(CLD_INVALID, "eigvalsh: the matrix has values that are not finite");
    return CLD_OK;
}

cld_tensor *cld_eigvalsh(cld_tensor *x) {
    CLD_TRY_NULL(cld_check_float("eigvalsh", x));
    int64_t n = x->a.ndim == 2 ? x->a.shape[0] : 0;
    if (x->a.ndim != 2 || x->a.shape[1] != n)
        return cld_fail_null(CLD_INVALID, "eigvalsh: expected a symmetric matrix (n, n), got %s",
                             cld_describe(&x->a));
    CLD_TRY_NULL(check_no_gradient("eigvalsh", x));
    CLD_AUTO cld_tensor *here = cld_tensor_to(x, cld_cpu_backend());
    CLD_AUTO cld_tensor *wide = here ? cld_tensor_cast(here, CLD_F64) : NULL;
    CLD_AUTO cld_tensor *a = wide ? cld_tensor_contiguous(wide) : NULL;
    if (!a) return NULL;
    CLD_TRY_NULL(check_finite(a->a.data, n));
    CLD_AUTO cld_tensor *none = NULL, *values = cld_eigh(&none, a, 0);
    if (!values) return NULL;
    if (n > 0 && isnan(((const double *)values->a.data)[0]))
        return cld_fail_null(CLD_INVALID, "eigvalsh: the eigenvalues were not found");
    CLD_AUTO cld_tensor *out = cld_tensor_cast(values, x->a.dtype);
    return out ? cld_tensor_to(out, cld_device(x)) : NULL;
}
