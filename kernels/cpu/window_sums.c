/* Rows as weighted sums of a few neighbouring rows: resizing and adaptive pooling along one dimension. */
#include "kernels/cpu/math.h"
#include "kernels/cpu/simd.h"

typedef struct job {
    const cld_array *y, *x, *weights;
    const int64_t *first;
    int64_t rows, extent, inner, width;
} job;

/* If rows have several elements, whole vectors are added; else numbers. o: index of the outer dimension. */
#define DEFINE_ROWS(T)                                                                                       \
    CLD_SIMD static void wide_row_##T(const job *j, int64_t o, int64_t row) {                                \
        T *y = (T *)j->y->data + (o * j->rows + row) * j->inner;                                             \
        const T *x = (const T *)j->x->data + (o * j->extent + j->first[row]) * j->inner;                     \
        const T *weights = (const T *)j->weights->data + row * j->width;                                     \
        for (int64_t i = 0; i < j->inner; i++) y[i] = 0;                                                     \
        for (int64_t k = 0; k < j->width; k++) {                                                             \
            T w = weights[k];                                                                                \
            const T *from = x + k * j->inner;                                                                \
            if (w == 0) continue;                                                                            \
            _Pragma("GCC ivdep") for (int64_t i = 0; i < j->inner; i++) y[i] += w * from[i];                 \
        }                                                                                                    \
    }                                                                                                        \
    static void narrow_rows_##T(const job *j, int64_t o) {                                                   \
        T *y = (T *)j->y->data + o * j->rows;                                                                \
        for (int64_t row = 0; row < j->rows; row++) {                                                        \
            const T *x = (const T *)j->x->data + o * j->extent + j->first[row];                              \
            const T *weights = (const T *)j->weights->data + row * j->width;                                 \
            T sum = 0;                                                                                       \
            for (int64_t k = 0; k < j->width; k++)                                                           \
                if (weights[k] != 0) sum += weights[k] * x[k];                                               \
            y[row] = sum;                                                                                    \
        }                                                                                                    \
    }

DEFINE_ROWS(float)
DEFINE_ROWS(double)

cld_status cld__window_sums(const cld_array *y, const cld_array *x, const cld_array *first,
                            const cld_array *weights) {
    job j = {y, x, weights, first->data, y->shape[1], x->shape[1], x->shape[2], weights->shape[1]};
    int64_t outer = x->shape[0], work = cld_numel(y) * j.width;
    bool wide = x->dtype == CLD_F64;
    if (j.inner == 1) {
#pragma omp parallel for schedule(static) if (work >= CLD_PARALLEL_MIN)
        for (int64_t o = 0; o < outer; o++) wide ? narrow_rows_double(&j, o) : narrow_rows_float(&j, o);
        return CLD_OK;
    }
#pragma omp parallel for schedule(static) if (work >= CLD_PARALLEL_MIN)
    for (int64_t i = 0; i < outer * j.rows; i++) {
        if (wide)
            wide_row_double(&j, i / j.rows, i % j.rows);
        else
            wide_row_float(&j, i / j.rows, i % j.rows);
    }
    return CLD_OK;
}
