#include "runtime/tensor/create.h"

#include <math.h>

static cld_tensor *no_sequence(cld_scalar start, cld_scalar stop, cld_scalar step) {
    return cld_fail_null(CLD_INVALID,
                         "arange: from %.17g to %.17g in steps of %.17g is not a finite sequence", start.d,
                         stop.d, step.d);
}

static cld_tensor *integer_sequence(cld_dtype dtype, int64_t start, int64_t stop, int64_t step,
                                    const cld_backend *device) {
    __int128 way = (__int128)stop - start, steps = (way + step + (step > 0 ? -1 : 1)) / step;
    if (steps > INT64_MAX) return no_sequence(cld_integer(start), cld_integer(stop), cld_integer(step));
    int64_t count = (way > 0) == (step > 0) && way != 0 ? (int64_t)steps : 0;
    CLD_AUTO cld_tensor *host = cld_tensor_new(CLD_I64, 1, &count, cld_cpu_backend());
    if (!host) return NULL;
    int64_t *values = host->a.data;
    for (int64_t i = 0; i < count; i++) values[i] = (int64_t)((uint64_t)start + (uint64_t)i * (uint64_t)step);
    return cld_tensor_as(host, dtype, device);
}

cld_tensor *cld_tensor_arange(cld_dtype dtype, cld_scalar start, cld_scalar stop, cld_scalar step,
                              const cld_backend *device) {
    if (start.is_integer && stop.is_integer && step.is_integer && step.i != 0)
        return integer_sequence(dtype, start.i, stop.i, step.i, device);
    double count = ceil((stop.d - start.d) / step.d);
    if (!isfinite(count) || count >= 0x1p53) return no_sequence(start, stop, step);
    int64_t length = count > 0 ? (int64_t)count : 0;
    CLD_AUTO cld_tensor *host = cld_tensor_new(CLD_F64, 1, &length, cld_cpu_backend());
    if (!host) return NULL;
    double *values = host->a.data;
    for (int64_t i = 0; i < length; i++) values[i] = start.d + (double)i * step.d;
    return cld_tensor_as(host, dtype, device);
}

/* Integers from first to last; values between two integers are truncated towards 0. */
static cld_tensor *integers_between(cld_dtype dtype, int64_t first, int64_t last, int64_t count,
                                    const cld_backend *device) {
    CLD_AUTO cld_tensor *host = cld_tensor_new(CLD_I64, 1, &count, cld_cpu_backend());
    if (!host) return NULL;
    int64_t *values = host->a.data, gaps = count > 1 ? count - 1 : 1;
    for (int64_t i = 0; i < count; i++)
        values[i] = (int64_t)(((__int128)first * (gaps - i) + (__int128)last * i) / gaps);
    return cld_tensor_as(host, dtype, device);
}

cld_tensor *cld_tensor_linspace(cld_dtype dtype, cld_scalar first, cld_scalar last, int64_t count,
                                const cld_backend *device) {
    if (count < 0) return cld_fail_null(CLD_INVALID, "linspace: the count cannot be %lld", (long long)count);
    if (!cld_dtype_is_float(dtype) && first.is_integer && last.is_integer)
        return integers_between(dtype, first.i, last.i, count, device);
    CLD_AUTO cld_tensor *host = cld_tensor_new(CLD_F64, 1, &count, cld_cpu_backend());
    if (!host) return NULL;
    double *values = host->a.data, step = count > 1 ? (last.d - first.d) / (double)(count - 1) : 0;
    for (int64_t i = 0; i < count; i++) /* from the nearer end, so that both ends are exact */
        values[i] = count == 1 || i < count / 2 ? first.d + (double)i * step
                                                : last.d - (double)(count - 1 - i) * step;
    return cld_tensor_as(host, dtype, device);
}

cld_tensor *cld_tensor_eye(cld_dtype dtype, int64_t rows, int64_t columns, const cld_backend *device) {
    int64_t shape[] = {rows, columns};
    CLD_AUTO cld_tensor *host = cld_tensor_full(CLD_F64, 2, shape, cld_cpu_backend(), 0.0);
    if (!host) return NULL;
    double *values = host->a.data;
    for (int64_t i = 0; i < rows && i < columns; i++) values[i * columns + i] = 1.0;
    return cld_tensor_as(host, dtype, device);
}
