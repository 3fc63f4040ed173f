/* Products through cuBLASLt.
 *
 * cuBLASLt is column-major: it sees a row-major matrix as its transpose. So it is asked for the transposed product, C'
 * = op(B)' op(A)', with the two factors swapped, and each of them has the layout that it expects. Our column of C,
 * which has one element of the bias, is cuBLASLt's row, and its bias is per row.
 *
 * The heuristic's first algorithm is taken, and kept for the shape with its descriptors. Nothing is timed: the choice
 * follows from the shape, the GPU and cuBLAS's version, so a run need not keep it. Its workspace comes from scratch
 * memory at each call. It is exactly as large as the algorithm needs, and other functions share the memory, since one
 * stream runs everything.
 */
#include "kernels/cuda/blas.h"

#include <cublasLt.h>
#include <stdio.h>

#include "kernels/cuda/choice.h"
#include "kernels/cuda/cuda.h"

enum {
    MOST_WORKSPACE = 32 << 20, /* bytes; what NVIDIA recommends for Hopper */
    MOST_ALIGNMENT = 256
};

#define TRY_BLAS(call)                                                                                       \
    do {                                                                                                     \
        cublasStatus_t try_status = (call);                                                                  \
        if (try_status != CUBLAS_STATUS_SUCCESS) return try_status;                                          \
    } while (0)

static bool tf32;

bool cld_cuda_tf32(void) { return tf32; }

bool cld_cuda_allow_tf32(bool on) {
    bool was = tf32;
    tf32 = on;
    return was;
}

const char *cld_cuda_blas_version(void) {
    static char text[32];
    size_t version = cublasLtGetVersion();
    snprintf(text, sizeof text, "cuBLAS %zu.%zu", version / 10000, version / 100 % 100);
    return text;
}

static cublasStatus_t opened(cublasLtHandle_t *out) {
    static cublasLtHandle_t handle;
    if (!handle) TRY_BLAS(cublasLtCreate(&handle));
    *out = handle;
    return CUBLAS_STATUS_SUCCESS;
}

static cudaDataType_t type_of(cld_dtype dtype) {
    switch (dtype) {
    case CLD_F64: return CUDA_R_64F;
    case CLD_BF16: return CUDA_R_16BF;
    case CLD_F16: return CUDA_R_16F;
    default: return CUDA_R_32F;
    }
}

/* ---- descriptors: made by the library, since their content is internal to it ---- */

typedef struct product {
    cublasLtMatmulDesc_t what;
    cublasLtMatrixLayout_t first, second, out; /* first: what we call B */
} product;

static void destroy(product *d) {
    if (d->what) cublasLtMatmulDescDestroy(d->what);
    if (d->first) cublasLtMatrixLayoutDestroy(d->first);
    if (d->second) cublasLtMatrixLayoutDestroy(d->second);
    if (d->out) cublasLtMatrixLayoutDestroy(d->out);
    *d = (product){0};
}

/* Describes a matrix of `rows` rows of `columns` elements in memory. */
static cublasStatus_t describe_matrix(cublasLtMatrixLayout_t *out, cld_dtype dtype, int64_t rows,
                                      int64_t columns, int64_t leading, int64_t stride, int64_t batch) {
    int32_t count = (int32_t)batch;
    /* For a single row the leading dimension has no meaning, but it is checked. */
    if (rows == 1 && leading < columns) leading = columns;
    if (count != batch) return CUBLAS_STATUS_NOT_SUPPORTED;
    TRY_BLAS(cublasLtMatrixLayoutCreate(out, type_of(dtype), (uint64_t)columns, (uint64_t)rows, leading));
    TRY_BLAS(
        cublasLtMatrixLayoutSetAttribute(*out, CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, &count, sizeof count));
    return cublasLtMatrixLayoutSetAttribute(*out, CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET, &stride,
                                            sizeof stride);
}

static cublasStatus_t set_bias(const product *d, const cld_product *p) {
    return cublasLtMatmulDescSetAttribute(d->what, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &p->bias,
                                          sizeof p->bias);
}

static cublasStatus_t describe(product *out, const cld_product *p) {
    bool is_double = p->factors == CLD_F64;
    cublasComputeType_t compute = is_double                       ? CUBLAS_COMPUTE_64F
                                  : p->factors == CLD_F32 && tf32 ? CUBLAS_COMPUTE_32F_FAST_TF32
                                                                  : CUBLAS_COMPUTE_32F;
    cublasOperation_t first = p->transpose_b ? CUBLAS_OP_T : CUBLAS_OP_N;
    cublasOperation_t second = p->transpose_a ? CUBLAS_OP_T : CUBLAS_OP_N;
    TRY_BLAS(cublasLtMatmulDescCreate(&out->what, compute, is_double ? CUDA_R_64F : CUDA_R_32F));
    TRY_BLAS(cublasLtMatmulDescSetAttribute(out->what, CUBLASLT_MATMUL_DESC_TRANSA, &first, sizeof first));
    TRY_BLAS(cublasLtMatmulDescSetAttribute(out->what, CUBLASLT_MATMUL_DESC_TRANSB, &second, sizeof second));
    if (p->bias) {
        cublasLtEpilogue_t epilogue = CUBLASLT_EPILOGUE_BIAS;
        TRY_BLAS(cublasLtMatmulDescSetAttribute(out->what, CUBLASLT_MATMUL_DESC_EPILOGUE, &epilogue,
                                                sizeof epilogue));
        TRY_BLAS(set_bias(out, p));
    }
    TRY_BLAS(describe_matrix(&out->first, p->factors, p->transpose_b ? p->n : p->k,
                             p->transpose_b ? p->k : p->n, p->ldb, p->stride_b, p->batch));
    TRY_BLAS(describe_matrix(&out->second, p->factors, p->transpose_a ? p->k : p->m,
                             p->transpose_a ? p->m : p->k, p->lda, p->stride_a, p->batch));
    return describe_matrix(&out->out, p->result, p->m, p->n, p->ldc, p->stride_c, p->batch);
}

/* ---- the algorithm for a shape ---- */

typedef struct algorithm {
    cld_choice choice;
    product described; /* except for the address of the bias, which each call sets */
    cublasLtMatmulAlgo_t algo;
    size_t workspace;
} algorithm;

static void destroy_preference(cublasLtMatmulPreference_t *preference) {
    if (*preference) cublasLtMatmulPreferenceDestroy(*preference);
}

static cublasStatus_t ask(algorithm *out, cublasLtHandle_t handle, const void *c, const void *a,
                          const void *b) {
    const product *d = &out->described;
    /* If k is split among blocks, partial sums are kept in the compute type, never in 16 bits. */
    uint32_t reductions = CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE;
    uint64_t workspace = MOST_WORKSPACE;
    const struct {
        cublasLtMatmulPreferenceAttributes_t attribute;
        const void *data;
    } pointers[] = {{CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, b},
                    {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, a},
                    {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, c},
                    {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, c}};
    __attribute__((cleanup(destroy_preference))) cublasLtMatmulPreference_t preference = NULL;
    TRY_BLAS(cublasLtMatmulPreferenceCreate(&preference));
    TRY_BLAS(cublasLtMatmulPreferenceSetAttribute(preference, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK,
                                                  &reductions, sizeof reductions));
    TRY_BLAS(cublasLtMatmulPreferenceSetAttribute(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES,
                                                  &workspace, sizeof workspace));
    for (size_t i = 0; i < sizeof pointers / sizeof *pointers; i++) {
        uint32_t bytes = cld_alignment(pointers[i].data, MOST_ALIGNMENT);
        TRY_BLAS(
            cublasLtMatmulPreferenceSetAttribute(preference, pointers[i].attribute, &bytes, sizeof bytes));
    }

    cublasLtMatmulHeuristicResult_t result;
    int results = 0;
    TRY_BLAS(cublasLtMatmulAlgoGetHeuristic(handle, d->what, d->first, d->second, d->out, d->out, preference,
                                            1, &result, &results));
    if (results == 0) return CUBLAS_STATUS_NOT_SUPPORTED;
    TRY_BLAS(result.state);
    out->algo = result.algo;
    out->workspace = result.workspaceSize;
    return CUBLAS_STATUS_SUCCESS;
}

/* Keyed by the shape, and everything else that the heuristic may look at. */
static cublasStatus_t choose(algorithm **out, cublasLtHandle_t handle, const void *c, const void *a,
                             const void *b, const cld_product *p) {
    static cld_choices table;
    const int64_t key[CLD_CHOICE_KEY] = {p->m,
                                         p->n,
                                         p->k,
                                         p->batch,
                                         p->transpose_a,
                                         p->transpose_b,
                                         p->lda,
                                         p->ldb,
                                         p->ldc,
                                         p->stride_a,
                                         p->stride_b,
                                         p->stride_c,
                                         p->factors,
                                         p->result,
                                         tf32,
                                         p->bias ? cld_alignment(p->bias, MOST_ALIGNMENT) : 0,
                                         cld_alignment(a, MOST_ALIGNMENT),
                                         cld_alignment(b, MOST_ALIGNMENT),
                                         cld_alignment(c, MOST_ALIGNMENT)};
    *out = (algorithm *)cld_choice_find(&table, key);
    if (*out) return p->bias ? set_bias(&(*out)->described, p) : CUBLAS_STATUS_SUCCESS;
    algorithm *made = calloc(1, sizeof *made);
    if (!made) return CUBLAS_STATUS_ALLOC_FAILED;
    cublasStatus_t status = describe(&made->described, p);
    if (status == CUBLAS_STATUS_SUCCESS) status = ask(made, handle, c, a, b);
    if (status != CUBLAS_STATUS_SUCCESS) {
        destroy(&made->described);
        free(made);
        return status;
    }
    cld_choice_keep(&table, key, &made->choice);
    *out = made;
    return CUBLAS_STATUS_SUCCESS;
}

/* ---- a product ---- */

static cld_status failed(cublasStatus_t status, const cld_product *p) {
    CLD_TRY(cld_cuda_check_lost("matmul"));
    cld_status code = status == CUBLAS_STATUS_ALLOC_FAILED    ? CLD_NOMEM
                      : status == CUBLAS_STATUS_NOT_SUPPORTED ? CLD_UNSUPPORTED
                                                              : CLD_BACKEND;
    return cld_fail(code, "matmul: cuBLAS: %s (%lld x (%lld, %lld) @ (%lld, %lld)%s, %s to %s)",
                    cublasLtGetStatusString(status), (long long)p->batch, (long long)p->m, (long long)p->k,
                    (long long)p->k, (long long)p->n, p->bias ? " with a bias" : "",
                    cld_dtype_text(p->factors), cld_dtype_text(p->result));
}

static cld_status run(void *c, const void *a, const void *b, const cld_product *p) {
    void *stream = cld_cuda_stream(); /* makes the device current on this thread */
    cublasLtHandle_t handle;
    algorithm *chosen;
    cublasStatus_t status = opened(&handle);
    if (status == CUBLAS_STATUS_SUCCESS) status = choose(&chosen, handle, c, a, b, p);
    if (status != CUBLAS_STATUS_SUCCESS) return failed(status, p);

    CLD_SCRATCH workspace = {NULL, 0};
    if (chosen->workspace > 0) CLD_TRY(cld_cuda_scratch(&workspace, chosen->workspace));
    float factors[2] = {(float)p->alpha, (float)p->beta};
    bool is_double = p->factors == CLD_F64;
    const product *d = &chosen->described;
    status = cublasLtMatmul(handle, d->what, is_double ? (const void *)&p->alpha : &factors[0], b, d->first,
                            a, d->second, is_double ? (const void *)&p->beta : &factors[1], c, d->out, c,
                            d->out, &chosen->algo, workspace.data, chosen->workspace, stream);
    return status == CUBLAS_STATUS_SUCCESS ? CLD_OK : failed(status, p);
}

/* A product with an empty sum: computed as one with a single column of zeros. */
static cld_status run_empty(void *c, const cld_product *p) {
    int64_t longest = p->m > p->n ? p->m : p->n;
    CLD_SCRATCH zeros = {NULL, 0};
    CLD_TRY(cld_cuda_scratch(&zeros, (size_t)longest * cld_dtype_size(p->factors)));
    CLD_TRY(cld_cuda_clear(zeros.data, zeros.bytes));
    cld_product q = *p;
    q.k = q.lda = 1;
    q.ldb = p->n;
    q.transpose_a = q.transpose_b = false;
    q.stride_a = q.stride_b = 0;
    q.alpha = 0;
    return run(c, zeros.data, zeros.data, &q);
}

cld_status cld_cuda_product(void *c, const void *a, const void *b, const cld_product *p) {
    if (p->m == 0 || p->n == 0 || p->batch == 0) return CLD_OK;
    return p->k == 0 ? run_empty(c, p) : run(c, a, b, p);
}
