/* Eigenvalues and eigenvectors of symmetric matrices, in f64: reflections (Householder) make a matrix tridiagonal, then
 * implicit QR steps with Wilkinson's shift make it diagonal (Golub and Van Loan, Matrix Computations, 8.3.1 and 8.3.3).
 * Values are accurate to a few roundings of the largest one, and vectors are orthogonal to a few roundings, even if
 * eigenvalues are equal.
 *
 * The rotations of several QR steps are collected and then applied one after the other to a few columns at a time,
 * which stay in the innermost cache. The reflections are applied only to the vectors that are wanted. Work is split by
 * size, so the result does not depend on the number of threads. */
#include "kernels/cpu/math.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/cpu/simd.h"

#define NOTHING (DBL_MIN / DBL_EPSILON) /* a negligible square, relative to the matrix's largest value, 1 */

enum {
    LANES = 8,
    SLICE = 4 * LANES /* columns that are rotated together */,
    CHUNK = 32,
    MANY = 512 /* rows per thread, and the least number of rows for which starting threads pays */
};
typedef double lanes __attribute__((vector_size(LANES * sizeof(double))));

/* ---- to three diagonals -------------------------------------------------------------------------------- */

/* The reflection I - 2 v v' / (v' v) that makes all n values x zero except x[0]: v replaces x, and the new x[0] is
 * returned. `scale` is 2 / (v' v), or 0 if there is nothing to do. */
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

CLD_SIMD static double dot(const double *a, const double *b, int64_t n) {
    double sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t i = 0; i < n; i++) sum += a[i] * b[i];
    return sum;
}

/* a += s b */
CLD_SIMD static void add_scaled(double *a, double s, const double *b, int64_t n) {
    for (int64_t i = 0; i < n; i++) a[i] += s * b[i];
}

/* a -= v w' + w v', rows first .. last - 1 of n values each, in a wider matrix */
CLD_SIMD static void reflect_rows(double *a, int64_t wide, int64_t n, int64_t first, int64_t last,
                                  const double *v, const double *w) {
    for (int64_t i = first; i < last; i++)
        for (int64_t j = 0; j < n; j++) a[i * wide + j] -= v[i] * w[j] + w[i] * v[j];
}

/* a, the n x n values within a wider matrix, becomes H a H: a - v w' - w v' with w = scale a v - (...) v. */
static void reflect(double *a, int64_t wide, int64_t n, const double *v, double scale, double *w) {
#pragma omp parallel for schedule(static) if (n > MANY)
    for (int64_t first = 0; first < n; first += CHUNK)
        for (int64_t i = first; i < n && i < first + CHUNK; i++) w[i] = scale * dot(a + i * wide, v, n);
    add_scaled(w, -scale * dot(w, v, n) / 2, v, n);
#pragma omp parallel for schedule(static) if (n > MANY)
    for (int64_t first = 0; first < n; first += CHUNK)
        reflect_rows(a, wide, n, first, first + CHUNK < n ? first + CHUNK : n, v, w);
}

/* diagonal (n) and off (n - 1) of a tridiagonal matrix with a's eigenvalues. The reflections stay in a: v of the k-th
 * in row k, from column k + 1 on, and its scale in scales[k]. w: n values of workspace. */
static void make_tridiagonal(double *a, int64_t n, double *diagonal, double *off, double *scales, double *w) {
    for (int64_t k = 0; k < n; k++) {
        diagonal[k] = a[k * n + k];
        int64_t below = n - k - 1;
        if (below == 0) break;
        double *v = a + k * n + k + 1;
        off[k] = reflection(v, below, &scales[k]);
        if (scales[k] != 0) reflect(a + (k + 1) * n + k + 1, n, below, v, scales[k], w);
    }
}

/* ---- to one diagonal ------------------------------------------------------------------------------------- */

/* Rotations of rows k and k + 1 that are still to be applied to vectors. */
typedef struct rotation {
    double c, s;
    int64_t k;
} rotation;

typedef struct rotations {
    rotation *list; /* NULL: vectors are not wanted */
    int64_t count, room;
    double *vectors; /* (n, width): row k is the vector of d[k], before sorting */
    int64_t width;
} rotations;

/* SLICE columns. A rotation's second row is usually the next one's first, and stays in registers. */
CLD_SIMD static void rotate_slice(double *z, int64_t width, const rotation *list, int64_t count) {
    lanes x[SLICE / LANES] = {{0}};
    for (int64_t r = 0; r < count; r++) {
        double c = list[r].c, s = list[r].s;
        lanes *upper = (lanes *)(z + list[r].k * width), *lower = (lanes *)(z + (list[r].k + 1) * width);
        bool follows = r > 0 && list[r].k == list[r - 1].k + 1,
             goes_on = r + 1 < count && list[r + 1].k == list[r].k + 1;
#pragma GCC unroll 4
        for (int h = 0; h < SLICE / LANES; h++) {
            lanes p = follows ? x[h] : upper[h], q = lower[h];
            upper[h] = c * p + s * q;
            x[h] = c * q - s * p;
            if (!goes_on) lower[h] = x[h];
        }
    }
}

static void rotate(rotations *r) {
#pragma omp parallel for schedule(static) if (r->count > 1024)
    for (int64_t j = 0; j < r->width; j += SLICE) rotate_slice(r->vectors + j, r->width, r->list, r->count);
    r->count = 0;
}

/* The eigenvalue of [[a, b], [b, c]] that is closer to c. */
static double shift_of(double a, double b, double c) {
    double half = (a - c) / 2, root = sqrt(half * half + b * b);
    return root == 0 ? c : c - b * b / (half + (half < 0 ? -root : root));
}

/* One step on rows first..last, where no off-diagonal element is zero. Rotations of neighbouring rows chase the element
 * that the first one creates outside the three diagonals down to the end. */
static void qr_step(double *d, double *off, int64_t first, int64_t last, rotations *made) {
    double x = d[first] - shift_of(d[last - 1], off[last - 1], d[last]), z = off[first];
    for (int64_t k = first; k < last; k++) {
        double length = sqrt(x * x + z * z), c = length > 0 ? x / length : 1, s = length > 0 ? z / length : 0;
        double p = d[k], q = d[k + 1], b = off[k];
        if (k > first) off[k - 1] = length;
        d[k] = c * c * p + 2 * c * s * b + s * s * q;
        d[k + 1] = s * s * p - 2 * c * s * b + c * c * q;
        off[k] = c * s * (q - p) + (c * c - s * s) * b;
        if (made->list) made->list[made->count++] = (rotation){c, s, k};
        if (k + 1 == last) break;
        x = off[k];
        z = s * off[k + 1];
        off[k + 1] *= c;
    }
    if (made->list && made->room - made->count < made->width) rotate(made);
}

/* Is off[k] small relative to its neighbours, or to the matrix's largest value, 1? Smaller elements, whose squares
 * underflow, cannot be chased. */
static bool is_small(const double *d, const double *off, int64_t k) {
    return fabs(off[k]) <= DBL_EPSILON * fmax(fabs(d[k]) + fabs(d[k + 1]), DBL_EPSILON);
}

/* d becomes the eigenvalues. False if they are not found in 60 steps each; no finite matrix is known to need more than
 * a few. */
static bool diagonalize(double *d, double *off, int64_t n, rotations *made) {
    int64_t last = n - 1;
    for (int64_t steps = 0; last > 0; steps++) {
        if (steps > 60 * n) return false;
        while (last > 0 && is_small(d, off, last - 1)) last--;
        int64_t first = last;
        while (first > 0 && !is_small(d, off, first - 1)) first--;
        if (first < last) qr_step(d, off, first, last, made);
    }
    if (made->list) rotate(made);
    return true;
}

/* ---- one matrix ------------------------------------------------------------------------------------------ */

/* The memory for one matrix, reused for the next one. n: rows; k: vectors that are wanted. */
typedef struct workspace {
    int64_t n, k, width;              /* width: n, in whole slices */
    double *a, *d, *off, *scales, *w; /* (n, n), and n values each */
    double *vectors;                  /* (n, width) */
    rotation *list;                   /* (room) */
    int64_t room;
    struct place {
        double value;
        int64_t row;
    } * order; /* n values */
} workspace;

static int ascending(const void *a, const void *b) {
    const struct place *x = a, *y = b;
    return x->value != y->value ? (x->value > y->value) - (x->value < y->value)
                                : (x->row > y->row) - (x->row < y->row);
}

/* Copies the lower triangle of x into a whole symmetric matrix. Returns the largest absolute value, or NaN or infinity
 * if x has one. */
static double mirror(double *a, const void *x, cld_dtype dtype, int64_t n) {
    double largest = 0;
    for (int64_t i = 0; i < n; i++)
        for (int64_t j = 0; j <= i; j++) {
            double value = dtype == CLD_F64 ? ((const double *)x)[i * n + j] : ((const float *)x)[i * n + j];
            a[i * n + j] = a[j * n + i] = value;
            if (!(fabs(value) <= largest)) largest = fabs(value);
            if (isnan(value)) return value;
        }
    return largest;
}

/* Turns a vector of the tridiagonal matrix into one of the original matrix: applies the reflections, last one first. */
static void reflect_back(double *vector, const workspace *s) {
    for (int64_t k = s->n - 2; k >= 0; k--) {
        const double *v = s->a + k * s->n + k + 1;
        int64_t below = s->n - k - 1;
        if (s->scales[k] != 0)
            add_scaled(vector + k + 1, -s->scales[k] * dot(v, vector + k + 1, below), v, below);
    }
}

/* 1 or -1, so that the first among its largest entries becomes positive. */
static double sign_of(const double *vector, int64_t n) {
    int64_t at = 0;
    for (int64_t i = 1; i < n; i++)
        if (fabs(vector[i]) > fabs(vector[at])) at = i;
    return vector[at] < 0 ? -1 : 1;
}

static void store(void *out, cld_dtype dtype, int64_t i, double value) {
    if (dtype == CLD_F64)
        ((double *)out)[i] = value;
    else
        ((float *)out)[i] = (float)value;
}

/* s->order: the eigenvalues, ascending, and their rows of s->vectors. False: no result. */
static bool solve(workspace *s, const void *x, cld_dtype dtype) {
    int64_t n = s->n;
    double largest = mirror(s->a, x, dtype, n), unit = largest > 0 ? largest : 1;
    if (!(largest <= DBL_MAX)) return false;
    for (int64_t i = 0; i < n * n; i++) s->a[i] /= unit; /* so that no square overflows, and few underflow */
    make_tridiagonal(s->a, n, s->d, s->off, s->scales, s->w);
    rotations made = {.list = s->list, .room = s->room, .vectors = s->vectors, .width = s->width};
    if (s->list) {
        memset(s->vectors, 0, (size_t)(n * s->width) * sizeof(double));
        for (int64_t i = 0; i < n; i++) s->vectors[i * s->width + i] = 1;
    }
    if (!diagonalize(s->d, s->off, n, &made)) return false;
    for (int64_t i = 0; i < n; i++) s->order[i] = (struct place){s->d[i] * unit, i};
    qsort(s->order, (size_t)n, sizeof *s->order, ascending);
    return true;
}

static void write_vectors(void *out, cld_dtype dtype, const workspace *s) {
#pragma omp parallel for schedule(static) if (s->n > 64)
    for (int64_t j = 0; j < s->k; j++) {
        double *vector = s->vectors + s->order[j].row * s->width;
        reflect_back(vector, s);
        double sign = sign_of(vector, s->n);
        for (int64_t i = 0; i < s->n; i++) store(out, dtype, i * s->k + j, sign * vector[i]);
    }
}

/* ---- the contract ---------------------------------------------------------------------------------------- */

static size_t lines(int64_t count, size_t bytes) { return ((size_t)count * bytes + 63) & ~(size_t)63; }

static void *carve(char **at, int64_t count, size_t bytes) {
    void *array = *at;
    *at += lines(count, bytes);
    return array;
}

cld_status cld__eigh(const cld_array *values, const cld_array *vectors, const cld_array *a) {
    int64_t count = a->shape[0], n = a->shape[1], k = vectors ? vectors->shape[2] : 0;
    if (count == 0 || n == 0) return CLD_OK;
    workspace s = {.n = n, .k = k, .width = (n + SLICE - 1) / SLICE * SLICE};
    s.room = 2 * s.width > 8192 ? 2 * s.width : 8192;
    size_t bytes = lines(n * n, 8) + 4 * lines(n, 8) + lines(n, sizeof *s.order);
    if (vectors) bytes += lines(n * s.width, 8) + lines(s.room, sizeof *s.list);
    void *block;
    CLD_TRY(cld_cpu_memory.allocate(&block, bytes));
    char *at = block;
    s.a = carve(&at, n * n, 8);
    s.d = carve(&at, n, 8);
    s.off = carve(&at, n, 8);
    s.scales = carve(&at, n, 8);
    s.w = carve(&at, n, 8);
    s.order = carve(&at, n, sizeof *s.order);
    if (vectors) {
        s.vectors = carve(&at, n * s.width, 8);
        s.list = carve(&at, s.room, sizeof *s.list);
    }
    size_t element = cld_dtype_size(a->dtype);
    for (int64_t m = 0; m < count; m++) {
        bool found = solve(&s, (const char *)a->data + (size_t)(m * n * n) * element, a->dtype);
        for (int64_t i = 0; i < n; i++)
            store(values->data, a->dtype, m * n + i, found ? s.order[i].value : NAN);
        if (!vectors) continue;
        char *out = (char *)vectors->data + (size_t)(m * n * k) * element;
        if (found) write_vectors(out, a->dtype, &s);
        for (int64_t i = 0; !found && i < n * k; i++) store(out, a->dtype, i, NAN);
    }
    cld_cpu_memory.release(block, bytes);
    return CLD_OK;
}
