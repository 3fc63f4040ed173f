/* Arrays as lines along one dimension. A block is a rectangle of threads: 2^bits of them share a line, the others take
 * the next lines. If the elements of a line lie closer together than neighbouring lines ("rows"), neighbouring threads
 * go along the line, else across the lines. Either way a warp reads adjacent memory. */
#ifndef CLD_CUDA_LINES_CUH
#define CLD_CUDA_LINES_CUH

#include "kernels/cuda/dims.cuh"
#include "kernels/cuda/walk.h"

#include <stdlib.h>

#define CLD_LINE_THREADS 256
#define CLD_LINE_BLOCKS  1024 /* enough to keep a GPU busy */

template <int N> struct cld_lines {
    cld_dims<N> dims; /* these count the lines */
    int64_t length, strides[N];
    bool rows;
    int bits;
};

static inline int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

/* The fewest bits with 2^bits >= count, but no more than `most`. */
static inline int bits_for(int64_t count, int most) {
    int bits = 0;
    while (bits < most && ((int64_t)1 << bits) < count) bits++;
    return bits;
}

/* For strided arrays of one shape (except along dim); each thread gets about `each` elements. The last array determines
 * the length, and decides on rows. */
template <int N>
static cld_lines<N> cld_lines_of(const cld_array *const (&arrays)[N], int dim, int64_t each) {
    cld_lines<N> l = {};
    int64_t nearest = INT64_MAX;
    const cld_array *x = arrays[N - 1];
    l.length = x->shape[dim];
    l.dims.total = 1;
    for (int k = 0; k < N; k++) l.strides[k] = arrays[k]->strides[dim];
    for (int d = 0; d < x->ndim; d++) {
        if (d == dim) continue;
        int64_t strides[N];
        for (int k = 0; k < N; k++) strides[k] = arrays[k]->strides[d];
        push_dim<N>(&l.dims, x->shape[d], strides);
        if (x->shape[d] > 1) nearest = llabs(x->strides[d]);
    }
    l.rows = llabs(x->strides[dim]) < nearest;
    int bits = bits_for(ceil_div(l.length, each), 8), across = l.rows ? 0 : bits_for(l.dims.total, 5);
    l.bits = bits < 8 - across ? bits : 8 - across;
    return l;
}

template <int N> static int cld_line_blocks(const cld_lines<N> &l) {
    return (int)ceil_div(l.dims.total, CLD_LINE_THREADS >> l.bits);
}

/* Into how many parts, one block each, to cut lines of `units` that have 2^bits threads and `blocks` blocks, so that
 * all of a GPU has work and each thread a few rounds of `ahead` units. */
static inline int cld_line_parts(int64_t blocks, int64_t units, int bits, int64_t ahead) {
    int64_t useful = units / ((ahead * 4) << bits),
            parts = blocks >= CLD_LINE_BLOCKS / 2 ? 1 : CLD_LINE_BLOCKS / blocks;
    if (parts > useful) parts = useful;
    return parts < 1 ? 1 : (int)parts;
}

/* A thread's position: number `mine` of the 2^bits threads of its line. */
struct cld_place {
    uint32_t mine, along; /* along = 2^bits */
    uint32_t apart;       /* distance in the block to the next thread of the line */
    int64_t line;
};

template <int N> __device__ inline cld_place place_of(const cld_lines<N> &l) {
    uint32_t along = 1u << l.bits, across = CLD_LINE_THREADS >> l.bits, thread = threadIdx.x;
    cld_place p = {l.rows ? thread & (along - 1) : thread / across, along, l.rows ? 1 : across,
                   (int64_t)blockIdx.x * across + (l.rows ? thread >> l.bits : thread & (across - 1))};
    return p;
}

/* Combines the values of a line's threads and returns the result to each of them; called by all threads of the block.
 * `shared` has one value per thread. */
template <typename W, typename F> __device__ inline W over_line(W *shared, const cld_place &p, W value, F f) {
    shared[threadIdx.x] = value;
    for (uint32_t s = p.along / 2; s > 0; s /= 2) {
        __syncthreads();
        if (p.mine < s) shared[threadIdx.x] = f(shared[threadIdx.x], shared[threadIdx.x + s * p.apart]);
    }
    __syncthreads();
    W result = shared[threadIdx.x - p.mine * p.apart];
    __syncthreads();
    return result;
}

#endif
