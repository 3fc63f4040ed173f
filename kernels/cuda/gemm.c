/* Matrix products: factors of any strides are passed to the library as row-major or transposed matrices; one that is
 * neither is copied first. The library adds the bias as it writes the product. If it cannot take the bias, out is
 * filled with it and the product is added to it. Integer products have their own kernel. */
#include "kernels/cuda/blas.h"
#include "kernels/cuda/cuda.h"
#include "kernels/cuda/math.h"
#include "kernels/cuda/walk.h"

typedef struct matrix {
    void *data;
    int64_t rows, columns, leading, batch_stride;
    bool transposed; /* it is stored as (columns, rows) */
} matrix;

static bool fits(const cld_array *a, matrix *m) {
    int64_t rs = a->strides[a->ndim - 2], cs = a->strides[a->ndim - 1];
    *m = (matrix){.data = a->data, .rows = a->shape[a->ndim - 2], .columns = a->shape[a->ndim - 1]};
    m->batch_stride = a->ndim == 3 && a->shape[0] > 1 ? a->strides[0] : 0;
    if ((cs == 1 || m->columns == 1) && (rs >= m->columns || m->rows == 1)) {
        m->leading = m->rows == 1 ? m->columns : rs;
        return true;
    }
    m->transposed = true;
    m->leading = m->columns == 1 ? m->rows : cs;
    return (rs == 1 || m->rows == 1) && (cs >= m->rows || m->columns == 1);
}

/* a as a matrix: a dense copy in scratch memory if its strides do not fit. */
static cld_status matrix_of(const cld_array *a, matrix *m, cld_scratch_block *scratch) {
    if (fits(a, m)) return CLD_OK;
    CLD_TRY(cld_cuda_scratch(scratch, (size_t)cld_numel(a) * cld_dtype_size(a->dtype)));
    cld_array dense = cld_dense_like(a, a->dtype, scratch->data);
    fits(&dense, m);
    return cld_cuda_copy_array(&dense, a);
}

/* out = bias in each row, or 0 */
static cld_status start(const cld_array *out, const cld_array *bias) {
    if (!bias) return cld_cuda_fill_array(out, cld_integer(0));
    cld_array rows = cld_in_each_row(bias, out);
    return cld_cuda_copy_array(out, &rows);
}

/* Can the library add it? */
static bool is_addable(const cld_array *bias) {
    return bias->dtype != CLD_F64 && (bias->strides[0] == 1 || bias->shape[0] == 1) &&
           (uintptr_t)bias->data % CLD_BIAS_ALIGNMENT == 0;
}

cld_status cld_cuda_gemm(const cld_array *out, const cld_array *a, const cld_array *b,
                         const cld_array *bias) {
    if (cld_numel(out) == 0) return CLD_OK;
    if (a->shape[a->ndim - 1] == 0) return start(out, bias); /* an empty sum */
    if (a->dtype == CLD_I64 || a->dtype == CLD_I32 || a->dtype == CLD_U8)
        return cld_cuda_integer_gemm(out, a, b, bias);

    CLD_SCRATCH a_scratch = {0}, b_scratch = {0};
    matrix ma, mb;
    CLD_TRY(matrix_of(a, &ma, &a_scratch));
    CLD_TRY(matrix_of(b, &mb, &b_scratch));
    int64_t rows = out->shape[out->ndim - 2], columns = out->shape[out->ndim - 1];
    cld_product p = {.m = rows,
                     .n = columns,
                     .k = ma.columns,
                     .batch = out->ndim == 3 ? out->shape[0] : 1,
                     .transpose_a = ma.transposed,
                     .transpose_b = mb.transposed,
                     .lda = ma.leading,
                     .ldb = mb.leading,
                     .ldc = columns,
                     .stride_a = ma.batch_stride,
                     .stride_b = mb.batch_stride,
                     .stride_c = rows * columns,
                     .factors = a->dtype,
                     .result = out->dtype,
                     .alpha = 1};
    if (bias && is_addable(bias)) {
        p.bias = bias->data;
        cld_status status = cld_cuda_product(out->data, ma.data, mb.data, &p);
        if (status != CLD_UNSUPPORTED) return status;
        p.bias = NULL;
    }
    if (bias) {
        CLD_TRY(start(out, bias));
        p.beta = 1;
    }
    return cld_cuda_product(out->data, ma.data, mb.data, &p);
}
