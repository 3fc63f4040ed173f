/* The bias of a convolution, channels last (channels.cuh), and its gradient: sums over rows, which like those of norm.cu
 * leave one partial result per chunk, in a fixed order. */
#include "kernels/cuda/activation.h"
#include "kernels/cuda/channels.cuh"
#include "kernels/cuda/conv.h"

template <typename T, int WIDTH>
__global__ void add_bias(T *y, const typename cld_compute<T>::type *bias, channel_rows m) {
    channel_part part = part_of(m, (int)blockIdx.x, WIDTH);
    if (!part.any) return;
    typename cld_compute<T>::type add[WIDTH];
    load_run<typename cld_compute<T>::type, WIDTH>(add, bias + part.column);
    int64_t step = blockDim.y, at = part.first * m.channels + part.column;
    for (int64_t row = part.first; row < part.end; row += CHANNEL_UNROLL * step) {
        pack<T, WIDTH> in[CHANNEL_UNROLL];
        for (int u = 0; u < CHANNEL_UNROLL; u++)
            if (row + u * step < part.end) in[u] = load_pack<T, WIDTH>(y + at + u * step * m.channels);
        for (int u = 0; u < CHANNEL_UNROLL; u++)
            if (row + u * step < part.end) {
                for (int v = 0; v < WIDTH; v++) in[u].at[v] = store<T>(load(in[u].at[v]) + add[v]);
                store_pack<T, WIDTH>(y + at + u * step * m.channels, in[u]);
            }
        at += CHANNEL_UNROLL * step * m.channels;
    }
}

/* partial (chunks, channels) */
template <typename T, int WIDTH>
__global__ void sum_rows(typename cld_compute<T>::type *partial, const T *dy, channel_rows m) {
    typedef typename cld_compute<T>::type A;
    CLD_DYNAMIC_SHARED(A, shared);
    channel_part part = part_of(m, (int)blockIdx.x, WIDTH);
    A sum[WIDTH];
    for (int v = 0; v < WIDTH; v++) sum[v] = 0;
    int64_t step = blockDim.y, at = part.first * m.channels + part.column;
    for (int64_t row = part.first; part.any && row < part.end; row += CHANNEL_UNROLL * step) {
        pack<T, WIDTH> in[CHANNEL_UNROLL];
        for (int u = 0; u < CHANNEL_UNROLL; u++)
            if (row + u * step < part.end) in[u] = load_pack<T, WIDTH>(dy + at + u * step * m.channels);
        for (int u = 0; u < CHANNEL_UNROLL; u++)
            if (row + u * step < part.end)
                for (int v = 0; v < WIDTH; v++) sum[v] += load(in[u].at[v]);
        at += CHANNEL_UNROLL * step * m.channels;
    }
    sum_down<A, WIDTH>(sum, shared);
    if (threadIdx.y != 0 || !part.any) return;
    store_run<A, WIDTH>(partial + (int64_t)blockIdx.x * m.channels + part.column, sum);
}

template <typename A> __global__ void finish_sum(A *out, const A *partial, channel_rows m) {
    CLD_SHARED(double, shared, [FINISH_DOWN * FINISH_CHANNELS]);
    int c = (int)(blockIdx.x * FINISH_CHANNELS + threadIdx.x);
    bool any = c < m.channels;
    double sum = 0;
    for (int chunk = (int)threadIdx.y; any && chunk < m.chunks; chunk += FINISH_DOWN)
        sum += (double)partial[(int64_t)chunk * m.channels + c];
    sum = sum_of_column(sum, shared);
    if (any && threadIdx.y == 0) out[c] = (A)sum;
}

/* ---- launches ---------------------------------------------------------------------------------------------------------- */

static int64_t rows_of(const cld_array *y) { return y->shape[0] * y->shape[2] * y->shape[3]; }

template <typename T, int WIDTH> static cld_status add(const cld_array *y, const cld_array *bias) {
    channel_launch l = launch_of(rows_of(y), y->shape[1], WIDTH);
    return CLD_LAUNCH((add_bias<T, WIDTH>), l.blocks, l.threads, 0, (T *)y->data,
                      (const typename cld_compute<T>::type *)bias->data, l.m);
}

template <typename T, int WIDTH> static cld_status sum(const cld_array *dbias, const cld_array *dy) {
    typedef typename cld_compute<T>::type A;
    channel_launch l = launch_of(rows_of(dy), dy->shape[1], WIDTH);
    CLD_SCRATCH partial;
    CLD_TRY(cld_cuda_scratch(&partial, (size_t)l.m.chunks * (size_t)l.m.channels * sizeof(A)));
    CLD_TRY(CLD_LAUNCH((sum_rows<T, WIDTH>), l.blocks, l.threads,
                       (size_t)l.threads.x * l.threads.y * WIDTH * sizeof(A), (A *)partial.data,
                       (const T *)dy->data, l.m));
    int blocks = (l.m.channels + FINISH_CHANNELS - 1) / FINISH_CHANNELS;
    return CLD_LAUNCH((finish_sum<A>), blocks, dim3(FINISH_CHANNELS, FINISH_DOWN), 0, (A *)dbias->data,
                      (const A *)partial.data, l.m);
}

cld_status cld_cuda_add_bias(const cld_array *y, const cld_array *bias) {
    const void *arrays[] = {y->data, bias->data};
    CLD_BY_WIDTH(add, y, arrays, y, bias);
    return CLD_OK;
}

cld_status cld_cuda_bias_gradient(const cld_array *dbias, const cld_array *dy) {
    const void *arrays[] = {dy->data};
    CLD_BY_WIDTH(sum, dy, arrays, dbias, dy);
    return CLD_OK;
}
