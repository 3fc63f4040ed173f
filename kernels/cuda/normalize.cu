/* Rows of a matrix to unit length. Squares and 1 / length are double: those of a float row may overflow or underflow a
 * float. */
#include "kernels/cuda/convert.cuh"
#include "kernels/cuda/lines.cuh"
#include "kernels/cuda/math.h"

#include <math.h>

#define EACH 4 /* elements of a row per thread, about */

__device__ static double sum_over(double *shared, const cld_place &p, double value) {
    return over_line(shared, p, value, [](double a, double b) { return a + b; });
}

/* y = x / ||x||; a zero row stays zero. */
template <typename T>
__global__ void __launch_bounds__(CLD_LINE_THREADS)
    normalize(T *out, void *norms, cld_dtype norm_dtype, int64_t norm_stride, const T *x, cld_lines<2> l) {
    CLD_SHARED(double, shared, [CLD_LINE_THREADS]);
    cld_place p = place_of(l);
    int64_t start[2] = {0, 0}, length = p.line < l.dims.total ? l.length : 0;
    if (length > 0) locate<2>(start, l.dims, p.line);
    double squares = 0;
    for (int64_t i = p.mine; i < length; i += p.along) {
        double v = (double)load(x[start[1] + i * l.strides[1]]);
        squares += v * v;
    }
    double norm = sqrt(sum_over(shared, p, squares)), scale = norm == 0 ? 0 : 1 / norm;
    for (int64_t i = p.mine; i < length; i += p.along)
        out[start[0] + i * l.strides[0]] = store<T>(load(x[start[1] + i * l.strides[1]]) * scale);
    if (p.mine == 0 && p.line < l.dims.total) store_as(norms, norm_dtype, p.line * norm_stride, norm);
}

/* dx = (dy - y (y . dy)) / ||x||; zero for a zero row. */
template <typename T>
__global__ void __launch_bounds__(CLD_LINE_THREADS)
    normalize_backward(T *dx, const T *y, const void *norms, cld_dtype norm_dtype, int64_t norm_stride,
                       const T *dy, cld_lines<3> l) {
    typedef typename cld_compute<T>::type C;
    CLD_SHARED(double, shared, [CLD_LINE_THREADS]);
    cld_place p = place_of(l);
    int64_t start[3] = {0, 0, 0}, length = p.line < l.dims.total ? l.length : 0;
    if (length > 0) locate<3>(start, l.dims, p.line);
    C own = 0;
    for (int64_t i = p.mine; i < length; i += p.along)
        own += load(y[start[2] + i * l.strides[2]]) * load(dy[start[1] + i * l.strides[1]]);
    C dot = (C)sum_over(shared, p, (double)own);
    double norm = length > 0 ? load_as(norms, norm_dtype, p.line * norm_stride) : 0,
           scale = norm == 0 ? 0 : 1 / norm;
    for (int64_t i = p.mine; i < length; i += p.along) {
        C v = load(y[start[2] + i * l.strides[2]]), d = load(dy[start[1] + i * l.strides[1]]);
        dx[start[0] + i * l.strides[0]] = store<T>((d - v * dot) * scale);
    }
}

cld_status cld_cuda_normalize(const cld_array *out, const cld_array *norms, const cld_array *x) {
    if (x->shape[0] == 0) return CLD_OK;
    cld_lines<2> l = cld_lines_of<2>({out, x}, 1, EACH);
    CLD_BY_FLOAT(x->dtype, T,
                 return CLD_LAUNCH((normalize<T>), cld_line_blocks(l), CLD_LINE_THREADS, 0, (T *)out->data,
                                   norms->data, norms->dtype, norms->strides[0], (const T *)x->data, l));
    return CLD_OK;
}

cld_status cld_cuda_normalize_backward(const cld_array *dx, const cld_array *y, const cld_array *norms,
                                       const cld_array *dout) {
    if (cld_numel(y) == 0) return CLD_OK;
    cld_lines<3> l = cld_lines_of<3>({dx, dout, y}, 1, EACH);
    CLD_BY_FLOAT(y->dtype, T,
                 return CLD_LAUNCH((normalize_backward<T>), cld_line_blocks(l), CLD_LINE_THREADS, 0,
                                   (T *)dx->data, (const T *)y->data, norms->data, norms->dtype,
                                   norms->strides[0], (const T *)dout->data, l));
    return CLD_OK;
}
