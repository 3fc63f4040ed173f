/* The positions of nonzero elements, in row-major order. Each block counts them in its piece, one block sums the counts
 * before each piece, and then each block knows where its first row goes. */
#include "kernels/cuda/block.cuh"
#include "kernels/cuda/dims.cuh"
#include "kernels/cuda/math.h"

enum { THREADS = 256, ROUNDS = 16, PIECE = THREADS * ROUNDS };

template <typename T>
static __device__ inline bool is_chosen(const T *x, const cld_dims<1> &dims, int64_t e) {
    int64_t at[1];
    if (e >= dims.total) return false;
    locate<1>(at, dims, e);
    return load(x[at[0]]) != 0;
}

template <typename T>
static __global__ void __launch_bounds__(THREADS)
    count_pieces(int64_t *counts, const T *x, cld_dims<1> dims) {
    CLD_SHARED(int, shared, [BLOCK_WARPS]);
    int count = 0;
    for (int r = 0; r < ROUNDS; r++)
        count += is_chosen(x, dims, (int64_t)blockIdx.x * PIECE + r * THREADS + threadIdx.x);
    count = block_sum(count, shared);
    if (threadIdx.x == 0) counts[blockIdx.x] = count;
}

/* Each count becomes the sum of those before it. */
static __global__ void __launch_bounds__(THREADS) add_up(int64_t *counts, int64_t pieces) {
    CLD_SHARED(int, shared, [BLOCK_WARPS]);
    int64_t sum = 0;
    for (int64_t start = 0; start < pieces; start += THREADS) {
        int64_t i = start + threadIdx.x;
        int total, count = i < pieces ? (int)counts[i] : 0, before = block_before(count, &total, shared);
        if (i < pieces) counts[i] = sum + before;
        sum += total;
    }
}

/* rows: how many out has room for. */
template <typename T>
static __global__ void __launch_bounds__(THREADS)
    write_positions(int64_t *out, int64_t rows, const T *x, cld_dims<1> dims, const int64_t *before_piece) {
    CLD_SHARED(int, shared, [BLOCK_WARPS]);
    int64_t row = before_piece[blockIdx.x];
    for (int r = 0; r < ROUNDS; r++) {
        int64_t e = (int64_t)blockIdx.x * PIECE + r * THREADS + threadIdx.x;
        bool chosen = is_chosen(x, dims, e);
        int total, before = block_before(chosen, &total, shared);
        if (chosen && row + before < rows) {
            int64_t *position = out + (row + before) * dims.count;
            for (int d = dims.count - 1; d > 0; d--) {
                int64_t rest = quotient(e, dims.shape[d]);
                position[d] = e - rest * dims.shape[d].divisor;
                e = rest;
            }
            if (dims.count > 0) position[0] = e;
        }
        row += total;
    }
}

template <typename T>
static cld_status positions(const cld_array *out, const cld_array *x, const cld_dims<1> &dims) {
    int64_t pieces = (dims.total + PIECE - 1) / PIECE;
    CLD_SCRATCH block;
    CLD_TRY(cld_cuda_scratch(&block, (size_t)pieces * sizeof(int64_t)));
    int64_t *counts = (int64_t *)block.data;
    const T *values = (const T *)x->data;
    CLD_TRY(CLD_LAUNCH((count_pieces<T>), (int)pieces, THREADS, 0, counts, values, dims));
    CLD_TRY(CLD_LAUNCH(add_up, 1, THREADS, 0, counts, pieces));
    return CLD_LAUNCH((write_positions<T>), (int)pieces, THREADS, 0, (int64_t *)out->data, out->shape[0],
                      values, dims, (const int64_t *)counts);
}

cld_status cld_cuda_nonzero(const cld_array *out, const cld_array *x) {
    cld_dims<1> dims = {};
    dims.total = 1;
    if (cld_numel(x) == 0 || out->shape[0] == 0) return CLD_OK;
    for (int d = 0; d < x->ndim; d++) push_dim(&dims, x->shape[d], {x->strides[d]});
    CLD_BY_DTYPE(x->dtype, T, return positions<T>(out, x, dims));
    return CLD_OK;
}
