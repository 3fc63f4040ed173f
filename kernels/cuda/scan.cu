/* Cumulative sums along one dimension; floats are summed in double.
 *
 * Short lines, and lines that are adjacent in memory, get one thread each. Longer ones are cut into chunks, one block
 * each: first the chunks' sums, then the sum before each chunk, then the sums of the elements. */
#include "kernels/cuda/convert.cuh"
#include "kernels/cuda/cuda.h"
#include "kernels/cuda/lines.cuh"
#include "kernels/cuda/math.h"

#define THREADS CLD_LINE_THREADS
#define OWN     8 /* adjacent elements of a chunk per thread */
#define CHUNK   (THREADS * OWN)

template <typename C> struct wide { typedef double type; };
template <> struct wide<int64_t> { typedef int64_t type; };

/* Integers sum to i64. */
template <typename T> struct total {
    typedef typename std::conditional<cld_is_integer<T>::value, int64_t, T>::type type;
};

/* Integers wrap around. */
__device__ static inline double plus(double a, double b) { return a + b; }
__device__ static inline int64_t plus(int64_t a, int64_t b) { return (int64_t)((uint64_t)a + (uint64_t)b); }

/* ---- a thread per line --------------------------------------------------------------------------------------------- */

template <typename T>
__global__ void __launch_bounds__(THREADS)
    sum_lines(typename total<T>::type *out, const T *x, cld_lines<2> l) {
    typedef typename wide<typename cld_compute<T>::type>::type W;
    int64_t line = (int64_t)blockIdx.x * THREADS + threadIdx.x, at[2];
    if (line >= l.dims.total) return;
    locate<2>(at, l.dims, line);
    W sum = 0;
    for (int64_t i = 0; i < l.length; i++) {
        sum = plus(sum, (W)load(x[at[1] + i * l.strides[1]]));
        out[at[0] + i * l.strides[0]] = convert<typename total<T>::type>(sum);
    }
}

/* ---- chunks -------------------------------------------------------------------------------------------------------- */

/* The sum of the values of the threads before this one, and the total, returned to each thread; by all threads of the
 * block. */
template <typename W> __device__ static W before_mine(W *shared, W value, W *all) {
    W sum = value;
    shared[threadIdx.x] = sum;
    for (uint32_t s = 1; s < THREADS; s *= 2) {
        __syncthreads();
        W other = threadIdx.x >= s ? shared[threadIdx.x - s] : 0;
        __syncthreads();
        shared[threadIdx.x] = sum = plus(sum, other);
    }
    __syncthreads();
    W before = threadIdx.x > 0 ? shared[threadIdx.x - 1] : 0;
    *all = shared[THREADS - 1];
    __syncthreads();
    return before;
}

/* A thread's elements of a chunk, unchanged, and their sum. */
template <typename T, typename W>
__device__ static W load_own(W *own, const T *x, int64_t stride, int64_t left) {
    W sum = 0;
    CLD_UNROLL
    for (int j = 0; j < OWN; j++) {
        own[j] = j < left ? (W)load(x[j * stride]) : 0;
        sum = plus(sum, own[j]);
    }
    return sum;
}

/* Writes the sum of each chunk to sums[line][chunk]. */
template <typename T, typename W>
__global__ void __launch_bounds__(THREADS)
    sum_chunks(W *sums, const T *x, cld_divisor chunks, cld_lines<2> l) {
    CLD_SHARED(W, shared, [THREADS]);
    int64_t line = quotient((int64_t)blockIdx.x, chunks), chunk = blockIdx.x - line * chunks.divisor, at[2];
    int64_t first = chunk * CHUNK + threadIdx.x * OWN;
    W own[OWN], all;
    locate<2>(at, l.dims, line);
    W sum = load_own(own, x + at[1] + first * l.strides[1], l.strides[1], l.length - first);
    before_mine(shared, sum, &all);
    if (threadIdx.x == 0) sums[blockIdx.x] = all;
}

/* One block per line: each chunk's sum becomes the sum of those before it. */
template <typename W> __global__ void __launch_bounds__(THREADS) sums_before(W *sums, int64_t chunks) {
    CLD_SHARED(W, shared, [THREADS]);
    W *line = sums + blockIdx.x * chunks, carry = 0;
    for (int64_t first = 0; first < chunks; first += THREADS) {
        int64_t i = first + threadIdx.x;
        W value = i < chunks ? line[i] : 0, all, before = before_mine(shared, value, &all);
        if (i < chunks) line[i] = plus(carry, before);
        carry = plus(carry, all);
    }
}

/* before: the sum before each chunk, or NULL if a line is one chunk. */
template <typename T, typename W>
__global__ void __launch_bounds__(THREADS) sum_elements(typename total<T>::type *out, const T *x,
                                                        const W *before, cld_divisor chunks, cld_lines<2> l) {
    CLD_SHARED(W, shared, [THREADS]);
    int64_t line = quotient((int64_t)blockIdx.x, chunks), chunk = blockIdx.x - line * chunks.divisor, at[2];
    int64_t first = chunk * CHUNK + threadIdx.x * OWN;
    W own[OWN], all;
    locate<2>(at, l.dims, line);
    W own_sum = load_own(own, x + at[1] + first * l.strides[1], l.strides[1], l.length - first);
    W sum = before_mine(shared, own_sum, &all);
    if (before) sum = plus(before[blockIdx.x], sum);
    typename total<T>::type *y = out + at[0] + first * l.strides[0];
    CLD_UNROLL
    for (int j = 0; j < OWN; j++) {
        sum = plus(sum, own[j]);
        if (first + j < l.length) y[j * l.strides[0]] = convert<typename total<T>::type>(sum);
    }
}

template <typename T> static cld_status run(void *data, const T *x, const cld_lines<2> &l) {
    typename total<T>::type *out = (typename total<T>::type *)data;
    typedef typename wide<typename cld_compute<T>::type>::type W;
    int64_t lines = l.dims.total, chunks = ceil_div(l.length, CHUNK);
    cld_divisor divisor = cld_divisor_of(chunks);
    if (l.length <= 64 || (!l.rows && lines >= 4096))
        return CLD_LAUNCH((sum_lines<T>), (int)ceil_div(lines, THREADS), THREADS, 0, out, x, l);
    if (chunks == 1)
        return CLD_LAUNCH((sum_elements<T, W>), (int)lines, THREADS, 0, out, x, (const W *)NULL, divisor, l);
    CLD_SCRATCH scratch;
    CLD_TRY(cld_cuda_scratch(&scratch, (size_t)(lines * chunks) * sizeof(W)));
    W *sums = (W *)scratch.data;
    CLD_TRY(CLD_LAUNCH((sum_chunks<T, W>), (int)(lines * chunks), THREADS, 0, sums, x, divisor, l));
    CLD_TRY(CLD_LAUNCH((sums_before<W>), (int)lines, THREADS, 0, sums, chunks));
    return CLD_LAUNCH((sum_elements<T, W>), (int)(lines * chunks), THREADS, 0, out, x, (const W *)sums,
                      divisor, l);
}

/* The same lines, read from the other end. */
static cld_array reversed(const cld_array *a, int dim) {
    cld_array r = *a;
    r.data = (char *)a->data + (a->shape[dim] - 1) * a->strides[dim] * (int64_t)cld_dtype_size(a->dtype);
    r.strides[dim] = -a->strides[dim];
    return r;
}

cld_status cld_cuda_cumsum(const cld_array *out, const cld_array *x, int dim, bool reverse) {
    if (cld_numel(x) == 0) return CLD_OK;
    cld_array to = cld_with_strides(out), from = cld_with_strides(x);
    if (reverse) {
        to = reversed(&to, dim);
        from = reversed(&from, dim);
    }
    cld_lines<2> l = cld_lines_of<2>({&to, &from}, dim, OWN);
    CLD_BY_DTYPE(x->dtype, T, return run<T>(to.data, (const T *)from.data, l));
    return CLD_OK;
}
