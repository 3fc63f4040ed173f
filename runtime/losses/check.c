/* The argument checks that the loss files share. */
#include "runtime/losses/losses.h"

#include <math.h>

cld_status cld__check_rows(const char *op, const char *what, const cld_tensor *x) {
    if (x->a.ndim != 2 || (x->a.dtype != CLD_F32 && x->a.dtype != CLD_F64))
        return cld_fail(CLD_INVALID, "%s: expected %s as f32 or f64 (rows, dim), got %s", op, what,
                        cld_describe(&x->a));
    if (x->a.shape[0] == 0)
        return cld_fail(CLD_INVALID, "%s: %s has no rows: %s", op, what, cld_describe(&x->a));
    return CLD_OK;
}

cld_status cld__check_alike(const char *op, const char *what, const cld_tensor *x, const char *other,
                            const cld_tensor *y) {
    CLD_TRY(cld__check_rows(op, what, x));
    CLD_TRY(cld__check_rows(op, other, y));
    if (x->a.shape[1] != y->a.shape[1] || x->a.dtype != y->a.dtype)
        return cld_fail(CLD_INVALID, "%s: %s is %s, %s %s; expected the same dtype and dimension", op, what,
                        cld_describe(&x->a), other, cld_describe(&y->a));
    return cld__check_together(op, what, x, other, y);
}

cld_status cld__check_together(const char *op, const char *what, const cld_tensor *x, const char *other,
                               const cld_tensor *y) {
    if (cld_device(x) == cld_device(y)) return CLD_OK;
    return cld_fail(CLD_INVALID, "%s: %s is on %s, %s on %s", op, what, cld_device(x)->name, other,
                    cld_device(y)->name);
}

cld_status cld__check_entries(const char *op, const char *what, const cld_tensor *index,
                              const cld_tensor *x) {
    if (index->a.dtype != CLD_I64 || index->a.ndim != 1 || index->a.shape[0] != x->a.shape[0])
        return cld_fail(CLD_INVALID, "%s: expected %s as i64[%lld], one per row of %s, got %s", op, what,
                        (long long)x->a.shape[0], cld_describe(&x->a), cld_describe(&index->a));
    return cld__check_together(op, what, index, "its rows", x);
}

cld_status cld__check_temperature(const char *op, double temperature) {
    if (temperature > 0 && isfinite(temperature)) return CLD_OK;
    return cld_fail(CLD_INVALID, "%s: the temperature is %g; expected a number above 0", op, temperature);
}

cld_status cld__check_eigenvectors(const char *op, int64_t eigenvectors) {
    if (eigenvectors >= 0) return CLD_OK;
    return cld_fail(CLD_INVALID,
                    "%s: %lld eigenvectors; expected at least 1, or 0 for as many as there are clusters", op,
                    (long long)eigenvectors);
}

cld_status cld__check_counter(const char *op, const char *what, const cld_tensor *x, const char *other,
                              const cld_tensor *y) {
    if (x->a.dtype != CLD_I64 || cld_numel(&x->a) != 1)
        return cld_fail(CLD_INVALID, "%s: expected %s as one element of i64, got %s", op, what,
                        cld_describe(&x->a));
    return cld__check_together(op, what, x, other, y);
}
