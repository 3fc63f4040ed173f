/* Reductions over any set of dimensions.
 *
 * Dimensions are sorted by x's strides and merged. A block is a rectangle of threads, 2^reduced_bits of them along the
 * reduced elements and the others along the kept ones. If the innermost dimension is reduced ("rows"), neighbouring
 * threads lie along it, else along the kept ones ("columns"). Either way memory is read in order, 16 bytes at a time if
 * it is aligned. If there are few outputs, the reduced elements are cut into parts, one block each; the partial results
 * go to scratch memory and the same kernel reduces them again. Work is split only by size and nothing is added
 * atomically, so the result is the same each time.
 *
 * A thread sums f32 in f32, over some hundred elements; the threads' sums are added in double. */
#include "kernels/cuda/convert.cuh"
#include "kernels/cuda/lines.cuh"
#include "kernels/cuda/math.h"
#include "kernels/cuda/walk.cuh"

#include <math.h>

#define THREADS CLD_LINE_THREADS
#define AHEAD   4   /* units that a thread reads before it combines them */
#define LONGEST 512 /* units that a thread adds up */

/* ---- kinds --------------------------------------------------------------------------------------------------------- */

template <typename C> struct wide {
    typedef double type;
    __device__ static C lowest() { return -INFINITY; }
    __device__ static C highest() { return INFINITY; }
};
template <> struct wide<int64_t> {
    typedef int64_t type;
    __device__ static int64_t lowest() { return INT64_MIN; }
    __device__ static int64_t highest() { return INT64_MAX; }
};

/* Integers wrap around. */
template <typename C> __device__ inline C plus(C m, C x) { return m + x; }
template <typename C> __device__ inline C times(C m, C x) { return m * x; }
__device__ inline int64_t plus(int64_t m, int64_t x) { return (int64_t)((uint64_t)m + (uint64_t)x); }
__device__ inline int64_t times(int64_t m, int64_t x) { return (int64_t)((uint64_t)m * (uint64_t)x); }

/* kind, neutral element, m combined with x. NaN wins in maxima and minima. */
#define REDUCTIONS(X)                                                                                        \
    X(SUM, 0, plus(m, x))                                                                                    \
    X(PROD, 1, times(m, x))                                                                                  \
    X(MAX, wide<C>::lowest(), x > m || x != x ? x : m)                                                       \
    X(MIN, wide<C>::highest(), x < m || x != x ? x : m)                                                      \
    X(ANY, 0, x != 0 ? 1 : m)                                                                                \
    X(ALL, 1, x == 0 ? 0 : m)

#define NEUTRAL_CASE(kind, neutral, combined)                                                                \
    case CLD_##kind: return (C)(neutral);
template <typename C> __device__ static C neutral_of(cld_reduction kind) {
    switch (kind) { REDUCTIONS(NEUTRAL_CASE) }
    return 0;
}

/* N accumulators, each combined with U elements: unit u has x[u * N ...]. */
#define COMBINE_CASE(kind, neutral, combined)                                                                \
    case CLD_##kind:                                                                                         \
        CLD_UNROLL                                                                                           \
        for (int i = 0; i < U * N; i++) {                                                                    \
            C m = acc[i % N], x = in[i];                                                                     \
            acc[i % N] = (C)(combined);                                                                      \
        }                                                                                                    \
        break;
template <int U, int N, typename C> __device__ static void combine(cld_reduction kind, C *acc, const C *in) {
    switch (kind) { REDUCTIONS(COMBINE_CASE) }
}

/* ---- the kernel ---------------------------------------------------------------------------------------------------- */

struct reduction {
    cld_reduction kind;
    bool rows;
    int reduced_bits;
    cld_dims<1> reduced; /* in units: V elements of x, for rows */
    int64_t elements;    /* reduced ones */
    cld_dims<2> kept;    /* x, out; in units, for columns */
    int64_t out_stride;  /* between the elements of a unit, for columns */
    int parts;
    cld_dtype out; /* f64 or i64 for parts, laid out as [part][kept element] */
};

/* COLUMNS: the V elements of a unit are adjacent outputs; else they go into one output. */
template <typename T, int V, bool COLUMNS>
__global__ void __launch_bounds__(THREADS) reduce(void *out, const T *x, reduction r) {
    typedef typename cld_compute<T>::type C;
    typedef typename wide<C>::type W;
    const int OUTPUTS = COLUMNS ? V : 1, U = sizeof(T) == 8 || V == 8 ? AHEAD / 2 : AHEAD;
    CLD_SHARED(W, sums, [THREADS * OUTPUTS]);
    uint32_t along = 1u << r.reduced_bits, across = THREADS >> r.reduced_bits;
    uint32_t mine = r.rows ? threadIdx.x & (along - 1) : threadIdx.x / across;
    uint32_t output = r.rows ? threadIdx.x >> r.reduced_bits : threadIdx.x & (across - 1);
    int64_t kept = (int64_t)blockIdx.x * across + output;
    C acc[V];
    CLD_UNROLL
    for (int i = 0; i < V; i++) acc[i] = neutral_of<C>(r.kind);
    int64_t start[2] = {0, 0};
    if (kept < r.kept.total) {
        locate<2>(start, r.kept, kept);
        int64_t last = r.reduced.total * (blockIdx.y + 1) / r.parts;
        for (int64_t unit = r.reduced.total * blockIdx.y / r.parts + mine; unit < last; unit += U * along) {
            cld_pack<T, V> raw[U];
            int left[U];
            CLD_UNROLL
            for (int u = 0; u < U; u++) {
                int64_t at[1] = {0}, next = unit + u * along, rest = COLUMNS ? V : r.elements - next * V;
                left[u] = next >= last ? 0 : rest < V ? (int)rest : V;
                if (next < last) locate<1>(at, r.reduced, next);
                load_step<V>(raw + u, x + start[0] + at[0], false, left[u], T());
            }
            CLD_UNROLL
            for (int u = 0; u < U; u++) {
                C in[V];
                CLD_UNROLL
                for (int i = 0; i < V; i++) in[i] = i < left[u] ? load(raw[u].get(i)) : neutral_of<C>(r.kind);
                combine<1, V>(r.kind, acc, in);
            }
        }
    }
    if (COLUMNS) {
        CLD_UNROLL
        for (int i = 0; i < OUTPUTS; i++) sums[threadIdx.x * OUTPUTS + i] = acc[i];
    } else {
        W all[V], sum = neutral_of<W>(r.kind);
        CLD_UNROLL
        for (int i = 0; i < V; i++) all[i] = acc[i];
        combine<V, 1>(r.kind, &sum, all);
        sums[threadIdx.x] = sum;
    }
    W *own = sums + threadIdx.x * OUTPUTS;
    for (uint32_t s = along / 2; s > 0; s /= 2) {
        __syncthreads();
        if (mine < s) combine<1, OUTPUTS>(r.kind, own, own + s * (r.rows ? 1 : across) * OUTPUTS);
    }
    if (mine > 0 || kept >= r.kept.total) return;
    CLD_UNROLL
    for (int i = 0; i < OUTPUTS; i++) {
        int64_t part_at = (blockIdx.y * r.kept.total + kept) * OUTPUTS + i;
        store_as(out, r.out, r.parts > 1 ? part_at : start[1] + i * r.out_stride, own[i]);
    }
}

/* ---- the plan ------------------------------------------------------------------------------------------------------ */

/* A merged dimension: its extent, strides in x and out, and whether it is reduced. */
struct extent {
    int64_t size, x, out;
    bool reduced;
};

/* The last one is the innermost. */
static int merge(extent merged[CLD_MAX_DIMS], const cld_array *out, const cld_array *x) {
    int order[CLD_MAX_DIMS], count = 0, last = -1;
    for (int d = 0; d < x->ndim; d++) { /* insertion sort: larger strides of x go outside */
        if (x->shape[d] == 1) continue;
        int at = count++;
        for (; at > 0 && llabs(x->strides[order[at - 1]]) < llabs(x->strides[d]); at--)
            order[at] = order[at - 1];
        order[at] = d;
    }
    for (int i = 0; i < count; i++) {
        int d = order[i];
        bool reduced = out->shape[d] == 1;
        extent e = {x->shape[d], x->strides[d], reduced ? 0 : out->strides[d], reduced};
        extent *m = &merged[last];
        if (last >= 0 && m->reduced == reduced && m->x == e.x * e.size && m->out == e.out * e.size)
            e.size *= m->size;
        else
            last++;
        merged[last] = e;
    }
    if (last < 0) merged[last = 0] = {1, 1, 1, false};
    return last + 1;
}

/* Can the innermost dimension be read in units of `width` elements? */
static bool fits(const extent *m, int count, const void *data, size_t size, int width) {
    const extent *inner = &m[count - 1];
    int reduced = 0;
    if (inner->x != 1 || inner->size < width || (uintptr_t)data % (size * (size_t)width) != 0) return false;
    for (int i = 0; i < count; i++) {
        if (i < count - 1 && m[i].x % width != 0) return false;
        reduced += m[i].reduced;
    }
    return inner->size % width == 0 || (inner->reduced && reduced == 1);
}

/* Threads along the reduced units: enough for each to have AHEAD of them, but for columns a warp is used for
 * neighbouring outputs. */
static int bits_along(const reduction *r) {
    int bits = bits_for(ceil_div(r->reduced.total, AHEAD), 8);
    int columns = r->rows ? 0 : bits_for(r->kept.total, 5);
    return bits < 8 - columns ? bits : 8 - columns;
}

/* As many parts as for any lines, or more, so that no thread adds up too many elements. */
static int parts_for(const reduction *r) {
    int64_t blocks = ceil_div(r->kept.total, THREADS >> r->reduced_bits);
    int64_t parts = cld_line_parts(blocks, r->reduced.total, r->reduced_bits, AHEAD);
    int64_t needed = ceil_div(r->reduced.total, (int64_t)LONGEST << r->reduced_bits);
    if (parts < needed) parts = needed;
    return parts < CLD_LINE_BLOCKS ? (int)parts : CLD_LINE_BLOCKS;
}

template <typename T, int V, bool COLUMNS>
static cld_status launch(void *out, const void *x, const reduction *r) {
    int64_t blocks = ceil_div(r->kept.total, THREADS >> r->reduced_bits);
    return CLD_LAUNCH((reduce<T, V, COLUMNS>), dim3((unsigned)blocks, (unsigned)r->parts), THREADS, 0, out,
                      (const T *)x, *r);
}

template <typename T> static cld_status launch_any(void *out, const void *x, const reduction *r, int width) {
    const int V = CLD_WIDTH(T, T);
    if (width == 1) return launch<T, 1, false>(out, x, r);
    if (r->rows) return launch<T, V, false>(out, x, r);
    return launch<T, V, true>(out, x, r);
}

/* The parts, [part][kept element] of f64 or i64, as an array to reduce into out. */
static reduction of_parts(const reduction *r, const extent *m, int count, int64_t outputs, cld_dtype dtype) {
    reduction second = {};
    second.kind = r->kind;
    second.kept.total = second.reduced.total = 1;
    push_dim<1>(&second.reduced, r->parts, {outputs});
    int64_t inside = outputs;
    for (int i = 0; i < count; i++) {
        if (m[i].reduced) continue;
        inside /= m[i].size;
        push_dim<2>(&second.kept, m[i].size, {inside, m[i].out});
    }
    second.rows = outputs == 1;
    second.parts = 1;
    second.elements = r->parts;
    second.out = dtype;
    second.reduced_bits = bits_along(&second);
    return second;
}

template <typename T> static cld_status run(cld_reduction kind, const cld_array *out, const cld_array *x) {
    const bool integer = cld_is_integer<T>::value;
    extent m[CLD_MAX_DIMS];
    int count = merge(m, out, x),
        width = fits(m, count, x->data, sizeof(T), CLD_WIDTH(T, T)) ? CLD_WIDTH(T, T) : 1;
    reduction r = {};
    r.kind = kind;
    r.rows = m[count - 1].reduced;
    r.kept.total = r.reduced.total = r.elements = 1;
    for (int i = 0; i < count; i++) {
        int unit = i == count - 1 ? width : 1;
        int64_t units = ceil_div(m[i].size, unit);
        if (m[i].reduced)
            push_dim<1>(&r.reduced, units, {m[i].x * unit});
        else
            push_dim<2>(&r.kept, units, {m[i].x * unit, m[i].out * unit});
        if (m[i].reduced) r.elements *= m[i].size;
    }
    r.out_stride = m[count - 1].out;
    r.reduced_bits = bits_along(&r);
    r.parts = parts_for(&r);
    r.out = out->dtype;
    if (r.parts == 1) return launch_any<T>(out->data, x->data, &r, width);

    int64_t outputs = cld_numel(out);
    r.out = integer ? CLD_I64 : CLD_F64;
    CLD_SCRATCH scratch;
    CLD_TRY(cld_cuda_scratch(&scratch, (size_t)(outputs * r.parts) * sizeof(double)));
    CLD_TRY(launch_any<T>(scratch.data, x->data, &r, width));
    reduction second = of_parts(&r, m, count, outputs, out->dtype);
    if (integer) return launch<int64_t, 1, false>(out->data, scratch.data, &second);
    return launch<double, 1, false>(out->data, scratch.data, &second);
}

static double neutral_number(cld_reduction kind) {
    switch (kind) {
    case CLD_MAX: return -INFINITY;
    case CLD_MIN: return INFINITY;
    default: return kind == CLD_PROD || kind == CLD_ALL ? 1 : 0;
    }
}

cld_status cld_cuda_reduce(cld_reduction kind, const cld_array *out, const cld_array *x) {
    if (cld_numel(out) == 0) return CLD_OK;
    if (cld_numel(x) == 0) return cld_cuda_fill_array(out, cld_real(neutral_number(kind)));
    cld_array to = cld_with_strides(out), from = cld_with_strides(x);
    CLD_BY_DTYPE(x->dtype, T, return run<T>(kind, &to, &from));
    return CLD_OK;
}
