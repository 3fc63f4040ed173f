/* Instance discrimination against a memory: softmax over a bank or a queue, streamed, and the updates of the two.
 *
 *     loss = mean_i [ log sum_j exp(f_i . m_j / T) - s_i ]
 *     d loss / d f_i = (sum_j p_ij m_j - m_i) / (rows T)
 *
 * where s_i is the positive's logit and m_i its row. Both come out of one pass over the memory, BLOCK rows at a time,
 * by the online softmax: each row keeps the largest logit so far, sum exp(logit - largest) and sum exp(logit - largest)
 * m_j; the sums are rescaled when a larger logit appears. Only rows x BLOCK logits per thread are in memory, never rows
 * x size. Batches of more than MOST_ROWS rows are processed in pieces of that size.
 *
 * The memory is cut into one contiguous part per thread, and the parts are merged by the same rule. The positive is a
 * row of the memory (bank: it takes part in the sum where it lies) or a key of its own (queue: merged at the end).
 */
#include "kernels/cpu/loss.h"
#include "kernels/cpu/onednn.h"

#include <float.h>
#include <omp.h>

enum { BLOCK = 512, MOST_ROWS = 4096 };

typedef struct problem {
    int64_t rows, dim, size;
    int64_t batch;        /* rows of the whole batch; these are some of them */
    double scale;         /* 1 / temperature */
    const void *f;        /* (rows, dim) */
    const void *memory;   /* (size, dim) */
    const int64_t *index; /* (rows): the positive is memory[index[i]]; or NULL: it is key[i] */
    const void *key;      /* (rows, dim) */
    bool gradient;
} problem;

/* ---- f32: blocked -------------------------------------------------------------------------------------- */

/* One thread's results for its part of the memory. */
typedef struct part {
    double *sum;     /* (rows): sum of exp(logit - largest) */
    float *largest;  /* (rows) */
    float *weighted; /* (rows, dim): sum of exp(logit - largest) m, if a gradient is wanted */
    float *logits;   /* (rows, BLOCK) */
} part;

static size_t weighted_bytes(const problem *q) {
    return q->gradient ? (size_t)(q->rows * q->dim) * sizeof(float) : 0;
}

static size_t part_bytes(const problem *q) {
    size_t rows = (size_t)q->rows;
    return cld__lines(rows * sizeof(double)) + cld__lines(rows * sizeof(float)) +
           cld__lines(weighted_bytes(q)) + cld__lines(rows * BLOCK * sizeof(float));
}

static part carve_part(char **at, const problem *q) {
    size_t rows = (size_t)q->rows;
    part p = {.sum = cld__carve(at, rows * sizeof(double))};
    p.largest = cld__carve(at, rows * sizeof(float));
    p.weighted = cld__carve(at, weighted_bytes(q));
    p.logits = cld__carve(at, rows * BLOCK * sizeof(float));
    return p;
}

/* Replaces each row's n new logits by exp(logit - largest) and adds them to its sums. */
CLD_SIMD static void fold(part *p, int64_t rows, int64_t n, int64_t dim) {
    for (int64_t i = 0; i < rows; i++) {
        float *logits = p->logits + i * n, largest = p->largest[i], sum = 0;
#pragma omp simd reduction(max : largest)
        for (int64_t j = 0; j < n; j++) largest = logits[j] > largest ? logits[j] : largest;
#pragma omp simd reduction(+ : sum)
        for (int64_t j = 0; j < n; j++) {
            logits[j] = cld_expf(logits[j] - largest);
            sum += logits[j];
        }
        float shrink = cld_expf(p->largest[i] - largest);
        p->sum[i] = p->sum[i] * shrink + sum;
        p->largest[i] = largest;
        if (shrink == 1) continue;
        for (int64_t d = 0; d < dim; d++) p->weighted[i * dim + d] *= shrink;
    }
}

/* Adds memory rows [start, end) to p; positive[i] is set by the thread that meets it. */
static cld_status stream_part(part *p, float *positive, const problem *q, int64_t start, int64_t end) {
    int64_t dim = q->gradient ? q->dim : 0;
    for (int64_t i = 0; i < q->rows; i++) p->largest[i] = -FLT_MAX, p->sum[i] = 0;
    memset(p->weighted, 0, (size_t)(q->rows * dim) * sizeof(float));
    for (int64_t at = start; at < end; at += BLOCK) {
        int64_t n = end - at < BLOCK ? end - at : BLOCK;
        const float *block = (const float *)q->memory + at * q->dim;
        CLD_TRY(cld_sgemm('N', 'T', q->rows, n, q->dim, (float)q->scale, q->f, q->dim, block, q->dim, 0,
                          p->logits, n));
        for (int64_t i = 0; q->index && i < q->rows; i++)
            if (q->index[i] >= at && q->index[i] < at + n) positive[i] = p->logits[i * n + q->index[i] - at];
        fold(p, q->rows, n, dim);
        if (dim > 0)
            CLD_TRY(cld_sgemm('N', 'N', q->rows, dim, n, 1, p->logits, n, block, dim, 1, p->weighted, dim));
    }
    return CLD_OK;
}

/* Row i's loss from all parts, and its gradient into df unless df is NULL. */
static double merge_row(float *df, const part *parts, int count, float positive, const problem *q,
                        int64_t i) {
    const float *target =
        q->index ? (const float *)q->memory + q->index[i] * q->dim : (const float *)q->key + i * q->dim;
    float largest = q->index ? -FLT_MAX : positive;
    for (int p = 0; p < count; p++)
        if (!(parts[p].largest[i] <= largest)) largest = parts[p].largest[i];
    double sum = q->index ? 0 : exp((double)positive - largest);
    for (int p = 0; p < count; p++) sum += parts[p].sum[i] * exp((double)parts[p].largest[i] - largest);
    if (df) {
        double share = q->index ? 0 : exp((double)positive - largest) / sum,
               scale = q->scale / (double)q->batch;
        for (int64_t d = 0; d < q->dim; d++) df[d] = (float)((share - 1) * scale * target[d]);
        for (int p = 0; p < count; p++) {
            float weight = (float)(exp((double)parts[p].largest[i] - largest) / sum * scale);
            for (int64_t d = 0; d < q->dim; d++) df[d] += weight * parts[p].weighted[i * q->dim + d];
        }
    }
    return log(sum) + largest - positive;
}

/* *loss: the sum over the rows. */
static cld_status sum_rows(double *loss, float *df, const problem *q) {
    int64_t blocks = (q->size + BLOCK - 1) / BLOCK;
    int count = omp_get_max_threads() < blocks ? omp_get_max_threads() : (int)blocks;
    size_t loss_bytes = (size_t)q->rows * sizeof(double), positive_bytes = (size_t)q->rows * sizeof(float);
    size_t bytes = cld__lines((size_t)count * sizeof(part)) + cld__lines(loss_bytes) +
                   cld__lines(positive_bytes) + (size_t)count * part_bytes(q);
    void *workspace;
    CLD_TRY(cld_cpu_memory.allocate(&workspace, bytes));
    char *at = workspace;
    part *parts = cld__carve(&at, (size_t)count * sizeof *parts);
    double *losses = cld__carve(&at, loss_bytes);      /* (rows) */
    float *positive = cld__carve(&at, positive_bytes); /* (rows) */
    for (int p = 0; p < count; p++) parts[p] = carve_part(&at, q);

    for (int64_t i = 0; !q->index && i < q->rows; i++)
        positive[i] = (float)q->scale * cld__dot_f32((const float *)q->f + i * q->dim,
                                                     (const float *)q->key + i * q->dim, q->dim);
    cld_status failed = CLD_OK;
#pragma omp parallel for schedule(static) num_threads(count)
    for (int p = 0; p < count; p++) {
        int64_t start = blocks * p / count * BLOCK, end = blocks * (p + 1) / count * BLOCK;
        cld_status status = stream_part(&parts[p], positive, q, start, end < q->size ? end : q->size);
        if (status != CLD_OK) {
#pragma omp atomic write
            failed = status;
        }
    }
    if (!failed) {
#pragma omp parallel for schedule(static)
        for (int64_t i = 0; i < q->rows; i++)
            losses[i] = merge_row(df ? df + i * q->dim : NULL, parts, count, positive[i], q, i);
        double sum = 0;
        for (int64_t i = 0; i < q->rows; i++) sum += losses[i];
        *loss = sum;
    }
    cld_cpu_memory.release(workspace, bytes);
    return cld_onednn_fail(failed, "a matrix product");
}

static cld_status softmax_f32(float *loss, float *df, const problem *q) {
    double sum = 0;
    for (int64_t at = 0; at < q->rows; at += MOST_ROWS) {
        problem some = *q;
        double their_sum = 0;
        some.rows = q->rows - at < MOST_ROWS ? q->rows - at : MOST_ROWS;
        some.f = (const float *)q->f + at * q->dim;
        if (q->index) some.index += at;
        if (q->key) some.key = (const float *)q->key + at * q->dim;
        CLD_TRY(sum_rows(&their_sum, df ? df + at * q->dim : NULL, &some));
        sum += their_sum;
    }
    *loss = (float)(sum / (double)q->batch);
    return CLD_OK;
}

/* ---- f64: plain loops, the reference ------------------------------------------------------------------- */

static void softmax_f64(double *loss, double *df, const problem *q) {
    const double *memory = q->memory;
    *loss = 0;
    for (int64_t i = 0; i < q->rows; i++) {
        const double *f = (const double *)q->f + i * q->dim;
        const double *target = q->index ? memory + q->index[i] * q->dim : (const double *)q->key + i * q->dim;
        double positive = q->scale * cld__dot_f64(f, target, q->dim), largest = positive;
        for (int64_t j = 0; j < q->size; j++)
            largest = fmax(largest, q->scale * cld__dot_f64(f, memory + j * q->dim, q->dim));
        double sum = q->index ? 0 : exp(positive - largest);
        for (int64_t j = 0; j < q->size; j++)
            sum += exp(q->scale * cld__dot_f64(f, memory + j * q->dim, q->dim) - largest);
        *loss += (log(sum) + largest - positive) / (double)q->rows;
        if (!df) continue;
        double scale = q->scale / (double)q->rows, share = q->index ? 0 : exp(positive - largest) / sum;
        for (int64_t d = 0; d < q->dim; d++) df[i * q->dim + d] = (share - 1) * scale * target[d];
        for (int64_t j = 0; j < q->size; j++) {
            const double *m = memory + j * q->dim;
            double p = exp(q->scale * cld__dot_f64(f, m, q->dim) - largest) / sum;
            for (int64_t d = 0; d < q->dim; d++) df[i * q->dim + d] += p * scale * m[d];
        }
    }
}

/* ---- the contract -------------------------------------------------------------------------------------- */

static cld_status softmax(const cld_array *loss, const cld_array *df, const problem *q) {
    if (loss->dtype == CLD_F32) return softmax_f32(loss->data, df ? df->data : NULL, q);
    softmax_f64(loss->data, df ? df->data : NULL, q);
    return CLD_OK;
}

cld_status cld__bank_softmax(const cld_array *loss, const cld_array *df, const cld_array *f,
                             const cld_array *bank, const cld_array *index, double temperature) {
    CLD_TRY(cld__check_index("memory_bank", "index", index, bank->shape[0]));
    problem q = {.rows = f->shape[0],
                 .dim = f->shape[1],
                 .size = bank->shape[0],
                 .batch = f->shape[0],
                 .scale = 1 / temperature,
                 .f = f->data,
                 .memory = bank->data,
                 .index = index->data,
                 .gradient = df != NULL};
    return softmax(loss, df, &q);
}

cld_status cld__queue_softmax(const cld_array *loss, const cld_array *df, const cld_array *f,
                              const cld_array *key, const cld_array *queue, double temperature) {
    problem q = {.rows = f->shape[0],
                 .dim = f->shape[1],
                 .size = queue->shape[0],
                 .batch = f->shape[0],
                 .scale = 1 / temperature,
                 .f = f->data,
                 .memory = queue->data,
                 .key = key->data,
                 .gradient = df != NULL};
    return softmax(loss, df, &q);
}

cld_status cld__check_index(const char *op, const char *what, const cld_array *index, int64_t size) {
    const int64_t *entries = index->data;
    for (int64_t i = 0; i < cld_numel(index); i++)
        if (entries[i] < 0 || entries[i] >= size)
            return cld_fail(CLD_INVALID, "%s: entry %lld of %s is %lld; expected 0 to %lld", op,
                            (long long)i + 1, what, (long long)entries[i], (long long)size - 1);
    return CLD_OK;
}

/* One row after another, since an index may occur twice. */
cld_status cld__bank_update(const cld_array *bank, const cld_array *index, const cld_array *f,
                            double momentum, const cld_array *condition) {
    const int64_t *entries = index->data, dim = f->shape[1];
    if (!cld__holds(condition)) return CLD_OK;
    CLD_TRY(cld__check_index("memory_bank", "index", index, bank->shape[0]));
    for (int64_t i = 0; i < f->shape[0]; i++) {
        double square = 0;
        if (f->dtype == CLD_F32) {
            float *m = (float *)bank->data + entries[i] * dim;
            const float *x = (const float *)f->data + i * dim;
            for (int64_t d = 0; d < dim; d++) m[d] = (float)(momentum * m[d] + (1 - momentum) * x[d]);
            for (int64_t d = 0; d < dim; d++) square += (double)m[d] * m[d];
            for (int64_t d = 0; square > 0 && d < dim; d++) m[d] = (float)(m[d] / sqrt(square));
        } else {
            double *m = (double *)bank->data + entries[i] * dim;
            const double *x = (const double *)f->data + i * dim;
            for (int64_t d = 0; d < dim; d++) m[d] = momentum * m[d] + (1 - momentum) * x[d];
            for (int64_t d = 0; d < dim; d++) square += m[d] * m[d];
            for (int64_t d = 0; square > 0 && d < dim; d++) m[d] /= sqrt(square);
        }
    }
    return CLD_OK;
}

cld_status cld__enqueue(const cld_array *queue, const cld_array *pointer, const cld_array *keys,
                        const cld_array *condition) {
    int64_t *next = pointer->data, size = queue->shape[0], count = keys->shape[0];
    size_t row = (size_t)queue->shape[1] * cld_dtype_size(queue->dtype);
    if (!cld__holds(condition)) return CLD_OK;
    if (*next < 0 || *next >= size)
        return cld_fail(CLD_INVALID, "moco_queue: the pointer is %lld; expected 0 to %lld", (long long)*next,
                        (long long)size - 1);
    for (int64_t i = count > size ? count - size : 0; i < count; i++)
        memcpy((char *)queue->data + (size_t)((*next + i) % size) * row,
               (const char *)keys->data + (size_t)i * row, row);
    *next = (*next + count) % size;
    return CLD_OK;
}
