/* Products of integer matrices of any strides, which wrap around: tiles of both factors go through shared memory. They
 * are for counting and index arithmetic; the library has none. */
#include "kernels/cuda/math.h"
#include "kernels/cuda/number.cuh"

#define TILE 16

struct integer_product {
    int64_t m, n, k;
    int64_t out[3], a[3], b[3]; /* strides: batch, rows, columns */
    int64_t bias;               /* its stride */
    int64_t tiles_n;
};

template <typename T>
__global__ void multiply(T *out, const T *a, const T *b, const T *bias, integer_product p) {
    CLD_SHARED(uint64_t, left, [TILE][TILE]);
    CLD_SHARED(uint64_t, right, [TILE][TILE]);
    int row = threadIdx.x / TILE, column = threadIdx.x % TILE;
    int64_t i = blockIdx.x / p.tiles_n * TILE + row, j = blockIdx.x % p.tiles_n * TILE + column;
    uint64_t sum = 0;
    out += blockIdx.y * p.out[0];
    a += blockIdx.y * p.a[0];
    b += blockIdx.y * p.b[0];
    for (int64_t first = 0; first < p.k; first += TILE) {
        int64_t ka = first + column, kb = first + row;
        left[row][column] = i < p.m && ka < p.k ? (uint64_t)load(a[i * p.a[1] + ka * p.a[2]]) : 0;
        right[row][column] = kb < p.k && j < p.n ? (uint64_t)load(b[kb * p.b[1] + j * p.b[2]]) : 0;
        __syncthreads();
        for (int k = 0; k < TILE; k++) sum += left[row][k] * right[k][column];
        __syncthreads();
    }
    if (i >= p.m || j >= p.n) return;
    if (bias) sum += (uint64_t)load(bias[j * p.bias]);
    out[i * p.out[1] + j * p.out[2]] = store<T>((int64_t)sum);
}

static void strides_of(int64_t strides[3], const cld_array *a) {
    strides[0] = a->ndim == 3 ? a->strides[0] : 0;
    strides[1] = a->strides[a->ndim - 2];
    strides[2] = a->strides[a->ndim - 1];
}

template <typename T>
static cld_status run(const cld_array *out, const cld_array *a, const cld_array *b, const cld_array *bias,
                      const integer_product &p) {
    int64_t tiles = (p.m + TILE - 1) / TILE * p.tiles_n, batch = out->ndim == 3 ? out->shape[0] : 1;
    for (int64_t first = 0; first < batch; first += 65535) { /* the largest y of a grid */
        unsigned count = (unsigned)(batch - first < 65535 ? batch - first : 65535);
        CLD_TRY(CLD_LAUNCH((multiply<T>), dim3((unsigned)tiles, count), TILE * TILE, 0,
                           (T *)out->data + first * p.out[0], (const T *)a->data + first * p.a[0],
                           (const T *)b->data + first * p.b[0],
                           bias ? (const T *)bias->data : (const T *)NULL, p));
    }
    return CLD_OK;
}

cld_status cld_cuda_integer_gemm(const cld_array *out, const cld_array *a, const cld_array *b,
                                 const cld_array *bias) {
    integer_product p = {};
    p.m = out->shape[out->ndim - 2];
    p.n = out->shape[out->ndim - 1];
    p.k = a->shape[a->ndim - 1];
    p.bias = bias ? bias->strides[0] : 0;
    p.tiles_n = (p.n + TILE - 1) / TILE;
    strides_of(p.out, out);
    strides_of(p.a, a);
    strides_of(p.b, b);
    switch (out->dtype) {
        CLD_CASE(I64, int64_t, T, return run<T>(out, a, b, bias, p))
        CLD_CASE(I32, int32_t, T, return run<T>(out, a, b, bias, p))
        CLD_CASE(U8, uint8_t, T, return run<T>(out, a, b, bias, p))
    default: return cld_fail(CLD_UNSUPPORTED, "gemm: a product of integers cannot be stored as floats");
    }
    return CLD_OK;
}
