/* Softmax of lines. The threads of a line go over it three times: for the maximum, the sum, and to write; what a thread
 * reads first it keeps in registers, and only of longer lines it reads the rest again. Sums over threads are double. */
#include "kernels/cuda/lines.cuh"
#include "kernels/cuda/math.h"
#include "kernels/cuda/number.cuh"

#include <math.h>

#define KEPT       8
#define KEPT_OF(T) (sizeof(T) == 8 ? KEPT / 4 : KEPT)

/* A thread's elements of a line: x[j] are mine, mine + along, ...; the others stay in memory. */
template <typename T> struct piece {
    typedef typename cld_compute<T>::type C;
    C kept[KEPT_OF(T)];
    const T *line;
    int64_t stride;
    __device__ piece(const T *line, int64_t stride, const cld_place &p, int64_t length)
        : line(line), stride(stride) {
        CLD_UNROLL
        for (int j = 0; j < KEPT_OF(T); j++) {
            int64_t i = p.mine + j * p.along;
            kept[j] = i < length ? load(line[i * stride]) : (C)0;
        }
    }
    __device__ C rest(int64_t i) const { return load(line[i * stride]); }
};

/* f(i, x[, y]) for each of a thread's elements i of the line. */
template <typename T, typename F>
__device__ static inline void each(const piece<T> &x, const cld_place &p, int64_t length, F f) {
    CLD_UNROLL
    for (int j = 0; j < KEPT_OF(T); j++)
        if (p.mine + j * p.along < length) f(p.mine + j * p.along, x.kept[j]);
    for (int64_t i = p.mine + KEPT_OF(T) * p.along; i < length; i += p.along) f(i, x.rest(i));
}
template <typename T, typename F>
__device__ static inline void each(const piece<T> &x, const piece<T> &y, const cld_place &p, int64_t length,
                                   F f) {
    CLD_UNROLL
    for (int j = 0; j < KEPT_OF(T); j++)
        if (p.mine + j * p.along < length) f(p.mine + j * p.along, x.kept[j], y.kept[j]);
    for (int64_t i = p.mine + KEPT_OF(T) * p.along; i < length; i += p.along) f(i, x.rest(i), y.rest(i));
}

/* y = exp(x - m) / s or (x - m) - log s, with m = max x and s = sum exp(x - m). In that order: m + log s would be
 * rounded to m's last bit, however large the offset that all x share. A line holding NaN, or nothing but -inf, comes
 * out as NaN: s is then NaN. */
template <typename T>
__global__ void __launch_bounds__(CLD_LINE_THREADS)
    softmax(T *out, const T *x, bool log_form, cld_lines<2> l) {
    typedef typename cld_compute<T>::type C;
    CLD_SHARED(double, shared, [CLD_LINE_THREADS]);
    cld_place p = place_of(l);
    int64_t start[2] = {0, 0}, length = p.line < l.dims.total ? l.length : 0;
    if (length > 0) locate<2>(start, l.dims, p.line);
    T *y = out + start[0];
    piece<T> in(x + start[1], l.strides[1], p, length);
    C m = -INFINITY, s = 0;
    each(in, p, length, [&](int64_t, C v) { m = v > m ? v : m; });
    m = (C)over_line(shared, p, (double)m, [](double a, double b) { return b > a ? b : a; });
    each(in, p, length, [&](int64_t, C v) { s += exp(v - m); });
    double sum = over_line(shared, p, (double)s, [](double a, double b) { return a + b; });
    if (log_form) {
        C log_sum = (C)log(sum);
        each(in, p, length, [&](int64_t i, C v) { y[i * l.strides[0]] = store<T>((v - m) - log_sum); });
    } else {
        C scale = (C)(1 / sum);
        each(in, p, length, [&](int64_t i, C v) { y[i * l.strides[0]] = store<T>(exp(v - m) * scale); });
    }
}

/* softmax:     dx = y (dy - sum(y dy))
 * log-softmax: dx = dy - exp(y) sum(dy) */
template <typename T>
__global__ void __launch_bounds__(CLD_LINE_THREADS)
    softmax_backward(T *dx, const T *y, const T *dy, bool log_form, cld_lines<3> l) {
    typedef typename cld_compute<T>::type C;
    CLD_SHARED(double, shared, [CLD_LINE_THREADS]);
    cld_place p = place_of(l);
    int64_t start[3] = {0, 0, 0}, length = p.line < l.dims.total ? l.length : 0;
    if (length > 0) locate<3>(start, l.dims, p.line);
    T *out = dx + start[0];
    piece<T> gradient(dy + start[1], l.strides[1], p, length), value(y + start[2], l.strides[2], p, length);
    C own = 0;
    each(value, gradient, p, length, [&](int64_t, C v, C d) { own += log_form ? d : v * d; });
    C sum = (C)over_line(shared, p, (double)own, [](double a, double b) { return a + b; });
    if (log_form)
        each(value, gradient, p, length,
             [&](int64_t i, C v, C d) { out[i * l.strides[0]] = store<T>(d - exp(v) * sum); });
    else
        each(value, gradient, p, length,
             [&](int64_t i, C v, C d) { out[i * l.strides[0]] = store<T>(v * (d - sum)); });
}

cld_status cld_cuda_softmax(const cld_array *out, const cld_array *x, int dim, bool log) {
    if (cld_numel(x) == 0) return CLD_OK;
    cld_array to = cld_with_strides(out), from = cld_with_strides(x);
    cld_lines<2> l = cld_lines_of<2>({&to, &from}, dim, KEPT);
    CLD_BY_FLOAT(x->dtype, T,
                 return CLD_LAUNCH((softmax<T>), cld_line_blocks(l), CLD_LINE_THREADS, 0, (T *)out->data,
                                   (const T *)x->data, log, l));
    return CLD_OK;
}

cld_status cld_cuda_softmax_backward(const cld_array *dx, const cld_array *y, const cld_array *dout, int dim,
                                     bool log) {
    if (cld_numel(y) == 0) return CLD_OK;
    cld_array to = cld_with_strides(dx), value = cld_with_strides(y), gradient = cld_with_strides(dout);
    cld_lines<3> l = cld_lines_of<3>({&to, &gradient, &value}, dim, KEPT);
    CLD_BY_FLOAT(y->dtype, T,
                 return CLD_LAUNCH((softmax_backward<T>), cld_line_blocks(l), CLD_LINE_THREADS, 0,
                                   (T *)dx->data, (const T *)y->data, (const T *)dout->data, log, l));
    return CLD_OK;
}
