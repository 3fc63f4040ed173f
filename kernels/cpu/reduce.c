/* Reductions over any set of dimensions.
 *
 * Dimensions are sorted by x's strides and merged. If the innermost is reduced, each output is a sum over lines
 * ("rows"). Otherwise a piece of neighbouring outputs is accumulated together ("columns"). Either way memory is read in
 * order. f32 is summed in 16 lanes over at most 1024 elements, then in double. Work is split only by size, so the
 * result does not depend on the number of threads. */
#include "kernels/cpu/math.h"
#include "kernels/cpu/simd.h"

#include <stdlib.h>

/* ---- the loops ----------------------------------------------------------------------------------------- */

/* kind, neutral element, m combined with x. NaN wins in maxima and minima. */
#define REDUCTIONS(X, LOWEST, HIGHEST, PLUS, TIMES)                                                          \
    X(SUM, 0, PLUS(m, x))                                                                                    \
    X(PROD, 1, TIMES(m, x))                                                                                  \
    X(MAX, LOWEST, x > m || x != x ? x : m)                                                                  \
    X(MIN, HIGHEST, x < m || x != x ? x : m)                                                                 \
    X(ANY, 0, x != 0 ? 1 : m)                                                                                \
    X(ALL, 1, x == 0 ? 0 : m)

#define LANES 16

/* Combines the elements of a line with acc. */
#define ROW_CASE(kind, neutral, combined)                                                                    \
    case CLD_##kind: {                                                                                       \
        real lanes[LANES];                                                                                   \
        int64_t i = 0;                                                                                       \
        for (int j = 0; j < LANES; j++) lanes[j] = neutral;                                                  \
        for (; i + LANES <= n; i += LANES)                                                                   \
            for (int j = 0; j < LANES; j++) {                                                                \
                real m = lanes[j], x = in[i + j];                                                            \
                lanes[j] = combined;                                                                         \
            }                                                                                                \
        for (; i < n; i++) {                                                                                 \
            real m = lanes[i % LANES], x = in[i];                                                            \
            lanes[i % LANES] = combined;                                                                     \
        }                                                                                                    \
        for (int j = 0; j < LANES; j++) {                                                                    \
            wide m = acc, x = lanes[j];                                                                      \
            acc = combined;                                                                                  \
        }                                                                                                    \
        return acc;                                                                                          \
    }

/* Combines each element with its own acc. */
#define COLUMN_CASE(kind, neutral, combined)                                                                 \
    case CLD_##kind:                                                                                         \
        for (int64_t i = 0; i < n; i++) {                                                                    \
            wide m = acc[i], x = in[i];                                                                      \
            acc[i] = combined;                                                                               \
        }                                                                                                    \
        return;

#define NEUTRAL_CASE(kind, neutral, combined)                                                                \
    case CLD_##kind:                                                                                         \
        return neutral;

#define ADD(m, x)      ((m) + (x))
#define MULTIPLY(m, x) ((m) * (x))
/* Integers wrap around. */
#define ADD_INT(m, x)      ((int64_t)((uint64_t)(m) + (uint64_t)(x)))
#define MULTIPLY_INT(m, x) ((int64_t)((uint64_t)(m) * (uint64_t)(x)))

#define DEFINE_LOOPS(name, real_type, wide_type, LOWEST, HIGHEST, PLUS, TIMES)                               \
    CLD_SIMD static wide_type row_##name(cld_reduction kind, wide_type acc, const real_type *in,             \
                                         int64_t n) {                                                        \
        typedef real_type real;                                                                              \
        typedef wide_type wide;                                                                              \
        switch (kind) { REDUCTIONS(ROW_CASE, LOWEST, HIGHEST, PLUS, TIMES) }                                 \
        return acc;                                                                                          \
    }                                                                                                        \
    CLD_SIMD static void column_##name(cld_reduction kind, wide_type *restrict acc,                          \
                                       const real_type *restrict in, int64_t n) {                            \
        typedef wide_type wide;                                                                              \
        switch (kind) { REDUCTIONS(COLUMN_CASE, LOWEST, HIGHEST, PLUS, TIMES) }                              \
    }

DEFINE_LOOPS(float, float, double, -INFINITY, INFINITY, ADD, MULTIPLY)
DEFINE_LOOPS(double, double, double, -INFINITY, INFINITY, ADD, MULTIPLY)
DEFINE_LOOPS(int, int64_t, int64_t, INT64_MIN, INT64_MAX, ADD_INT, MULTIPLY_INT)

static double neutral_double(cld_reduction kind) {
    switch (kind) { REDUCTIONS(NEUTRAL_CASE, -INFINITY, INFINITY, ADD, MULTIPLY) }
    return 0;
}

static int64_t neutral_int(cld_reduction kind) {
    switch (kind) { REDUCTIONS(NEUTRAL_CASE, INT64_MIN, INT64_MAX, ADD_INT, MULTIPLY_INT) }
    return 0;
}

/* n accumulators, by compute type: double for floats. */
typedef union accumulators {
    double d[CLD_PIECE];
    int64_t i[CLD_PIECE];
} accumulators;

static void start(cld_compute c, cld_reduction kind, accumulators *acc, int64_t n) {
    for (int64_t i = 0; i < n; i++)
        if (c == CLD_COMPUTE_INT)
            acc->i[i] = neutral_int(kind);
        else
            acc->d[i] = neutral_double(kind);
}

static void combine_row(cld_compute c, cld_reduction kind, accumulators *acc, const void *in, int64_t n) {
    switch (c) {
    case CLD_COMPUTE_FLOAT: acc->d[0] = row_float(kind, acc->d[0], in, n); break;
    case CLD_COMPUTE_DOUBLE: acc->d[0] = row_double(kind, acc->d[0], in, n); break;
    case CLD_COMPUTE_INT: acc->i[0] = row_int(kind, acc->i[0], in, n); break;
    }
}

static void combine_column(cld_compute c, cld_reduction kind, accumulators *acc, const void *in, int64_t n) {
    switch (c) {
    case CLD_COMPUTE_FLOAT: column_float(kind, acc->d, in, n); break;
    case CLD_COMPUTE_DOUBLE: column_double(kind, acc->d, in, n); break;
    case CLD_COMPUTE_INT: column_int(kind, acc->i, in, n); break;
    }
}

/* ---- the plan ------------------------------------------------------------------------------------------ */

typedef struct dims {
    int count;
    int64_t shape[CLD_MAX_DIMS], x[CLD_MAX_DIMS], out[CLD_MAX_DIMS]; /* strides in elements */
    int64_t total;                                                   /* product of the shape */
} dims;

typedef struct plan {
    cld_reduction kind;
    cld_compute compute;
    cld_array out, x;
    bool rows;          /* the innermost dimension is reduced */
    int64_t width;      /* adjacent outputs: 1 for rows */
    int64_t out_stride; /* between them */
    int64_t x_stride;   /* in the innermost dimension */
    int64_t length;     /* rows: elements of a line */
    dims kept, reduced; /* without the innermost dimension */
    int64_t parts;      /* parts into which the reduced dimensions are cut */
} plan;

static void push_dim(dims *d, int64_t shape, int64_t x, int64_t out) {
    d->shape[d->count] = shape;
    d->x[d->count] = x;
    d->out[d->count++] = out;
    d->total *= shape;
}

static void locate(const dims *d, int64_t index, int64_t *x, int64_t *out) {
    *x = *out = 0;
    for (int i = d->count - 1; i >= 0; i--) {
        int64_t at = index % d->shape[i];
        index /= d->shape[i];
        *x += at * d->x[i];
        *out += at * d->out[i];
    }
}

static void make_plan(plan *p, const cld_array *out, const cld_array *x) {
    int order[CLD_MAX_DIMS], count = 0;
    for (int d = 0; d < x->ndim; d++) { /* insertion sort: larger strides of x go outside */
        if (x->shape[d] == 1) continue;
        int at = count++;
        for (; at > 0 && llabs(x->strides[order[at - 1]]) < llabs(x->strides[d]); at--)
            order[at] = order[at - 1];
        order[at] = d;
    }
    struct {
        int64_t shape, x, out;
        bool reduced;
    } merged[CLD_MAX_DIMS] = {{1, 1, 1, false}};
    int last = -1;
    for (int i = 0; i < count; i++) {
        int d = order[i];
        bool reduced = out->shape[d] == 1;
        int64_t extent = x->shape[d], xs = x->strides[d], os = reduced ? 0 : out->strides[d];
        if (last >= 0 && merged[last].reduced == reduced && merged[last].x == xs * extent &&
            merged[last].out == os * extent)
            extent *= merged[last].shape;
        else
            last++;
        merged[last].shape = extent;
        merged[last].x = xs;
        merged[last].out = os;
        merged[last].reduced = reduced;
    }
    if (last < 0) last = 0;
    p->kept.total = p->reduced.total = 1;
    for (int i = 0; i < last; i++)
        push_dim(merged[i].reduced ? &p->reduced : &p->kept, merged[i].shape, merged[i].x, merged[i].out);
    p->rows = merged[last].reduced;
    p->x_stride = merged[last].x;
    p->length = p->rows ? merged[last].shape : 1;
    p->width = p->rows ? 1 : merged[last].shape;
    p->out_stride = p->rows ? 1 : merged[last].out;
    p->out = *out;
    p->x = *x;
}

/* The input of one task: outputs first..first + n - 1 of one line of outputs, over reduced units from..to - 1. A unit
 * is a reduced index and, for rows, a piece of its line. */
static void accumulate(const plan *p, int64_t kept, int64_t first, int64_t n, int64_t from, int64_t to,
                       accumulators *acc) {
    int64_t x_kept, x_reduced, unused, size = (int64_t)cld_dtype_size(p->x.dtype);
    int64_t pieces = (p->length + CLD_PIECE - 1) / CLD_PIECE;
    cld_piece buffer;
    locate(&p->kept, kept, &x_kept, &unused);
    start(p->compute, p->kind, acc, n);
    for (int64_t unit = from; unit < to; unit++) {
        int64_t offset = p->rows ? unit % pieces * CLD_PIECE : first;
        int64_t left = p->length - offset, count = !p->rows ? n : left < CLD_PIECE ? left : CLD_PIECE;
        locate(&p->reduced, unit / pieces, &x_reduced, &unused);
        const char *data = (const char *)p->x.data + (x_kept + x_reduced + offset * p->x_stride) * size;
        const void *in = cld__load(p->compute, &buffer, data, p->x.dtype, p->x_stride, count);
        if (p->rows)
            combine_row(p->compute, p->kind, acc, in, count);
        else
            combine_column(p->compute, p->kind, acc, in, count);
    }
}

static void write_out(const plan *p, int64_t kept, int64_t first, int64_t n, const accumulators *acc) {
    int64_t unused, out;
    locate(&p->kept, kept, &unused, &out);
    char *to = (char *)p->out.data + (out + first * p->out_stride) * (int64_t)cld_dtype_size(p->out.dtype);
    cld__store(p->compute == CLD_COMPUTE_INT ? CLD_COMPUTE_INT : CLD_COMPUTE_DOUBLE, acc, to, p->out.dtype,
               p->out_stride, n);
}

cld_status cld__reduce(cld_reduction kind, const cld_array *out, const cld_array *x) {
    int64_t numel = cld_numel(x);
    if (cld_numel(out) == 0) return CLD_OK;
    plan p = {.kind = kind, .compute = cld__compute_type(x->dtype)};
    if (numel == 0) return cld__fill(out, cld_real(neutral_double(kind)));
    make_plan(&p, out, x);

    int64_t tiles = (p.width + CLD_PIECE - 1) / CLD_PIECE, tasks = p.kept.total * tiles;
    int64_t units = p.reduced.total * ((p.length + CLD_PIECE - 1) / CLD_PIECE);
    p.parts = tasks >= 32 || numel < CLD_PARALLEL_MIN ? 1 : 32 / tasks;
    if (p.parts > units) p.parts = units;
    size_t bytes = p.parts > 1 ? (size_t)(tasks * p.parts) * sizeof(accumulators) : 0;
    void *workspace = NULL;
    if (bytes > 0) CLD_TRY(cld_cpu_memory.allocate(&workspace, bytes));
    accumulators *partial = workspace;
#pragma omp parallel for schedule(static) if (numel >= CLD_PARALLEL_MIN)
    for (int64_t i = 0; i < tasks * p.parts; i++) {
        int64_t task = i / p.parts, part = i % p.parts, kept = task / tiles, first = task % tiles * CLD_PIECE;
        int64_t n = p.width - first < CLD_PIECE ? p.width - first : CLD_PIECE;
        accumulators own, *acc = partial ? &partial[i] : &own;
        accumulate(&p, kept, first, n, units * part / p.parts, units * (part + 1) / p.parts, acc);
        if (!partial) write_out(&p, kept, first, n, acc);
    }
    if (!partial) return CLD_OK;
    for (int64_t task = 0; task < tasks; task++) { /* the parts, in order */
        int64_t kept = task / tiles, first = task % tiles * CLD_PIECE;
        int64_t n = p.width - first < CLD_PIECE ? p.width - first : CLD_PIECE;
        accumulators *sum = &partial[task * p.parts];
        cld_compute wide = p.compute == CLD_COMPUTE_INT ? CLD_COMPUTE_INT : CLD_COMPUTE_DOUBLE;
        for (int64_t part = 1; part < p.parts; part++) combine_column(wide, kind, sum, sum + part, n);
        write_out(&p, kept, first, n, sum);
    }
    cld_cpu_memory.release(workspace, bytes);
    return CLD_OK;
}

/* ---- arg_reduce ---------------------------------------------------------------------------------------- */

/* The first among equals; NaN wins, and the first NaN among several. */
#define FIRST_EXTREME(T)                                                                                     \
    {                                                                                                        \
        const T *v = in;                                                                                     \
        for (int64_t i = 0; i < count; i++) {                                                                \
            T value = v[i];                                                                                  \
            if (at < 0 ||                                                                                    \
                (best_##T == best_##T && (value != value || (max ? value > best_##T : value < best_##T)))) { \
                best_##T = value;                                                                            \
                at = first + i;                                                                              \
            }                                                                                                \
        }                                                                                                    \
        break;                                                                                               \
    }

static int64_t arg_extreme(const char *line, const cld_array *x, int dim, bool max) {
    cld_compute compute = cld__compute_type(x->dtype);
    int64_t at = -1, stride = x->strides[dim], length = x->shape[dim], best_int64_t = 0;
    float best_float = 0;
    double best_double = 0;
    cld_piece buffer;
    for (int64_t first = 0; first < length; first += CLD_PIECE) {
        int64_t count = length - first < CLD_PIECE ? length - first : CLD_PIECE;
        const char *data = line + first * stride * (int64_t)cld_dtype_size(x->dtype);
        const void *in = cld__load(compute, &buffer, data, x->dtype, stride, count);
        switch (compute) {
        case CLD_COMPUTE_FLOAT: FIRST_EXTREME(float)
        case CLD_COMPUTE_DOUBLE: FIRST_EXTREME(double)
        case CLD_COMPUTE_INT: FIRST_EXTREME(int64_t)
        }
    }
    return at;
}

cld_status cld__arg_reduce(cld_reduction kind, const cld_array *out, const cld_array *x, int dim) {
    dims lines = {.total = 1};
    for (int d = 0; d < x->ndim; d++)
        if (d != dim) push_dim(&lines, x->shape[d], x->strides[d], out->strides[d]);
#pragma omp parallel for schedule(static) if (cld_numel(x) >= CLD_PARALLEL_MIN)
    for (int64_t i = 0; i < lines.total; i++) {
        int64_t from, to;
        locate(&lines, i, &from, &to);
        const char *line = (const char *)x->data + from * (int64_t)cld_dtype_size(x->dtype);
        ((int64_t *)out->data)[to] = arg_extreme(line, x, dim, kind == CLD_MAX);
    }
    return CLD_OK;
}
