/* Group norm, and layer norm as a special case. A group of an image is a line of memory. It is processed in runs;
 * within a run there is either a single weight (inner > 1) or one for each element (inner 1).
 *
 * dweight and dbias are summed over shares of the lines, and the shares' sums are added in order. The number of shares
 * depends only on the sizes. */
#include "kernels/cpu/math.h"
#include "kernels/cpu/simd.h"

#include <string.h>

/* ---- loops --------------------------------------------------------------------------------------------- */

/* y = (x - m) r w + b. For the gradients, g = dy w: dx = (g - b - (x - m) a) r, where a and b are means over the
 * group. */
#define DEFINE_LOOPS(name, T)                                                                                \
    CLD_SIMD static double sum_##name(const T *x, int64_t n) { CLD_LANE_SUM(T, x[i]); }                      \
    CLD_SIMD static double squares_##name(const T *x, int64_t n, T m) {                                      \
        CLD_LANE_SUM(T, (x[i] - m) * (x[i] - m));                                                            \
    }                                                                                                        \
    CLD_SIMD static void scale_##name(T *y, const T *x, int64_t n, T m, T by, T plus) {                      \
        for (int64_t i = 0; i < n; i++) y[i] = (x[i] - m) * by + plus;                                       \
    }                                                                                                        \
    CLD_SIMD static void scale_each_##name(T *y, const T *x, const T *w, const T *b, int64_t n, T m, T r) {  \
        for (int64_t i = 0; i < n; i++) y[i] = (x[i] - m) * r * w[i] + b[i];                                 \
    }                                                                                                        \
    CLD_SIMD static double dot_##name(const T *dy, const T *x, int64_t n, T m) {                             \
        CLD_LANE_SUM(T, dy[i] * (x[i] - m));                                                                 \
    }                                                                                                        \
    CLD_SIMD static double weighted_##name(const T *dy, const T *w, int64_t n) {                             \
        CLD_LANE_SUM(T, dy[i] * w[i]);                                                                       \
    }                                                                                                        \
    CLD_SIMD static double weighted_dot_##name(const T *dy, const T *w, const T *x, int64_t n, T m) {        \
        CLD_LANE_SUM(T, dy[i] * w[i] * (x[i] - m));                                                          \
    }                                                                                                        \
    CLD_SIMD static void back_##name(T *dx, const T *dy, const T *x, int64_t n, T m, T r, T w, T a, T b) {   \
        for (int64_t i = 0; i < n; i++) dx[i] = (dy[i] * w - b - (x[i] - m) * a) * r;                        \
    }                                                                                                        \
    CLD_SIMD static void back_each_##name(T *dx, const T *dy, const T *x, const T *w, int64_t n, T m, T r,   \
                                          T a, T b) {                                                        \
        for (int64_t i = 0; i < n; i++) dx[i] = (dy[i] * w[i] - b - (x[i] - m) * a) * r;                     \
    }                                                                                                        \
    CLD_SIMD static void add_each_##name(void *dw, void *db, const T *dy, const T *x, int64_t n, T m, T r) { \
        T *restrict to_dw = dw, *restrict to_db = db;                                                        \
        for (int64_t i = 0; i < n; i++) {                                                                    \
            to_dw[i] += dy[i] * (x[i] - m) * r;                                                              \
            to_db[i] += dy[i];                                                                               \
        }                                                                                                    \
    }                                                                                                        \
    static void flush_##name(double *to, void *sums, int64_t n) {                                            \
        T *from = sums;                                                                                      \
        for (int64_t i = 0; i < n; i++) {                                                                    \
            to[i] += (double)from[i];                                                                        \
            from[i] = 0;                                                                                     \
        }                                                                                                    \
    }

DEFINE_LOOPS(float, float)
DEFINE_LOOPS(double, double)

#define CALL(c, name, ...) ((c) == CLD_COMPUTE_FLOAT ? name##_float(__VA_ARGS__) : name##_double(__VA_ARGS__))

/* ---- runs ---------------------------------------------------------------------------------------------- */

typedef struct job {
    const cld_array *out, *dy, *x;
    cld_compute compute;
    int64_t images, groups, inner, channels; /* channels: per group */
    int64_t length;                          /* elements of a group */
    char *weight, *bias; /* of the compute type, groups * channels each: 1 and 0 if not given */
} job;

/* n elements of a group from `at` on; the first one belongs to the group's channel `channel`. */
typedef struct run {
    int64_t at, n, channel;
} run;

static bool next_run(const job *j, run *r) {
    r->at += r->n;
    if (r->at >= j->length) return false;
    r->channel = r->at / j->inner;
    int64_t end = j->inner == 1 ? j->length : (r->channel + 1) * j->inner;
    r->n = end - r->at < CLD_PIECE ? end - r->at : CLD_PIECE;
    return true;
}
#define EACH_RUN(r, j) for (run r = {0}; next_run(j, &r);)

#define EACH_PIECE(first, n, length)                                                                         \
    for (int64_t first = 0, n; n = length - first < CLD_PIECE ? length - first : CLD_PIECE, first < length;  \
         first += CLD_PIECE)

static char *address(const job *j, const cld_array *a, int64_t line, int64_t at) {
    return (char *)a->data + (line * j->length + at) * (int64_t)cld_dtype_size(a->dtype);
}

static const void *load(const job *j, cld_piece *buffer, const cld_array *a, int64_t line, int64_t at,
                        int64_t n) {
    return cld__load(j->compute, buffer, address(j, a, line, at), a->dtype, 1, n);
}

static void *target(const job *j, cld_piece *buffer, int64_t line, int64_t at) {
    return cld__store_target(j->compute, buffer, address(j, j->out, line, at), j->out->dtype, 1);
}

static void store(const job *j, const void *from, int64_t line, int64_t at, int64_t n) {
    cld__store(j->compute, from, address(j, j->out, line, at), j->out->dtype, 1, n);
}

/* Size of the compute type in bytes. */
static int64_t size_of(const job *j) {
    return (int64_t)(j->compute == CLD_COMPUTE_FLOAT ? sizeof(float) : sizeof(double));
}

/* A pointer into the vector at the first channel of a line's group. */
static const void *vector_at(const job *j, const char *vector, int64_t line, int64_t channel) {
    return vector + (line % j->groups * j->channels + channel) * size_of(j);
}

static double vector_value(const job *j, const char *vector, int64_t line, int64_t channel) {
    const void *at = vector_at(j, vector, line, channel);
    return j->compute == CLD_COMPUTE_FLOAT ? (double)*(const float *)at : *(const double *)at;
}

static double value_of(const cld_array *a, int64_t i) {
    return a->dtype == CLD_F64 ? ((const double *)a->data)[i] : (double)((const float *)a->data)[i];
}

static void set_value(const cld_array *a, int64_t i, double value) {
    cld__store(CLD_COMPUTE_DOUBLE, &value, (char *)a->data + i * (int64_t)cld_dtype_size(a->dtype), a->dtype,
               1, 1);
}

static job job_of(const cld_array *out, const cld_array *x, const cld_array *mean) {
    int64_t groups = mean->shape[1];
    job j = {.out = out,
             .x = x,
             .compute = cld__compute_type(x->dtype),
             .images = x->shape[0],
             .groups = groups,
             .inner = x->shape[2],
             .channels = x->shape[1] / groups};
    j.length = j.channels * j.inner;
    return j;
}

static void read_vector(const job *j, void *to, const cld_array *vector, double otherwise) {
    int64_t n = j->groups * j->channels;
    for (int64_t i = 0; i < n; i++) {
        double v = vector ? value_of(vector, i) : otherwise;
        if (j->compute == CLD_COMPUTE_FLOAT)
            ((float *)to)[i] = (float)v;
        else
            ((double *)to)[i] = v;
    }
}

/* ---- forward ------------------------------------------------------------------------------------------- */

static void forward_line(const job *j, const cld_array *mean, const cld_array *invstd, double eps,
                         int64_t line) {
    cld_piece in, out;
    double sum = 0, squares = 0;
    EACH_PIECE(at, n, j->length) sum += CALL(j->compute, sum, load(j, &in, j->x, line, at, n), n);
    double m = sum / (double)j->length;
    EACH_PIECE(at, n, j->length) {
        squares += CALL(j->compute, squares, load(j, &in, j->x, line, at, n), n, m);
    }
    double r = 1 / sqrt(squares / (double)j->length + eps);
    set_value(mean, line, m);
    set_value(invstd, line, r);
    EACH_RUN(k, j) {
        const void *x = load(j, &in, j->x, line, k.at, k.n);
        void *y = target(j, &out, line, k.at);
        if (j->inner == 1)
            CALL(j->compute, scale_each, y, x, vector_at(j, j->weight, line, k.channel),
                 vector_at(j, j->bias, line, k.channel), k.n, m, r);
        else
            CALL(j->compute, scale, y, x, k.n, m, r * vector_value(j, j->weight, line, k.channel),
                 vector_value(j, j->bias, line, k.channel));
        store(j, y, line, k.at, k.n);
    }
}

cld_status cld__group_norm(const cld_array *y, const cld_array *mean, const cld_array *invstd,
                           const cld_array *x, const cld_array *weight, const cld_array *bias, double eps) {
    job j = job_of(y, x, mean);
    int64_t lines = j.images * j.groups;
    size_t bytes = (size_t)x->shape[1] * sizeof(double);
    void *workspace;
    CLD_TRY(cld_cpu_memory.allocate(&workspace, 2 * bytes));
    j.weight = workspace;
    j.bias = j.weight + bytes;
    read_vector(&j, j.weight, weight, 1);
    read_vector(&j, j.bias, bias, 0);
#pragma omp parallel for schedule(static) if (cld_numel(x) >= CLD_PARALLEL_MIN)
    for (int64_t line = 0; line < lines; line++) forward_line(&j, mean, invstd, eps, line);
    cld_cpu_memory.release(workspace, 2 * bytes);
    return CLD_OK;
}

/* ---- backward ------------------------------------------------------------------------------------------ */

/* The contribution of a share of the lines to dweight and dbias, for all channels: in double, and, if a channel has
 * only one element per line, for FEW lines at a time in the compute type. NULL if not wanted. */
typedef struct share {
    double *dw, *db;
    char *few_dw, *few_db;
} share;

enum { MOST_SHARES = 64, FEW = 64 };

static void backward_line(const job *j, double m, double r, const share *s, int64_t line) {
    cld_piece in, in_dy, out;
    cld_compute c = j->compute;
    int64_t first = line % j->groups * j->channels;
    double dot = 0, sum = 0; /* of g (x - m) and of g = dy w */
    EACH_RUN(k, j) {
        const void *x = load(j, &in, j->x, line, k.at, k.n), *dy = load(j, &in_dy, j->dy, line, k.at, k.n);
        int64_t channel = first + k.channel;
        if (j->inner == 1) {
            const void *w = vector_at(j, j->weight, line, k.channel);
            dot += CALL(c, weighted_dot, dy, w, x, k.n, m);
            sum += CALL(c, weighted, dy, w, k.n);
            if (s->dw)
                CALL(c, add_each, s->few_dw + channel * size_of(j), s->few_db + channel * size_of(j), dy, x,
                     k.n, m, r);
        } else {
            double w = vector_value(j, j->weight, line, k.channel);
            double run_dot = CALL(c, dot, dy, x, k.n, m), run_sum = CALL(c, sum, dy, k.n);
            dot += w * run_dot;
            sum += w * run_sum;
            if (s->dw) s->dw[channel] += run_dot * r;
            if (s->dw) s->db[channel] += run_sum;
        }
    }
    if (!j->out) return;
    double a = dot * r * r / (double)j->length, b = sum / (double)j->length;
    EACH_RUN(k, j) {
        const void *x = load(j, &in, j->x, line, k.at, k.n), *dy = load(j, &in_dy, j->dy, line, k.at, k.n);
        void *dx = target(j, &out, line, k.at);
        if (j->inner == 1)
            CALL(c, back_each, dx, dy, x, vector_at(j, j->weight, line, k.channel), k.n, m, r, a, b);
        else
            CALL(c, back, dx, dy, x, k.n, m, r, vector_value(j, j->weight, line, k.channel), a, b);
        store(j, dx, line, k.at, k.n);
    }
}

static void backward_share(const job *j, const cld_array *mean, const cld_array *invstd, const share *s,
                           int64_t begin, int64_t end) {
    int64_t channels = j->groups * j->channels;
    for (int64_t line = begin; line < end; line++) {
        backward_line(j, value_of(mean, line), value_of(invstd, line), s, line);
        if (!s->dw || j->inner != 1 || ((line - begin) % FEW != FEW - 1 && line != end - 1)) continue;
        CALL(j->compute, flush, s->dw, s->few_dw, channels);
        CALL(j->compute, flush, s->db, s->few_db, channels);
    }
}

/* Adds up the sums of all shares, in order. */
static void add_shares(const cld_array *vector, const double *sums, int64_t shares, int64_t apart) {
    for (int64_t i = 0; i < vector->shape[0]; i++) {
        double sum = 0;
        for (int64_t k = 0; k < shares; k++) sum += sums[k * apart + i];
        set_value(vector, i, sum);
    }
}

cld_status cld__group_norm_backward(const cld_array *dx, const cld_array *dweight, const cld_array *dbias,
                                    const cld_array *dy, const cld_array *x, const cld_array *weight,
                                    const cld_array *mean, const cld_array *invstd) {
    job j = job_of(dx, x, mean);
    j.dy = dy;
    int64_t lines = j.images * j.groups, channels = x->shape[1], apart = 4 * channels;
    int64_t shares = lines < MOST_SHARES ? lines : MOST_SHARES;
    size_t vector = (size_t)channels * sizeof(double),
           sums = dweight ? (size_t)(shares * apart) * sizeof(double) : 0;
    void *workspace;
    CLD_TRY(cld_cpu_memory.allocate(&workspace, vector + sums));
    j.weight = workspace;
    read_vector(&j, j.weight, weight, 1);
    double *partial = dweight ? (double *)(j.weight + vector) : NULL;
    if (partial) memset(partial, 0, sums);
#pragma omp parallel for schedule(static) if (cld_numel(x) >= CLD_PARALLEL_MIN)
    for (int64_t k = 0; k < shares; k++) {
        share s = {0};
        if (partial) {
            s.dw = partial + k * apart;
            s.db = s.dw + channels;
            s.few_dw = (char *)(s.db + channels);
            s.few_db = (char *)(s.db + 2 * channels);
        }
        backward_share(&j, mean, invstd, &s, lines * k / shares, lines * (k + 1) / shares);
    }
    if (partial) add_shares(dweight, partial, shares, apart);
    if (partial) add_shares(dbias, partial + channels, shares, apart);
    cld_cpu_memory.release(workspace, vector + sums);
    return CLD_OK;
}
