/* Batch normalization, channels last (channels.cuh), f32, bf16 and f16 with sums in f32, and f64.
 *
 * Memory is all that it costs. Forward: a pass over x for the statistics, a pass that writes y. Backward: a pass over x
 * and dy for two sums per channel, a pass that writes dx. Each first pass leaves one partial result per chunk of rows;
 * a small kernel makes the whole of them. The second pass takes the chunks in reverse: those that the first read last are
 * still in the L2 cache.
 *
 * Each part of the batch (kernels/parts.h) has statistics of its own, and chunks that lie in it alone; the launches are the
 * same, whatever the number of parts.
 *
 * Where dresidual is wanted, the first pass of backward writes it: the masked dy, which the second then reads in place of
 * dy and the mask.
 */
#include "kernels/cuda/activation.h"
#include "kernels/cuda/channels.cuh"
#include "kernels/cuda/conv.h"

/* Vectors over the channels; those that were not given are NULL. */
template <typename A> struct affine { const A *mean, *invstd, *weight, *bias; };

/* That of a part: mean and invstd are (parts, channels). */
template <typename A> __device__ inline affine<A> of_part(affine<A> f, int part, int channels) {
    f.mean += (int64_t)part * channels;
    f.invstd += (int64_t)part * channels;
    return f;
}

/* The rows of each part. */
typedef struct part_rows {
    channel_rows m; /* of the largest part, which is the first */
    cld_parts parts;
    int64_t images, positions; /* rows: images of all parts times positions */
    int count;                 /* of parts */
} part_rows;

__device__ inline int64_t rows_of_part(const part_rows &p, int part) {
    return p.count == 1 ? p.m.rows : cld_part_rows(&p.parts, p.images, part) * p.positions;
}

/* The share of a thread in chunk `chunk` of all parts', of which p.m.chunks belong to each; *part: whose it is. */
__device__ inline channel_part part_of(const part_rows &p, int chunk, int width, int *part) {
    *part = 0;
    if (p.count == 1) return part_of(p.m, chunk, width);
    *part = chunk / p.m.chunks;
    channel_part share = part_of(p.m, chunk % p.m.chunks, width);
    int64_t begin = cld_part_begin(&p.parts, p.images, *part) * p.positions;
    int64_t rows = rows_of_part(p, *part);
    share.first += begin;
    share.end = begin + (share.end < rows ? share.end : rows);
    return share;
}

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

/* partial (chunks of all parts, 2, channels): mean, and sum of squared differences from it. A thread sums differences from its first
 * value, which keeps the digits that a mean far from zero would take; threads are merged as Chan, Golub and LeVeque do. */
template <typename T, int WIDTH>
__global__ void __launch_bounds__(CHANNEL_THREADS, 3)
    statistics(typename cld_compute<T>::type *partial, unsigned *finished, const T *x, part_rows p) {
    typedef typename cld_compute<T>::type A;
    CLD_DYNAMIC_SHARED(A, shared);
    if (blockIdx.x + blockIdx.y + threadIdx.x + threadIdx.y == 0) *finished = 0;
    const channel_rows &m = p.m;
    int which;
    channel_part part = part_of(p, (int)blockIdx.x, WIDTH, &which);
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

/* Of `rows` rows those of a thread's share for which its i-th partial result stands. */
__device__ inline double rows_of_share(int64_t rows, int64_t chunk_rows, int i) {
    int64_t left = rows - ((int)threadIdx.y + i * FINISH_DOWN) * chunk_rows;
    return left < 0 ? 0 : (double)(left < chunk_rows ? left : chunk_rows);
}

/* The running statistics, each of which may be NULL, and how they move. */
template <typename A> struct running {
    A *mean, *var;
    int64_t *batches;
    double momentum;
    cld_running_move move;
    bool by_share;      /* all views are one move (cld_move_by_share), */
    bool counts;        /* and whether it counts them */
    A *batch_var;       /* (parts, channels): the parts', unbiased */
    unsigned *finished; /* blocks that have written theirs; the last one moves all */
};

/* A channel's statistic of a view: the mean over its blocks, weighted with their rows. */
template <typename A>
__device__ inline double of_view(const volatile A *of_parts, const part_rows &p, int view, int c) {
    int blocks = cld_parts_blocks(&p.parts), first = view * blocks;
    if (blocks == 1) return (double)of_parts[(int64_t)first * p.m.channels + c];
    double sum = 0, rows = 0;
    for (int part = first; part < first + blocks; part++) {
        double here = (double)rows_of_part(p, part);
        sum += here * (double)of_parts[(int64_t)part * p.m.channels + c];
        rows += here;
    }
    return sum / rows;
}

/* r moved by s, as far as it is there. */
template <typename A> __device__ inline void move_one(A *r, int c, const cld_running_move &move, double s) {
    if (r) r[c] = (A)(move.keep * (double)r[c] + move.gain * s);
}

/* Of all views: sum of m (1 - m)^(V - v) s_v. */
template <typename A>
__device__ inline double of_views(const volatile A *of_parts, const part_rows &p, double momentum, int c) {
    double sum = 0;
    for (int view = 0; view < cld_parts_views(&p.parts); view++)
        sum = (1 - momentum) * sum + momentum * of_view(of_parts, p, view, c);
    return sum;
}

/* Not by a view that is not finite: a step is skipped for it, and what is written here would stay. */
template <typename A>
__device__ static void move_running(const running<A> &r, const A *batch_mean, const part_rows &p) {
    CLD_SHARED(bool, last, [1]);
    int at = (int)(threadIdx.y * FINISH_CHANNELS + threadIdx.x), step = FINISH_CHANNELS * FINISH_DOWN;
    int channels = p.m.channels, views = cld_parts_views(&p.parts), counted = 0;
    const volatile A *mean = batch_mean, *var = r.batch_var; /* of other blocks: not from this one's cache */
    __threadfence();
    __syncthreads();
    if (at == 0) last[0] = atomicAdd(r.finished, 1u) == gridDim.x * gridDim.y - 1;
    __syncthreads();
    if (!last[0]) return;
    __threadfence();
    for (int view = 0; view < views; view++) {
        int odd = 0;
        for (int c = at; c < channels; c += step) {
            double m = of_view(mean, p, view, c), v = of_view(var, p, view, c);
            odd |= !(m - m == 0 && v - v == 0);
        }
        odd = __syncthreads_or(odd);
        if (odd && r.by_share) return;
        if (odd || r.by_share) continue;
        counted++;
        for (int c = at; c < channels; c += step) {
            move_one(r.mean, c, r.move, of_view(mean, p, view, c));
            move_one(r.var, c, r.move, of_view(var, p, view, c));
        }
    }
    for (int c = at; r.by_share && c < channels; c += step) {
        move_one(r.mean, c, r.move, of_views(mean, p, r.momentum, c));
        move_one(r.var, c, r.move, of_views(var, p, r.momentum, c));
    }
    if (r.by_share) counted = r.counts ? views : 0;
    if (r.batches && at == 0) *r.batches += counted;
}

/* The whole of a part's chunks, in double: the mean of their means, then the squared differences from that. A block takes
 * part blockIdx.y. */
template <typename A>
__global__ void __launch_bounds__(FINISH_CHANNELS *FINISH_DOWN)
    finish_statistics(A *mean_out, A *invstd_out, running<A> r, const A *partial, part_rows p, double eps) {
    CLD_SHARED(double, shared, [FINISH_DOWN * FINISH_CHANNELS]);
    const channel_rows &m = p.m;
    int c = (int)(blockIdx.x * FINISH_CHANNELS + threadIdx.x), part = (int)blockIdx.y;
    bool any = c < m.channels;
    int64_t rows = rows_of_part(p, part), at = (int64_t)part * m.channels + c;
    partial += (int64_t)part * m.chunks * 2 * m.channels;
    A means[FINISH_SHARE], squares[FINISH_SHARE];
    load_share<A>(means, partial + c, 2 * m.channels, any ? m.chunks : 0);
    load_share<A>(squares, partial + m.channels + c, 2 * m.channels, any ? m.chunks : 0);
    double sum = 0, m2 = 0;
#pragma unroll
    for (int i = 0; i < FINISH_SHARE; i++) sum += rows_of_share(rows, m.chunk_rows, i) * (double)means[i];
    double mean = sum_of_column(sum, shared) / (double)rows;
#pragma unroll
    for (int i = 0; i < FINISH_SHARE; i++) {
        double d = (double)means[i] - mean;
        m2 += (double)squares[i] + d * d * rows_of_share(rows, m.chunk_rows, i);
    }
    m2 = sum_of_column(m2, shared);
    if (any && threadIdx.y == 0) {
        mean_out[at] = (A)mean;
        invstd_out[at] = (A)(1 / sqrt(m2 / (double)rows + eps));
        r.batch_var[at] = (A)(m2 / (double)(rows - 1));
    }
    if (r.mean || r.var || r.batches) move_running(r, mean_out, p);
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
                      part_rows p, bool with_relu) {
    typedef typename cld_compute<T>::type A;
    enum { UNROLL = ADD ? CHANNEL_UNROLL / 2 : CHANNEL_UNROLL };
    const channel_rows &m = p.m;
    int which;
    channel_part part = part_of(p, (int)(gridDim.x - 1 - blockIdx.x), WIDTH, &which);
    if (!part.any) return;
    line<A> l[WIDTH];
    load_lines<A, WIDTH>(l, of_part(f, which, m.channels), part.column);
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

/* partial (chunks of all parts, 2, channels): sums of the masked dy and of its products with x - mean. finished: the
 * counters of finish_sums, one for each of its blocks along x. */
template <typename T, int WIDTH, int MASK>
__global__ void sums(typename cld_compute<T>::type *partial, unsigned *finished, T *dresidual, const T *dy,
                     const T *x, const T *y, affine<typename cld_compute<T>::type> f, part_rows p) {
    typedef typename cld_compute<T>::type A;
    CLD_DYNAMIC_SHARED(A, shared);
    const channel_rows &m = p.m;
    if (p.count > 1 && blockIdx.x + blockIdx.y == 0)
        for (int i = (int)(threadIdx.y * blockDim.x + threadIdx.x); i * FINISH_CHANNELS < m.channels;
             i += (int)(blockDim.x * blockDim.y))
            finished[i] = 0;
    int which;
    channel_part part = part_of(p, (int)blockIdx.x, WIDTH, &which);
    f = of_part(f, which, m.channels);
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

/* dweight and dbias: sums over the parts, in the parts' order. */
template <typename A> struct weight_gradients {
    A *dweight, *dbias;
    double *of_parts;   /* (parts, 2, channels) */
    unsigned *finished; /* of each block along x: parts that have written theirs; the last one adds them up */
};

template <typename A>
__device__ static void add_parts(const weight_gradients<A> &w, const part_rows &p, int c, bool any) {
    CLD_SHARED(bool, last, [1]);
    const volatile double *of_parts = w.of_parts;
    __threadfence();
    __syncthreads();
    if (threadIdx.x + threadIdx.y == 0)
        last[0] = atomicAdd(&w.finished[blockIdx.x], 1u) == (unsigned)p.count - 1;
    __syncthreads();
    if (!last[0] || !any || threadIdx.y != 0) return;
    __threadfence();
    double dbias = 0, dweight = 0;
    for (int part = 0; part < p.count; part++) {
        const volatile double *from = of_parts + (int64_t)part * 2 * p.m.channels + c;
        dbias += from[0];
        dweight += from[p.m.channels];
    }
    if (w.dbias) w.dbias[c] = (A)dbias;
    if (w.dweight) w.dweight[c] = (A)dweight;
}

/* With xhat = (x - mean) invstd and M rows of the part, in training:
 *     dx = weight invstd (dy - sum(dy) / M - xhat sum(dy xhat) / M)
 * The last two terms are how mean and invstd depend on x; with running statistics they do not. through (parts, 2,
 * channels):
 *     dx = scale dy + through[0] (x - mean) + through[1]
 * A block takes part blockIdx.y. */
template <typename A>
__global__ void __launch_bounds__(FINISH_CHANNELS *FINISH_DOWN)
    finish_sums(A *through, weight_gradients<A> w, const A *partial, affine<A> f, part_rows p,
                bool training) {
    CLD_SHARED(double, shared, [FINISH_DOWN * FINISH_CHANNELS]);
    const channel_rows &m = p.m;
    int c = (int)(blockIdx.x * FINISH_CHANNELS + threadIdx.x), part = (int)blockIdx.y;
    bool any = c < m.channels;
    partial += (int64_t)part * m.chunks * 2 * m.channels;
    A sums[FINISH_SHARE], sums_x[FINISH_SHARE];
    load_share<A>(sums, partial + c, 2 * m.channels, any ? m.chunks : 0);
    load_share<A>(sums_x, partial + m.channels + c, 2 * m.channels, any ? m.chunks : 0);
    double sum = 0, sum_x = 0;
#pragma unroll
    for (int i = 0; i < FINISH_SHARE; i++) sum += (double)sums[i], sum_x += (double)sums_x[i];
    sum = sum_of_column(sum, shared);
    sum_x = sum_of_column(sum_x, shared);
    if (any && threadIdx.y == 0) {
        line<A> l;
        f = of_part(f, part, m.channels);
        load_lines<A, 1>(&l, f, c);
        double invstd = f.invstd[c], scale = l.scale, rows = (double)rows_of_part(p, part);
        int64_t at = (int64_t)part * 2 * m.channels + c;
        through[at] = training ? (A)(-scale * invstd * invstd * sum_x / rows) : (A)0;
        through[at + m.channels] = training ? (A)(-scale * sum / rows) : (A)0;
        if (p.count > 1) {
            w.of_parts[at] = sum;
            w.of_parts[at + m.channels] = sum_x * invstd;
        } else {
            if (w.dbias) w.dbias[c] = (A)sum;
            if (w.dweight) w.dweight[c] = (A)(sum_x * invstd);
        }
    }
    if (p.count > 1 && (w.dbias || w.dweight)) add_parts(w, p, c, any);
}

template <typename T, int WIDTH, int MASK>
__global__ void gradient(T *dx, const T *dy, const T *x, const T *y,
                         const typename cld_compute<T>::type *through,
                         affine<typename cld_compute<T>::type> f, part_rows p) {
    typedef typename cld_compute<T>::type A;
    const channel_rows &m = p.m;
    int which;
    channel_part part = part_of(p, (int)(gridDim.x - 1 - blockIdx.x), WIDTH, &which);
    if (!part.any) return;
    line<A> l[WIDTH];
    A slope[WIDTH], level[WIDTH];
    f = of_part(f, which, m.channels);
    through += (int64_t)which * 2 * m.channels;
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

typedef struct part_launch {
    part_rows rows;
    dim3 blocks, threads; /* blocks.x: the chunks of all parts */
} part_launch;

static part_launch launch_parts(const cld_array *x, const cld_parts *parts, int width) {
    part_launch l = {};
    l.rows.parts = *parts;
    l.rows.images = x->shape[0];
    l.rows.positions = x->shape[2] * x->shape[3];
    l.rows.count = cld_part_count(parts);
    int64_t rows = cld_part_rows(parts, x->shape[0], 0) * l.rows.positions;
    channel_launch of_part = launch_of(rows, x->shape[1], width, l.rows.count);
    l.rows.m = of_part.m;
    l.blocks = of_part.blocks;
    l.threads = of_part.threads;
    return l;
}

template <typename A> static A *vector_of(const cld_array *a) { return a ? (A *)a->data : NULL; }

template <typename A>
static affine<A> affine_of(const cld_array *mean, const cld_array *invstd, const cld_array *weight,
                           const cld_array *bias) {
    affine<A> f = {vector_of<A>(mean), vector_of<A>(invstd), vector_of<A>(weight), vector_of<A>(bias)};
    return f;
}

static dim3 finish_blocks(const part_rows &p) {
    return dim3((unsigned)((p.m.channels + FINISH_CHANNELS - 1) / FINISH_CHANNELS), (unsigned)p.count);
}
static dim3 finish_threads() { return dim3(FINISH_CHANNELS, FINISH_DOWN); }

static size_t partial_bytes(const part_rows &p, size_t element) {
    return (size_t)p.count * (size_t)p.m.chunks * 2 * (size_t)p.m.channels * element;
}

/* Shared memory of a block that reduces 2 WIDTH values per thread. */
static size_t shared_bytes(const part_launch &l, int width, size_t element) {
    return (size_t)l.threads.x * l.threads.y * 2 * (size_t)width * element;
}

template <typename A>
static running<A> running_of(const cld_array *running_mean, const cld_array *running_var,
                             const cld_array *batches, const cld_norm_params *p) {
    running<A> r = {};
    r.mean = vector_of<A>(running_mean);
    r.var = vector_of<A>(running_var);
    r.batches = vector_of<int64_t>(batches);
    r.momentum = p->momentum;
    r.by_share = p->total > 0;
    r.counts = p->done == 0;
    r.move.keep = 1 - p->momentum;
    r.move.gain = p->momentum;
    if (r.by_share)
        r.move = cld_move_by_share(p->momentum, cld_parts_views(&p->parts), p->done, p->rows, p->total);
    return r;
}

template <typename T, int WIDTH>
static cld_status batch_statistics(const cld_array *mean, const cld_array *invstd, const cld_array *x,
                                   const cld_array *running_mean, const cld_array *running_var,
                                   const cld_array *batches, const cld_norm_params *p) {
    typedef typename cld_compute<T>::type A;
    part_launch l = launch_parts(x, &p->parts, WIDTH);
    size_t bytes = partial_bytes(l.rows, sizeof(A));
    size_t vectors = (size_t)l.rows.count * (size_t)l.rows.m.channels * sizeof(A);
    CLD_SCRATCH partial;
    CLD_TRY(cld_cuda_scratch(&partial, bytes + vectors + sizeof(unsigned)));
    running<A> r = running_of<A>(running_mean, running_var, batches, p);
    r.batch_var = (A *)((char *)partial.data + bytes);
    r.finished = (unsigned *)((char *)partial.data + bytes + vectors);
    CLD_TRY(CLD_LAUNCH((statistics<T, WIDTH>), l.blocks, l.threads, shared_bytes(l, WIDTH, sizeof(A)),
                       (A *)partial.data, r.finished, (const T *)x->data, l.rows));
    return CLD_LAUNCH((finish_statistics<A>), finish_blocks(l.rows), finish_threads(), 0, vector_of<A>(mean),
                      vector_of<A>(invstd), r, (const A *)partial.data, l.rows, p->eps);
}

template <typename T, int WIDTH>
static cld_status write_y(const cld_array *y, const cld_array *x, const cld_array *residual,
                          const cld_array *weight, const cld_array *bias, const cld_array *mean,
                          const cld_array *invstd, const cld_norm_params *p) {
    typedef typename cld_compute<T>::type A;
    part_launch l = launch_parts(x, &p->parts, WIDTH);
    affine<A> f = affine_of<A>(mean, invstd, weight, bias);
    if (residual)
        return CLD_LAUNCH((apply<T, WIDTH, true>), l.blocks, l.threads, 0, (T *)y->data, (const T *)x->data,
                          (const T *)residual->data, f, l.rows, p->relu);
    return CLD_LAUNCH((apply<T, WIDTH, false>), l.blocks, l.threads, 0, (T *)y->data, (const T *)x->data,
                      (const T *)NULL, f, l.rows, p->relu);
}

typedef struct gradients {
    const cld_array *dx, *dresidual, *dweight, *dbias, *dy, *x, *y, *weight, *bias, *mean, *invstd;
    const cld_norm_params *params;
} gradients;

template <typename T, int WIDTH, int MASK> static cld_status write_gradients(const gradients &g) {
    typedef typename cld_compute<T>::type A;
    part_launch l = launch_parts(g.x, &g.params->parts, WIDTH);
    affine<A> f = affine_of<A>(g.mean, g.invstd, g.weight, g.bias);
    const T *dy = (const T *)g.dy->data, *x = (const T *)g.x->data, *y = vector_of<T>(g.y);
    T *dresidual = vector_of<T>(g.dresidual);
    dim3 finish = finish_blocks(l.rows);
    bool any = l.rows.m.chunks > 0;
    CLD_SCRATCH partial, through, of_parts;
    CLD_TRY(cld_cuda_scratch(&partial, partial_bytes(l.rows, sizeof(A))));
    size_t vectors = 2 * (size_t)l.rows.count * (size_t)l.rows.m.channels;
    CLD_TRY(cld_cuda_scratch(&through, vectors * sizeof(A)));
    weight_gradients<A> w = {vector_of<A>(g.dweight), vector_of<A>(g.dbias), NULL, NULL};
    if (l.rows.count > 1) {
        CLD_TRY(cld_cuda_scratch(&of_parts, vectors * sizeof(double) + finish.x * sizeof(unsigned)));
        w.of_parts = (double *)of_parts.data;
        w.finished = (unsigned *)(w.of_parts + vectors);
    }
    if (any)
        CLD_TRY(CLD_LAUNCH((sums<T, WIDTH, MASK>), l.blocks, l.threads, shared_bytes(l, WIDTH, sizeof(A)),
                           (A *)partial.data, w.finished, dresidual, dy, x, y, f, l.rows));
    CLD_TRY(CLD_LAUNCH((finish_sums<A>), finish, finish_threads(), 0, (A *)through.data, w,
                       (const A *)partial.data, f, l.rows, g.params->training));
    if (!g.dx || !any) return CLD_OK;
    if (dresidual)
        return CLD_LAUNCH((gradient<T, WIDTH, MASK_NONE>), l.blocks, l.threads, 0, (T *)g.dx->data,
                          (const T *)dresidual, x, (const T *)NULL, (const A *)through.data, f, l.rows);
    return CLD_LAUNCH((gradient<T, WIDTH, MASK>), l.blocks, l.threads, 0, (T *)g.dx->data, dy, x, y,
                      (const A *)through.data, f, l.rows);
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
    int channels = (int)mean->shape[1], threads = 256, blocks = (channels + threads - 1) / threads;
    CLD_BY_WIDE(mean->dtype, A,
                CLD_TRY(CLD_LAUNCH((use_running<A>), blocks, threads, 0, vector_of<A>(mean),
                                   vector_of<A>(invstd), (const A *)vector_of<A>(running_mean),
                                   (const A *)vector_of<A>(running_var), channels, eps)));
    return CLD_OK;
}

static cld_status normalize(const cld_array *y, const cld_array *x, const cld_array *residual,
                            const cld_array *weight, const cld_array *bias, const cld_array *mean,
                            const cld_array *invstd, const cld_norm_params *p) {
    if (cld_numel(x) == 0) return CLD_OK;
    const void *arrays[] = {address(y),      address(x),      address(residual), address(mean),
                            address(invstd), address(weight), address(bias)};
    CLD_BY_WIDTH(write_y, x, arrays, y, x, residual, weight, bias, mean, invstd, p);
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
    CLD_TRY(normalize(y, x, residual, weight, bias, mean, invstd, p));
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
    CLD_TRY(normalize(y, x, NULL, weight, bias, mean, invstd, p));
    return cld_cuda_deliver(y_given, y);
}

cld_status cld_cuda_norm_backward(const cld_array *dx, const cld_array *dresidual, const cld_array *dweight,
                                  const cld_array *dbias, const cld_array *dy, const cld_array *x,
                                  const cld_array *y, const cld_array *weight, const cld_array *bias,
                                  const cld_array *mean, const cld_array *invstd, const cld_norm_params *p) {
    if (x->shape[1] == 0) return CLD_OK;
    CLD_SCRATCH blocks[5];
    cld_array arrays[5];
    gradients g = {NULL, NULL, dweight, dbias, NULL, NULL, NULL, weight, bias, mean, invstd, p};
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
