/* Arrays whose innermost dimensions differ, copied a tile at a time through shared memory: copy.cu, copy_many.cu. */
#ifndef CLD_CUDA_TRANSPOSE_CUH
#define CLD_CUDA_TRANSPOSE_CUH

#include <type_traits>

#include "kernels/cuda/convert.cuh"
#include "kernels/cuda/dims.cuh"
#include "kernels/cuda/walk.h"

/* Tiles of `a` elements along out's innermost dimension by `b` along x's, both powers of two. */
#define TILE         4096
#define TILE_BITS    12
#define TILE_THREADS 256

struct tile_shape {
    uint32_t extent_a, extent_b; /* of the two dimensions */
    int bits_a, bits_b, pitch; /* a tile has 1 << bits elements; rows of b in shared memory are pitch apart */
    int64_t out_b, x_a;        /* strides; out's along a and x's along b are 1 */
};

/* Copies tile first_a, first_b, by all threads of a block. In both directions the lanes of a warp access adjacent
 * memory: along b to read, along a to write. */
template <typename To, typename From>
__device__ static void move_tile(To *out, const From *x, const tile_shape &t, uint32_t first_a,
                                 uint32_t first_b, To *shared) {
    first_a <<= t.bits_a;
    first_b <<= t.bits_b;
    out += first_a + first_b * t.out_b;
    x += first_a * t.x_a + first_b;
    uint32_t width_a = t.extent_a - first_a, width_b = t.extent_b - first_b;
    uint32_t count = 1u << (t.bits_a + t.bits_b);
    From own[TILE / TILE_THREADS]; /* all are read before any is stored: many reads are in flight at once */
    CLD_UNROLL
    for (uint32_t k = 0; k < TILE / TILE_THREADS; k++) {
        uint32_t i = k * TILE_THREADS + threadIdx.x, b = i & ((1u << t.bits_b) - 1), a = i >> t.bits_b;
        if (i < count && a < width_a && b < width_b) own[k] = x[a * t.x_a + b];
    }
    CLD_UNROLL
    for (uint32_t k = 0; k < TILE / TILE_THREADS; k++) {
        uint32_t i = k * TILE_THREADS + threadIdx.x, b = i & ((1u << t.bits_b) - 1), a = i >> t.bits_b;
        if (i < count && a < width_a && b < width_b) shared[a * t.pitch + b] = convert<To>(own[k]);
    }
    __syncthreads();
    CLD_UNROLL
    for (uint32_t k = 0; k < TILE / TILE_THREADS; k++) {
        uint32_t i = k * TILE_THREADS + threadIdx.x, a = i & ((1u << t.bits_a) - 1), b = i >> t.bits_a;
        if (i < count && a < width_a && b < width_b) out[b * t.out_b + a] = shared[a * t.pitch + b];
    }
}

/* The dimension that is innermost in x but not in out, or -1. `least`: the number of elements from which it is worth
 * transposing. */
static inline int transposed_dim(const cld_walk *w, int64_t least) {
    int inner = w->ndim - 1;
    if (w->strides[0][inner] != 1 || w->strides[1][inner] == 1 || w->strides[1][inner] == 0) return -1;
    for (int d = 0; d < inner; d++)
        if (w->strides[1][d] == 1 && w->shape[d] > 1 && w->shape[d] * w->shape[inner] >= least) return d;
    return -1;
}

static inline int bits_for(int64_t extent, int most) {
    int bits = 2;
    while (bits < most && ((int64_t)1 << bits) < extent) bits++;
    return bits;
}

/* size: of an element of out, in bytes. */
static inline tile_shape tile_of(const cld_walk *w, int b, size_t size) {
    tile_shape t = {};
    int a = w->ndim - 1;
    t.extent_a = (uint32_t)w->shape[a];
    t.extent_b = (uint32_t)w->shape[b];
    t.bits_a = bits_for(w->shape[a], TILE_BITS / 2);
    t.bits_b = bits_for(w->shape[b], TILE_BITS - t.bits_a);
    t.bits_a = bits_for(w->shape[a], TILE_BITS - t.bits_b);
    /* Lanes that write read a column of the tile. With an odd number of 4-byte words between rows there are no bank
     * conflicts. */
    t.pitch = (1 << t.bits_b) + (size < 4 ? 4 / (int)size : 1);
    t.out_b = w->strides[0][b];
    t.x_a = w->strides[1][a];
    return t;
}

static inline int64_t tiles_of(int64_t extent, int bits) { return (extent + (1 << bits) - 1) >> bits; }
static inline size_t tile_bytes(const tile_shape &t, size_t size) {
    return ((size_t)t.pitch << t.bits_a) * size;
}

/* Kernels only for the casts of training and of images; others are rare and use the walk. */
template <typename To, typename From> constexpr bool has_transpose() {
    const bool pixels = std::is_same<From, uint8_t>::value, wide = sizeof(To) > 4 || sizeof(From) > 4;
    return std::is_same<To, From>::value ||
           (!cld_is_integer<To>::value && !wide && (pixels || !cld_is_integer<From>::value));
}

#endif
