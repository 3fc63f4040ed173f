/* Noise-contrastive estimation against a memory bank; the loss is defined in kernels/cpu/nce.c.
 *
 * A warp takes BATCH of a row's draws at a time. It reads their memory rows for the logits, computes all terms at once,
 * each in its own lane and in double, and reads the rows again, now from the cache, for the gradient. The warps of a
 * block share a row of the batch; if there are few rows, several blocks share it. Each leaves its part in scratch
 * memory, and the parts are added up in order. Nothing of size rows x K is kept. Z needs nothing from the host: the
 * first two launches check whether it is set, and set it if not. */
#include "kernels/cuda/block.cuh"
#include "kernels/cuda/loss.h"
#include "runtime/core/philox.h"

#define EPS 1e-7

enum { WARPS = 4, THREADS = 32 * WARPS, BATCH = 8 };

/* ---- drawing ------------------------------------------------------------------------------------------------------ */

/* One stream per row; a thread draws one block of it: four numbers. */
static __global__ void __launch_bounds__(THREADS)
    draw_negatives(int64_t *negatives, const int64_t *draw, int64_t rows, int64_t count, uint32_t size,
                   uint64_t seed) {
    int64_t blocks = (count + 3) / 4, e = (int64_t)blockIdx.x * THREADS + threadIdx.x, i = e / blocks,
            b = e % blocks;
    if (i >= rows) return;
    cld_philox r = cld_philox_at(seed, CLD_RNG_NEGATIVES, (uint64_t)i, (uint64_t)*draw, 0);
    r.counter[0] += (uint32_t)b;
    for (int64_t k = 4 * b; k < count && k < 4 * b + 4; k++)
        negatives[i * count + k] = cld_philox_below(&r, size);
}

static __global__ void count_draw(int64_t *draw) { ++*draw; }

cld_status cld_cuda_sample_negatives(const cld_array *negatives, const cld_array *draw, int64_t size,
                                     uint64_t seed) {
    int64_t rows = negatives->shape[0], count = negatives->shape[1], threads = rows * ((count + 3) / 4);
    int64_t *calls = (int64_t *)draw->data;
    if (threads > 0)
        CLD_TRY(CLD_LAUNCH(draw_negatives, (int)((threads + THREADS - 1) / THREADS), THREADS, 0,
                           (int64_t *)negatives->data, calls, rows, count, (uint32_t)size, seed));
    return CLD_LAUNCH(count_draw, 1, 1, 0, calls);
}

/* ---- the loss ----------------------------------------------------------------------------------------------------- */

template <typename T> struct nce_problem {
    int64_t rows, dim, count, size;
    double temperature, noise; /* noise: K / size */
    const T *f, *bank;
    const int64_t *index, *negatives;
    T *z;
    cld_fault *fault;
    int parts; /* of a row's draws, one warp each */

    /* Part p's draws are first(p) .. first(p + 1) - 1: the positive is draw 0, then the negatives. */
    __device__ int64_t first(int64_t part) const { return (count + 1) * part / parts; }
    /* The memory row of draw k of batch row i. */
    __device__ const T *drawn(int64_t i, int64_t k) const {
        int64_t at = k == 0 ? checked(fault, CLD_FAULT_BANK, index[i], size)
                            : checked(fault, CLD_FAULT_NEGATIVES, negatives[i * count + k - 1], size);
        return bank + at * dim;
    }
    __device__ bool has_z() const { return *z > 0 && *z <= limits<T>::most(); }
};

/* Lane l of the warp receives the similarity of draw k + l, l < n <= BATCH. */
template <int W, typename T>
static __device__ inline T similarity_of(const T *m[BATCH], const nce_problem<T> &q, int64_t i, int64_t k,
                                         int n) {
    int lane = threadIdx.x % 32;
    T dot[BATCH], mine = 0;
#pragma unroll
    for (int l = 0; l < BATCH; l++) {
        m[l] = q.drawn(i, k + (l < n ? l : 0));
        dot[l] = 0;
    }
    for (int64_t d = lane * W; d < q.dim; d += 32 * W) {
        wide<T, W> x = *(const wide<T, W> *)(q.f + i * q.dim + d), y[BATCH];
#pragma unroll
        for (int l = 0; l < BATCH; l++) y[l] = *(const wide<T, W> *)(m[l] + d);
#pragma unroll
        for (int l = 0; l < BATCH; l++)
#pragma unroll
            for (int e = 0; e < W; e++) dot[l] += x.v[e] * y[l].v[e];
    }
#pragma unroll
    for (int l = 0; l < BATCH; l++) {
        T sum = warp_sum(dot[l]);
        if (lane == l) mine = sum;
    }
    return mine;
}

/* The share of the warp: a batch row and a part of its draws. */
template <typename T>
static __device__ inline bool locate_part(const nce_problem<T> &q, int64_t *i, int64_t *part) {
    int64_t warp = (int64_t)blockIdx.x * WARPS + threadIdx.x / 32;
    *i = warp / q.parts, *part = warp % q.parts;
    return *i < q.rows;
}

/* masses (rows, parts): sums of exp(f . m / T); unused if Z is set. */
template <typename T, int W>
static __global__ void __launch_bounds__(THREADS, 4) sum_masses(double *masses, nce_problem<T> q) {
    int64_t i, part;
    if (q.has_z() || !locate_part(q, &i, &part)) return;
    double sum = 0;
    for (int64_t k = q.first(part), end = q.first(part + 1); k < end; k += BATCH) {
        const T *m[BATCH];
        int n = end - k < BATCH ? (int)(end - k) : (int)BATCH;
        T similarity = similarity_of<W>(m, q, i, k, n);
        if ((int)(threadIdx.x % 32) < n) sum += exp(similarity / q.temperature);
    }
    sum = warp_sum(sum);
    if (threadIdx.x % 32 == 0) masses[i * q.parts + part] = sum;
}

template <typename T>
static __global__ void __launch_bounds__(THREADS) set_z(const double *masses, nce_problem<T> q) {
    CLD_SHARED(double, shared, [BLOCK_WARPS]);
    if (q.has_z()) return;
    double sum = 0;
    for (int64_t p = threadIdx.x; p < q.rows * q.parts; p += THREADS) sum += masses[p];
    sum = block_sum(sum, shared); /* after the last thread has read Z */
    if (threadIdx.x == 0) *q.z = (T)((double)q.size * sum / (double)(q.rows * (q.count + 1)));
}

/* What one drawn row adds to the loss and, times the row, to d loss / d f (both still to be divided by rows). */
struct term {
    double loss, weight;
};

template <typename T>
static __device__ inline term score(T similarity, bool positive, const nce_problem<T> &q) {
    double s = exp(similarity / q.temperature) / (double)*q.z, total = s + q.noise + EPS;
    if (positive) return term{log(total / s), -(q.noise + EPS) / total / q.temperature};
    return term{log(total / q.noise), s / total / q.temperature};
}

/* losses (rows, parts), gradients (rows, parts, dim) or NULL. */
template <typename T, int W>
static __global__ void __launch_bounds__(THREADS, 4)
    score_parts(double *losses, T *gradients, nce_problem<T> q) {
    int64_t i, part;
    if (!locate_part(q, &i, &part)) return;
    T *gradient = gradients ? gradients + (i * q.parts + part) * q.dim : NULL;
    int lane = threadIdx.x % 32;
    double loss = 0;
    if (gradient)
        for (int64_t d = lane * W; d < q.dim; d += 32 * W) *(wide<T, W> *)(gradient + d) = wide<T, W>{};
    for (int64_t k = q.first(part), end = q.first(part + 1); k < end; k += BATCH) {
        const T *m[BATCH];
        int n = end - k < BATCH ? (int)(end - k) : (int)BATCH;
        T similarity = similarity_of<W>(m, q, i, k, n), weight = 0;
        if (lane < n) {
            term t = score(similarity, k + lane == 0, q);
            loss += t.loss;
            weight = (T)(t.weight / (double)q.rows);
        }
        if (!gradient) continue;
        T weights[BATCH]; /* 0 beyond n */
#pragma unroll
        for (int l = 0; l < BATCH; l++) weights[l] = __shfl_sync(WHOLE_WARP, weight, l);
        for (int64_t d = lane * W; d < q.dim; d += 32 * W) {
            wide<T, W> sum = *(const wide<T, W> *)(gradient + d);
#pragma unroll
            for (int l = 0; l < BATCH; l++) {
                wide<T, W> y = *(const wide<T, W> *)(m[l] + d);
#pragma unroll
                for (int e = 0; e < W; e++) sum.v[e] += l < n ? weights[l] * y.v[e] : (T)0;
            }
            *(wide<T, W> *)(gradient + d) = sum;
        }
    }
    loss = warp_sum(loss);
    if (lane == 0) losses[i * q.parts + part] = loss;
}

/* One block per row. */
template <typename T>
static __global__ void __launch_bounds__(THREADS)
    join_gradients(T *df, const T *gradients, int64_t dim, int parts) {
    for (int64_t d = threadIdx.x; d < dim; d += THREADS) {
        T sum = 0;
        for (int p = 0; p < parts; p++) sum += gradients[((int64_t)blockIdx.x * parts + p) * dim + d];
        df[blockIdx.x * dim + d] = sum;
    }
}

template <typename T>
static __global__ void __launch_bounds__(THREADS)
    join_losses(T *loss, const double *losses, int64_t count, int64_t rows) {
    CLD_SHARED(double, shared, [BLOCK_WARPS]);
    double sum = 0;
    for (int64_t p = threadIdx.x; p < count; p += THREADS) sum += losses[p];
    sum = block_sum(sum, shared);
    if (threadIdx.x == 0) *loss = (T)(sum / (double)rows);
}

/* Enough warps for the whole device, but no part with less than a few batches. */
static int parts_of(int64_t rows, int64_t draws) {
    int64_t most = (draws + 4 * BATCH - 1) / (4 * BATCH), wanted = (64 * 132 + rows - 1) / rows;
    return (int)(wanted < most ? wanted : most);
}

template <typename T, int W>
static cld_status nce(const cld_array *loss, const cld_array *df, nce_problem<T> q) {
    q.parts = parts_of(q.rows, q.count + 1);
    int64_t warps = q.rows * q.parts;
    int blocks = (int)((warps + WARPS - 1) / WARPS);
    CLD_SCRATCH sum_block;
    CLD_SCRATCH gradient_block;
    CLD_TRY(cld_cuda_scratch(&sum_block, (size_t)warps * sizeof(double)));
    if (df) CLD_TRY(cld_cuda_scratch(&gradient_block, (size_t)(warps * q.dim) * sizeof(T)));
    double *sums = (double *)sum_block.data;
    T *gradients = (T *)gradient_block.data;
    CLD_TRY(CLD_LAUNCH((sum_masses<T, W>), blocks, THREADS, 0, sums, q));
    CLD_TRY(CLD_LAUNCH((set_z<T>), 1, THREADS, 0, (const double *)sums, q));
    CLD_TRY(CLD_LAUNCH((score_parts<T, W>), blocks, THREADS, 0, sums, gradients, q));
    if (df)
        CLD_TRY(CLD_LAUNCH((join_gradients<T>), (int)q.rows, THREADS, 0, (T *)df->data, (const T *)gradients,
                           q.dim, q.parts));
    return CLD_LAUNCH((join_losses<T>), 1, THREADS, 0, (T *)loss->data, (const double *)sums, warps, q.rows);
}

cld_status cld_cuda_bank_nce(const cld_array *loss, const cld_array *df, const cld_array *z,
                             const cld_array *f, const cld_array *bank, const cld_array *index,
                             const cld_array *negatives, double temperature) {
    int64_t count = negatives->shape[1], size = bank->shape[0];
    CLD_BY_WIDE(f->dtype, T, {
        nce_problem<T> q = {};
        q.rows = f->shape[0], q.dim = f->shape[1], q.count = count, q.size = size;
        q.temperature = temperature, q.noise = (double)count / (double)size;
        q.f = (const T *)f->data, q.bank = (const T *)bank->data, q.z = (T *)z->data;
        q.index = (const int64_t *)index->data, q.negatives = (const int64_t *)negatives->data;
        q.fault = cld_cuda_fault();
        if (is_wide(q.f) && is_wide(q.bank) && q.dim % wide<T>::COUNT == 0)
            return nce<T, wide<T>::COUNT>(loss, df, q);
        return nce<T, 1>(loss, df, q);
    });
    return CLD_OK;
}
