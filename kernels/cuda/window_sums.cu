/* Rows as weighted sums of a few neighbouring rows: one thread per element of the result. */
#include "kernels/cuda/dims.cuh"
#include "kernels/cuda/math.h"
#include "kernels/cuda/number.cuh"

enum { THREADS = 256 };

template <typename T> struct window_problem {
    T *y;
    const T *x, *weights;
    const int64_t *first;
    int64_t total, rows, extent, inner, width;
};

template <typename T> static __global__ void __launch_bounds__(THREADS) window_sums(window_problem<T> q) {
    int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x;
    if (i >= q.total) return;
    int64_t line = i / q.inner, at = i - line * q.inner, outer = line / q.rows, row = line - outer * q.rows;
    const T *x = q.x + (outer * q.extent + q.first[row]) * q.inner + at, *weights = q.weights + row * q.width;
    T sum = 0;
    for (int64_t k = 0; k < q.width; k++)
        if (weights[k] != 0) sum += weights[k] * x[k * q.inner];
    q.y[i] = sum;
}

cld_status cld_cuda_window_sums(const cld_array *y, const cld_array *x, const cld_array *first,
                                const cld_array *weights) {
    int64_t total = cld_numel(y);
    if (total == 0) return CLD_OK;
    CLD_BY_WIDE(x->dtype, T, {
        window_problem<T> q = {(T *)y->data,
                               (const T *)x->data,
                               (const T *)weights->data,
                               (const int64_t *)first->data,
                               total,
                               y->shape[1],
                               x->shape[1],
                               x->shape[2],
                               weights->shape[1]};
        return CLD_LAUNCH((window_sums<T>), (int)((total + THREADS - 1) / THREADS), THREADS, 0, q);
    });
    return CLD_OK;
}
