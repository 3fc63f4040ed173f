/* blas.c with cuBLASLt's own descriptors, but with the product computed here by loops that read them. So the calls of
 * blas.c can be checked without a GPU, against the library's manual. Column-major, as there. Linked with
 * spec/support/cuda_libraries.cpp in place of kernels/cuda/host/blas.cpp. */
#include <cublasLt.h>
#include <math.h>
#include <stdint.h>

#define cublasLtCreate                       fake_create
#define cublasLtMatmulAlgoGetHeuristic       fake_heuristic
#define cublasLtMatmul                       fake_matmul
#define cublasLtMatmulDescCreate(...)        counted(1, cublasLtMatmulDescCreate(__VA_ARGS__))
#define cublasLtMatrixLayoutCreate(...)      counted(1, cublasLtMatrixLayoutCreate(__VA_ARGS__))
#define cublasLtMatmulPreferenceCreate(...)  counted(1, cublasLtMatmulPreferenceCreate(__VA_ARGS__))
#define cublasLtMatmulDescDestroy(...)       counted(-1, cublasLtMatmulDescDestroy(__VA_ARGS__))
#define cublasLtMatrixLayoutDestroy(...)     counted(-1, cublasLtMatrixLayoutDestroy(__VA_ARGS__))
#define cublasLtMatmulPreferenceDestroy(...) counted(-1, cublasLtMatmulPreferenceDestroy(__VA_ARGS__))
static cublasStatus_t counted(int change, cublasStatus_t status);
static cublasStatus_t fake_create(cublasLtHandle_t *handle);
static cublasStatus_t fake_heuristic(cublasLtHandle_t handle, cublasLtMatmulDesc_t what,
                                     cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                                     cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d,
                                     cublasLtMatmulPreference_t preference, int most,
                                     cublasLtMatmulHeuristicResult_t *results, int *count);
static cublasStatus_t fake_matmul(cublasLtHandle_t handle, cublasLtMatmulDesc_t what, const void *alpha,
                                  const void *a, cublasLtMatrixLayout_t la, const void *b,
                                  cublasLtMatrixLayout_t lb, const void *beta, const void *c,
                                  cublasLtMatrixLayout_t lc, void *d, cublasLtMatrixLayout_t ld,
                                  const cublasLtMatmulAlgo_t *algo, void *workspace, size_t bytes,
                                  cudaStream_t stream);
#include "kernels/cuda/blas.c"

/* Number of descriptors made and not destroyed. */
static int descriptors;
int cuda_blas_descriptors(void);
int cuda_blas_descriptors(void) { return descriptors; }

static cublasStatus_t counted(int change, cublasStatus_t status) {
    if (status == CUBLAS_STATUS_SUCCESS) descriptors += change;
    return status;
}

/* ---- elements ---- */

static double element(cudaDataType_t type, const void *data, int64_t i) {
    union {
        uint32_t bits;
        float value;
    } wide;
    switch (type) {
    case CUDA_R_64F: return ((const double *)data)[i];
    case CUDA_R_32F: return ((const float *)data)[i];
    case CUDA_R_16F: return (double)((const _Float16 *)data)[i];
    default: wide.bits = (uint32_t)((const uint16_t *)data)[i] << 16; return wide.value;
    }
}

static void put(cudaDataType_t type, void *data, int64_t i, double value) {
    union {
        uint32_t bits;
        float value;
    } wide = {.value = (float)value};
    switch (type) {
    case CUDA_R_64F: ((double *)data)[i] = value; break;
    case CUDA_R_32F: ((float *)data)[i] = (float)value; break;
    case CUDA_R_16F: ((_Float16 *)data)[i] = (_Float16)value; break;
    default: ((uint16_t *)data)[i] = (uint16_t)((wide.bits + 0x7fff + (wide.bits >> 16 & 1)) >> 16); break;
    }
}

/* ---- the content of descriptors ---- */

typedef struct matrix {
    cudaDataType_t type;
    uint64_t rows, columns;
    int64_t leading, stride;
    int32_t batch;
} matrix;

static matrix read_matrix(cublasLtMatrixLayout_t layout) {
    matrix m = {0};
    uint32_t type;
    size_t written;
    cublasLtMatrixLayoutGetAttribute(layout, CUBLASLT_MATRIX_LAYOUT_TYPE, &type, sizeof type, &written);
    cublasLtMatrixLayoutGetAttribute(layout, CUBLASLT_MATRIX_LAYOUT_ROWS, &m.rows, sizeof m.rows, &written);
    cublasLtMatrixLayoutGetAttribute(layout, CUBLASLT_MATRIX_LAYOUT_COLS, &m.columns, sizeof m.columns,
                                     &written);
    cublasLtMatrixLayoutGetAttribute(layout, CUBLASLT_MATRIX_LAYOUT_LD, &m.leading, sizeof m.leading,
                                     &written);
    cublasLtMatrixLayoutGetAttribute(layout, CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, &m.batch, sizeof m.batch,
                                     &written);
    cublasLtMatrixLayoutGetAttribute(layout, CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET, &m.stride,
                                     sizeof m.stride, &written);
    m.type = (cudaDataType_t)type;
    return m;
}

static uint32_t read_word(cublasLtMatmulDesc_t what, cublasLtMatmulDescAttributes_t attribute) {
    uint32_t word = 0;
    size_t written;
    cublasLtMatmulDescGetAttribute(what, attribute, &word, sizeof word, &written);
    return word;
}

/* op(m)[row, column] of matrix i of the batch */
static double at(const matrix *m, const void *data, bool transposed, int64_t i, int64_t row, int64_t column) {
    return element(m->type, data,
                   i * m->stride + (transposed ? row * m->leading + column : column * m->leading + row));
}

/* The extents fit together, and the types are a row in the manual's table. */
static bool is_valid(cublasLtMatmulDesc_t what, const matrix *a, const matrix *b, const matrix *c) {
    bool ta = read_word(what, CUBLASLT_MATMUL_DESC_TRANSA) == CUBLAS_OP_T,
         tb = read_word(what, CUBLASLT_MATMUL_DESC_TRANSB) == CUBLAS_OP_T;
    uint32_t compute = read_word(what, CUBLASLT_MATMUL_DESC_COMPUTE_TYPE),
             scale = read_word(what, CUBLASLT_MATMUL_DESC_SCALE_TYPE);
    bool is_double = a->type == CUDA_R_64F;
    return a->leading >= (int64_t)a->rows && b->leading >= (int64_t)b->rows &&
           c->leading >= (int64_t)c->rows && (ta ? a->columns : a->rows) == c->rows &&
           (tb ? b->rows : b->columns) == c->columns &&
           (ta ? a->rows : a->columns) == (tb ? b->columns : b->rows) && a->batch == b->batch &&
           a->batch == c->batch && a->type == b->type &&
           (c->type == a->type || (c->type == CUDA_R_32F && !is_double)) &&
           compute == (uint32_t)(is_double ? CUBLAS_COMPUTE_64F : CUBLAS_COMPUTE_32F) &&
           scale == (uint32_t)(is_double ? CUDA_R_64F : CUDA_R_32F) && a->rows && a->columns && b->rows &&
           b->columns;
}

static const void *read_bias(cublasLtMatmulDesc_t what) {
    const void *bias = NULL;
    size_t written;
    if (read_word(what, CUBLASLT_MATMUL_DESC_EPILOGUE) == CUBLASLT_EPILOGUE_BIAS)
        cublasLtMatmulDescGetAttribute(what, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &bias, sizeof bias, &written);
    return bias;
}

/* ---- the three functions ---- */

static cublasStatus_t fake_create(cublasLtHandle_t *handle) {
    static int it;
    *handle = (cublasLtHandle_t)&it;
    return CUBLAS_STATUS_SUCCESS;
}

static cublasStatus_t fake_heuristic(cublasLtHandle_t handle, cublasLtMatmulDesc_t what,
                                     cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                                     cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d,
                                     cublasLtMatmulPreference_t preference, int most,
                                     cublasLtMatmulHeuristicResult_t *results, int *count) {
    matrix ma = read_matrix(a), mb = read_matrix(b), mc = read_matrix(c);
    const void *bias = read_bias(what);
    if (!handle || !preference || most < 1 || c != d || !is_valid(what, &ma, &mb, &mc))
        return CUBLAS_STATUS_INVALID_VALUE;
    if (bias && ma.type == CUDA_R_64F) return CUBLAS_STATUS_NOT_SUPPORTED;
    if ((uintptr_t)bias % CLD_BIAS_ALIGNMENT != 0) return CUBLAS_STATUS_INVALID_VALUE;
    results[0] = (cublasLtMatmulHeuristicResult_t){.workspaceSize = 1024, .state = CUBLAS_STATUS_SUCCESS};
    *count = 1;
    return CUBLAS_STATUS_SUCCESS;
}

static cublasStatus_t fake_matmul(cublasLtHandle_t handle, cublasLtMatmulDesc_t what, const void *alpha,
                                  const void *a, cublasLtMatrixLayout_t la, const void *b,
                                  cublasLtMatrixLayout_t lb, const void *beta, const void *c,
                                  cublasLtMatrixLayout_t lc, void *d, cublasLtMatrixLayout_t ld,
                                  const cublasLtMatmulAlgo_t *algo, void *workspace, size_t bytes,
                                  cudaStream_t stream) {
    matrix ma = read_matrix(la), mb = read_matrix(lb), mc = read_matrix(lc);
    bool ta = read_word(what, CUBLASLT_MATMUL_DESC_TRANSA) == CUBLAS_OP_T,
         tb = read_word(what, CUBLASLT_MATMUL_DESC_TRANSB) == CUBLAS_OP_T;
    cudaDataType_t scale = (cudaDataType_t)read_word(what, CUBLASLT_MATMUL_DESC_SCALE_TYPE);
    double times = element(scale, alpha, 0), kept = element(scale, beta, 0);
    const void *bias = read_bias(what);
    if (!handle || stream || !algo || !workspace || bytes != 1024 || c != d || lc != ld)
        return CUBLAS_STATUS_INVALID_VALUE;
    for (int64_t i = 0; i < mc.batch; i++)
        for (int64_t column = 0; column < (int64_t)mc.columns; column++)
            for (int64_t row = 0; row < (int64_t)mc.rows; row++) {
                double sum = 0;
                for (int64_t k = 0; k < (int64_t)(ta ? ma.rows : ma.columns); k++)
                    sum += at(&ma, a, ta, i, row, k) * at(&mb, b, tb, i, k, column);
                sum *= times;
                if (kept != 0) sum += kept * at(&mc, c, false, i, row, column);
                if (bias) sum += element(mc.type, bias, row);
                put(mc.type, d, i * mc.stride + column * mc.leading + row, sum);
            }
    return CUBLAS_STATUS_SUCCESS;
}
