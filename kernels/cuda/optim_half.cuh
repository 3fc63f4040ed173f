/* The 16-bit arrays of an optimizer's step: gradients as convolutions leave them, and copies of the weights as
 * convolutions take them.
 *
 * Both are channels last; the parameter and the rule's state are not. So a block's share is a piece that is contiguous
 * in both: some of the parameter's (out) rows of channels times inner, or some channels of one such row with all of
 * inner. It goes through a tile in shared memory with the 16-bit arrays' layout. Memory is read and written there in
 * adjacent elements, while each thread finds in the tile the elements that it has of the parameter. The same thread
 * reads an element's gradient and then stores its copy there, so one tile serves both. */
#ifndef CLD_CUDA_OPTIM_HALF_CUH
#define CLD_CUDA_OPTIM_HALF_CUH

#include "kernels/cuda/number.cuh"
#include "kernels/cuda/optim.cuh"

enum { HALF_TILE = 4096, HALF_NONE = 0, HALF_BF16 = 1, HALF_F16 = 2 };

template <int CAPACITY> struct half_table {
    void *copy[CAPACITY];     /* NULL: none */
    uint32_t parts[CAPACITY]; /* parts of a row of channels; 1: a block has whole rows */
    uint16_t size[CAPACITY];  /* elements per block */
    uint16_t width[CAPACITY]; /* channels per part */
    uint16_t inner[CAPACITY];
    uint8_t grad_kind[CAPACITY]; /* HALF_*; HALF_NONE: the gradient has the parameter's dtype */
    uint8_t copy_kind[CAPACITY];
};

static inline uint8_t half_kind(cld_dtype d) {
    if (d == CLD_BF16) return HALF_BF16;
    return d == CLD_F16 ? HALF_F16 : HALF_NONE;
}

static inline bool has_half(const cld_step_tensor *t) { return t->copy || half_kind(t->grad_dtype); }

/* Tensor i's part of the table; size: the elements per block. */
template <typename table_type>
static void place_half(table_type *table, int i, const cld_step_tensor *t, int size) {
    bool last = has_half(t) && t->inner > 1;
    int64_t inner = last ? t->inner : 1, channels = last ? t->channels : size, parts = 1;
    while (channels % parts || channels / parts * inner > size) parts++;
    int64_t width = channels / parts, rows = parts > 1 ? 1 : size / (width * inner);
    /* Then the next block's first element is 16-byte aligned too. */
    if (rows >= 4) rows -= rows % 4;
    table->copy[i] = t->copy;
    table->parts[i] = (uint32_t)parts;
    table->size[i] = (uint16_t)(rows * width * inner);
    table->width[i] = (uint16_t)width;
    table->inner[i] = (uint16_t)inner;
    table->grad_kind[i] = half_kind(t->grad_dtype);
    table->copy_kind[i] = t->copy ? half_kind(t->copy_dtype) : (uint8_t)HALF_NONE;
}

/* The tile of a launch without 16-bit arrays: nothing. */
template <bool HALF> struct half_tile {
    template <typename table_type> __device__ half_tile(const table_type &, int, int, uint16_t *) {}
    __device__ bool has_grad() const { return false; }
    __device__ bool has_copy() const { return false; }
    __device__ float grad(int) const { return 0; }
    __device__ void put(int, float) const {}
    __device__ void fetch(const void *, int) const {}
    __device__ void deliver(int) const {}
};

template <> struct half_tile<true> {
    uint16_t *tile, *copy;
    uint32_t width, inner;
    uint32_t per_width, per_inner; /* 2^32 divided by it, rounded up: exact for numbers below 2^16 */
    int64_t first, pitch;          /* offset of the tile's rows of `width`, and the distance between them */
    int grad_kind, copy_kind;

    template <typename table_type>
    __device__ half_tile(const table_type &table, int i, int block, uint16_t *shared)
        : tile(shared), copy((uint16_t *)table.copy[i]), width(table.width[i]), inner(table.inner[i]),
          per_width(UINT32_MAX / width + 1), per_inner(UINT32_MAX / inner + 1), grad_kind(table.grad_kind[i]),
          copy_kind(table.copy_kind[i]) {
        int64_t parts = table.parts[i], row = block / parts, part = block - row * parts;
        pitch = parts * width;
        first = row * parts * table.size[i] + part * width;
    }
    __device__ bool has_grad() const { return grad_kind != HALF_NONE; }
    __device__ bool has_copy() const { return copy_kind != HALF_NONE; }
    /* x / by for x < 2^16; `per` is 0 for by = 1 */
    __device__ static uint32_t over(uint32_t x, uint32_t per) {
        return per ? (uint32_t)((uint64_t)x * per >> 32) : x;
    }
    /* Where element e of the share, counted as in the parameter, is in the tile. */
    __device__ uint32_t place(uint32_t e) const {
        if (inner == 1) return e;
        uint32_t channel = over(e, per_inner), k = e - channel * inner, row = over(channel, per_width);
        return (row * inner + k) * width + (channel - row * width);
    }
    /* Where the tile's element is in the 16-bit array. */
    __device__ int64_t outside(uint32_t at) const {
        uint32_t row = over(at, per_width);
        return first + row * pitch + (at - row * width);
    }
    __device__ float grad(int e) const {
        uint32_t at = place((uint32_t)e);
        return grad_kind == HALF_BF16 ? load(((const bf16 *)tile)[at]) : load(((const f16 *)tile)[at]);
    }
    __device__ void put(int e, float value) const {
        uint32_t at = place((uint32_t)e);
        if (copy_kind == HALF_BF16)
            ((bf16 *)tile)[at] = store<bf16>(value);
        else
            ((f16 *)tile)[at] = store<f16>(value);
    }
    /* Called by all threads of a block. */
    __device__ void fetch(const void *from, int n) const {
        if (!has_grad()) return;
#pragma unroll
        for (uint32_t k = 0; k < HALF_TILE / THREADS; k++) {
            uint32_t at = k * THREADS + threadIdx.x;
            if (at < (uint32_t)n) tile[at] = ((const uint16_t *)from)[outside(at)];
        }
        __syncthreads();
    }
    __device__ void deliver(int n) const {
        if (!has_copy()) return;
        __syncthreads();
#pragma unroll
        for (uint32_t k = 0; k < HALF_TILE / THREADS; k++) {
            uint32_t at = k * THREADS + threadIdx.x;
            if (at < (uint32_t)n) copy[outside(at)] = tile[at];
        }
    }
};

#endif
