/* Matrix products: arrays of any strides as what the library takes, row-major matrices and transposed ones. A matrix that
 * is neither is copied first; products of integers have a kernel of their own. */
#include "kernels/cuda/blas.h"
#include "kernels/cuda/cuda.h"
#include "kernels/cuda/math.h"
#include "kernels/cuda/walk.h"

typedef struct matrix {
    void *data;
    int64_t rows, columns, leading, batch_stride;
    bool transposed; /* it lies in memory as (columns, rows) */
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

/* a as a matrix: where its strides do not fit as a dense one in scratch memory, whose elements are still a's to get. */
static cld_status matrix_of(const cld_array *a, matrix *m, cld_array *dense, cld_scratch_block *scratch) {
    if (fits(a, m)) return CLD_OK;
    CLD_TRY(cld_cuda_scratch(scratch, (size_t)cld_numel(a) * cld_dtype_size(a->dtype)));
    *dense = cld_dense_like(a, a->dtype, scratch->data);
    fits(dense, m);
    return CLD_OK;
}

static cld_status factor_of(const cld_array *a, matrix *m, cld_scratch_block *scratch) {
    cld_array dense;
    CLD_TRY(matrix_of(a, m, &dense, scratch));
    return scratch->data ? cld_cuda_copy_array(&dense, a) : CLD_OK;
}

/* out = a b, or where out is transposed out^T = b^T a^T. */
static cld_product product_of(const matrix *out, const matrix *a, const matrix *b) {
    if (!out->transposed)
        return (cld_product){.m = out->rows,
                             .n = out->columns,
                             .k = a->columns,
                             .transpose_a = a->transposed,
                             .transpose_b = b->transposed,
                             .lda = a->leading,
                             .ldb = b->leading,
                             .ldc = out->leading,
                             .stride_a = a->batch_stride,
                             .stride_b = b->batch_stride,
                             .stride_c = out->batch_stride};
    matrix c = *out, left = *b, right = *a;
    c.transposed = false;
    c.rows = out->columns;
    c.columns = out->rows;
    left.transposed = !b->transposed;
    left.columns = b->rows;
    right.transposed = !a->transposed;
    return product_of(&c, &left, &right);
}

cld_status cld_cuda_gemm(const cld_array *out, const cld_array *a, const cld_array *b, double alpha,
                         double beta) {
    if (cld_numel(out) == 0) return CLD_OK;
    if (a->shape[a->ndim - 1] == 0) /* an empty sum */
        return beta == 0 ? cld_cuda_fill_array(out, 0) : cld_cuda_unary(CLD_MUL_SCALAR, out, out, beta, 0);
    if (a->dtype == CLD_I64 || a->dtype == CLD_I32 || a->dtype == CLD_U8)
        return cld_cuda_integer_gemm(out, a, b, (int64_t)alpha, (int64_t)beta);

    CLD_SCRATCH a_scratch = {0}, b_scratch = {0}, out_scratch = {0};
    matrix ma, mb, mc;
    cld_array dense;
    CLD_TRY(factor_of(a, &ma, &a_scratch));
    CLD_TRY(factor_of(b, &mb, &b_scratch));
    CLD_TRY(matrix_of(out, &mc, &dense, &out_scratch));
    if (out_scratch.data && beta != 0) CLD_TRY(cld_cuda_copy_array(&dense, out));
    cld_product p = product_of(&mc, &ma, &mb);
    p.batch = out->ndim == 3 ? out->shape[0] : 1;
    p.factors = a->dtype;
    p.result = out->dtype;
    p.alpha = alpha;
    p.beta = beta;
    bool swapped = mc.transposed;
    CLD_TRY(cld_cuda_product(mc.data, swapped ? mb.data : ma.data, swapped ? ma.data : mb.data, &p));
    return out_scratch.data ? cld_cuda_copy_array(out, &dense) : CLD_OK;
}
