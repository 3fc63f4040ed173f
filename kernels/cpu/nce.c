/* Noise-contrastive estimation against a memory bank (Wu et al., CVPR 2018), in the form of CLD's released code.
 *
 * With s = exp(f . m / T) / Z and c = K / size, the noise's share of K uniform negatives,
 *
 *     loss = -1/rows sum_i [ log(s_i0 / (s_i0 + c + eps)) + sum_k log(c / (s_ik + c + eps)) ]
 *
 * Z = size * mean exp(f . m / T) over the very first batch, its positives included, and a constant from then on. Each
 * drawn row is used for its logit and for the gradient while it is in cache; nothing of size rows x K is kept.
 */
#include "kernels/cpu/loss.h"

#include <math.h>

#include "runtime/core/philox.h"

#define EPS 1e-7

/* One stream per row of negatives, so that rows may be drawn in parallel. */
cld_status cld__sample_negatives(const cld_array *negatives, const cld_array *draw, int64_t size,
                                 uint64_t seed) {
    int64_t rows = negatives->shape[0], count = negatives->shape[1];
    int64_t *out = negatives->data, *calls = draw->data;
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < rows; i++) {
        cld_philox r = cld_philox_at(seed, CLD_RNG_NEGATIVES, (uint64_t)i, (uint64_t)*calls, 0);
        for (int64_t k = 0; k < count; k++) out[i * count + k] = cld_philox_below(&r, (uint32_t)size);
    }
    ++*calls;
    return CLD_OK;
}

typedef struct problem {
    int64_t rows, dim, count, size;
    double temperature, z, noise; /* noise: K / size */
    const int64_t *index, *negatives;
} problem;

/* What one drawn row adds to the loss and, times the row, to d loss / d f (both still to be divided by rows). */
typedef struct term {
    double loss, weight;
} term;

static term score(double similarity, bool positive, const problem *q) {
    double s = exp(similarity / q->temperature) / q->z, total = s + q->noise + EPS;
    if (positive) return (term){log(total / s), -(q->noise + EPS) / total / q->temperature};
    return (term){log(total / q->noise), s / total / q->temperature};
}

/* The memory row of draw k for batch row i: the positive first, then the negatives. */
static int64_t drawn(const problem *q, int64_t i, int64_t k) {
    return k == 0 ? q->index[i] : q->negatives[i * q->count + k - 1];
}

/* ---- f32 ----------------------------------------------------------------------------------------------- */

/* Sum of exp(f . m / T) over all draws of one row. */
CLD_SIMD static double mass_f32(const float *f, const float *bank, const problem *q, int64_t i) {
    double sum = 0;
    for (int64_t k = 0; k <= q->count; k++)
        sum += exp(cld__dot_f32(f, bank + drawn(q, i, k) * q->dim, q->dim) / q->temperature);
    return sum;
}

/* One row's loss; its gradient into df unless df is NULL. */
CLD_SIMD static double row_f32(float *df, const float *f, const float *bank, const problem *q, int64_t i) {
    double loss = 0;
    for (int64_t d = 0; df && d < q->dim; d++) df[d] = 0;
    for (int64_t k = 0; k <= q->count; k++) {
        const float *m = bank + drawn(q, i, k) * q->dim;
        term t = score(cld__dot_f32(f, m, q->dim), k == 0, q);
        loss += t.loss;
        float weight = (float)(t.weight / (double)q->rows);
        for (int64_t d = 0; df && d < q->dim; d++) df[d] += weight * m[d];
    }
    return loss;
}

/* ---- f64: plain loops, the reference ------------------------------------------------------------------- */

static double mass_f64(const double *f, const double *bank, const problem *q, int64_t i) {
    double sum = 0;
    for (int64_t k = 0; k <= q->count; k++)
        sum += exp(cld__dot_f64(f, bank + drawn(q, i, k) * q->dim, q->dim) / q->temperature);
    return sum;
}

static double row_f64(double *df, const double *f, const double *bank, const problem *q, int64_t i) {
    double loss = 0;
    for (int64_t d = 0; df && d < q->dim; d++) df[d] = 0;
    for (int64_t k = 0; k <= q->count; k++) {
        const double *m = bank + drawn(q, i, k) * q->dim;
        term t = score(cld__dot_f64(f, m, q->dim), k == 0, q);
        loss += t.loss;
        for (int64_t d = 0; df && d < q->dim; d++) df[d] += t.weight / (double)q->rows * m[d];
    }
    return loss;
}

/* ---- the contract -------------------------------------------------------------------------------------- */

cld_status cld__bank_nce(const cld_array *loss, const cld_array *df, const cld_array *z, const cld_array *f,
                         const cld_array *bank, const cld_array *index, const cld_array *negatives,
                         double temperature) {
    bool single = f->dtype == CLD_F32;
    problem q = {.rows = f->shape[0],
                 .dim = f->shape[1],
                 .count = negatives->shape[1],
                 .size = bank->shape[0],
                 .temperature = temperature,
                 .noise = (double)negatives->shape[1] / (double)bank->shape[0],
                 .index = index->data,
                 .negatives = negatives->data};
    cld_array flat = {.data = negatives->data, .ndim = 1, .shape = {q.rows * q.count}};
    CLD_TRY(cld__check_index("memory_bank", "index", index, q.size));
    CLD_TRY(cld__check_index("memory_bank", "negatives", &flat, q.size));

    void *workspace;
    size_t bytes = (size_t)q.rows * sizeof(double);
    CLD_TRY(cld_cpu_memory.allocate(&workspace, bytes));
    double *per_row = workspace, sum = 0; /* summed in order, whatever the number of threads */
    q.z = single ? *(float *)z->data : *(double *)z->data;
    if (!(q.z > 0 && isfinite(q.z))) {
#pragma omp parallel for schedule(static)
        for (int64_t i = 0; i < q.rows; i++)
            per_row[i] = single ? mass_f32((const float *)f->data + i * q.dim, bank->data, &q, i)
                                : mass_f64((const double *)f->data + i * q.dim, bank->data, &q, i);
        for (int64_t i = 0; i < q.rows; i++) sum += per_row[i];
        q.z = (double)q.size * sum / (double)(q.rows * (q.count + 1));
        if (single)
            q.z = *(float *)z->data = (float)q.z; /* rounded as later batches will read it */
        else
            *(double *)z->data = q.z;
        sum = 0;
    }
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < q.rows; i++)
        per_row[i] = single ? row_f32(df ? (float *)df->data + i * q.dim : NULL,
                                      (const float *)f->data + i * q.dim, bank->data, &q, i)
                            : row_f64(df ? (double *)df->data + i * q.dim : NULL,
                                      (const double *)f->data + i * q.dim, bank->data, &q, i);
    for (int64_t i = 0; i < q.rows; i++) sum += per_row[i];
    cld_cpu_memory.release(workspace, bytes);
    if (single)
        *(float *)loss->data = (float)(sum / (double)q.rows);
    else
        *(double *)loss->data = sum / (double)q.rows;
    return CLD_OK;
}
