/* Batch normalization, channels last (channels.cuh), f32, bf16 and f16 with sums in f32, and f64.
 *
 * The cost is memory traffic. Forward: a pass over x for the statistics, a pass that writes y. Backward: a pass over x
 * and dy for two sums per channel, a pass that writes dx. Each first pass leaves one partial result per chunk of rows,
 * and its last block combines them. The second pass takes the chunks in reverse, because those that the first pass read
 * last are still in the L2 cache.
 *
 * Each part of the batch (kernels/parts.h) has its own statistics and its own chunks; the number of launches does not
 * depend on the number of parts. If ranks share a batch, the first pass ends with the sums of the local rows, and
 * another launch computes statistics from the sums of all ranks.
 *
 * After a residual, the second pass of forward stores relu's mask as bits, a sixteenth of the size of y. If dresidual
 * is wanted, the first pass of backward writes it: this is the masked dy, and the second pass reads it in place of dy
 * and the mask.
 */
#include "kernels/cuda/norm_running.cuh"

/* NaN stays NaN, so that divergence stays visible. */
template <typename A> __device__ inline A relu(A v) { return v <= 0 ? 0 : v; }

/* ---- statistics ------------------------------------------------------------------------------------------------------ */

/* Rows in a chunk, out of `rows`, whose number is `at` modulo `modulus`. */
__device__ inline int64_t rows_at(int64_t rows, int modulus, int at) {
    return (rows - at + modulus - 1) / modulus;
}

/* Rows of a chunk, out of `rows`; a part that is smaller than the largest may have fewer chunks. */
__device__ inline double rows_of_chunk(int64_t rows, int64_t chunk_rows, int chunk) {
    int64_t left = rows - chunk * chunk_rows;
    return left < 0 ? 0 : (double)(left < chunk_rows ? left : chunk_rows);
}

/* Where the statistics of parts are written: mean, invstd and the unbiased variance, or only sums, if sums is not
 * NULL. */
template <typename A> struct statistics_out {
    A *mean, *invstd, *var; /* (parts, channels) */
    double *sums;           /* (parts of the whole batch, 2, channels): of x and of x squared */
};

/* first + sum / rows is the mean of a part's channel, and m2 is the sum of squared differences from first. */
template <typename A>
__device__ inline void write_statistics(const statistics_out<A> &out, const part_rows &p, int part, int c,
                                        double first, double sum, double m2, double eps) {
    double rows = (double)cld_cut_rows(&p.cut, part), mean = first + sum / rows;
    m2 -= sum * sum / rows;
    m2 = m2 < 0 ? 0 : m2;
    if (out.sums) {
        double *to = sums_of_part(out.sums, p, part) + c;
        to[0] = rows * mean;
        to[p.m.channels] = m2 + rows * mean * mean;
        return;
    }
    int64_t at = (int64_t)part * p.m.channels + c;
    out.mean[at] = (A)mean;
    out.invstd[at] = (A)(1 / sqrt(m2 / rows + eps));
    out.var[at] = (A)(m2 / (rows - 1));
}

/* Combines a group's chunks, in double; means are kept as differences from the first one, so that they keep their
 * digits. */
template <typename A, int WIDTH>
__device__ static void finish_statistics(const statistics_out<A> &out, const A *partial, const part_rows &p,
                                         int group, double eps, double *shared) {
    const channel_rows &m = p.m;
    enum { COUNT = ending<WIDTH>::COUNT, ROWS = ending<WIDTH>::ROWS };
    ending<WIDTH> e(group % m.slices);
    int part = group / m.slices;
    bool any = e.column < m.channels;
    double sum[COUNT], m2[COUNT];
    A first[COUNT];
    for (int v = 0; v < COUNT; v++) sum[v] = m2[v] = first[v] = 0;
    partial += (int64_t)part * m.chunks * 2 * m.channels + e.column;
    if (any) load_run<A, COUNT>(first, partial);
    for (int chunk = e.first; any && chunk < m.chunks; chunk += e.step) {
        A means[COUNT], squares[COUNT];
        const A *from = partial + (int64_t)chunk * 2 * m.channels;
        load_run<A, COUNT>(means, from);
        load_run<A, COUNT>(squares, from + m.channels);
        double here = rows_of_chunk(cld_cut_rows(&p.cut, part), m.chunk_rows, chunk);
        for (int v = 0; v < COUNT; v++) {
            double d = (double)means[v] - (double)first[v];
            sum[v] += here * d;
            m2[v] += (double)squares[v] + here * d * d;
        }
    }
    sum_down<double, COUNT, ROWS>(sum, shared);
    sum_down<double, COUNT, ROWS>(m2, shared);
    for (int v = 0; v < COUNT && any && threadIdx.y < ROWS; v++)
        write_statistics(out, p, part, e.column + v, (double)first[v], sum[v], m2[v], eps);
}

/* Computes what `out` asks for, and the update of the running statistics. partial (chunks of all parts, 2, channels):
 * the mean, and the sum of squared deviations from it. A thread sums differences from its first value, which keeps the
 * digits that a mean far from zero would cost. Threads are merged as in Chan, Golub and LeVeque. */
template <typename T, int WIDTH>
__global__ void __launch_bounds__(CHANNEL_THREADS, 3)
    statistics(statistics_out<typename cld_compute<T>::type> out, running<typename cld_compute<T>::type> r,
               typename cld_compute<T>::type *partial, unsigned *tickets, const T *x, part_rows p,
               double eps) {
    typedef typename cld_compute<T>::type A;
    CLD_DYNAMIC_SHARED(double, whole);
    A *shared = (A *)whole;
    const channel_rows &m = p.m;
    int which;
    channel_part part = part_of(p, (int)blockIdx.x, WIDTH, &which);
    A first[WIDTH], mean[WIDTH], m2[WIDTH];
    for (int v = 0; v < WIDTH; v++) first[v] = mean[v] = m2[v] = 0;
    /* Rows of the chunk; a thread takes every step-th from its own on. */
    int rows = (int)(part.end - (part.first - (int)threadIdx.y)), step = (int)blockDim.y, count = 0;
    if (part.any && (int)threadIdx.y < rows) {
        const T *from = x + part.first * m.channels + part.column;
        for (int row = (int)threadIdx.y; row < rows; row += CHANNEL_UNROLL * step) {
            pack<T, WIDTH> in[CHANNEL_UNROLL];
            for (int u = 0; u < CHANNEL_UNROLL; u++)
                if (row + u * step < rows) in[u] = load_pack<T, WIDTH>(from + u * step * m.channels);
            for (int v = 0; v < WIDTH && row == (int)threadIdx.y; v++) first[v] = load(in[0].at[v]);
            for (int u = 0; u < CHANNEL_UNROLL; u++)
                if (row + u * step < rows) {
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
    if (threadIdx.y == 0 && part.any) { /* row 0 reads what it wrote itself */
        A *to = partial + (int64_t)part.chunk * 2 * m.channels + part.column;
        for (int v = 0; v < WIDTH; v++) {
            to[v] = shared[v * threads + at];
            to[m.channels + v] = shared[(WIDTH + v) * threads + at];
        }
    }
    int first_group = completed_groups(p, tickets, which, part.slice), groups = p.count * m.slices;
    if (first_group < 0) return;
    for (int group = first_group; group < groups; group += CLD_TICKETS)
        finish_statistics<A, WIDTH>(out, partial, p, group, eps, whole);
    int tickets_used = groups < CLD_TICKETS ? groups : CLD_TICKETS;
    if ((r.mean || r.var || r.batches) && comes_last(tickets + CLD_TICKETS, (unsigned)tickets_used))
        move_running(r, out.mean, out.var, p);
}

/* In evaluation: takes mean and invstd from the running statistics. */
template <typename A>
__global__ void use_running(A *mean, A *invstd, const A *running_mean, const A *running_var, int channels,
                            double eps) {
    int c = (int)(blockIdx.x * blockDim.x + threadIdx.x);
    if (c >= channels) return;
    mean[c] = running_mean ? running_mean[c] : (A)0;
    invstd[c] = (A)(1 / sqrt((running_var ? (double)running_var[c] : 1.0) + eps));
}

/* ---- y, and relu's mask (cld_norm_mask_bytes) -------------------------------------------------------- */

template <typename T, int WIDTH> __device__ inline unsigned char bits_of(const pack<T, WIDTH> &y) {
    unsigned bits = 0;
    for (int v = 0; v < WIDTH; v++) bits |= (unsigned)!(load(y.at[v]) <= 0) << v;
    return (unsigned char)bits;
}

/* mask: NULL, or, with packs of 16 bytes, the output for relu's mask. */
template <typename T, int WIDTH, bool ADD>
__global__ void apply(T *y, unsigned char *mask, const T *x, const T *residual,
                      affine<typename cld_compute<T>::type> f, part_rows p, bool with_relu) {
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
                int64_t to = at + u * step * m.channels;
                store_pack<T, WIDTH>(y + to, out);
                if (ADD && mask) mask[to / WIDTH] = bits_of<T, WIDTH>(out);
            }
        at += UNROLL * step * m.channels;
    }
}

/* Computes the mask from y in memory, for arrays that apply could not handle in packs. */
template <typename T> __global__ void mask_of(unsigned char *mask, const T *y, int64_t count) {
    enum { WIDTH = 16 / sizeof(T) };
    int64_t at = blockIdx.x * (int64_t)blockDim.x + threadIdx.x;
    if (at * WIDTH >= count) return;
    pack<T, WIDTH> in;
    for (int v = 0; v < WIDTH; v++) in.at[v] = at * WIDTH + v < count ? y[at * WIDTH + v] : store<T>(0.0f);
    mask[at] = bits_of<T, WIDTH>(in);
}

/* ---- launches ------------------------------------------------------------------------------------------------------ */

template <typename T, int WIDTH>
static cld_status batch_statistics(const cld_array *mean, const cld_array *invstd, const cld_array *x,
                                   const cld_array *running_mean, const cld_array *running_var,
                                   const cld_array *batches, const cld_norm_params *p) {
    typedef typename cld_compute<T>::type A;
    part_launch l = launch_parts(x, &p->parts, WIDTH);
    size_t bytes = partial_bytes(l.rows, sizeof(A));
    size_t vectors = (size_t)l.rows.count * (size_t)l.rows.m.channels * sizeof(A);
    CLD_SCRATCH partial;
    CLD_TRY(cld_cuda_scratch(&partial, bytes + vectors));
    running<A> r = running_of<A>(running_mean, running_var, batches, p);
    statistics_out<A> out = {vector_of<A>(mean), vector_of<A>(invstd), (A *)((char *)partial.data + bytes),
                             NULL};
    return CLD_LAUNCH((statistics<T, WIDTH>), l.blocks, l.threads, shared_bytes(l, WIDTH, sizeof(A)), out, r,
                      (A *)partial.data, cld_cuda_tickets(), (const T *)x->data, l.rows, p->eps);
}

template <typename T, int WIDTH>
static cld_status batch_sums(const cld_array *sums, const cld_array *x, const cld_norm_params *p) {
    typedef typename cld_compute<T>::type A;
    part_launch l = launch_parts(x, &p->parts, WIDTH);
    if (l.blocks == 0) return CLD_OK;
    CLD_SCRATCH partial;
    CLD_TRY(cld_cuda_scratch(&partial, partial_bytes(l.rows, sizeof(A))));
    running<A> none = {};
    statistics_out<A> out = {NULL, NULL, NULL, vector_of<double>(sums)};
    return CLD_LAUNCH((statistics<T, WIDTH>), l.blocks, l.threads, shared_bytes(l, WIDTH, sizeof(A)), out,
                      none, (A *)partial.data, cld_cuda_tickets(), (const T *)x->data, l.rows, p->eps);
}

template <typename T, int WIDTH>
static cld_status write_y(const cld_array *y, const cld_array *mask, const cld_array *x,
                          const cld_array *residual, const cld_array *weight, const cld_array *bias,
                          const cld_array *mean, const cld_array *invstd, const cld_norm_params *p) {
    typedef typename cld_compute<T>::type A;
    part_launch l = launch_parts(x, &p->parts, WIDTH);
    affine<A> f = affine_of<A>(mean, invstd, weight, bias);
    unsigned char *bits = vector_of<unsigned char>(mask);
    if (!residual)
        return CLD_LAUNCH((apply<T, WIDTH, false>), l.blocks, l.threads, 0, (T *)y->data,
                          (unsigned char *)NULL, (const T *)x->data, (const T *)NULL, f, l.rows, p->relu);
    CLD_TRY(CLD_LAUNCH((apply<T, WIDTH, true>), l.blocks, l.threads, 0, (T *)y->data, WIDTH > 1 ? bits : NULL,
                       (const T *)x->data, (const T *)residual->data, f, l.rows, p->relu));
    if (!bits || WIDTH > 1) return CLD_OK;
    return CLD_LAUNCH((mask_of<T>), (unsigned)((mask->shape[0] + 255) / 256), 256, 0, bits,
                      (const T *)y->data, cld_numel(y));
}

/* ---- the table's entries ------------------------------------------------------------------------------------------- */

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

static cld_status normalize(const cld_array *y, const cld_array *mask, const cld_array *x,
                            const cld_array *residual, const cld_array *weight, const cld_array *bias,
                            const cld_array *mean, const cld_array *invstd, const cld_norm_params *p) {
    if (cld_numel(x) == 0) return CLD_OK;
    const void *arrays[] = {address(y),      address(x),      address(residual), address(mean),
                            address(invstd), address(weight), address(bias)};
    CLD_BY_WIDTH(write_y, x, arrays, y, mask, x, residual, weight, bias, mean, invstd, p);
    return CLD_OK;
}

cld_status cld_cuda_norm(const cld_array *y_given, const cld_array *mask, const cld_array *mean,
                         const cld_array *invstd, const cld_array *x_given, const cld_array *residual_given,
                         const cld_array *weight, const cld_array *bias, const cld_array *running_mean,
                         const cld_array *running_var, const cld_array *batches, const cld_array *sums,
                         const cld_norm_params *p) {
    if (x_given->shape[1] == 0) return CLD_OK;
    CLD_SCRATCH blocks[3];
    cld_array arrays[3];
    const cld_array *y, *x, *residual;
    CLD_TRY(write_activation(&arrays[0], &y, &blocks[0], y_given));
    CLD_TRY(read_activation(&arrays[1], &x, &blocks[1], x_given));
    CLD_TRY(read_activation(&arrays[2], &residual, &blocks[2], residual_given));
    if (sums) {
        CLD_TRY(cld_cuda_norm_use_sums(mean, invstd, sums, x, running_mean, running_var, batches, p));
    } else if (p->training) {
        const void *one[] = {address(x)};
        CLD_BY_WIDTH(batch_statistics, x, one, mean, invstd, x, running_mean, running_var, batches, p);
    } else {
        CLD_TRY(running_statistics(mean, invstd, running_mean, running_var, p->eps));
    }
    CLD_TRY(normalize(y, mask, x, residual, weight, bias, mean, invstd, p));
    return cld_cuda_deliver(y_given, y);
}

cld_status cld_cuda_norm_sums(const cld_array *sums, const cld_array *x_given, const cld_norm_params *p) {
    if (x_given->shape[1] == 0) return CLD_OK;
    CLD_SCRATCH block;
    cld_array array;
    const cld_array *x;
    CLD_TRY(cld_cuda_clear(sums->data, (size_t)cld_numel(sums) * sizeof(double)));
    CLD_TRY(read_activation(&array, &x, &block, x_given));
    const void *one[] = {address(x)};
    CLD_BY_WIDTH(batch_sums, x, one, sums, x, p);
    return CLD_OK;
}

cld_status cld_cuda_norm_apply(const cld_array *y_given, const cld_array *x_given, const cld_array *weight,
                               const cld_array *bias, const cld_array *mean, const cld_array *invstd,
                               const cld_norm_params *p) {
    CLD_SCRATCH blocks[2];
    cld_array arrays[2];
    const cld_array *y, *x;
    CLD_TRY(write_activation(&arrays[0], &y, &blocks[0], y_given));
    CLD_TRY(read_activation(&arrays[1], &x, &blocks[1], x_given));
    CLD_TRY(normalize(y, NULL, x, NULL, weight, bias, mean, invstd, p));
    return cld_cuda_deliver(y_given, y);
}
