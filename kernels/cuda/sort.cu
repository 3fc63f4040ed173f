/* topk and sort. Lines are cut into tiles, and a block sorts each tile in shared memory. Then neighbouring runs are
 * merged, all in one launch, until a single run is left. A run keeps only its first k, so that a small k makes merging
 * cheap. Equal keys are ordered by their position in the line, so all items differ, and the order is stable. */
#include "kernels/cuda/sort.h"

#include <string.h>

#include "kernels/cuda/block.cuh"
#include "kernels/cuda/dims.cuh"
#include "kernels/cuda/math.h"

enum { TILE = 2048, THREADS = 256 };

/* ---- keys --------------------------------------------------------------------------------------------------------- */

/* IEEE numbers compare like integers once negative ones are inverted. */
static __device__ inline uint64_t key_of(double v) {
    uint64_t bits;
    v = v == 0 ? 0 : v;
    memcpy(&bits, &v, sizeof bits);
    return v != v ? UINT64_MAX : bits & CLD_SIGN_BIT ? ~bits : bits | CLD_SIGN_BIT;
}
static __device__ inline uint64_t key_of(float v) { return key_of((double)v); }
static __device__ inline uint64_t key_of(int64_t v) { return (uint64_t)v ^ CLD_SIGN_BIT; }

static __device__ inline bool precedes(uint64_t key, int64_t index, uint64_t other_key, int64_t other_index) {
    return key != other_key ? key < other_key : index < other_index;
}

/* ---- lines and runs ----------------------------------------------------------------------------------------------- */

/* All dimensions except dim. */
template <int N> static cld_dims<N> lines_of(const cld_array *const (&arrays)[N], int dim) {
    cld_dims<N> lines = {};
    lines.total = 1;
    for (int d = 0; d < arrays[0]->ndim; d++) {
        int64_t strides[N];
        for (int k = 0; k < N; k++) strides[k] = arrays[k]->strides[d];
        if (d != dim) push_dim(&lines, arrays[0]->shape[d], strides);
    }
    return lines;
}

/* How a line of n is divided at some point: runs of `span` elements, except the last; the first `kept` of each are
 * stored. */
struct run_plan {
    int64_t n, k, span, runs, kept;
    __host__ __device__ int64_t length(int64_t run) const {
        int64_t rest = n - run * span, covers = rest < span ? rest : span;
        return covers < k ? covers : k;
    }
};

static run_plan runs_of(int64_t n, int64_t k, int64_t span) {
    return run_plan{n, k, span, (n + span - 1) / span, span < k ? span : k};
}

/* ---- a tile, by Batcher's bitonic sort (AFIPS 1968) --------------------------------------------------------------- */

/* `tile`: a power of 2, twice the threads; runs.span or more if there is only one run. */
template <typename T>
static __global__ void __launch_bounds__(TILE / 2)
    sort_tiles(cld_sorted *out, const T *x, cld_dims<1> lines, int64_t stride, run_plan runs, int tile,
               bool descending) {
    CLD_DYNAMIC_SHARED(uint64_t, keys);
    int *places = (int *)(keys + tile);
    int64_t line = blockIdx.x / runs.runs, run = blockIdx.x % runs.runs, first = run * runs.span, at[1];
    locate<1>(at, lines, line);
    int64_t rest = runs.n - first;
    int n = rest < runs.span ? (int)rest : (int)runs.span;
    for (int i = threadIdx.x; i < tile; i += blockDim.x) {
        uint64_t key = i < n ? key_of(load(x[at[0] + (first + i) * stride])) : 0;
        keys[i] = i >= n ? UINT64_MAX : descending ? ~key : key; /* the padding of the tile comes last */
        places[i] = i;
    }
    for (int size = 2; size <= tile; size *= 2)
        for (int half = size / 2; half > 0; half /= 2) {
            __syncthreads();
            int a = 2 * (int)threadIdx.x - ((int)threadIdx.x & (half - 1)), b = a + half;
            uint64_t ka = keys[a], kb = keys[b];
            int pa = places[a], pb = places[b];
            if (precedes(kb, pb, ka, pa) != ((a & size) == 0)) continue;
            keys[a] = kb, keys[b] = ka;
            places[a] = pb, places[b] = pa;
        }
    __syncthreads();
    int64_t kept = runs.length(run), start = (line * runs.runs + run) * runs.kept;
    for (int i = threadIdx.x; i < kept; i += blockDim.x)
        out[start + i] = cld_sorted{keys[i], first + places[i]};
}

/* ---- merging ------------------------------------------------------------------------------------------------------ */

/* How many of the n come before the item. */
static __device__ inline int64_t count_before(const cld_sorted *items, int64_t n, const cld_sorted &item) {
    int64_t low = 0, high = n;
    while (low < high) {
        int64_t middle = (low + high) / 2;
        cld_sorted other = items[middle];
        if (precedes(other.key, other.index, item.key, item.index))
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* One thread per item that may exist: its position is its position in its own run plus the number of items of the other
 * run that come before it. */
static __global__ void __launch_bounds__(THREADS)
    merge_runs(cld_sorted *out, const cld_sorted *in, int64_t total, run_plan from, run_plan to) {
    int64_t e = (int64_t)blockIdx.x * THREADS + threadIdx.x;
    if (e >= total) return;
    int64_t i = e % from.kept, run = e / from.kept % from.runs, line = e / from.kept / from.runs;
    if (i >= from.length(run)) return;
    cld_sorted item = in[e];
    int64_t other = run ^ 1;
    if (other < from.runs)
        i += count_before(in + (line * from.runs + other) * from.kept, from.length(other), item);
    if (i < to.length(run / 2)) out[(line * to.runs + run / 2) * to.kept + i] = item;
}

template <typename T>
static cld_status sort_all_tiles(cld_sorted *out, const cld_array *x, int dim, const run_plan &runs,
                                 bool descending) {
    cld_dims<1> lines = lines_of<1>({x}, dim);
    int tile = 64;
    while (tile < TILE && tile < runs.n) tile *= 2;
    return CLD_LAUNCH((sort_tiles<T>), (int)(lines.total * runs.runs), tile / 2,
                      (int)((size_t)tile * (sizeof(uint64_t) + sizeof(int))), out, (const T *)x->data, lines,
                      x->strides[dim], runs, tile, descending);
}

cld_status cld_cuda_sort_lines(cld_scratch_block *sorted, const cld_array *x, int dim, int64_t k,
                               bool descending) {
    int64_t n = x->shape[dim], lines = cld_numel(x) / n;
    run_plan runs = runs_of(n, k, TILE);
    size_t bytes = (size_t)(lines * runs.runs * runs.kept) * sizeof(cld_sorted);
    CLD_SCRATCH other;
    CLD_TRY(cld_cuda_scratch(sorted, bytes));
    if (runs.runs > 1) CLD_TRY(cld_cuda_scratch(&other, bytes));
    CLD_BY_DTYPE(x->dtype, T,
                 CLD_TRY(sort_all_tiles<T>((cld_sorted *)sorted->data, x, dim, runs, descending)));
    while (runs.runs > 1) {
        run_plan to = runs_of(n, k, 2 * runs.span);
        int64_t total = lines * runs.runs * runs.kept;
        CLD_TRY(CLD_LAUNCH(merge_runs, (int)((total + THREADS - 1) / THREADS), THREADS, 0,
                           (cld_sorted *)other.data, (const cld_sorted *)sorted->data, total, runs, to));
        cld_scratch_block merged = other;
        other.data = sorted->data, other.bytes = sorted->bytes;
        *sorted = merged;
        runs = to;
    }
    return CLD_OK;
}

/* ---- topk --------------------------------------------------------------------------------------------------------- */

template <typename T>
static __global__ void __launch_bounds__(THREADS)
    write_lines(T *values, int64_t *places, const T *x, const cld_sorted *sorted, cld_dims<3> lines,
                int64_t k, int64_t value_stride, int64_t place_stride, int64_t stride) {
    int64_t e = (int64_t)blockIdx.x * THREADS + threadIdx.x, i = e % k, at[3];
    if (e >= lines.total * k) return;
    locate<3>(at, lines, e / k);
    int64_t place = sorted[e].index;
    values[at[0] + i * value_stride] = x[at[2] + place * stride];
    places[at[1] + i * place_stride] = place;
}

cld_status cld_cuda_topk(const cld_array *values, const cld_array *index, const cld_array *x, int dim,
                         bool descending) {
    int64_t k = values->shape[dim], total = cld_numel(values);
    if (total == 0) return CLD_OK;
    CLD_SCRATCH sorted;
    CLD_TRY(cld_cuda_sort_lines(&sorted, x, dim, k, descending));
    cld_dims<3> lines = lines_of<3>({values, index, x}, dim);
    CLD_BY_DTYPE(x->dtype, T,
                 return CLD_LAUNCH((write_lines<T>), (int)((total + THREADS - 1) / THREADS), THREADS, 0,
                                   (T *)values->data, (int64_t *)index->data, (const T *)x->data,
                                   (const cld_sorted *)sorted.data, lines, k, values->strides[dim],
                                   index->strides[dim], x->strides[dim]));
    return CLD_OK;
}
