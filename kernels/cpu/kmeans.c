/* Lloyd's k-means as CLD defines it (Wang, Liu and Yu, CVPR 2021, and the authors' released code).
 *
 * Each part of the rows is clustered separately. Its first k rows are the initial centroids; if k exceeds the number of
 * rows, the missing ones are zero vectors. Each iteration assigns every row to the centroid at the smallest squared
 * distance, the first among equals, and then sets each centroid to the mean of its members. A centroid without members
 * becomes the zero vector, and takes part in the next assignment like any other.
 *
 * Distances are sums of (x - c)^2 over the dimensions, in ascending order for every pair, never the cheaper |c|^2 - 2
 * x.c. So equal centroids give equal distances to the last bit, and the tie rule holds. It costs little, since the
 * subtraction runs in parallel with the fused multiply-add.
 *
 * If k is at least the number of the part's rows, one iteration is enough: each row is at distance 0 from its own
 * initial centroid, and is assigned to the first row that equals it. The next assignment would find the same.
 */
#include "kernels/cpu/loss.h"

#include <math.h>
#include <string.h>

#include "kernels/cpu/simd.h"
#include "runtime/core/process.h"

/* One tile of distances, in registers: ROWS rows to 2 * LANES centroids. */
enum { ROWS = 4, LANES = 8, TILE = 2 * LANES };
typedef float lanes __attribute__((vector_size(LANES * sizeof(float))));
typedef int32_t ints __attribute__((vector_size(LANES * sizeof(int32_t))));

/* Labels of ROWS rows. ct (dim, width): the transposed centroids; width is a multiple of TILE, and the last columns are
 * INFINITY. best and where hold, for each row and lane, the smallest distance so far and the first tile with that
 * distance. */
CLD_SIMD static void assign_rows(int64_t *labels, const float *const *row, const float *ct, int64_t dim,
                                 int64_t width) {
    lanes best[ROWS][2];
    ints where[ROWS][2];
    for (int r = 0; r < ROWS; r++)
        for (int h = 0; h < 2; h++) best[r][h] = (lanes){0} + INFINITY, where[r][h] = (ints){0};
    for (int64_t j = 0; j < width; j += TILE) {
        lanes sum[ROWS][2] = {{{0}}};
        for (int64_t d = 0; d < dim; d++) {
            const lanes *c = (const lanes *)(ct + d * width + j);
#pragma GCC unroll 4
            for (int r = 0; r < ROWS; r++)
#pragma GCC unroll 2
                for (int h = 0; h < 2; h++) {
                    lanes difference = row[r][d] - c[h];
                    sum[r][h] += difference * difference;
                }
        }
#pragma GCC unroll 4
        for (int r = 0; r < ROWS; r++)
#pragma GCC unroll 2
            for (int h = 0; h < 2; h++) {
                ints nearer = sum[r][h] < best[r][h];
                best[r][h] = (lanes)((nearer & (ints)sum[r][h]) | (~nearer & (ints)best[r][h]));
                where[r][h] = (nearer & (int32_t)j) | (~nearer & where[r][h]);
            }
    }
    for (int r = 0; r < ROWS; r++) {
        float least = INFINITY;
        labels[r] = 0;
        for (int l = 0; l < TILE; l++) {
            float distance = best[r][l / LANES][l % LANES];
            int64_t j = where[r][l / LANES][l % LANES] + l;
            if (distance < least || (distance == least && j < labels[r])) least = distance, labels[r] = j;
        }
    }
}

static void assign_f32(int64_t *labels, float *ct, const float *x, const float *centroids, int64_t n,
                       int64_t dim, int64_t k, int64_t width) {
    for (int64_t j = 0; j < k; j++)
        for (int64_t d = 0; d < dim; d++) ct[d * width + j] = centroids[j * dim + d];
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < n; i += ROWS) {
        const float *row[ROWS];
        int64_t found[ROWS];
        for (int r = 0; r < ROWS; r++)
            row[r] = x + (i + r < n ? i + r : n - 1) * dim; /* the last tile may be short */
        assign_rows(found, row, ct, dim, width);
        for (int r = 0; r < ROWS && i + r < n; r++) labels[i + r] = found[r];
    }
}

static void means_f32(float *centroids, float *sizes, const float *x, const int64_t *labels, int64_t n,
                      int64_t dim, int64_t k) {
    memset(centroids, 0, (size_t)(k * dim) * sizeof(float));
    memset(sizes, 0, (size_t)k * sizeof(float));
    for (int64_t i = 0; i < n; i++) {
        float *c = centroids + labels[i] * dim;
        sizes[labels[i]]++;
        for (int64_t d = 0; d < dim; d++) c[d] += x[i * dim + d];
    }
    for (int64_t j = 0; j < k; j++) {
        if (sizes[j] == 0) sizes[j] = 1;
        for (int64_t d = 0; d < dim; d++) centroids[j * dim + d] /= sizes[j];
    }
}

/* ---- f64: plain loops, the reference ------------------------------------------------------------------- */

static void assign_f64(int64_t *labels, const double *x, const double *centroids, int64_t n, int64_t dim,
                       int64_t k) {
    for (int64_t i = 0; i < n; i++) {
        double least = INFINITY;
        labels[i] = 0;
        for (int64_t j = 0; j < k; j++) {
            double distance = 0;
            for (int64_t d = 0; d < dim; d++) {
                double difference = x[i * dim + d] - centroids[j * dim + d];
                distance += difference * difference;
            }
            if (distance < least) least = distance, labels[i] = j;
        }
    }
}

static void means_f64(double *centroids, double *sizes, const double *x, const int64_t *labels, int64_t n,
                      int64_t dim, int64_t k) {
    memset(centroids, 0, (size_t)(k * dim) * sizeof(double));
    memset(sizes, 0, (size_t)k * sizeof(double));
    for (int64_t i = 0; i < n; i++) {
        sizes[labels[i]]++;
        for (int64_t d = 0; d < dim; d++) centroids[labels[i] * dim + d] += x[i * dim + d];
    }
    for (int64_t j = 0; j < k; j++) {
        if (sizes[j] == 0) sizes[j] = 1;
        for (int64_t d = 0; d < dim; d++) centroids[j * dim + d] /= sizes[j];
    }
}

/* ---- the contract -------------------------------------------------------------------------------------- */

/* Checked between two iterations: the user's Ctrl-C. */
static cld_status go_on(void) {
    return cld_stop_requested() ? cld_fail(CLD_INTERRUPTED, "kmeans: interrupted!") : CLD_OK;
}

/* One part: n rows of x, and k centroids. */
typedef struct part {
    int64_t *labels;
    void *centroids, *sizes;
    const void *x;
    int64_t n, dim, k;
} part;

static cld_status cluster_f64(const part *p, int iterations) {
    for (int t = 0; t < iterations; t++) {
        CLD_TRY(go_on());
        assign_f64(p->labels, p->x, p->centroids, p->n, p->dim, p->k);
        means_f64(p->centroids, p->sizes, p->x, p->labels, p->n, p->dim, p->k);
    }
    return CLD_OK;
}

static cld_status cluster_f32(const part *p, int iterations) {
    int64_t width = (p->k + TILE - 1) / TILE * TILE;
    size_t bytes = (size_t)(width * p->dim) * sizeof(float);
    void *ct;
    CLD_TRY(cld_cpu_memory.allocate(&ct, bytes));
    for (int64_t i = 0; i < width * p->dim; i++)
        ((float *)ct)[i] = INFINITY; /* nothing is near an unused column */
    cld_status status = CLD_OK;
    for (int t = 0; t < iterations && (status = go_on()) == CLD_OK; t++) {
        assign_f32(p->labels, ct, p->x, p->centroids, p->n, p->dim, p->k, width);
        means_f32(p->centroids, p->sizes, p->x, p->labels, p->n, p->dim, p->k);
    }
    cld_cpu_memory.release(ct, bytes);
    return status;
}

/* Centroids without a member, not counting those that must be empty. seen: k flags. */
static float count_empty(const part *p, bool *seen) {
    int64_t empty = p->k < p->n ? p->k : p->n;
    memset(seen, 0, (size_t)p->k * sizeof *seen);
    for (int64_t i = 0; i < p->n; i++) {
        empty -= !seen[p->labels[i]];
        seen[p->labels[i]] = true;
    }
    return (float)empty;
}

cld_status cld__kmeans(const cld_array *labels, const cld_array *group, const cld_array *centroids,
                       const cld_array *sizes, const cld_array *empty, const cld_array *x,
                       const cld_parts *parts, int iterations) {
    int count = cld_part_count(parts);
    int64_t dim = x->shape[1], k = centroids->shape[0] / count;
    size_t element = x->dtype == CLD_F32 ? sizeof(float) : sizeof(double);
    size_t marks = (size_t)k * sizeof(bool);
    void *seen;
    CLD_TRY(cld_cpu_memory.allocate(&seen, marks));
    cld_status status = CLD_OK;
    for (int i = 0; i < count && status == CLD_OK; i++) {
        int64_t begin = cld_part_begin(parts, x->shape[0], i), n = cld_part_rows(parts, x->shape[0], i);
        part p = {(int64_t *)labels->data + begin,
                  (char *)centroids->data + (size_t)(i * k * dim) * element,
                  (char *)sizes->data + (size_t)(i * k) * element,
                  (const char *)x->data + (size_t)(begin * dim) * element,
                  n,
                  dim,
                  k};
        size_t known = (size_t)((k < n ? k : n) * dim) * element, all = (size_t)(k * dim) * element;
        int rounds = k >= n ? 1 : iterations;
        memcpy(p.centroids, p.x, known);
        memset((char *)p.centroids + known, 0, all - known);
        status = x->dtype == CLD_F64 ? cluster_f64(&p, rounds) : cluster_f32(&p, rounds);
        if (status != CLD_OK) break;
        ((float *)empty->data)[i] = count_empty(&p, seen);
        for (int64_t r = 0; group && r < n; r++) ((int64_t *)group->data)[begin + r] = i * k + p.labels[r];
    }
    cld_cpu_memory.release(seen, marks);
    return status;
}
