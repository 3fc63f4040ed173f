/* Softmax of lines. The threads of a line read it three times: for the maximum, for the sum, and to write. A thread
 * keeps what it reads first in registers; for longer lines it reads the rest again. Sums over threads are double. */
#include "kernels/cuda/lines.cuh"
#include "kernels/cuda/math.h"
#include "kernels/cuda/walk.cuh"

#include <math.h>

#define KEPT       8
#define KEPT_OF(T) (sizeof(T) == 8 ? KEPT / 4 : KEPT)

/* How many elements of the line are in the unit of V that starts at i. */
template <int V> __device__ inline int left_of(int64_t length, int64_t i) {
    int64_t left = length - i;
    return left < 0 ? 0 : left < V ? (int)left : V;
}

/* A thread's units of a line, V adjacent elements (or one): number mine, mine + along, ...; units after the first few
 * stay in memory. */
template <typename T, int V> struct piece {
    typedef typename cld_compute<T>::type C;
    static const int UNITS = KEPT_OF(T) / V;
    C kept[UNITS * V];
    const T *line;
    int64_t stride;
    __device__ piece(const T *line, int64_t stride, const cld_place &p, int64_t length)
        : line(line), stride(stride) {
        cld_pack<T, V> raw[UNITS];
        CLD_UNROLL
        for (int j = 0; j < UNITS; j++) read(&raw[j], (p.mine + j * p.along) * (int64_t)V, length);
        CLD_UNROLL
        for (int j = 0; j < UNITS * V; j++) kept[j] = load(raw[j / V].get(j % V));
    }
    __device__ void read(cld_pack<T, V> *to, int64_t i, int64_t length) const {
        load_step<V>(to, line + i * stride, false, left_of<V>(length, i), T());
    }
    __device__ void rest(C *x, int64_t i, int64_t length) const {
        cld_pack<T, V> raw;
        read(&raw, i, length);
        CLD_UNROLL
        for (int v = 0; v < V; v++) x[v] = load(raw.get(v));
    }
};

/* Calls f(i, left, x[, y]) for each of a thread's units, which starts at element i and has `left` elements. */
template <typename T, int V, typename F>
__device__ static inline void each(const piece<T, V> &x, const cld_place &p, int64_t length, F f) {
    const int UNITS = piece<T, V>::UNITS;
    int64_t i = p.mine * (int64_t)V, step = p.along * (int64_t)V;
    CLD_UNROLL
    for (int j = 0; j < UNITS; j++, i += step)
        if (i < length) f(i, left_of<V>(length, i), x.kept + j * V);
    for (; i < length; i += step) {
        typename cld_compute<T>::type more[V];
        x.rest(more, i, length);
        f(i, left_of<V>(length, i), more);
    }
}
template <typename T, int V, typename F>
__device__ static inline void each(const piece<T, V> &x, const piece<T, V> &y, const cld_place &p,
                                   int64_t length, F f) {
    const int UNITS = piece<T, V>::UNITS;
    int64_t i = p.mine * (int64_t)V, step = p.along * (int64_t)V;
    CLD_UNROLL
    for (int j = 0; j < UNITS; j++, i += step)
        if (i < length) f(i, left_of<V>(length, i), x.kept + j * V, y.kept + j * V);
    for (; i < length; i += step) {
        typename cld_compute<T>::type more_x[V], more_y[V];
        x.rest(more_x, i, length);
        y.rest(more_y, i, length);
        f(i, left_of<V>(length, i), more_x, more_y);
    }
}

/* f(v), v = 0 .. V - 1, as a unit of out. */
template <int V, typename T, typename F> __device__ static inline void write(T *out, int left, F f) {
    T to[V];
    CLD_UNROLL
    for (int v = 0; v < V; v++) to[v] = store<T>(f(v));
    save_step<V>(out, to, left);
}

/* y = exp(x - m) / s or (x - m) - log s, with m = max x and s = sum exp(x - m). In that order: m + log s would be
 * rounded to m's last bit, and m may be a large offset that all x share. A line with a NaN, or with -inf only, gives
 * NaN, because s is NaN. */
template <typename T, int V>
__global__ void __launch_bounds__(CLD_LINE_THREADS)
    softmax(T *out, const T *x, bool log_form, cld_lines<2> l) {
    typedef typename cld_compute<T>::type C;
    CLD_SHARED(double, shared, [CLD_LINE_THREADS]);
    cld_place p = place_of(l);
    int64_t start[2] = {0, 0}, length = p.line < l.dims.total ? l.length : 0;
    if (length > 0) locate<2>(start, l.dims, p.line);
    T *y = out + start[0];
    piece<T, V> in(x + start[1], l.strides[1], p, length);
    C m = -INFINITY, s = 0;
    each(in, p, length, [&](int64_t, int left, const C *v) {
        CLD_UNROLL
        for (int k = 0; k < V; k++) m = k < left && v[k] > m ? v[k] : m;
    });
    m = (C)over_line(shared, p, (double)m, [](double a, double b) { return b > a ? b : a; });
    each(in, p, length, [&](int64_t, int left, const C *v) {
        CLD_UNROLL
        for (int k = 0; k < V; k++) s += k < left ? exp(v[k] - m) : 0;
    });
    double sum = over_line(shared, p, (double)s, [](double a, double b) { return a + b; });
    C by = log_form ? (C)log(sum) : (C)(1 / sum);
    each(in, p, length, [&](int64_t i, int left, const C *v) {
        if (log_form)
            write<V>(y + i * l.strides[0], left, [&](int k) { return (v[k] - m) - by; });
        else
            write<V>(y + i * l.strides[0], left, [&](int k) { return exp(v[k] - m) * by; });
    });
}

/* softmax:     dx = y (dy - sum(y dy))
 * log-softmax: dx = dy - exp(y) sum(dy) */
template <typename T, int V>
__global__ void __launch_bounds__(CLD_LINE_THREADS)
    softmax_backward(T *dx, const T *y, const T *dy, bool log_form, cld_lines<3> l) {
    typedef typename cld_compute<T>::type C;
    CLD_SHARED(double, shared, [CLD_LINE_THREADS]);
    cld_place p = place_of(l);
    int64_t start[3] = {0, 0, 0}, length = p.line < l.dims.total ? l.length : 0;
    if (length > 0) locate<3>(start, l.dims, p.line);
    T *out = dx + start[0];
    piece<T, V> gradient(dy + start[1], l.strides[1], p, length),
        value(y + start[2], l.strides[2], p, length);
    C own = 0;
    each(value, gradient, p, length, [&](int64_t, int, const C *v, const C *d) {
        CLD_UNROLL
        for (int k = 0; k < V; k++) own += log_form ? d[k] : v[k] * d[k]; /* 0 beyond the end */
    });
    C sum = (C)over_line(shared, p, (double)own, [](double a, double b) { return a + b; });
    each(value, gradient, p, length, [&](int64_t i, int left, const C *v, const C *d) {
        if (log_form)
            write<V>(out + i * l.strides[0], left, [&](int k) { return d[k] - exp(v[k]) * sum; });
        else
            write<V>(out + i * l.strides[0], left, [&](int k) { return v[k] * (d[k] - sum); });
    });
}

/* Do all lines start at a multiple of V elements' bytes, with adjacent elements? */
template <int N>
static bool lie_wide(const cld_lines<N> &l, const cld_array *const (&arrays)[N], size_t size, int width) {
    for (int k = 0; k < N; k++) {
        if (l.strides[k] != 1 || (uintptr_t)arrays[k]->data % (size * (size_t)width) != 0) return false;
        for (int d = 0; d < l.dims.count; d++)
            if (l.dims.shape[d].divisor > 1 && l.dims.strides[k][d] % width != 0) return false;
    }
    return true;
}

cld_status cld_cuda_softmax(const cld_array *out, const cld_array *x, int dim, bool log) {
    if (cld_numel(x) == 0) return CLD_OK;
    cld_array to = cld_with_strides(out), from = cld_with_strides(x);
    cld_lines<2> l = cld_lines_of<2>({&to, &from}, dim, KEPT);
    CLD_BY_FLOAT(x->dtype, T, {
        const int V = CLD_WIDTH(T, T);
        const T *in = (const T *)from.data;
        if (lie_wide<2>(l, {&to, &from}, sizeof(T), V))
            return CLD_LAUNCH((softmax<T, V>), cld_line_blocks(l), CLD_LINE_THREADS, 0, (T *)to.data, in, log,
                              l);
        return CLD_LAUNCH((softmax<T, 1>), cld_line_blocks(l), CLD_LINE_THREADS, 0, (T *)to.data, in, log, l);
    });
    return CLD_OK;
}

cld_status cld_cuda_softmax_backward(const cld_array *dx, const cld_array *y, const cld_array *dout, int dim,
                                     bool log) {
    if (cld_numel(y) == 0) return CLD_OK;
    cld_array to = cld_with_strides(dx), value = cld_with_strides(y), gradient = cld_with_strides(dout);
    cld_lines<3> l = cld_lines_of<3>({&to, &gradient, &value}, dim, KEPT);
    CLD_BY_FLOAT(y->dtype, T, {
        const int V = CLD_WIDTH(T, T);
        const T *v = (const T *)value.data, *d = (const T *)gradient.data;
        if (lie_wide<3>(l, {&to, &gradient, &value}, sizeof(T), V))
            return CLD_LAUNCH((softmax_backward<T, V>), cld_line_blocks(l), CLD_LINE_THREADS, 0, (T *)to.data,
                              v, d, log, l);
        return CLD_LAUNCH((softmax_backward<T, 1>), cld_line_blocks(l), CLD_LINE_THREADS, 0, (T *)to.data, v,
                          d, log, l);
    });
    return CLD_OK;
}
