/* Products on the host: plain loops in float, or double for f64, over dense copies of the factors. A bias that the real
 * library would not take is an error here too. */
#include "kernels/cuda/blas.h"

#include <vector>

#include "kernels/cuda/number.cuh"

static bool tf32; /* nothing is rounded here */

bool cld_cuda_tf32(void) { return tf32; }

bool cld_cuda_allow_tf32(bool on) {
    bool was = tf32;
    tf32 = on;
    return was;
}

const char *cld_cuda_blas_version(void) { return "loops on the host"; }

/* rows x columns of a matrix, or of its transpose in memory. */
template <typename T, typename S>
static std::vector<T> dense(const S *data, int64_t rows, int64_t columns, int64_t leading, bool transposed) {
    std::vector<T> out((size_t)(rows * columns));
    for (int64_t i = 0; i < rows; i++)
        for (int64_t j = 0; j < columns; j++)
            out[(size_t)(i * columns + j)] = load(data[transposed ? j * leading + i : i * leading + j]);
    return out;
}

/* One product of the batch; S: the factors' type, R: the result's. */
template <typename S, typename R>
static void multiply(R *c, const S *a_data, const S *b_data, const cld_product &p) {
    typedef typename cld_compute<S>::type T;
    const R *bias = static_cast<const R *>(p.bias);
    T alpha = (T)p.alpha, beta = (T)p.beta;
    std::vector<T> a = dense<T>(a_data, p.m, p.k, p.lda, p.transpose_a);
    std::vector<T> b = dense<T>(b_data, p.k, p.n, p.ldb, p.transpose_b);
#pragma omp parallel for schedule(static) if (p.m * p.n * p.k > 100000)
    for (int64_t i = 0; i < p.m; i++) {
        std::vector<T> sum((size_t)p.n, T(0));
        T *sums = sum.data();
        for (int64_t k = 0; k < p.k; k++) {
            const T factor = a[(size_t)(i * p.k + k)], *row = b.data() + k * p.n;
#pragma omp simd
            for (int64_t j = 0; j < p.n; j++) sums[j] += factor * row[j];
        }
        R *out = c + i * p.ldc;
        for (int64_t j = 0; j < p.n; j++) {
            T value = alpha * sums[j];
            if (beta != 0) value += beta * load(out[j]);
            if (bias) value += load(bias[j]);
            out[j] = store<R>(value);
        }
    }
}

template <typename S, typename R>
static cld_status multiply_all(void *c, const void *a, const void *b, const cld_product *p) {
    cld_product q = *p;
    return cld_host_enqueue({"matmul", CLD_HOST_LIBRARY, NULL}, [=]() {
        for (int64_t i = 0; i < q.batch; i++)
            multiply(static_cast<R *>(c) + i * q.stride_c, static_cast<const S *>(a) + i * q.stride_a,
                     static_cast<const S *>(b) + i * q.stride_b, q);
    });
}

cld_status cld_cuda_product(void *c, const void *a, const void *b, const cld_product *p) {
    if (p->m == 0 || p->n == 0 || p->batch == 0) return CLD_OK;
    if (p->bias && p->factors == CLD_F64) return cld_fail(CLD_UNSUPPORTED, "matmul: a bias in f64");
    if ((uintptr_t)p->bias % CLD_BIAS_ALIGNMENT != 0)
        return cld_fail(CLD_BACKEND, "matmul: a bias at %p is not aligned", p->bias);
    CLD_BY_FLOAT(p->factors, S, {
        if (p->result == p->factors) return multiply_all<S, S>(c, a, b, p);
        if (p->result == CLD_F32 && sizeof(S) == 2) return multiply_all<S, float>(c, a, b, p);
    })
    return cld_fail(CLD_UNSUPPORTED, "matmul: a result of f32 is for factors of bf16 and f16");
}
