/* t-SNE's affinities of each point to its nearest neighbours, from a Gaussian whose width gives the requested
 * perplexity (van der Maaten and Hinton, 2008, section 2), made symmetric. */
#include "runtime/core/workers.h"
#include "runtime/embed/embed.h"
#include "runtime/ops/ops.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { QUERIES = 256 }; /* rows of distances at a time */

typedef struct near {
    float distance; /* squared */
    int32_t other;
} near;

/* Whether a is further away than b; if they are equally far, the later one is. */
static bool is_further(near a, near b) {
    return a.distance > b.distance || (a.distance == b.distance && a.other > b.other);
}

/* The k nearest so far are a heap with the furthest at its root, which a nearer one replaces. */
static void sink(near *heap, int64_t k, near one) {
    int64_t at = 0;
    for (int64_t child; (child = 2 * at + 1) < k; at = child) {
        if (child + 1 < k && is_further(heap[child + 1], heap[child])) child++;
        if (!is_further(heap[child], one)) break;
        heap[at] = heap[child];
    }
    heap[at] = one;
}

/* The k rows nearest to row i, by |x_i|^2 + |x_j|^2 - 2 x_i.x_j. */
static void nearest_of(near *heap, int64_t k, const float *products, const float *squares, int64_t n,
                       int64_t i) {
    for (int64_t j = 0; j < k; j++) heap[j] = (near){INFINITY, INT32_MAX};
    for (int64_t j = 0; j < n; j++) {
        float distance = fmaxf(squares[i] + squares[j] - 2 * products[j], 0);
        near one = {distance, (int32_t)j};
        if (j != i && is_further(heap[0], one)) sink(heap, k, one);
    }
}

/* found (n, k), in no particular order. x is f32 (n, d), dense, on the cpu, with mean 0. */
static cld_status find_nearest(near *found, int64_t k, cld_tensor *x) {
    int64_t n = x->a.shape[0], d = x->a.shape[1];
    const float *rows = x->a.data;
    float *squares = malloc((size_t)n * sizeof *squares);
    if (!squares) return cld_fail(CLD_NOMEM, "tsne: out of memory for %lld points", (long long)n);
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < n; i++) {
        double sum = 0;
        for (int64_t c = 0; c < d; c++) sum += (double)rows[i * d + c] * rows[i * d + c];
        squares[i] = (float)sum;
    }
    CLD_AUTO cld_tensor *turned = cld_transpose(x, 0, 1);
    cld_status status = turned ? CLD_OK : cld_error_code();
    for (int64_t begin = 0; begin < n && status == CLD_OK; begin += QUERIES) {
        int64_t count = n - begin < QUERIES ? n - begin : QUERIES;
        CLD_AUTO cld_tensor *own = cld_narrow(x, 0, begin, count);
        CLD_AUTO cld_tensor *products = own ? cld_matmul(own, turned) : NULL;
        if (!products) {
            status = cld_error_code();
            break;
        }
        const float *values = products->a.data;
#pragma omp parallel for schedule(static)
        for (int64_t i = 0; i < count; i++)
            nearest_of(found + (begin + i) * k, k, values + i * n, squares, n, begin + i);
        if (cld_is_signalled()) status = cld_fail(CLD_INTERRUPTED, "tsne: interrupted!");
    }
    free(squares);
    return status;
}

/* p (k) of one point's neighbours: exp(-beta distance), scaled to a sum of 1, with the beta that gives this entropy. */
static void shares_of(double *p, const near *found, int64_t k, double entropy) {
    double beta = 1, low = 0, high = INFINITY, least = INFINITY;
    for (int64_t j = 0; j < k; j++) least = fmin(least, found[j].distance);
    for (int step = 0; step < 200; step++) {
        double sum = 0, weighted = 0;
        for (int64_t j = 0; j < k; j++) {
            double away = found[j].distance - least; /* p is the same, and not all of it underflows */
            p[j] = exp(-beta * away);
            sum += p[j], weighted += away * p[j];
        }
        if (!(sum > 0)) return; /* the distances are NaN */
        for (int64_t j = 0; j < k; j++) p[j] /= sum;
        double excess = log(sum) + beta * weighted / sum - entropy;
        if (fabs(excess) < 1e-6) return;
        if (excess > 0)
            low = beta, beta = isinf(high) ? 2 * beta : (beta + high) / 2;
        else
            high = beta, beta = (beta + low) / 2;
        if (beta > 1e150 || beta < 1e-150) return; /* all neighbours at the same distance */
    }
}

static int by_other(const void *a, const void *b) {
    int32_t x = ((const near *)a)->other, y = ((const near *)b)->other;
    return (x > y) - (x < y);
}

/* Rows of (p_ij + p_ji) / 2n, for all pairs in which one is a neighbour of the other. `pairs` has room for 2 n k. */
static void make_symmetric(cld_affinities *out, const near *found, const double *p, int64_t k, near *pairs) {
    int64_t n = out->n, *begin = out->begin;
    memset(begin, 0, (size_t)(n + 1) * sizeof *begin);
    for (int64_t i = 0; i < n * k; i++) begin[i / k + 1]++, begin[found[i].other + 1]++;
    for (int64_t i = 0; i < n; i++) begin[i + 1] += begin[i];
    int64_t *end = out->begin + n + 1; /* where row i continues */
    memcpy(end, begin, (size_t)n * sizeof *end);
    for (int64_t i = 0; i < n * k; i++) {
        float half = (float)(p[i] / (2 * (double)n));
        pairs[end[i / k]++] = (near){half, found[i].other};
        pairs[end[found[i].other]++] = (near){half, (int32_t)(i / k)};
    }
    int64_t used = 0, from = 0;
    for (int64_t i = 0; i < n; i++) {
        int64_t to = begin[i + 1];
        qsort(pairs + from, (size_t)(to - from), sizeof *pairs, by_other);
        begin[i] = used;
        for (int64_t j = from; j < to; j++) {
            bool is_same = used > begin[i] && out->other[used - 1] == pairs[j].other;
            if (is_same) {
                out->p[used - 1] += pairs[j].distance;
            } else {
                out->other[used] = pairs[j].other, out->p[used] = pairs[j].distance;
                used++;
            }
        }
        from = to;
    }
    begin[n] = used;
}

static cld_status fill(cld_affinities *out, cld_tensor *x, int64_t k, double perplexity, near *found,
                       double *p, near *pairs) {
    CLD_TRY(find_nearest(found, k, x));
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < out->n; i++) shares_of(p + i * k, found + i * k, k, log(perplexity));
    make_symmetric(out, found, p, k, pairs);
    return CLD_OK;
}

cld_status cld__find_affinities(cld_affinities *out, cld_tensor *x, double perplexity) {
    int64_t n = x->a.shape[0], k = (int64_t)(3 * perplexity + 1);
    if (k > n - 1) k = n - 1;
    size_t count = (size_t)(n * k);
    *out = (cld_affinities){.n = n};
    out->begin = malloc((size_t)(2 * n + 1) * sizeof *out->begin);
    out->other = malloc(2 * count * sizeof *out->other);
    out->p = malloc(2 * count * sizeof *out->p);
    near *found = malloc(count * sizeof *found), *pairs = malloc(2 * count * sizeof *pairs);
    double *p = malloc(count * sizeof *p);
    cld_status status = out->begin && out->other && out->p && found && pairs && p
                            ? fill(out, x, k, perplexity, found, p, pairs)
                            : cld_fail(CLD_NOMEM, "tsne: out of memory for %lld points", (long long)n);
    free(found);
    free(pairs);
    free(p);
    if (status != CLD_OK) cld__free_affinities(out);
    return status;
}

void cld__free_affinities(cld_affinities *a) {
    free(a->begin);
    free(a->other);
    free(a->p);
    *a = (cld_affinities){0};
}
