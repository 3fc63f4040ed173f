/* Sums over many tensors, and the common norm of the gradients. */
#include <math.h>

#include "kernels/cpu/optim.h"
#include "kernels/cpu/simd.h"

enum { PIECE = 4096 }; /* elements that are summed separately, whatever the number of threads */

/* The tensor that this piece belongs to: the last nonempty one that begins at or before it. */
static int owner_of(const int64_t *first, int count, int64_t piece) {
    int low = 0, high = count;
    while (high - low > 1) {
        int middle = low + (high - low) / 2;
        if (first[middle] <= piece)
            low = middle;
        else
            high = middle;
    }
    return low;
}

cld_status cld__sum_all(double *sums, int count, cld__size_of size, const void *context,
                        void (*piece)(const void *context, int i, int64_t start, int64_t end,
                                      double out[2])) {
    int64_t pieces = 0;
    for (int i = 0; i < count; i++) pieces += (size(context, i) + PIECE - 1) / PIECE;
    size_t bytes = sizeof(int64_t) * ((size_t)count + 1) + sizeof(double) * 2 * (size_t)pieces;
    void *workspace;
    CLD_TRY(cld_cpu_memory.allocate(&workspace, bytes));
    int64_t *first = workspace;
    double *partial = (double *)(first + count + 1);
    first[0] = 0;
    for (int i = 0; i < count; i++) first[i + 1] = first[i] + (size(context, i) + PIECE - 1) / PIECE;
#pragma omp parallel for schedule(static) if (pieces * PIECE > CLD_PARALLEL_MIN)
    for (int64_t k = 0; k < pieces; k++) {
        int i = owner_of(first, count, k);
        int64_t n = size(context, i), start = (k - first[i]) * PIECE;
        piece(context, i, start, n - start < PIECE ? n : start + PIECE, partial + 2 * k);
    }
    for (int i = 0; i < count; i++) {
        sums[2 * i] = sums[2 * i + 1] = 0;
        for (int64_t k = first[i]; k < first[i + 1]; k++) {
            sums[2 * i] += partial[2 * k];
            sums[2 * i + 1] += partial[2 * k + 1];
        }
    }
    cld_cpu_memory.release(workspace, bytes);
    return CLD_OK;
}

/* ---- the norm of the gradients -------------------------------------------------------------------------- */

CLD_SIMD static double squares_f32(const float *x, int64_t n) {
    CLD_LANE_SUM(double, (double)x[i] * (double)x[i]);
}

CLD_SIMD static double squares_f64(const double *x, int64_t n) { CLD_LANE_SUM(double, x[i] * x[i]); }

static int64_t size_of(const void *context, int i) { return cld_numel((const cld_array *)context + i); }

static void square_piece(const void *context, int i, int64_t start, int64_t end, double out[2]) {
    const cld_array *x = (const cld_array *)context + i;
    int64_t n = end - start;
    out[1] = 0;
    out[0] = x->dtype == CLD_F32 ? squares_f32((const float *)x->data + start, n)
                                 : squares_f64((const double *)x->data + start, n);
}

static void write_norm(const cld_array *norm, double value) {
    if (norm->dtype == CLD_F64)
        *(double *)norm->data = value;
    else
        *(float *)norm->data = (float)value;
}

static cld_status sum_squares(double *sum, int count, const cld_array *grads) {
    void *sums;
    size_t bytes = sizeof(double) * 2 * ((size_t)count + 1);
    CLD_TRY(cld_cpu_memory.allocate(&sums, bytes));
    cld_status status = cld__sum_all(sums, count, size_of, grads, square_piece);
    *sum = 0;
    for (int i = 0; i < count && status == CLD_OK; i++) *sum += ((const double *)sums)[2 * i];
    cld_cpu_memory.release(sums, bytes);
    return status;
}

cld_status cld__optim_grad_norm(const cld_array *norm, const cld_array *factor, int count,
                                const cld_array *grads, double max_norm, const cld_step_control *control) {
    double value = NAN;
    if (cld__holds(control->condition)) {
        CLD_TRY(sum_squares(&value, count, grads));
        value = sqrt(value);
        if (control->scale) value /= (double)*(const float *)control->scale->data;
    }
    double wanted = isinf(max_norm) ? 1 : max_norm / (value + 1e-6);
    write_norm(norm, value);
    *(double *)factor->data = wanted > 1 ? 1 : wanted; /* NaN is kept */
    return CLD_OK;
}
