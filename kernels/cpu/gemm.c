/* Matrix products. f32 is oneDNN's sgemm; bf16 and f16 are cast to f32 and back; f64 and integers use plain loops.
 * Operands with strides that sgemm cannot take are copied first. */
#include "kernels/cpu/math.h"
#include "kernels/cpu/onednn.h"
#include "kernels/cpu/simd.h"

#include <string.h>

/* A matrix in the form that BLAS takes: row-major, or the transpose of a row-major one. */
typedef struct matrix {
    void *data;
    int64_t rows, columns, leading;
    char transposed; /* 'N' or 'T' */
    int64_t batch_stride;
} matrix;

static cld_dtype computed_in(cld_dtype dtype) {
    switch (cld__compute_type(dtype)) {
    case CLD_COMPUTE_FLOAT: return CLD_F32;
    case CLD_COMPUTE_DOUBLE: return CLD_F64;
    default: return CLD_I64;
    }
}

static bool fits_blas(const cld_array *a, int64_t rs, int64_t cs, matrix *m) {
    if ((cs == 1 || m->columns == 1) && (rs >= m->columns || m->rows == 1)) {
        m->transposed = 'N';
        m->leading = m->rows == 1 ? m->columns : rs;
    } else if ((rs == 1 || m->rows == 1) && (cs >= m->rows || m->columns == 1)) {
        m->transposed = 'T';
        m->leading = m->columns == 1 ? m->rows : cs;
    } else {
        return false;
    }
    m->data = a->data;
    m->batch_stride = a->ndim == 3 ? a->strides[0] : 0;
    return true;
}

static size_t copy_bytes(const cld_array *a) {
    return (size_t)cld_numel(a) * cld_dtype_size(computed_in(a->dtype));
}

/* a in its compute type, row-major or transposed. The caller must release *copy: copy_bytes(a) bytes, or NULL. */
static cld_status matrix_of(const cld_array *a, matrix *m, void **copy) {
    cld_dtype dtype = computed_in(a->dtype);
    *m = (matrix){.rows = a->shape[a->ndim - 2], .columns = a->shape[a->ndim - 1]};
    *copy = NULL;
    if (a->dtype == dtype && fits_blas(a, a->strides[a->ndim - 2], a->strides[a->ndim - 1], m)) return CLD_OK;
    cld_array dense = cld__dense_like(a, dtype);
    CLD_TRY(cld_cpu_memory.allocate(copy, copy_bytes(a)));
    dense.data = *copy;
    fits_blas(&dense, m->columns, 1, m);
    return cld__copy(&dense, a);
}

#define ELEMENT(T, m, i, k)                                                                                  \
    ((const T *)(m)->data)[(m)->transposed == 'N' ? (i) * (m)->leading + (k) : (k) * (m)->leading + (i)]

/* Row i of out = sum over k of a[i, k] * row k of b [+ row i of out]. */
#define PLAIN_PRODUCT(T, name)                                                                               \
    CLD_SIMD static void name(const matrix *out, const matrix *a, const matrix *b, bool add, int64_t i) {    \
        T *y = (T *)out->data + i * out->leading;                                                            \
        if (!add) memset(y, 0, (size_t)out->columns * sizeof *y);                                            \
        for (int64_t k = 0; k < a->columns; k++) {                                                           \
            T factor = ELEMENT(T, a, i, k);                                                                  \
            for (int64_t j = 0; j < out->columns; j++) y[j] += factor * ELEMENT(T, b, k, j);                 \
        }                                                                                                    \
    }

PLAIN_PRODUCT(double, product_double)
PLAIN_PRODUCT(uint64_t, product_int) /* wraps around */

/* out = a @ b [+ out] */
static cld_status product(cld_dtype dtype, const matrix *out, const matrix *a, const matrix *b, bool add) {
    if (dtype == CLD_F32)
        return cld_sgemm(a->transposed, b->transposed, out->rows, out->columns, a->columns, 1, a->data,
                         a->leading, b->data, b->leading, add ? 1 : 0, out->data, out->leading);
#pragma omp parallel for schedule(static) if (out->rows * out->columns * a->columns >= CLD_PARALLEL_MIN)
    for (int64_t i = 0; i < out->rows; i++)
        if (dtype == CLD_F64)
            product_double(out, a, b, add, i);
        else
            product_int(out, a, b, add, i);
    return CLD_OK;
}

static void next_in_batch(matrix *m, cld_dtype dtype) {
    m->data = (char *)m->data + m->batch_stride * (int64_t)cld_dtype_size(dtype);
}

/* Sums start with the bias. */
static cld_status start(const cld_array *out, const cld_array *bias) {
    if (!bias) return cld__fill(out, cld_integer(0));
    cld_array rows = cld_in_each_row(bias, out);
    return cld__copy(out, &rows);
}

cld_status cld__gemm(const cld_array *out, const cld_array *a, const cld_array *b, const cld_array *bias) {
    cld_dtype dtype = computed_in(out->dtype);
    int64_t batch = out->ndim == 3 ? out->shape[0] : 1;
    void *a_copy = NULL, *b_copy = NULL, *out_copy = NULL;
    matrix ma, mb, mc = {.rows = out->shape[out->ndim - 2], .columns = out->shape[out->ndim - 1]};
    cld_array sums = *out;
    if (cld_numel(out) == 0) return CLD_OK;
    if (a->shape[a->ndim - 1] == 0) return start(out, bias);
    cld_status status = matrix_of(a, &ma, &a_copy);
    if (status == CLD_OK) status = matrix_of(b, &mb, &b_copy);
    if (status == CLD_OK && out->dtype != dtype) {
        status = cld_cpu_memory.allocate(&out_copy, copy_bytes(out));
        sums = cld__dense_like(out, dtype);
        sums.data = out_copy;
    }
    fits_blas(&sums, mc.columns, 1, &mc);
    if (status == CLD_OK && bias) status = start(&sums, bias);
    for (int64_t i = 0; i < batch && status == CLD_OK; i++) {
        status = product(dtype, &mc, &ma, &mb, bias != NULL);
        next_in_batch(&ma, dtype);
        next_in_batch(&mb, dtype);
        next_in_batch(&mc, dtype);
    }
    if (status == CLD_OK && out_copy) status = cld__copy(out, &sums);
    cld_cpu_memory.release(a_copy, copy_bytes(a));
    cld_cpu_memory.release(b_copy, copy_bytes(b));
    cld_cpu_memory.release(out_copy, copy_bytes(out));
    return status;
}
