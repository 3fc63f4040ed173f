/* The position of the largest or smallest element of each line. If there are few lines, each is cut into parts, one
 * block each; their positions go to scratch memory, and the same kernel compares them again. */
#include "kernels/cuda/lines.cuh"
#include "kernels/cuda/math.h"
#include "kernels/cuda/number.cuh"

#define THREADS CLD_LINE_THREADS
#define AHEAD   4 /* elements that a thread reads before it compares them */

/* NaN comes first, then the larger (or smaller) value, then the first position; `at` is -1 if there is none yet. */
template <typename C>
__device__ static inline bool comes_before(bool max, C a, int64_t a_at, C b, int64_t b_at) {
    if (a_at < 0 || b_at < 0) return b_at < 0 && a_at >= 0;
    bool a_nan = a != a, b_nan = b != b;
    if (a_nan != b_nan) return a_nan;
    if (!a_nan && a != b) return max ? a > b : a < b;
    return a_at < b_at;
}

/* The elements to choose from: all, or those at `places`, `count` per line, laid out as [place][line]. */
struct candidates {
    int64_t count;
    const int64_t *places;
};

/* If there are parts (blockIdx.y), out is laid out as [part][line]. */
template <typename T>
__global__ void __launch_bounds__(THREADS)
    find_extreme(int64_t *out, const T *x, candidates from, bool max, cld_lines<2> l) {
    typedef typename cld_compute<T>::type C;
    CLD_SHARED(C, best, [THREADS]);
    CLD_SHARED(int64_t, best_at, [THREADS]);
    cld_place p = place_of(l);
    int64_t start[2] = {0, 0}, at = -1, first = from.count * blockIdx.y / gridDim.y,
            end = p.line < l.dims.total ? from.count * (blockIdx.y + 1) / gridDim.y : first;
    C value = 0;
    if (p.line < l.dims.total) locate<2>(start, l.dims, p.line);
    for (int64_t i = first + p.mine; i < end; i += AHEAD * p.along) {
        C in[AHEAD];
        int64_t place[AHEAD];
        CLD_UNROLL
        for (int u = 0; u < AHEAD; u++) {
            int64_t next = i + u * p.along < end ? i + u * p.along : i;
            place[u] = from.places ? from.places[next * l.dims.total + p.line] : next;
        }
        CLD_UNROLL
        for (int u = 0; u < AHEAD; u++) in[u] = load(x[start[1] + place[u] * l.strides[1]]);
        CLD_UNROLL
        for (int u = 0; u < AHEAD; u++) {
            if (!comes_before(max, in[u], place[u], value, at)) continue;
            value = in[u];
            at = place[u];
        }
    }
    C *own = best + threadIdx.x;
    int64_t *own_at = best_at + threadIdx.x;
    *own = value;
    *own_at = at;
    for (uint32_t s = p.along / 2; s > 0; s /= 2) {
        __syncthreads();
        uint32_t other = s * p.apart;
        if (p.mine >= s || !comes_before(max, own[other], own_at[other], *own, *own_at)) continue;
        *own = own[other];
        *own_at = own_at[other];
    }
    if (p.mine > 0 || p.line >= l.dims.total) return;
    out[gridDim.y > 1 ? blockIdx.y * l.dims.total + p.line : start[0]] = *own_at;
}

template <typename T>
static cld_status run(int64_t *out, const T *x, candidates from, bool max, const cld_lines<2> &l) {
    int blocks = cld_line_blocks(l), parts = cld_line_parts(blocks, from.count, l.bits, AHEAD);
    if (parts == 1) return CLD_LAUNCH((find_extreme<T>), blocks, THREADS, 0, out, x, from, max, l);
    CLD_SCRATCH scratch;
    CLD_TRY(cld_cuda_scratch(&scratch, (size_t)(l.dims.total * parts) * sizeof(int64_t)));
    int64_t *places = (int64_t *)scratch.data;
    CLD_TRY(CLD_LAUNCH((find_extreme<T>), dim3((unsigned)blocks, (unsigned)parts), THREADS, 0, places, x,
                       from, max, l));
    return CLD_LAUNCH((find_extreme<T>), blocks, THREADS, 0, out, x, (candidates{parts, places}), max, l);
}

cld_status cld_cuda_arg_reduce(cld_reduction kind, const cld_array *out, const cld_array *x, int dim) {
    cld_array to = cld_with_strides(out), from = cld_with_strides(x);
    cld_lines<2> l = cld_lines_of<2>({&to, &from}, dim, AHEAD);
    if (l.dims.total == 0 || l.length == 0) return CLD_OK;
    CLD_BY_DTYPE(x->dtype, T,
                 return run<T>((int64_t *)out->data, (const T *)x->data, candidates{l.length, NULL},
                               kind == CLD_MAX, l));
    return CLD_OK;
}
