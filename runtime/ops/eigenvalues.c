/* The eigenvalues of a symmetric matrix, in f64 on the host: reflections (Householder) make it tridiagonal, then
 * implicit QR steps with Wilkinson's shift make it diagonal (Golub and Van Loan, Matrix Computations, 8.3.1 and 8.3.3).
 * About 2 n^3 operations, and each value right to some roundings of the largest. No gradient. */
#include "runtime/ops/ops.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define NOTHING (DBL_MIN / DBL_EPSILON) /* a square, beside the matrix's largest value, 1 */

/* Of the n values x, the reflection I - 2 v v' / (v' v) that leaves x[0] alone not zero: v in place of x, and what
 * becomes of x[0]. `scale` is 2 / (v' v), or 0 if there is nothing to do. */
static double reflection(double *x, int64_t n, double *scale) {
    double rest = 0;
    for (int64_t i = 1; i < n; i++) rest += x[i] * x[i];
    *scale = 0;
    if (rest <= NOTHING) return x[0];
    double length = sqrt(x[0] * x[0] + rest), end = x[0] > 0 ? -length : length;
    x[0] -= end;
    *scale = 2 / (x[0] * x[0] + rest);
    return end;
}

/* a, the n x n values within a wider matrix, becomes H a H: a - v w' - w v' with w = scale a v - (...) v. */
static void reflect(double *a, int64_t wide, int64_t n, const double *v, double scale, double *w) {
    double along = 0;
    for (int64_t i = 0; i < n; i++) {
        double sum = 0;
        for (int64_t j = 0; j < n; j++) sum += a[i * wide + j] * v[j];
        w[i] = scale * sum;
        along += w[i] * v[i];
    }
    for (int64_t i = 0; i < n; i++) w[i] -= scale * along / 2 * v[i];
    for (int64_t i = 0; i < n; i++)
        for (int64_t j = 0; j < n; j++) a[i * wide + j] -= v[i] * w[j] + w[i] * v[j];
}

/* diagonal (n) and off (n - 1) of a tridiagonal matrix with a's eigenvalues; a and w (2 n) are used up. */
static void make_tridiagonal(double *a, int64_t n, double *diagonal, double *off, double *w) {
    double *v = w + n;
    for (int64_t k = 0; k < n; k++) {
        diagonal[k] = a[k * n + k];
        int64_t below = n - k - 1;
        if (below == 0) break;
        for (int64_t i = 0; i < below; i++) v[i] = a[(k + 1 + i) * n + k];
        double scale;
        off[k] = reflection(v, below, &scale);
        if (scale != 0) reflect(a + (k + 1) * n + k + 1, n, below, v, scale, w);
    }
}

/* The eigenvalue of [[a, b], [b, c]] that is nearer to c. */
static double shift_of(double a, double b, double c) {
    double half = (a - c) / 2, root = hypot(half, b);
    return root == 0 ? c : c - b * b / (half + (half < 0 ? -root : root));
}

/* One step on rows first..last, of which no off-diagonal is zero: rotations of neighbouring rows chase what the first
 * one leaves beside the three diagonals down to the end. */
static void qr_step(double *d, double *off, int64_t first, int64_t last) {
    double x = d[first] - shift_of(d[last - 1], off[last - 1], d[last]), z = off[first];
    for (int64_t k = first; k < last; k++) {
        double length = hypot(x, z), c = length > 0 ? x / length : 1, s = length > 0 ? z / length : 0;
        double p = d[k], q = d[k + 1], b = off[k];
        if (k > first) off[k - 1] = length;
        d[k] = c * c * p + 2 * c * s * b + s * s * q;
        d[k + 1] = s * s * p - 2 * c * s * b + c * c * q;
        off[k] = c * s * (q - p) + (c * c - s * s) * b;
        if (k + 1 == last) break;
        x = off[k];
        z = s * off[k + 1];
        off[k + 1] *= c;
    }
}

/* Beside its neighbours, or beside the matrix's largest value, 1: smaller ones, whose squares vanish, cannot be chased. */
static bool is_small(const double *d, const double *off, int64_t k) {
    return fabs(off[k]) <= DBL_EPSILON * fmax(fabs(d[k]) + fabs(d[k + 1]), DBL_EPSILON);
}

/* d becomes the eigenvalues. False if they are not found in 60 steps for each: no finite matrix is known to need
 * more than some. */
static bool diagonalize(double *d, double *off, int64_t n) {
    int64_t last = n - 1;
    for (int64_t steps = 0; last > 0; steps++) {
        if (steps > 60 * n) return false;
        while (last > 0 && is_small(d, off, last - 1)) last--;
        int64_t first = last;
        while (first > 0 && !is_small(d, off, first - 1)) first--;
        if (first < last) qr_step(d, off, first, last);
    }
    return true;
}

static int ascending(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* The lower half of a counts, and is copied to the upper one; returns the largest absolute value, NaN where one is. */
static double mirror(double *a, int64_t n) {
    double largest = 0;
    for (int64_t i = 0; i < n; i++)
        for (int64_t j = 0; j <= i; j++) {
            double value = a[i * n + j];
            a[j * n + i] = value;
            if (!(fabs(value) <= largest)) largest = fabs(value);
            if (isnan(value)) return value;
        }
    return largest;
}

static cld_status values_of(double *a, int64_t n, double *d, double *work) {
    double largest = mirror(a, n);
    if (!(largest <= DBL_MAX))
        return cld_fail(CLD_INVALID, "eigvalsh: the matrix has values that are not finite");
    double unit = largest > 0 ? largest : 1; /* so that no square overflows, and few vanish */
    for (int64_t i = 0; i < n * n; i++) a[i] /= unit;
    make_tridiagonal(a, n, d, work, work + n);
    if (!diagonalize(d, work, n)) return cld_fail(CLD_INVALID, "eigvalsh: the eigenvalues were not found");
    for (int64_t i = 0; i < n; i++) d[i] *= unit;
    qsort(d, (size_t)n, sizeof *d, ascending);
    return CLD_OK;
}

cld_tensor *cld_eigvalsh(cld_tensor *x) {
    CLD_TRY_NULL(cld_check_float("eigvalsh", x));
    int64_t n = x->a.ndim == 2 ? x->a.shape[0] : 0;
    if (x->a.ndim != 2 || x->a.shape[1] != n)
        return cld_fail_null(CLD_INVALID, "eigvalsh: expected a symmetric matrix (n, n), got %s",
                             cld_describe(&x->a));
    if (cld_needs_grad(&x, 1))
        return cld_fail_null(CLD_UNSUPPORTED, "eigvalsh has no gradient: give it x:detach()");
    CLD_AUTO cld_tensor *here = cld_tensor_to(x, cld_cpu_backend());
    CLD_AUTO cld_tensor *a = here ? cld_tensor_cast(here, CLD_F64) : NULL;
    CLD_AUTO cld_tensor *d = a ? cld_tensor_new(CLD_F64, 1, &n, cld_cpu_backend()) : NULL;
    int64_t work_size = 3 * n;
    CLD_AUTO cld_tensor *work = d ? cld_tensor_new(CLD_F64, 1, &work_size, cld_cpu_backend()) : NULL;
    if (!work) return NULL;
    if (n > 0) CLD_TRY_NULL(values_of(a->a.data, n, d->a.data, work->a.data));
    CLD_AUTO cld_tensor *out = cld_tensor_cast(d, x->a.dtype);
    return out ? cld_tensor_to(out, cld_device(x)) : NULL;
}
