/* Principal components, composed of ops: the eigenvectors of the largest eigenvalues of the smaller of the two products
 * of the centred rows. For a large matrix these few are found by orthogonal iteration (Golub and Van Loan, section
 * 7.3.2), with some more vectors than needed, since finding all would take as long as everything else that a map
 * needs. */
#include "runtime/core/philox.h"
#include "runtime/embed/embed.h"
#include "runtime/ops/ops.h"

#include <math.h>

enum { SMALL = 512, MORE = 10, ROUNDS = 200 };

/* The eigenvectors (m, k) of the largest eigenvalues of a symmetric x (m, m), largest first. */
static cld_tensor *largest_of_all(cld_tensor *x, int64_t k) {
    CLD_AUTO cld_tensor *least = cld_mul_scalar(x, -1); /* eigh has the smallest first */
    CLD_AUTO cld_tensor *vectors = NULL, *values = least ? cld_eigh(&vectors, least, k) : NULL;
    return values ? cld_tensor_steal(&vectors) : NULL;
}

/* Makes the columns (m, k) orthonormal; *sum is the sum of their squares before that. */
static cld_tensor *orthonormal(cld_tensor *y, double *sum) {
    int64_t k = y->a.shape[1];
    CLD_AUTO cld_tensor *turned = cld_transpose(y, 0, 1);
    CLD_AUTO cld_tensor *gram = turned ? cld_matmul(turned, y) : NULL;
    CLD_AUTO cld_tensor *axes = NULL, *values = gram ? cld_eigh(&axes, gram, k) : NULL;
    if (!values) return NULL;
    double *v = values->a.data, most = fmax(v[k - 1], 1e-300);
    *sum = 0;
    for (int64_t i = 0; i < k; i++) {
        *sum += v[i];
        v[i] = 1 / sqrt(fmax(v[i], most * 1e-20));
    }
    CLD_AUTO cld_tensor *scaled = cld_mul(axes, values);
    return scaled ? cld_matmul(y, scaled) : NULL;
}

/* Like largest_of_all, for a large x without negative eigenvalues. */
static cld_tensor *largest_by_rounds(cld_tensor *x, int64_t k) {
    int64_t m = x->a.shape[0], width = k + MORE < m ? k + MORE : m;
    CLD_AUTO cld_tensor *basis = cld_tensor_new(CLD_F64, 2, (int64_t[]){m, width}, cld_cpu_backend());
    if (!basis) return NULL;
    cld_philox random = cld_philox_at(0, CLD_RNG_GENERATOR, 0, 0, 0);
    for (int64_t i = 0; i < m * width; i++) ((double *)basis->a.data)[i] = cld_philox_uniform(&random) - 0.5;
    double before = 0;
    for (int round = 0; round < ROUNDS; round++) {
        double sum;
        CLD_AUTO cld_tensor *moved = cld_matmul(x, basis);
        CLD_AUTO cld_tensor *next = moved ? orthonormal(moved, &sum) : NULL;
        if (!next) return NULL;
        cld_tensor *was = basis;
        basis = cld_tensor_steal(&next);
        cld_tensor_free(was);
        if (round > 5 && fabs(sum - before) <= 1e-12 * sum) break;
        before = sum;
    }
    CLD_AUTO cld_tensor *moved = cld_matmul(x, basis), *turned = cld_transpose(basis, 0, 1);
    CLD_AUTO cld_tensor *small = moved && turned ? cld_matmul(turned, moved) : NULL;
    CLD_AUTO cld_tensor *axes = small ? largest_of_all(small, k) : NULL;
    return axes ? cld_matmul(basis, axes) : NULL;
}

/* The directions (d, dims) of the largest variance of the centred rows, each of length 1. */
static cld_tensor *directions(cld_tensor *rows, int64_t dims) {
    int64_t n = rows->a.shape[0], d = rows->a.shape[1];
    bool is_wide = d > n; /* then X X^T = U S^2 U^T, and X^T U are the directions times S */
    CLD_AUTO cld_tensor *turned = cld_transpose(rows, 0, 1);
    CLD_AUTO cld_tensor *product =
        turned ? is_wide ? cld_matmul(rows, turned) : cld_matmul(turned, rows) : NULL;
    CLD_AUTO cld_tensor *wide = product ? cld_tensor_cast(product, CLD_F64) : NULL;
    if (!wide) return NULL;
    CLD_AUTO cld_tensor *vectors =
        wide->a.shape[0] > SMALL ? largest_by_rounds(wide, dims) : largest_of_all(wide, dims);
    CLD_AUTO cld_tensor *axes = vectors ? cld_tensor_cast(vectors, CLD_F32) : NULL;
    if (!axes || !is_wide) return cld_tensor_steal(&axes);
    CLD_AUTO cld_tensor *scaled = cld_matmul(turned, axes);
    return scaled ? cld_normalize(scaled, 0) : NULL;
}

/* Makes the largest entry of each direction positive. */
static void choose_signs(cld_tensor *axes) {
    int64_t d = axes->a.shape[0], dims = axes->a.shape[1];
    float *v = axes->a.data;
    for (int64_t k = 0; k < dims; k++) {
        float largest = 0;
        for (int64_t i = 0; i < d; i++)
            if (fabsf(v[i * dims + k]) > fabsf(largest)) largest = v[i * dims + k];
        for (int64_t i = 0; i < d && largest < 0; i++) v[i * dims + k] = -v[i * dims + k];
    }
}

cld_tensor *cld_pca(cld_tensor *x, int64_t dims) {
    if (x->a.ndim != 2 || (x->a.dtype != CLD_F32 && x->a.dtype != CLD_F64) || x->a.shape[0] < 2)
        return cld_fail_null(CLD_INVALID, "pca: expected at least 2 rows (n, d), f32 or f64, got %s",
                             cld_describe(&x->a));
    if (dims < 1 || dims > x->a.shape[0] || dims > x->a.shape[1])
        return cld_fail_null(
            CLD_INVALID, "pca: %lld components of %s; expected at most as many as it has rows and columns",
            (long long)dims, cld_describe(&x->a));
    CLD_AUTO cld_tensor *constant = cld_tensor_detach(x);
    CLD_AUTO cld_tensor *here = constant ? cld_tensor_as(constant, CLD_F32, cld_cpu_backend()) : NULL;
    CLD_AUTO cld_tensor *mean = here ? cld_mean(here, (int[]){0}, 1, true) : NULL;
    CLD_AUTO cld_tensor *rows = mean ? cld_sub(here, mean) : NULL;
    CLD_AUTO cld_tensor *found = rows ? directions(rows, dims) : NULL;
    CLD_AUTO cld_tensor *axes = found ? cld_tensor_contiguous(found) : NULL;
    if (!axes) return NULL;
    choose_signs(axes);
    return cld_matmul(rows, axes);
}
