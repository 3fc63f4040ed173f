#include "runtime/tensor/create.h"

#include <math.h>

/* first + i * step for i = 0 .. count - 1 */
static cld_tensor *sequence(cld_dtype dtype, double first, double step, int64_t count,
                            const cld_backend *device) {
    CLD_AUTO cld_tensor *host = cld_tensor_new(CLD_F64, 1, &count, cld_cpu_backend());
    if (!host) return NULL;
    double *values = host->a.data;
    for (int64_t i = 0; i < count; i++) values[i] = first + (double)i * step;
    return cld_tensor_as(host, dtype, device);
}

static cld_tensor *no_sequence(cld_scalar start, cld_scalar stop, cld_scalar step) {
    return cld_fail_null(CLD_INVALID, "arange: from %.17g to %.17g in steps of %.17g is no finite sequence",
                         start.d, stop.d, step.d);
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
    return sequence(dtype, start.d, step.d, count > 0 ? (int64_t)count : 0, device);
}

cld_tensor *cld_tensor_linspace(cld_dtype dtype, double first, double last, int64_t count,
                                const cld_backend *device) {
    if (count < 0) return cld_fail_null(CLD_INVALID, "linspace: the count cannot be %lld", (long long)count);
    return sequence(dtype, first, count > 1 ? (last - first) / (double)(count - 1) : 0, count, device);
}

cld_tensor *cld_tensor_eye(cld_dtype dtype, int64_t rows, int64_t columns, const cld_backend *device) {
    int64_t shape[] = {rows, columns};
    CLD_AUTO cld_tensor *host = cld_tensor_full(CLD_F64, 2, shape, cld_cpu_backend(), 0.0);
    if (!host) return NULL;
    double *values = host->a.data;
    for (int64_t i = 0; i < rows && i < columns; i++) values[i * columns + i] = 1.0;
    return cld_tensor_as(host, dtype, device);
}
