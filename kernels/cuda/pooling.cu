/* Max and average pooling of floats, with sums in f32 (f64 for f64).
 *
 * Gather form, forward and backward: a thread computes one position of the output, for `WIDTH` channels, 16 bytes if
 * they are adjacent. No two threads add to the same value, so sums are the same every time.
 *
 * A block is one row of one image's output; its threads go along the columns and channels. Strides handle every layout.
 */
#include "kernels/cuda/activation.h"
#include "kernels/cuda/channels.cuh"
#include "kernels/cuda/conv.h"

#define POOL_THREADS 256

typedef struct map {
    int height, width;
    int64_t image, channel, row, column; /* strides, in elements */
} map;

typedef struct pool {
    map x, y; /* the large and the small map, or their gradients */
    int channels;
    cld_pool_params p;
} pool;

static map map_of(const cld_array *a) {
    map m = {(int)a->shape[2], (int)a->shape[3], a->strides[0], a->strides[1], a->strides[2], a->strides[3]};
    if (cld_cuda_is_channels_last(a)) {
        m.channel = 1;
        m.column = a->shape[1];
        m.row = m.column * m.width;
        m.image = m.row * m.height;
    }
    return m;
}

/* Taps or positions first, ..., last - 1. */
typedef struct range {
    int first, last;
} range;

/* In the large map: the inputs that output position i reads, along axis. */
__device__ inline range inputs_of(const cld_pool_params &p, int axis, int i, int extent) {
    range r;
    int first = i * p.stride[axis] - p.padding[axis], last = first + p.kernel[axis];
    r.first = first < 0 ? 0 : first;
    r.last = last > extent ? extent : last;
    return r;
}

/* In the small map: the outputs that read input position i. */
__device__ inline range outputs_of(const cld_pool_params &p, int axis, int i, int extent) {
    range r;
    int before = i + p.padding[axis] - p.kernel[axis], last = (i + p.padding[axis]) / p.stride[axis] + 1;
    r.first = before < 0 ? 0 : before / p.stride[axis] + 1;
    r.last = last > extent ? extent : last;
    return r;
}

/* ---- max --------------------------------------------------------------------------------------------------------------- */

/* NaN wins over everything; the first among equals, as in PyTorch. argmax has y's strides. */
template <typename T, int WIDTH> __global__ void max_pool(T *y, int32_t *argmax, const T *x, pool s) {
    typedef typename cld_compute<T>::type A;
    int image = (int)(blockIdx.x / (unsigned)s.y.height), i = (int)(blockIdx.x % (unsigned)s.y.height);
    int groups = s.channels / WIDTH;
    range rows = inputs_of(s.p, 0, i, s.x.height);
    for (int k = (int)threadIdx.x; k < s.y.width * groups; k += (int)blockDim.x) {
        int j = k / groups, c = k % groups * WIDTH;
        range columns = inputs_of(s.p, 1, j, s.x.width);
        const T *from = x + image * s.x.image + c * s.x.channel;
        A best[WIDTH];
        int32_t where[WIDTH];
        for (int v = 0; v < WIDTH; v++) {
            best[v] = -INFINITY;
            where[v] = rows.first * s.x.width + columns.first;
        }
        for (int h = rows.first; h < rows.last; h++)
            for (int w = columns.first; w < columns.last; w++) {
                pack<T, WIDTH> in = load_pack<T, WIDTH>(from + h * s.x.row + w * s.x.column);
                for (int v = 0; v < WIDTH; v++) {
                    A value = load(in.at[v]);
                    bool better = value > best[v] || (value != value && best[v] == best[v]);
                    best[v] = better ? value : best[v];
                    where[v] = better ? h * s.x.width + w : where[v];
                }
            }
        int64_t to = image * s.y.image + i * s.y.row + j * s.y.column + c * s.y.channel;
        pack<T, WIDTH> out;
        for (int v = 0; v < WIDTH; v++) out.at[v] = store<T>(best[v]);
        store_pack<T, WIDTH>(y + to, out);
        store_run<int32_t, WIDTH>(argmax + to, where);
    }
}

template <typename T, int WIDTH>
__global__ void max_pool_backward(T *dx, const T *dy, const int32_t *argmax, pool s) {
    typedef typename cld_compute<T>::type A;
    int image = (int)(blockIdx.x / (unsigned)s.x.height), h = (int)(blockIdx.x % (unsigned)s.x.height);
    int groups = s.channels / WIDTH;
    range rows = outputs_of(s.p, 0, h, s.y.height);
    for (int k = (int)threadIdx.x; k < s.x.width * groups; k += (int)blockDim.x) {
        int w = k / groups, c = k % groups * WIDTH;
        range columns = outputs_of(s.p, 1, w, s.y.width);
        A sum[WIDTH];
        for (int v = 0; v < WIDTH; v++) sum[v] = 0;
        for (int i = rows.first; i < rows.last; i++)
            for (int j = columns.first; j < columns.last; j++) {
                int64_t at = image * s.y.image + i * s.y.row + j * s.y.column + c * s.y.channel;
                pack<T, WIDTH> in = load_pack<T, WIDTH>(dy + at);
                int32_t where[WIDTH];
                load_run<int32_t, WIDTH>(where, argmax + at);
                for (int v = 0; v < WIDTH; v++)
                    if (where[v] == h * s.x.width + w) sum[v] += load(in.at[v]);
            }
        pack<T, WIDTH> out;
        for (int v = 0; v < WIDTH; v++) out.at[v] = store<T>(sum[v]);
        store_pack<T, WIDTH>(dx + image * s.x.image + h * s.x.row + w * s.x.column + c * s.x.channel, out);
    }
}

/* ---- average ----------------------------------------------------------------------------------------------------------- */

/* Padding counts, and every window lies within the padded map, so all have the same number of taps. S, the type of the
 * small map, is T or T's compute type. */

template <typename T, typename S, int WIDTH> __global__ void avg_pool(S *y, const T *x, pool s) {
    typedef typename cld_compute<T>::type A;
    int image = (int)(blockIdx.x / (unsigned)s.y.height), i = (int)(blockIdx.x % (unsigned)s.y.height);
    int groups = s.channels / WIDTH;
    range rows = inputs_of(s.p, 0, i, s.x.height);
    A taps = (A)s.p.kernel[0] * (A)s.p.kernel[1];
    for (int k = (int)threadIdx.x; k < s.y.width * groups; k += (int)blockDim.x) {
        int j = k / groups, c = k % groups * WIDTH;
        range columns = inputs_of(s.p, 1, j, s.x.width);
        const T *from = x + image * s.x.image + c * s.x.channel;
        A sum[WIDTH];
        for (int v = 0; v < WIDTH; v++) sum[v] = 0;
        for (int h = rows.first; h < rows.last; h++)
            for (int w = columns.first; w < columns.last; w++) {
                pack<T, WIDTH> in = load_pack<T, WIDTH>(from + h * s.x.row + w * s.x.column);
                for (int v = 0; v < WIDTH; v++) sum[v] += load(in.at[v]);
            }
        S out[WIDTH];
        for (int v = 0; v < WIDTH; v++) out[v] = store<S>(sum[v] / taps);
        store_run<S, WIDTH>(y + image * s.y.image + i * s.y.row + j * s.y.column + c * s.y.channel, out);
    }
}

template <typename T, typename S, int WIDTH> __global__ void avg_pool_backward(T *dx, const S *dy, pool s) {
    typedef typename cld_compute<T>::type A;
    int image = (int)(blockIdx.x / (unsigned)s.x.height), h = (int)(blockIdx.x % (unsigned)s.x.height);
    int groups = s.channels / WIDTH;
    range rows = outputs_of(s.p, 0, h, s.y.height);
    A taps = (A)s.p.kernel[0] * (A)s.p.kernel[1];
    for (int k = (int)threadIdx.x; k < s.x.width * groups; k += (int)blockDim.x) {
        int w = k / groups, c = k % groups * WIDTH;
        range columns = outputs_of(s.p, 1, w, s.y.width);
        A sum[WIDTH];
        for (int v = 0; v < WIDTH; v++) sum[v] = 0;
        for (int i = rows.first; i < rows.last; i++)
            for (int j = columns.first; j < columns.last; j++) {
                S in[WIDTH];
                load_run<S, WIDTH>(in,
                                   dy + image * s.y.image + i * s.y.row + j * s.y.column + c * s.y.channel);
                for (int v = 0; v < WIDTH; v++) sum[v] += load(in[v]) / taps;
            }
        pack<T, WIDTH> out;
        for (int v = 0; v < WIDTH; v++) out.at[v] = store<T>(sum[v]);
        store_pack<T, WIDTH>(dx + image * s.x.image + h * s.x.row + w * s.x.column + c * s.x.channel, out);
    }
}

/* ---- launches ---------------------------------------------------------------------------------------------------------- */

typedef enum which { MAX, MAX_BACKWARD, AVG, AVG_BACKWARD } which;

template <typename T, typename S, int WIDTH>
static cld_status launch_average(bool backward, dim3 blocks, int threads, const cld_array *x,
                                 const cld_array *y, const pool &s) {
    if (backward)
        return CLD_LAUNCH((avg_pool_backward<T, S, WIDTH>), blocks, threads, 0, (T *)x->data,
                          (const S *)y->data, s);
    return CLD_LAUNCH((avg_pool<T, S, WIDTH>), blocks, threads, 0, (S *)y->data, (const T *)x->data, s);
}

template <typename T, int WIDTH>
static cld_status launch(which kind, const cld_array *x, const cld_array *y, int32_t *argmax, const pool &s) {
    bool backward = kind == MAX_BACKWARD || kind == AVG_BACKWARD;
    const map &out = backward ? s.x : s.y;
    int64_t work = (int64_t)out.width * (s.channels / WIDTH);
    int threads = work < POOL_THREADS ? (int)((work + 31) / 32 * 32) : POOL_THREADS;
    dim3 blocks((unsigned)(x->shape[0] * out.height));
    T *large = (T *)x->data, *small = (T *)y->data;
    switch (kind) {
    case MAX: return CLD_LAUNCH((max_pool<T, WIDTH>), blocks, threads, 0, small, argmax, (const T *)large, s);
    case MAX_BACKWARD:
        return CLD_LAUNCH((max_pool_backward<T, WIDTH>), blocks, threads, 0, large, (const T *)small,
                          (const int32_t *)argmax, s);
    default:
        if (y->dtype == x->dtype) return launch_average<T, T, WIDTH>(backward, blocks, threads, x, y, s);
        return launch_average<T, typename cld_compute<T>::type, WIDTH>(backward, blocks, threads, x, y, s);
    }
}

/* If a map is row-major, this goes one element at a time, which works for every layout. */
static cld_status run(which kind, const cld_array *x, const cld_array *y, const cld_array *argmax,
                      const cld_pool_params *p) {
    bool backward = kind == MAX_BACKWARD || kind == AVG_BACKWARD;
    if (cld_numel(backward ? x : y) == 0) return CLD_OK;
    pool s = {map_of(x), map_of(y), (int)x->shape[1], *p};
    int32_t *where = argmax ? (int32_t *)argmax->data : NULL;
    bool last = cld_cuda_is_channels_last(x) && cld_cuda_is_channels_last(y);
    const void *arrays[] = {x->data, y->data, where};
    CLD_BY_FLOAT(x->dtype, T,
                 if (last && lies_in_packs<T>(x->shape[1], arrays, 3))
                     CLD_TRY((launch<T, (int)(16 / sizeof(T))>(kind, x, y, where, s)));
                 else CLD_TRY((launch<T, 1>(kind, x, y, where, s))));
    return CLD_OK;
}

cld_status cld_cuda_max_pool(const cld_array *y, const cld_array *argmax, const cld_array *x,
                             const cld_pool_params *p) {
    return run(MAX, x, y, argmax, p);
}

cld_status cld_cuda_max_pool_backward(const cld_array *dx, const cld_array *dy, const cld_array *argmax,
                                      const cld_pool_params *p) {
    return run(MAX_BACKWARD, dx, dy, argmax, p);
}

cld_status cld_cuda_avg_pool(const cld_array *y, const cld_array *x, const cld_pool_params *p) {
    return run(AVG, x, y, NULL, p);
}

cld_status cld_cuda_avg_pool_backward(const cld_array *dx, const cld_array *dy, const cld_pool_params *p) {
    return run(AVG_BACKWARD, dx, dy, NULL, p);
}
