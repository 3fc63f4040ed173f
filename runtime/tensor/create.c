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

cld_tensor *cld_tensor_arange(cld_dtype dtype, double start, double stop, double step,
                              const cld_backend *device) {
    double count = ceil((stop - start) / step);
    if (!isfinite(count) || count >= 0x1p53)
        return cld_fail_null(CLD_INVALID, "arange: from %g to %g in steps of %g is no finite sequence", start,
                             stop, step);
    return sequence(dtype, start, step, count > 0 ? (int64_t)count : 0, device);
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
