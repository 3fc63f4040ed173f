/* Instance discrimination against a memory: softmax over a bank or a queue, streamed.
 *
 *     loss = mean_i [ log sum_j exp(f_i . m_j / T) - s_i ]
 *     d loss / d f_i = (sum_j p_ij m_j - m_i) / (rows T)
 *
 * where s_i is the positive's logit and m_i its row. The memory is processed in chunks, by the online softmax: a matrix
 * product gives the chunk's logits; fold() replaces them by exp(logit - largest), with the largest logit so far, and
 * rescales the earlier sums if that has grown; a second product adds the chunk's rows, with these weights, to df. A
 * chunk's logits and rows stay in the L2 cache between the three. Only rows x chunk logits are in memory, never rows x
 * size.
 *
 * The positive is a row of the memory (bank: it takes part in the sum where it lies) or a key of its own (queue: it is
 * the first thing summed up, before the first chunk). */
#include "kernels/cuda/blas.h"
#include "kernels/cuda/block.cuh"
#include "kernels/cuda/loss.h"

/* For one chunk's logits. Together with its rows they take less than half of L2, the half near a multiprocessor. */
#define LOGIT_BYTES ((int64_t)8 << 20)
enum { LEAST = 256, LINE_THREADS = 1024, ROW_THREADS = 128 };

/* A thread of fold() keeps 64 bytes of logits in registers. */
template <typename T> struct line {
    static const int VALUES = 64 / sizeof(T), WIDTH = wide<T>::COUNT, GROUPS = VALUES / WIDTH;
    static const int MOST = VALUES * LINE_THREADS; /* columns */
};

/* State of a row of f. */
template <typename T> struct row_state {
    double sum;     /* of exp(logit - largest) */
    double loss;    /* at the end */
    T largest;      /* logit so far */
    T positive;     /* the positive's logit, after it was met */
    int64_t target; /* the positive's row of the memory, or -1 */
};

template <typename T>
static __global__ void start_bank(row_state<T> *rows, int64_t count, const int64_t *index, int64_t size,
                                  cld_fault *fault) {
    int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= count) return;
    rows[i] = row_state<T>{0, 0, -limits<T>::most(), 0, checked(fault, CLD_FAULT_BANK, index[i], size)};
}

/* So far only the positive has been summed: its weight is exp(positive - largest) = 1. One block per row. */
template <typename T>
static __global__ void __launch_bounds__(ROW_THREADS)
    start_queue(row_state<T> *rows, T *df, const T *f, const T *key, int64_t dim, T scale) {
    CLD_SHARED(T, shared, [BLOCK_WARPS]);
    int64_t start = blockIdx.x * dim;
    T dot = 0;
    for (int64_t d = threadIdx.x; d < dim; d += ROW_THREADS) {
        dot += f[start + d] * key[start + d];
        if (df) df[start + d] = key[start + d];
    }
    dot = scale * block_sum(dot, shared);
    if (threadIdx.x == 0) rows[blockIdx.x] = row_state<T>{1, 0, dot, dot, -1};
}

/* n new logits for each row, memory rows `at` on: one block per row. df (rows, dim) is NULL or, except before the first
 * chunk, holds the sum of the chunks before. */
template <typename T>
static __global__ void __launch_bounds__(LINE_THREADS)
    fold(T *logits, int64_t pitch, row_state<T> *rows, T *df, int64_t dim, int64_t at, int n) {
    CLD_SHARED(T, shared, [BLOCK_WARPS]);
    T *mine = logits + blockIdx.x * pitch;
    row_state<T> *row = &rows[blockIdx.x];
    T before = row->largest, largest = before, sum = 0;
    double sum_before = row->sum;
    int64_t target = row->target - at;
    if (threadIdx.x == 0 && target >= 0 && target < n) row->positive = mine[target];
    wide<T> v[line<T>::GROUPS];
#pragma unroll
    for (int g = 0; g < line<T>::GROUPS; g++) {
        int column = (g * (int)blockDim.x + (int)threadIdx.x) * line<T>::WIDTH;
        if (column < n) v[g] = *(const wide<T> *)(mine + column);
#pragma unroll
        for (int e = 0; e < line<T>::WIDTH; e++) {
            if (column + e >= n) v[g].v[e] = -limits<T>::infinity();
            largest = larger(largest, v[g].v[e]);
        }
    }
    largest = block_largest(largest, shared);
#pragma unroll
    for (int g = 0; g < line<T>::GROUPS; g++) {
        int column = (g * (int)blockDim.x + (int)threadIdx.x) * line<T>::WIDTH;
#pragma unroll
        for (int e = 0; e < line<T>::WIDTH; e++) {
            v[g].v[e] = exponential(v[g].v[e] - largest);
            if (column + e < n) sum += v[g].v[e];
        }
        if (column < n) *(wide<T> *)(mine + column) = v[g];
    }
    sum = block_sum(sum, shared);
    T shrink = exponential(before - largest);
    if (threadIdx.x == 0) {
        row->sum = sum_before * shrink + sum;
        row->largest = largest;
    }
    if (!df || shrink == 1) return;
    for (int64_t d = threadIdx.x; d < dim; d += blockDim.x) df[blockIdx.x * dim + d] *= shrink;
}

/* One block per row; its target is a row of the memory, or of the keys. */
template <typename T>
static __global__ void __launch_bounds__(ROW_THREADS)
    finish(row_state<T> *rows, T *df, const T *memory, const T *keys, int64_t dim, double scale) {
    const row_state<T> row = rows[blockIdx.x];
    if (threadIdx.x == 0) rows[blockIdx.x].loss = log(row.sum) + row.largest - row.positive;
    if (!df) return;
    const T *target = keys ? keys + blockIdx.x * dim : memory + row.target * dim;
    T *mine = df + blockIdx.x * dim, weight = (T)(scale / row.sum), one = (T)scale;
    for (int64_t d = threadIdx.x; d < dim; d += ROW_THREADS) mine[d] = weight * mine[d] - one * target[d];
}

template <typename T>
static __global__ void __launch_bounds__(ROW_THREADS)
    mean_loss(T *loss, const row_state<T> *rows, int64_t count) {
    CLD_SHARED(double, shared, [BLOCK_WARPS]);
    double sum = 0;
    for (int64_t i = threadIdx.x; i < count; i += ROW_THREADS) sum += rows[i].loss;
    sum = block_sum(sum, shared);
    if (threadIdx.x == 0) *loss = (T)(sum / (double)count);
}

typedef struct problem {
    const cld_array *loss, *df, *f, *memory;
    const cld_array *index, *key; /* one of them is NULL */
    double scale;                 /* 1 / temperature */
} problem;

/* logits = f . chunk^T / T */
static cld_product logits_of(const problem *q, int64_t n, int64_t pitch) {
    int64_t dim = q->f->shape[1];
    cld_product p = {};
    p.m = q->f->shape[0], p.n = n, p.k = dim, p.batch = 1;
    p.transpose_b = true;
    p.lda = p.ldb = dim, p.ldc = pitch;
    p.factors = p.result = q->f->dtype;
    p.alpha = q->scale;
    return p;
}

/* df = weights . chunk + beta df */
static cld_product gradient_of(const problem *q, int64_t n, int64_t pitch, double beta) {
    int64_t dim = q->f->shape[1];
    cld_product p = {};
    p.m = q->f->shape[0], p.n = dim, p.k = n, p.batch = 1;
    p.lda = pitch, p.ldb = p.ldc = dim;
    p.factors = p.result = q->f->dtype;
    p.alpha = 1, p.beta = beta;
    return p;
}

template <typename T> static int64_t chunk_of(int64_t rows, int64_t size) {
    int64_t n = LOGIT_BYTES / (rows * (int64_t)sizeof(T)) / LEAST * LEAST;
    if (n > line<T>::MOST) n = line<T>::MOST;
    if (n < LEAST) n = LEAST;
    return n < size ? n : size;
}

template <typename T> static cld_status softmax(const problem *q) {
    int64_t rows = q->f->shape[0], dim = q->f->shape[1], size = q->memory->shape[0];
    int64_t chunk = chunk_of<T>(rows, size), width = line<T>::WIDTH;
    int64_t pitch = (chunk + width - 1) / width * width;
    int threads = (int)((chunk + 32 * line<T>::VALUES - 1) / (32 * line<T>::VALUES)) * 32;
    const T *f = (const T *)q->f->data, *memory = (const T *)q->memory->data;
    const T *keys = q->key ? (const T *)q->key->data : NULL;
    T *df = q->df ? (T *)q->df->data : NULL;
    CLD_SCRATCH row_block;
    CLD_SCRATCH logit_block;
    CLD_TRY(cld_cuda_scratch(&row_block, (size_t)rows * sizeof(row_state<T>)));
    CLD_TRY(cld_cuda_scratch(&logit_block, (size_t)(rows * pitch) * sizeof(T)));
    row_state<T> *states = (row_state<T> *)row_block.data;
    T *logits = (T *)logit_block.data;
    if (keys)
        CLD_TRY(
            CLD_LAUNCH((start_queue<T>), (int)rows, ROW_THREADS, 0, states, df, f, keys, dim, (T)q->scale));
    else
        CLD_TRY(CLD_LAUNCH((start_bank<T>), (int)((rows + ROW_THREADS - 1) / ROW_THREADS), ROW_THREADS, 0,
                           states, rows, (const int64_t *)q->index->data, size, cld_cuda_fault()));
    for (int64_t at = 0; at < size; at += chunk) {
        int64_t n = size - at < chunk ? size - at : chunk;
        bool empty = at == 0 && !keys; /* df is still empty */
        cld_product forward = logits_of(q, n, pitch), backward = gradient_of(q, n, pitch, empty ? 0 : 1);
        CLD_TRY(cld_cuda_product(logits, f, memory + at * dim, &forward));
        CLD_TRY(CLD_LAUNCH((fold<T>), (int)rows, threads, 0, logits, pitch, states, empty ? (T *)NULL : df,
                           dim, at, (int)n));
        if (df) CLD_TRY(cld_cuda_product(df, logits, memory + at * dim, &backward));
    }
    CLD_TRY(CLD_LAUNCH((finish<T>), (int)rows, ROW_THREADS, 0, states, df, memory, keys, dim,
                       q->scale / (double)rows));
    return CLD_LAUNCH((mean_loss<T>), 1, ROW_THREADS, 0, (T *)q->loss->data, states, rows);
}

cld_status cld_cuda_bank_softmax(const cld_array *loss, const cld_array *df, const cld_array *f,
                                 const cld_array *bank, const cld_array *index, double temperature) {
    problem q = {loss, df, f, bank, index, NULL, 1 / temperature};
    CLD_BY_WIDE(f->dtype, T, return softmax<T>(&q));
    return CLD_OK;
}

cld_status cld_cuda_queue_softmax(const cld_array *loss, const cld_array *df, const cld_array *f,
                                  const cld_array *key, const cld_array *queue, double temperature) {
    problem q = {loss, df, f, queue, NULL, key, 1 / temperature};
    CLD_BY_WIDE(f->dtype, T, return softmax<T>(&q));
    return CLD_OK;
}
