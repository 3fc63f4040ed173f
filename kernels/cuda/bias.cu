/* The bias of a convolution, channels last (channels.cuh), and its gradient: sums over rows, which leave one partial
 * result per chunk, as in norm.cu, added in a fixed order. */
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

/* Adds up partial (chunks, channels) for a slice. */
template <typename A, int WIDTH>
__device__ static void finish_sum(A *out, const A *partial, const channel_rows &m, int slice,
                                  double *shared) {
    enum { COUNT = ending<WIDTH>::COUNT, ROWS = ending<WIDTH>::ROWS };
    ending<WIDTH> e(slice);
    bool any = e.column < m.channels;
    double sum[COUNT];
    for (int v = 0; v < COUNT; v++) sum[v] = 0;
    for (int chunk = e.first; any && chunk < m.chunks; chunk += e.step) {
        A in[COUNT];
        load_run<A, COUNT>(in, partial + (int64_t)chunk * m.channels + e.column);
        for (int v = 0; v < COUNT; v++) sum[v] += (double)in[v];
    }
    sum_down<double, COUNT, ROWS>(sum, shared);
    for (int v = 0; v < COUNT && threadIdx.y < ROWS && any; v++) out[e.column + v] = (A)sum[v];
}

/* partial (chunks, channels): sums over each chunk. */
template <typename T, int WIDTH>
__global__ void sum_rows(typename cld_compute<T>::type *out, typename cld_compute<T>::type *partial,
                         unsigned *tickets, const T *dy, channel_rows m) {
    typedef typename cld_compute<T>::type A;
    CLD_DYNAMIC_SHARED(double, shared);
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
    sum_down<A, WIDTH>(sum, (A *)shared);
    if (threadIdx.y == 0 && part.any)
        store_run<A, WIDTH>(partial + (int64_t)part.chunk * m.channels + part.column, sum);
    int ticket = part.slice % CLD_TICKETS;
    if (!comes_last(tickets + ticket, (unsigned)(m.chunks * groups_of_ticket(part.slice, m.slices)))) return;
    for (int slice = ticket; slice < m.slices; slice += CLD_TICKETS)
        finish_sum<A, WIDTH>(out, partial, m, slice, shared);
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
    if (l.blocks == 0) return cld_cuda_clear(dbias->data, (size_t)l.m.channels * sizeof(A));
    return CLD_LAUNCH((sum_rows<T, WIDTH>), l.blocks, l.threads,
                      (size_t)l.threads.x * l.threads.y * WIDTH * sizeof(double), (A *)dbias->data,
                      (A *)partial.data, cld_cuda_tickets(), (const T *)dy->data, l.m);
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
