/* Softmax and normalization of lines: one pass for the maximum or norm, one for the sum, one to write. */
#include "kernels/cpu/math.h"
#include "kernels/cpu/simd.h"

/* ---- lines --------------------------------------------------------------------------------------------- */

/* A line of an array along dim. */
typedef struct line {
    char *data;
    cld_dtype dtype;
    int64_t stride;
} line;

static line line_at(const cld_array *a, int dim, int64_t index) {
    int64_t offset = cld__line_offset(a, dim, index);
    return (line){(char *)a->data + offset * (int64_t)cld_dtype_size(a->dtype), a->dtype, a->strides[dim]};
}

static const void *load_piece(cld_compute c, cld_piece *buffer, const line *l, int64_t first, int64_t n) {
    return cld__load(c, buffer, l->data + first * l->stride * (int64_t)cld_dtype_size(l->dtype), l->dtype,
                     l->stride, n);
}

static void *piece_target(cld_compute c, cld_piece *buffer, const line *l, int64_t first) {
    return cld__store_target(c, buffer, l->data + first * l->stride * (int64_t)cld_dtype_size(l->dtype),
                             l->dtype, l->stride);
}

static void store_piece(cld_compute c, const void *from, const line *l, int64_t first, int64_t n) {
    cld__store(c, from, l->data + first * l->stride * (int64_t)cld_dtype_size(l->dtype), l->dtype, l->stride,
               n);
}

#define EACH_PIECE(first, n, length)                                                                         \
    for (int64_t first = 0, n; n = length - first < CLD_PIECE ? length - first : CLD_PIECE, first < length;  \
         first += CLD_PIECE)

/* ---- loops --------------------------------------------------------------------------------------------- */

#define DEFINE_LOOPS(name, T, E)                                                                             \
    CLD_SIMD static T max_##name(const T *x, int64_t n, T m) { CLD_LANE_MAX(T, m); }                         \
    CLD_SIMD static double sum_exp_##name(const T *x, int64_t n, T m) { CLD_LANE_SUM(T, E(x[i] - m)); }      \
    CLD_SIMD static double sum_##name(const T *x, int64_t n) { CLD_LANE_SUM(T, x[i]); }                      \
    CLD_SIMD static double dot_##name(const T *x, const T *y, int64_t n) { CLD_LANE_SUM(T, x[i] * y[i]); }   \
    CLD_SIMD static double squares_##name(const T *x, int64_t n) {                                           \
        CLD_LANE_SUM(double, (double)x[i] * x[i]);                                                           \
    }                                                                                                        \
    CLD_SIMD static void exp_##name(T *y, const T *x, int64_t n, T m, T scale) {                             \
        for (int64_t i = 0; i < n; i++) y[i] = E(x[i] - m) * scale;                                          \
    }                                                                                                        \
    CLD_SIMD static void log_##name(T *y, const T *x, int64_t n, T m, T log_sum) {                           \
        for (int64_t i = 0; i < n; i++) y[i] = (x[i] - m) - log_sum;                                         \
    }                                                                                                        \
    CLD_SIMD static void scale_##name(T *y, const T *x, int64_t n, double scale) {                           \
        for (int64_t i = 0; i < n; i++) y[i] = (T)(x[i] * scale);                                            \
    }                                                                                                        \
    CLD_SIMD static void softmax_back_##name(T *dx, const T *y, const T *dy, int64_t n, T dot) {             \
        for (int64_t i = 0; i < n; i++) dx[i] = y[i] * (dy[i] - dot);                                        \
    }                                                                                                        \
    CLD_SIMD static void log_softmax_back_##name(T *dx, const T *y, const T *dy, int64_t n, T sum) {         \
        for (int64_t i = 0; i < n; i++) dx[i] = dy[i] - E(y[i]) * sum;                                       \
    }                                                                                                        \
    CLD_SIMD static void normalize_back_##name(T *dx, const T *y, const T *dy, int64_t n, T dot,             \
                                               double scale) {                                               \
        for (int64_t i = 0; i < n; i++) dx[i] = (T)((dy[i] - y[i] * dot) * scale);                           \
    }

DEFINE_LOOPS(float, float, cld_expf)
DEFINE_LOOPS(double, double, exp)

/* By compute type: CALL(c, sum, x, n) is sum_float or sum_double. */
#define CALL(c, name, ...) ((c) == CLD_COMPUTE_FLOAT ? name##_float(__VA_ARGS__) : name##_double(__VA_ARGS__))

/* ---- softmax ------------------------------------------------------------------------------------------- */

/* y = exp(x - m) / s or (x - m) - log s, with m = max x and s = sum exp(x - m). In that order: m + log s would be
 * rounded to m's last bit, and m may be a large offset that all x share. A line with a NaN, or with -inf only, gives
 * NaN, because s is NaN. */
static void softmax_line(cld_compute c, const line *y, const line *x, int64_t length, bool log_form) {
    cld_piece in, out;
    double m = -INFINITY, s = 0;
    EACH_PIECE(first, n, length) {
        const void *v = load_piece(c, &in, x, first, n);
        m = CALL(c, max, v, n, m);
    }
    EACH_PIECE(first, n, length) {
        const void *v = load_piece(c, &in, x, first, n);
        s += CALL(c, sum_exp, v, n, m);
    }
    EACH_PIECE(first, n, length) {
        const void *v = load_piece(c, &in, x, first, n);
        void *to = piece_target(c, &out, y, first);
        if (log_form)
            CALL(c, log, to, v, n, m, log(s));
        else
            CALL(c, exp, to, v, n, m, 1 / s);
        store_piece(c, to, y, first, n);
    }
}

/* softmax:     dx = y (dy - sum(y dy))
 * log-softmax: dx = dy - exp(y) sum(dy) */
static void softmax_backward_line(cld_compute c, const line *dx, const line *y, const line *dy,
                                  int64_t length, bool log_form) {
    cld_piece y_in, dy_in, out;
    double sum = 0;
    EACH_PIECE(first, n, length) {
        const void *d = load_piece(c, &dy_in, dy, first, n);
        const void *v = load_piece(c, &y_in, y, first, n);
        sum += log_form ? CALL(c, sum, d, n) : CALL(c, dot, v, d, n);
    }
    EACH_PIECE(first, n, length) {
        const void *d = load_piece(c, &dy_in, dy, first, n);
        const void *v = load_piece(c, &y_in, y, first, n);
        void *to = piece_target(c, &out, dx, first);
        if (log_form)
            CALL(c, log_softmax_back, to, v, d, n, sum);
        else
            CALL(c, softmax_back, to, v, d, n, sum);
        store_piece(c, to, dx, first, n);
    }
}

cld_status cld__softmax(const cld_array *out, const cld_array *x, int dim, bool log) {
    int64_t numel = cld_numel(x), length = x->shape[dim];
    if (numel == 0) return CLD_OK;
#pragma omp parallel for schedule(static) if (numel >= CLD_PARALLEL_MIN)
    for (int64_t i = 0; i < numel / length; i++) {
        line from = line_at(x, dim, i), to = line_at(out, dim, i);
        softmax_line(cld__compute_type(x->dtype), &to, &from, length, log);
    }
    return CLD_OK;
}

cld_status cld__softmax_backward(const cld_array *dx, const cld_array *y, const cld_array *dout, int dim,
                                 bool log) {
    int64_t numel = cld_numel(y), length = y->shape[dim];
    if (numel == 0) return CLD_OK;
#pragma omp parallel for schedule(static) if (numel >= CLD_PARALLEL_MIN)
    for (int64_t i = 0; i < numel / length; i++) {
        line out = line_at(dx, dim, i), value = line_at(y, dim, i), gradient = line_at(dout, dim, i);
        softmax_backward_line(cld__compute_type(y->dtype), &out, &value, &gradient, length, log);
    }
    return CLD_OK;
}

/* ---- normalize ----------------------------------------------------------------------------------------- */

/* y = x / ||x||; a zero row stays zero. Squares and 1 / ||x|| are double: those of a float row may overflow or
 * underflow a float. */
static double normalize_line(cld_compute c, const line *y, const line *x, int64_t length) {
    cld_piece in, out;
    double squares = 0;
    EACH_PIECE(first, n, length) {
        const void *v = load_piece(c, &in, x, first, n);
        squares += CALL(c, squares, v, n);
    }
    double norm = sqrt(squares);
    EACH_PIECE(first, n, length) {
        const void *v = load_piece(c, &in, x, first, n);
        void *to = piece_target(c, &out, y, first);
        CALL(c, scale, to, v, n, norm == 0 ? 0 : 1 / norm);
        store_piece(c, to, y, first, n);
    }
    return norm;
}

/* dx = (dy - y (y . dy)) / ||x||; zero for a zero row. */
static void normalize_backward_line(cld_compute c, const line *dx, const line *y, const line *dy,
                                    int64_t length, double norm) {
    cld_piece y_in, dy_in, out;
    double dot = 0;
    EACH_PIECE(first, n, length) {
        const void *d = load_piece(c, &dy_in, dy, first, n);
        const void *v = load_piece(c, &y_in, y, first, n);
        dot += CALL(c, dot, v, d, n);
    }
    EACH_PIECE(first, n, length) {
        const void *d = load_piece(c, &dy_in, dy, first, n);
        const void *v = load_piece(c, &y_in, y, first, n);
        void *to = piece_target(c, &out, dx, first);
        CALL(c, normalize_back, to, v, d, n, dot, norm == 0 ? 0 : 1 / norm);
        store_piece(c, to, dx, first, n);
    }
}

cld_status cld__normalize(const cld_array *out, const cld_array *norms, const cld_array *x) {
    cld_compute c = cld__compute_type(x->dtype);
#pragma omp parallel for schedule(static) if (cld_numel(x) >= CLD_PARALLEL_MIN)
    for (int64_t i = 0; i < x->shape[0]; i++) {
        line from = line_at(x, 1, i), to = line_at(out, 1, i), norm = line_at(norms, 0, 0);
        double length = normalize_line(c, &to, &from, x->shape[1]);
        store_piece(CLD_COMPUTE_DOUBLE, &length, &norm, i, 1);
    }
    return CLD_OK;
}

cld_status cld__normalize_backward(const cld_array *dx, const cld_array *y, const cld_array *norms,
                                   const cld_array *dout) {
    cld_compute c = cld__compute_type(y->dtype);
#pragma omp parallel for schedule(static) if (cld_numel(y) >= CLD_PARALLEL_MIN)
    for (int64_t i = 0; i < y->shape[0]; i++) {
        cld_piece buffer;
        line out = line_at(dx, 1, i), value = line_at(y, 1, i), gradient = line_at(dout, 1, i);
        line norm = line_at(norms, 0, 0);
        const double *length = load_piece(CLD_COMPUTE_DOUBLE, &buffer, &norm, i, 1);
        normalize_backward_line(c, &out, &value, &gradient, y->shape[1], *length);
    }
    return CLD_OK;
}
