/* Batch normalization, channels last (channels.cuh), f32, bf16 and f16 with sums in f32, and f64.
 *
 * Memory is all that it costs. Forward: a pass over x for the statistics, a pass that writes y. Backward: a pass over x
 * and dy for two sums per channel, a pass that writes dx. Each first pass leaves one partial result per chunk of rows;
 * a small kernel makes the whole of them. The second pass takes the chunks in reverse: those that the first read last are
 * still in the L2 cache.
 *
 * Where dresidual is wanted, the first pass of backward writes it: the masked dy, which the second then reads in place of
 * dy and the mask.
 */
#include "kernels/cuda/activation.h"
#include "kernels/cuda/channels.cuh"
#include "kernels/cuda/conv.h"

/* Vectors over the channels; those that were not given are NULL. */
template <typename A> struct affine { const A *mean, *invstd, *weight, *bias; };

/* y = (x - mean) * scale + shift */
template <typename A> struct line { A mean, scale, shift; };

/* Of COUNT neighbours from channel c on. */
template <typename A, int COUNT> __device__ inline void load_lines(line<A> *l, const affine<A> &f, int c) {
    A mean[COUNT], scale[COUNT], factor[COUNT], shift[COUNT];
    load_run<A, COUNT>(mean, f.mean + c);
    load_run<A, COUNT>(scale, f.invstd + c);
    for (int v = 0; v < COUNT; v++) factor[v] = 1, shift[v] = 0;
    if (f.weight) load_run<A, COUNT>(factor, f.weight + c);
    if (f.bias) load_run<A, COUNT>(shift, f.bias + c);
    for (int v = 0; v < COUNT; v++) {
        l[v].mean = mean[v];
        l[v].scale = scale[v] * factor[v];
        l[v].shift = shift[v];
    }
}

/* NaN stays NaN: a step that has diverged is seen to have. */
template <typename A> __device__ inline A relu(A v) { return v <= 0 ? 0 : v; }

/* ---- statistics ------------------------------------------------------------------------------------------------------ */

/* Rows of a chunk of `rows` whose number is `at` modulo `modulus`. */
__device__ inline int64_t rows_at(int64_t rows, int modulus, int at) {
    return (rows - at + modulus - 1) / modulus;
}

/* partial (chunks, 2, channels): mean, and sum of squared differences from it. A thread sums differences from its first
 * value, which keeps the digits that a mean far from zero would take; threads are merged as Chan, Golub and LeVeque do. */
template <typename T, int WIDTH>
__global__ void __launch_bounds__(CHANNEL_THREADS, 3)
    statistics(typename cld_compute<T>::type *partial, unsigned *finished, const T *x, channel_rows m) {
    typedef typename cld_compute<T>::type A;
    CLD_DYNAMIC_SHARED(A, shared);
    if (blockIdx.x + blockIdx.y + threadIdx.x + threadIdx.y == 0) *finished = 0;
    channel_part part = part_of(m, (int)blockIdx.x, WIDTH);
    A first[WIDTH], mean[WIDTH], m2[WIDTH];
    for (int v = 0; v < WIDTH; v++) first[v] = mean[v] = m2[v] = 0;
    int64_t count = 0, step = blockDim.y;
    if (part.any && part.first < part.end) {
        const T *from = x + part.first * m.channels + part.column;
        for (int64_t row = part.first; row < part.end; row += CHANNEL_UNROLL * step) {
            pack<T, WIDTH> in[CHANNEL_UNROLL];
            for (int u = 0; u < CHANNEL_UNROLL; u++)
                if (row + u * step < part.end) in[u] = load_pack<T, WIDTH>(from + u * step * m.channels);
            for (int v = 0; v < WIDTH && row == part.first; v++) first[v] = load(in[0].at[v]);
            for (int u = 0; u < CHANNEL_UNROLL; u++)
                if (row + u * step < part.end) {
                    count++;
                    for (int v = 0; v < WIDTH; v++) {
                        A d = load(in[u].at[v]) - first[v];
                        mean[v] += d;
                        m2[v] = multiply_add(d, d, m2[v]);
                    }
                }
            from += CHANNEL_UNROLL * step * m.channels;
        }
        A share = 1 / (A)count;
        for (int v = 0; v < WIDTH; v++) {
            A sum = mean[v], rest = m2[v] - sum * sum * share;
            mean[v] = multiply_add(sum, share, first[v]);
            m2[v] = rest < 0 ? 0 : rest;
        }
    }

    int threads = (int)(blockDim.x * blockDim.y), at = (int)(threadIdx.y * blockDim.x + threadIdx.x);
    int64_t rows = part.end - (part.first - (int)threadIdx.y);
    for (int v = 0; v < WIDTH; v++) {
        shared[v * threads + at] = mean[v];
        shared[(WIDTH + v) * threads + at] = m2[v];
    }
    for (int half = (int)blockDim.y / 2; half > 0; half /= 2) {
        __syncthreads();
        if ((int)threadIdx.y >= half || (int)threadIdx.y + half >= rows) continue;
        A here = (A)rows_at(rows, 2 * half, (int)threadIdx.y);
        A there = (A)rows_at(rows, 2 * half, (int)threadIdx.y + half);
        A share = there / (here + there);
        for (int v = 0; v < WIDTH; v++) {
            A *mine = shared + v * threads + at, *their = mine + half * (int)blockDim.x;
            A *my_m2 = mine + WIDTH * threads, *their_m2 = their + WIDTH * threads;
            A d = *their - *mine;
            *mine = multiply_add(d, share, *mine);
            *my_m2 += *their_m2 + d * d * here * share;
        }
    }
    if (threadIdx.y != 0 || !part.any) return; /* row 0 reads what it wrote itself */
    A *to = partial + (int64_t)blockIdx.x * 2 * m.channels + part.column;
    for (int v = 0; v < WIDTH; v++) {
        to[v] = shared[v * threads + at];
        to[m.channels + v] = shared[(WIDTH + v) * threads + at];
    }
}

/* Rows of a thread's share, for which its i-th partial result stands. */
__device__ inline double rows_of_share(const channel_rows &m, int i) {
    int64_t left = m.rows - ((int)threadIdx.y + i * FINISH_DOWN) * m.chunk_rows;
    return left < 0 ? 0 : (double)(left < m.chunk_rows ? left : m.chunk_rows);
}

/* The running statistics, each of which may be NULL, and how they move. */
template <typename A> struct running {
    A *mean, *var;
    int64_t *batches;
    double momentum;
    A *batch_var;       /* (channels): the batch's, unbiased */
    unsigned *finished; /* blocks that have written theirs; the last one moves all */
};

/* Not by a batch that is not finite: a step is skipped for it, and what is written here would stay. */
template <typename A>
__device__ static void move_running(const running<A> &r, const A *batch_mean, int channels) {
    CLD_SHARED(bool, last, [1]);
    int at = (int)(threadIdx.y * FINISH_CHANNELS + threadIdx.x), step = FINISH_CHANNELS * FINISH_DOWN,
        odd = 0;
    const volatile A *mean = batch_mean, *var = r.batch_var; /* of other blocks: not from this one's cache */
    __threadfence();
    __syncthreads();
    if (at == 0) last[0] = atomicAdd(r.finished, 1u) == gridDim.x - 1;
    __syncthreads();
    if (!last[0]) return;
    __threadfence();
    for (int c = at; c < channels; c += step) odd |= !(mean[c] - mean[c] == 0 && var[c] - var[c] == 0);
    if (__syncthreads_or(odd)) return;
    double keep = 1 - r.momentum;
    for (int c = at; c < channels; c += step) {
        if (r.mean) r.mean[c] = (A)(keep * (double)r.mean[c] + r.momentum * (double)mean[c]);
        if (r.var) r.var[c] = (A)(keep * (double)r.var[c] + r.momentum * (double)var[c]);
    }
    if (r.batches && at == 0) ++*r.batches;
}

/* The whole of the chunks, in double: the mean of their means, then the squared differences from that. */
template <typename A>
__global__ void __launch_bounds__(FINISH_CHANNELS *FINISH_DOWN)
    finish_statistics(A *mean_out, A *invstd_out, running<A> r, const A *partial, channel_rows m,
                      double eps) {
    CLD_SHARED(double, shared, [FINISH_DOWN * FINISH_CHANNELS]);
    int c = (int)(blockIdx.x * FINISH_CHANNELS + threadIdx.x);
    bool any = c < m.channels;
    A means[FINISH_SHARE], squares[FINISH_SHARE];
    load_share<A>(means, partial + c, 2 * m.channels, any ? m.chunks : 0);
    load_share<A>(squares, partial + m.channels + c, 2 * m.channels, any ? m.chunks : 0);
    double sum = 0, m2 = 0;
#pragma unroll
    for (int i = 0; i < FINISH_SHARE; i++) sum += rows_of_share(m, i) * (double)means[i];
    double mean = sum_of_column(sum, shared) / (double)m.rows;
#pragma unroll
    for (int i = 0; i < FINISH_SHARE; i++) {
        double d = (double)means[i] - mean;
        m2 += (double)squares[i] + d * d * rows_of_share(m, i);
    }
    m2 = sum_of_column(m2, shared);
    if (any && threadIdx.y == 0) {
        mean_out[c] = (A)mean;
        invstd_out[c] = (A)(1 / sqrt(m2 / (double)m.rows + eps));
        r.batch_var[c] = (A)(m2 / (double)(m.rows - 1));
    }
    if (r.mean || r.var || r.batches) move_running(r, mean_out, m.channels);
}

/* In evaluation. */
template <typename A>
__global__ void use_running(A *mean, A *invstd, const A *running_mean, const A *running_var, int channels,
                            double eps) {
    int c = (int)(blockIdx.x * blockDim.x + threadIdx.x);
    if (c >= channels) return;
    mean[c] = running_mean ? running_mean[c] : (A)0;
    invstd[c] = (A)(1 / sqrt((running_var ? (double)running_var[c] : 1.0) + eps));
}

/* ---- y ----------------------------------------------------------------------------------------------------------------- */

template <typename T, int WIDTH, bool ADD>
__global__ void apply(T *y, const T *x, const T *residual, affine<typename cld_compute<T>::type> f,
                      channel_rows m, bool with_relu) {
    typedef typename cld_compute<T>::type A;
    enum { UNROLL = ADD ? CHANNEL_UNROLL / 2 : CHANNEL_UNROLL };
    channel_part part = part_of(m, m.chunks - 1 - (int)blockIdx.x, WIDTH);
    if (!part.any) return;
    line<A> l[WIDTH];
    load_lines<A, WIDTH>(l, f, part.column);
    int64_t step = blockDim.y, at = part.first * m.channels + part.column;
    for (int64_t row = part.first; row < part.end; row += UNROLL * step) {
        pack<T, WIDTH> in[UNROLL], add[UNROLL];
        for (int u = 0; u < UNROLL; u++)
            if (row + u * step < part.end) {
                in[u] = load_pack<T, WIDTH>(x + at + u * step * m.channels);
                if (ADD) add[u] = load_pack<T, WIDTH>(residual + at + u * step * m.channels);
            }
        for (int u = 0; u < UNROLL; u++)
            if (row + u * step < part.end) {
                pack<T, WIDTH> out;
                for (int v = 0; v < WIDTH; v++) {
                    A value = multiply_add(load(in[u].at[v]) - l[v].mean, l[v].scale, l[v].shift);
                    if (ADD) value += load(add[u].at[v]);
                    out.at[v] = store<T>(with_relu ? relu(value) : value);
                }
                store_pack<T, WIDTH>(y + at + u * step * m.channels, out);
            }
        at += UNROLL * step * m.channels;
    }
}

/* ---- backward ---------------------------------------------------------------------------------------------------------- */

#define BACKWARD_UNROLL 2 /* of two or three arrays */

enum mask { MASK_NONE, MASK_FROM_X, MASK_FROM_Y };

/* dy where relu let the value through, else 0. x is computed with as apply does. */
template <int MASK, typename A> __device__ inline A masked(A dy, A x, A y, const line<A> &l) {
    if (MASK == MASK_FROM_X) y = multiply_add(x - l.mean, l.scale, l.shift);
    return MASK != MASK_NONE && y <= 0 ? 0 : dy;
}

/* What both passes of backward read: so many rows, step apart, all loads before the first use. */
template <typename T, int WIDTH, int MASK> struct ahead {
    typedef typename cld_compute<T>::type A;
    pack<T, WIDTH> dy[BACKWARD_UNROLL], x[BACKWARD_UNROLL], y[BACKWARD_UNROLL];

    __device__ void load_rows(const T *from_dy, const T *from_x, const T *from_y, int64_t at, int64_t rows,
                              int64_t step, int64_t channels) {
        for (int u = 0; u < BACKWARD_UNROLL; u++)
            if (u * step < rows) {
                int64_t here = at + u * step * channels;
                x[u] = load_pack<T, WIDTH>(from_x + here);
                dy[u] = load_pack<T, WIDTH>(from_dy + here);
                if (MASK == MASK_FROM_Y) y[u] = load_pack<T, WIDTH>(from_y + here);
            }
    }
    /* dy where relu let the output through, else 0. */
    __device__ A masked_dy(int u, int v, const line<A> &l) const {
        A of_y = MASK == MASK_FROM_Y ? (A)load(y[u].at[v]) : (A)0;
        return masked<MASK>((A)load(dy[u].at[v]), (A)load(x[u].at[v]), of_y, l);
    }
};

/* partial (chunks, 2, channels): sums of the masked dy and of its products with x - mean. */
template <typename T, int WIDTH, int MASK>
__global__ void sums(typename cld_compute<T>::type *partial, T *dresidual, const T *dy, const T *x,
                     const T *y, affine<typename cld_compute<T>::type> f, channel_rows m) {
    typedef typename cld_compute<T>::type A;
    CLD_DYNAMIC_SHARED(A, shared);
    channel_part part = part_of(m, (int)blockIdx.x, WIDTH);
    A sum[2 * WIDTH];
    for (int v = 0; v < 2 * WIDTH; v++) sum[v] = 0;
    if (part.any) {
        line<A> l[WIDTH];
        load_lines<A, WIDTH>(l, f, part.column);
        int64_t step = blockDim.y, at = part.first * m.channels + part.column;
        for (int64_t row = part.first; row < part.end; row += BACKWARD_UNROLL * step) {
            ahead<T, WIDTH, MASK> in;
            in.load_rows(dy, x, y, at, part.end - row, step, m.channels);
            for (int u = 0; u < BACKWARD_UNROLL; u++)
                if (row + u * step < part.end) {
                    pack<T, WIDTH> out;
                    for (int v = 0; v < WIDTH; v++) {
                        A value = load(in.x[u].at[v]), d = in.masked_dy(u, v, l[v]);
                        sum[v] += d;
                        sum[WIDTH + v] = multiply_add(d, value - l[v].mean, sum[WIDTH + v]);
                        out.at[v] = store<T>(d);
                    }
                    if (dresidual) store_pack<T, WIDTH>(dresidual + at + u * step * m.channels, out);
                }
            at += BACKWARD_UNROLL * step * m.channels;
        }
    }
    sum_down<A, 2 * WIDTH>(sum, shared);
    if (threadIdx.y != 0 || !part.any) return;
    A *to = partial + (int64_t)blockIdx.x * 2 * m.channels + part.column;
    store_run<A, WIDTH>(to, sum);
    store_run<A, WIDTH>(to + m.channels, sum + WIDTH);
}

/* With xhat = (x - mean) invstd and M rows, in training:
 *     dx = weight invstd (dy - sum(dy) / M - xhat sum(dy xhat) / M)
 * The last two terms are how mean and invstd depend on x; with running statistics they do not. through (2, channels):
 *     dx = scale dy + through[0] (x - mean) + through[1] */
template <typename A>
__global__ void __launch_bounds__(FINISH_CHANNELS *FINISH_DOWN)
    finish_sums(A *through, A *dweight, A *dbias, const A *partial, affine<A> f, channel_rows m,
                bool training) {
    CLD_SHARED(double, shared, [FINISH_DOWN * FINISH_CHANNELS]);
    int c = (int)(blockIdx.x * FINISH_CHANNELS + threadIdx.x);
    bool any = c < m.channels;
    A sums[FINISH_SHARE], sums_x[FINISH_SHARE];
    load_share<A>(sums, partial + c, 2 * m.channels, any ? m.chunks : 0);
    load_share<A>(sums_x, partial + m.channels + c, 2 * m.channels, any ? m.chunks : 0);
    double sum = 0, sum_x = 0;
#pragma unroll
    for (int i = 0; i < FINISH_SHARE; i++) sum += (double)sums[i], sum_x += (double)sums_x[i];
    sum = sum_of_column(sum, shared);
    sum_x = sum_of_column(sum_x, shared);
    if (!any || threadIdx.y != 0) return;
    line<A> l;
    load_lines<A, 1>(&l, f, c);
    double invstd = f.invstd[c], scale = l.scale;
    through[c] = training ? (A)(-scale * invstd * invstd * sum_x / (double)m.rows) : (A)0;
    through[m.channels + c] = training ? (A)(-scale * sum / (double)m.rows) : (A)0;
    if (dbias) dbias[c] = (A)sum;
    if (dweight) dweight[c] = (A)(sum_x * invstd);
}

template <typename T, int WIDTH, int MASK>
__global__ void gradient(T *dx, const T *dy, const T *x, const T *y,
                         const typename cld_compute<T>::type *through,
                         affine<typename cld_compute<T>::type> f, channel_rows m) {
    typedef typename cld_compute<T>::type A;
    channel_part part = part_of(m, m.chunks - 1 - (int)blockIdx.x, WIDTH);
    if (!part.any) return;
    line<A> l[WIDTH];
    A slope[WIDTH], level[WIDTH];
    load_lines<A, WIDTH>(l, f, part.column);
    load_run<A, WIDTH>(slope, through + part.column);
    load_run<A, WIDTH>(level, through + m.channels + part.column);
    int64_t step = blockDim.y, at = part.first * m.channels + part.column;
    for (int64_t row = part.first; row < part.end; row += BACKWARD_UNROLL * step) {
        ahead<T, WIDTH, MASK> in;
        in.load_rows(dy, x, y, at, part.end - row, step, m.channels);
        for (int u = 0; u < BACKWARD_UNROLL; u++)
            if (row + u * step < part.end) {
                pack<T, WIDTH> out;
                for (int v = 0; v < WIDTH; v++) {
                    A value = load(in.x[u].at[v]), d = in.masked_dy(u, v, l[v]);
                    A rest = multiply_add(slope[v], value - l[v].mean, level[v]);
                    out.at[v] = store<T>(multiply_add(l[v].scale, d, rest));
                }
                store_pack<T, WIDTH>(dx + at + u * step * m.channels, out);
            }
        at += BACKWARD_UNROLL * step * m.channels;
    }
}

/* ---- launches ---------------------------------------------------------------------------------------------------------- */

static int64_t rows_of(const cld_array *x) { return x->shape[0] * x->shape[2] * x->shape[3]; }

template <typename A> static A *vector_of(const cld_array *a) { return a ? (A *)a->data : NULL; }

template <typename A>
static affine<A> affine_of(const cld_array *mean, const cld_array *invstd, const cld_array *weight,
                           const cld_array *bias) {
    affine<A> f = {vector_of<A>(mean), vector_of<A>(invstd), vector_of<A>(weight), vector_of<A>(bias)};
    return f;
}

static dim3 finish_blocks(const channel_rows &m) {
    return dim3((unsigned)((m.channels + FINISH_CHANNELS - 1) / FINISH_CHANNELS));
}
static dim3 finish_threads() { return dim3(FINISH_CHANNELS, FINISH_DOWN); }

static size_t partial_bytes(const channel_rows &m, size_t element) {
    return (size_t)m.chunks * 2 * (size_t)m.channels * element;
}

/* Shared memory of a block that reduces 2 WIDTH values per thread. */
static size_t shared_bytes(const channel_launch &l, int width, size_t element) {
    return (size_t)l.threads.x * l.threads.y * 2 * (size_t)width * element;
}

template <typename T, int WIDTH>
static cld_status batch_statistics(const cld_array *mean, const cld_array *invstd, const cld_array *x,
                                   const cld_array *running_mean, const cld_array *running_var,
                                   const cld_array *batches, const cld_norm_params *p) {
    typedef typename cld_compute<T>::type A;
    channel_launch l = launch_of(rows_of(x), x->shape[1], WIDTH);
    size_t bytes = partial_bytes(l.m, sizeof(A)), vector = (size_t)l.m.channels * sizeof(A);
    CLD_SCRATCH partial;
    CLD_TRY(cld_cuda_scratch(&partial, bytes + vector + sizeof(unsigned)));
    A *batch_var = (A *)((char *)partial.data + bytes);
    unsigned *finished = (unsigned *)(batch_var + l.m.channels);
    running<A> r = {vector_of<A>(running_mean),
                    vector_of<A>(running_var),
                    vector_of<int64_t>(batches),
                    p->momentum,
                    batch_var,
                    finished};
    CLD_TRY(CLD_LAUNCH((statistics<T, WIDTH>), l.blocks, l.threads, shared_bytes(l, WIDTH, sizeof(A)),
                       (A *)partial.data, finished, (const T *)x->data, l.m));
    return CLD_LAUNCH((finish_statistics<A>), finish_blocks(l.m), finish_threads(), 0, vector_of<A>(mean),
                      vector_of<A>(invstd), r, (const A *)partial.data, l.m, p->eps);
}

template <typename T, int WIDTH>
static cld_status write_y(const cld_array *y, const cld_array *x, const cld_array *residual,
                          const cld_array *weight, const cld_array *bias, const cld_array *mean,
                          const cld_array *invstd, bool with_relu) {
    typedef typename cld_compute<T>::type A;
    channel_launch l = launch_of(rows_of(x), x->shape[1], WIDTH);
    affine<A> f = affine_of<A>(mean, invstd, weight, bias);
    if (residual)
        return CLD_LAUNCH((apply<T, WIDTH, true>), l.blocks, l.threads, 0, (T *)y->data, (const T *)x->data,
                          (const T *)residual->data, f, l.m, with_relu);
    return CLD_LAUNCH((apply<T, WIDTH, false>), l.blocks, l.threads, 0, (T *)y->data, (const T *)x->data,
                      (const T *)NULL, f, l.m, with_relu);
}

typedef struct gradients {
    const cld_array *dx, *dresidual, *dweight, *dbias, *dy, *x, *y, *weight, *bias, *mean, *invstd;
    bool training;
} gradients;

template <typename T, int WIDTH, int MASK> static cld_status write_gradients(const gradients &g) {
    typedef typename cld_compute<T>::type A;
    channel_launch l = launch_of(rows_of(g.x), g.x->shape[1], WIDTH);
    affine<A> f = affine_of<A>(g.mean, g.invstd, g.weight, g.bias);
    const T *dy = (const T *)g.dy->data, *x = (const T *)g.x->data, *y = vector_of<T>(g.y);
    T *dresidual = vector_of<T>(g.dresidual);
    CLD_SCRATCH partial, through;
    CLD_TRY(cld_cuda_scratch(&partial, partial_bytes(l.m, sizeof(A))));
    CLD_TRY(cld_cuda_scratch(&through, 2 * (size_t)l.m.channels * sizeof(A)));
    if (l.m.chunks > 0)
        CLD_TRY(CLD_LAUNCH((sums<T, WIDTH, MASK>), l.blocks, l.threads, shared_bytes(l, WIDTH, sizeof(A)),
                           (A *)partial.data, dresidual, dy, x, y, f, l.m));
    CLD_TRY(CLD_LAUNCH((finish_sums<A>), finish_blocks(l.m), finish_threads(), 0, (A *)through.data,
                       vector_of<A>(g.dweight), vector_of<A>(g.dbias), (const A *)partial.data, f, l.m,
                       g.training));
    if (!g.dx || l.m.chunks == 0) return CLD_OK;
    if (dresidual)
        return CLD_LAUNCH((gradient<T, WIDTH, MASK_NONE>), l.blocks, l.threads, 0, (T *)g.dx->data,
                          (const T *)dresidual, x, (const T *)NULL, (const A *)through.data, f, l.m);
    return CLD_LAUNCH((gradient<T, WIDTH, MASK>), l.blocks, l.threads, 0, (T *)g.dx->data, dy, x, y,
                      (const A *)through.data, f, l.m);
}

template <typename T, int WIDTH>
static cld_status write_masked_gradients(const gradients &g, enum mask mask) {
    switch (mask) {
    case MASK_FROM_X: return write_gradients<T, WIDTH, MASK_FROM_X>(g);
    case MASK_FROM_Y: return write_gradients<T, WIDTH, MASK_FROM_Y>(g);
    default: return write_gradients<T, WIDTH, MASK_NONE>(g);
    }
}

/* ---- the table's entries ----------------------------------------------------------------------------------------------- */

static const void *address(const cld_array *a) { return a ? a->data : NULL; }

static cld_status running_statistics(const cld_array *mean, const cld_array *invstd,
                                     const cld_array *running_mean, const cld_array *running_var,
                                     double eps) {
    int channels = (int)mean->shape[0], threads = 256, blocks = (channels + threads - 1) / threads;
    CLD_BY_WIDE(mean->dtype, A,
                CLD_TRY(CLD_LAUNCH((use_running<A>), blocks, threads, 0, vector_of<A>(mean),
                                   vector_of<A>(invstd), (const A *)vector_of<A>(running_mean),
                                   (const A *)vector_of<A>(running_var), channels, eps)));
    return CLD_OK;
}

static cld_status normalize(const cld_array *y, const cld_array *x, const cld_array *residual,
                            const cld_array *weight, const cld_array *bias, const cld_array *mean,
                            const cld_array *invstd, bool with_relu) {
    if (cld_numel(x) == 0) return CLD_OK;
    const void *arrays[] = {address(y),      address(x),      address(residual), address(mean),
                            address(invstd), address(weight), address(bias)};
    CLD_BY_WIDTH(write_y, x, arrays, y, x, residual, weight, bias, mean, invstd, with_relu);
    return CLD_OK;
}

/* An optional one. */
static cld_status read_activation(cld_array *out, const cld_array **which, cld_scratch_block *block,
                                  const cld_array *a) {
    *which = a ? out : NULL;
    return a ? cld_cuda_channels_last(out, block, a, a->dtype, CLD_READ) : CLD_OK;
}

static cld_status write_activation(cld_array *out, const cld_array **which, cld_scratch_block *block,
                                   const cld_array *a) {
    *which = a ? out : NULL;
    return a ? cld_cuda_channels_last(out, block, a, a->dtype, CLD_WRITE) : CLD_OK;
}

cld_status cld_cuda_norm(const cld_array *y_given, const cld_array *mean, const cld_array *invstd,
                         const cld_array *x_given, const cld_array *residual_given, const cld_array *weight,
                         const cld_array *bias, const cld_array *running_mean, const cld_array *running_var,
                         const cld_array *batches, const cld_norm_params *p) {
    if (x_given->shape[1] == 0) return CLD_OK;
    CLD_SCRATCH blocks[3];
    cld_array arrays[3];
    const cld_array *y, *x, *residual;
    CLD_TRY(write_activation(&arrays[0], &y, &blocks[0], y_given));
    CLD_TRY(read_activation(&arrays[1], &x, &blocks[1], x_given));
    CLD_TRY(read_activation(&arrays[2], &residual, &blocks[2], residual_given));
    if (p->training) {
        const void *one[] = {address(x)};
        CLD_BY_WIDTH(batch_statistics, x, one, mean, invstd, x, running_mean, running_var, batches, p);
    } else {
        CLD_TRY(running_statistics(mean, invstd, running_mean, running_var, p->eps));
    }
    CLD_TRY(normalize(y, x, residual, weight, bias, mean, invstd, p->relu));
    return cld_cuda_deliver(y_given, y);
}

cld_status cld_cuda_norm_apply(const cld_array *y_given, const cld_array *x_given, const cld_array *weight,
                               const cld_array *bias, const cld_array *mean, const cld_array *invstd,
                               const cld_norm_params *p) {
    CLD_SCRATCH blocks[2];
    cld_array arrays[2];
    const cld_array *y, *x;
    CLD_TRY(write_activation(&arrays[0], &y, &blocks[0], y_given));
    CLD_TRY(read_activation(&arrays[1], &x, &blocks[1], x_given));
    CLD_TRY(normalize(y, x, NULL, weight, bias, mean, invstd, p->relu));
    return cld_cuda_deliver(y_given, y);
}

cld_status cld_cuda_norm_backward(const cld_array *dx, const cld_array *dresidual, const cld_array *dweight,
                                  const cld_array *dbias, const cld_array *dy, const cld_array *x,
                                  const cld_array *y, const cld_array *weight, const cld_array *bias,
                                  const cld_array *mean, const cld_array *invstd, const cld_norm_params *p) {
    if (x->shape[1] == 0) return CLD_OK;
    CLD_SCRATCH blocks[5];
    cld_array arrays[5];
    gradients g = {NULL, NULL, dweight, dbias, NULL, NULL, NULL, weight, bias, mean, invstd, p->training};
    CLD_TRY(write_activation(&arrays[0], &g.dx, &blocks[0], dx));
    CLD_TRY(write_activation(&arrays[1], &g.dresidual, &blocks[1], dresidual));
    CLD_TRY(read_activation(&arrays[2], &g.dy, &blocks[2], dy));
    CLD_TRY(read_activation(&arrays[3], &g.x, &blocks[3], x));
    CLD_TRY(read_activation(&arrays[4], &g.y, &blocks[4], y));
    enum mask mask = !p->relu ? MASK_NONE : y ? MASK_FROM_Y : MASK_FROM_X;
    const void *all[] = {address(g.dx), address(g.dresidual), address(g.dy),   address(g.x), address(g.y),
                         address(mean), address(invstd),      address(weight), address(bias)};
    CLD_BY_WIDTH(write_masked_gradients, x, all, g, mask);
    if (dx) CLD_TRY(cld_cuda_deliver(dx, g.dx));
    return dresidual ? cld_cuda_deliver(dresidual, g.dresidual) : CLD_OK;
}
