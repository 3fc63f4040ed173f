/* Weighted k nearest neighbours by dot product, exact: QUERIES queries against ROWS memory rows at a time.
 *
 * Each thread takes blocks of queries and multiplies them with one block of the memory after the other. Per query it
 * keeps a shortlist: rows that beat the k-th best of the last selection. Where the shortlist is full, the k best are
 * selected and raise that bar. Few rows pass it, so that selecting costs a fraction of multiplying.
 *
 * A product's last bits depend on where in its blocks a row lies, so that equal rows may come out unequal. It only
 * screens: the bar is lower than the k-th best by what two products may be off, and the similarities of those that
 * remain are computed again, each in the same order.
 *
 * A shortlisted row is one integer: its similarity's bits, mapped so that they order as the floats do, above the
 * complement of its number. Larger is then better, and of equally similar rows the first is larger: the tie rule.
 */
#include "kernels/cpu/loss.h"
#include "kernels/cpu/onednn.h"

#include <float.h>
#include <math.h>
#include <omp.h>
#include <stdlib.h>

enum { QUERIES = 256, ROWS = 1024, SLACK = 512, SCREEN = 32, AHEAD = 8 };

typedef struct problem {
    int64_t size, dim, queries, classes, k;
    const void *memory, *query;
    const int64_t *labels;
    double temperature;
    double largest_norm; /* f32: of the memory's rows */
} problem;

/* What to subtract from a query's similarities before exp(similarity / T): nothing, unless a sum of k of them, the
 * largest among them, might not be a number of the dtype. */
static double shift_of(double largest, const problem *q, double log_of_most) {
    bool fits = fabs(largest / q->temperature) + log((double)q->k) < log_of_most;
    return fits || !isfinite(largest) ? 0 : largest;
}

/* ---- f32 ----------------------------------------------------------------------------------------------- */

typedef struct shortlist {
    uint64_t *keys; /* k + SLACK of them */
    int64_t count;
    float bar;          /* rows that do not exceed it are not among the k best */
    float margin;       /* how far products may put two rows the wrong way round */
    const float *query; /* (dim) */
} shortlist;

CLD_INLINE uint64_t key_of(float similarity, int64_t row) {
    uint32_t bits;
    memcpy(&bits, &similarity, sizeof bits);
    bits = bits >> 31 ? ~bits : bits | 0x80000000u;
    return (uint64_t)bits << 32 | (uint32_t)~row;
}

static float similarity_of(uint64_t key) {
    uint32_t bits = (uint32_t)(key >> 32);
    bits = bits >> 31 ? bits & 0x7FFFFFFFu : ~bits;
    float similarity;
    memcpy(&similarity, &bits, sizeof similarity);
    return similarity;
}

static int64_t row_of(uint64_t key) { return (uint32_t)~key; }

/* Move the k largest of n to the front: quickselect. The partition moves every key whether it must or not, so that it
 * has no branch that a processor would guess wrong every other time. */
static void select_largest(uint64_t *keys, int64_t n, int64_t k) {
    int64_t low = 0, high = n;
    while (high - low > 1) {
        uint64_t *last = &keys[high - 1], *middle = &keys[low + (high - low) / 2], pivot = *middle;
        *middle = *last;
        int64_t larger = low; /* keys[low .. larger) exceed the pivot */
        for (int64_t i = low; i < high - 1; i++) {
            uint64_t key = keys[i];
            keys[i] = keys[larger];
            keys[larger] = key;
            larger += key > pivot;
        }
        *last = keys[larger];
        keys[larger] = pivot;
        if (larger == k || larger == k - 1) return;
        if (larger > k)
            high = larger;
        else
            low = larger + 1;
    }
}

/* Keep what may be among the k best: the k best products, and those within the margin. */
static void shorten(shortlist *s, int64_t k) {
    if (s->count <= k) return;
    select_largest(s->keys, s->count, k);
    uint64_t least = s->keys[0];
    for (int64_t i = 1; i < k; i++) least = s->keys[i] < least ? s->keys[i] : least;
    s->bar = similarity_of(least) - s->margin;
    uint64_t bar = key_of(s->bar, 0); /* the largest key of this similarity */
    int64_t kept = k;
    for (int64_t i = k; i < s->count; i++) {
        s->keys[kept] = s->keys[i];
        kept += s->keys[kept] > bar;
    }
    s->count = kept;
}

static const float *memory_row(const problem *q, int64_t row) {
    return (const float *)q->memory + row * q->dim;
}

/* Keep the k best, by similarities that equal rows share to the last bit. The rows lie anywhere: fetched ahead. */
CLD_SIMD static void settle(shortlist *s, const problem *q) {
    for (int64_t i = 0; i < s->count; i++) {
        int64_t row = row_of(s->keys[i]);
        const float *m = memory_row(q, row), *soon = memory_row(q, row_of(s->keys[(i + AHEAD) % s->count]));
        for (int64_t d = 0; d < q->dim; d += 16) __builtin_prefetch(soon + d);
        s->keys[i] = key_of(cld__dot_f32(s->query, m, q->dim), row);
    }
    if (s->count <= q->k) return;
    select_largest(s->keys, s->count, q->k);
    s->count = q->k;
}

/* Room for SLACK / 2 more at least, even where every row of the memory is the same. */
static void make_room(shortlist *s, const problem *q) {
    shorten(s, q->k);
    if (s->count > q->k + SLACK / 2) settle(s, q);
}

/* The similarities of one query to memory rows start .. start + n. */
CLD_SIMD static void offer(shortlist *s, const problem *q, const float *similarity, int64_t start,
                           int64_t n) {
    for (int64_t j = 0; j < n; j += SCREEN) {
        int64_t length = n - j < SCREEN ? n - j : SCREEN, passed = 0;
        for (int64_t l = j; l < j + length; l++) passed += similarity[l] > s->bar;
        if (passed == 0) continue;
        if (s->count + length > q->k + SLACK) make_room(s, q);
        uint64_t *keys = s->keys;
        int64_t count = s->count;
        for (int64_t l = j; l < j + length; l++) {
            keys[count] = key_of(similarity[l], start + l);
            count += similarity[l] > s->bar;
        }
        s->count = count;
    }
}

static cld_status search(shortlist *lists, float *similarity, const problem *q, int64_t start, int64_t n) {
    const float *query = (const float *)q->query + start * q->dim;
    for (int64_t at = 0; at < q->size; at += ROWS) {
        int64_t rows = q->size - at < ROWS ? q->size - at : ROWS;
        CLD_TRY(cld_sgemm('N', 'T', n, rows, q->dim, 1, query, q->dim, (const float *)q->memory + at * q->dim,
                          q->dim, 0, similarity, rows));
        for (int64_t i = 0; i < n; i++) offer(&lists[i], q, similarity + i * rows, at, rows);
    }
    for (int64_t i = 0; i < n; i++) {
        shorten(&lists[i], q->k);
        settle(&lists[i], q);
    }
    return CLD_OK;
}

static void vote(float *scores, double *votes, const shortlist *s, const problem *q) {
    uint64_t best = 0;
    for (int64_t i = 0; i < s->count; i++) best = s->keys[i] > best ? s->keys[i] : best;
    double shift = shift_of(similarity_of(best), q, log(FLT_MAX));
    for (int64_t c = 0; c < q->classes; c++) votes[c] = 0;
    for (int64_t i = 0; i < s->count; i++)
        votes[q->labels[row_of(s->keys[i])]] += exp((similarity_of(s->keys[i]) - shift) / q->temperature);
    for (int64_t c = 0; c < q->classes; c++) scores[c] = (float)votes[c];
}

CLD_SIMD static double norm_of(const float *x, int64_t n) {
    double squares = 0;
#pragma omp simd reduction(+ : squares)
    for (int64_t d = 0; d < n; d++) squares += (double)x[d] * x[d];
    return sqrt(squares);
}

static double largest_norm_of(const float *rows, int64_t count, int64_t dim) {
    double largest = 0;
#pragma omp parallel for schedule(static) reduction(max : largest)
    for (int64_t i = 0; i < count; i++) {
        double norm = norm_of(rows + i * dim, dim);
        if (norm > largest) largest = norm;
    }
    return largest;
}

/* A sum of dim products in any order is off by at most dim u |query| |row|, u = FLT_EPSILON / 2: two of one pair differ
 * by twice that, and so may the row and the k-th best each. */
static shortlist shortlist_of(uint64_t *keys, const float *query, const problem *q) {
    double margin = 2.0 * (double)(q->dim + 2) * FLT_EPSILON * norm_of(query, q->dim) * q->largest_norm;
    return (shortlist){
        .keys = keys, .bar = -INFINITY, .margin = (float)fmin(margin, FLT_MAX), .query = query};
}

static cld_status knn_f32(float *scores, const problem *q) {
    int64_t blocks = (q->queries + QUERIES - 1) / QUERIES;
    int threads = omp_get_max_threads() < blocks ? omp_get_max_threads() : (int)blocks;
    size_t list_keys = (size_t)(q->k + SLACK), key_bytes = QUERIES * list_keys * sizeof(uint64_t);
    size_t vote_bytes = (size_t)q->classes * sizeof(double), list_bytes = QUERIES * sizeof(shortlist);
    size_t similarity_bytes = QUERIES * ROWS * sizeof(float);
    size_t thread_bytes = cld__lines(key_bytes) + cld__lines(vote_bytes) + cld__lines(list_bytes) +
                          cld__lines(similarity_bytes);
    size_t bytes = (size_t)threads * thread_bytes;
    void *workspace;
    CLD_TRY(cld_cpu_memory.allocate(&workspace, bytes));
    cld_status failed = CLD_OK;
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int64_t b = 0; b < blocks; b++) {
        char *mine = (char *)workspace + (size_t)omp_get_thread_num() * thread_bytes;
        uint64_t *keys = cld__carve(&mine, key_bytes);
        double *votes = cld__carve(&mine, vote_bytes);
        shortlist *lists = cld__carve(&mine, list_bytes);
        float *similarity = cld__carve(&mine, similarity_bytes);
        int64_t start = b * QUERIES, n = q->queries - start < QUERIES ? q->queries - start : QUERIES;
        for (int64_t i = 0; i < n; i++)
            lists[i] =
                shortlist_of(keys + (size_t)i * list_keys, (const float *)q->query + (start + i) * q->dim, q);
        cld_status status = search(lists, similarity, q, start, n);
        if (status != CLD_OK) {
#pragma omp atomic write
            failed = status;
        }
        for (int64_t i = 0; i < n && status == CLD_OK; i++)
            vote(scores + (start + i) * q->classes, votes, &lists[i], q);
    }
    cld_cpu_memory.release(workspace, bytes);
    return cld_onednn_fail(failed, "weighted_knn: a matrix product");
}

/* ---- f64: every row sorted, the reference -------------------------------------------------------------- */

typedef struct neighbour {
    double similarity;
    int64_t row;
} neighbour;

static int better_first(const void *a, const void *b) {
    const neighbour *x = a, *y = b;
    if (x->similarity != y->similarity) return x->similarity > y->similarity ? -1 : 1;
    return (x->row > y->row) - (x->row < y->row);
}

static cld_status knn_f64(double *scores, const problem *q) {
    size_t bytes = (size_t)q->size * sizeof(neighbour);
    void *workspace;
    CLD_TRY(cld_cpu_memory.allocate(&workspace, bytes));
    neighbour *all = workspace;
    for (int64_t i = 0; i < q->queries; i++, scores += q->classes) {
        const double *query = (const double *)q->query + i * q->dim;
        for (int64_t j = 0; j < q->size; j++)
            all[j] = (neighbour){cld__dot_f64(query, (const double *)q->memory + j * q->dim, q->dim), j};
        qsort(all, (size_t)q->size, sizeof *all, better_first);
        double shift = shift_of(all[0].similarity, q, log(DBL_MAX));
        for (int64_t c = 0; c < q->classes; c++) scores[c] = 0;
        for (int64_t j = 0; j < q->k; j++)
            scores[q->labels[all[j].row]] += exp((all[j].similarity - shift) / q->temperature);
    }
    cld_cpu_memory.release(workspace, bytes);
    return CLD_OK;
}

/* ---- the contract -------------------------------------------------------------------------------------- */

cld_status cld__weighted_knn(const cld_array *scores, const cld_array *memory, const cld_array *labels,
                             const cld_array *queries, int64_t k, double temperature) {
    problem q = {.size = memory->shape[0],
                 .dim = memory->shape[1],
                 .queries = queries->shape[0],
                 .classes = scores->shape[1],
                 .k = k,
                 .memory = memory->data,
                 .query = queries->data,
                 .labels = labels->data,
                 .temperature = temperature};
    CLD_TRY(cld__check_index("weighted_knn", "labels", labels, q.classes));
    if (q.queries == 0) return CLD_OK;
    if (scores->dtype == CLD_F64) return knn_f64(scores->data, &q);
    q.largest_norm = largest_norm_of(memory->data, q.size, q.dim);
    return knn_f32(scores->data, &q);
}
