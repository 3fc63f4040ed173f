/* k nearest neighbours by dot product, exact, and the vote for a class.
 *
 * nearest compares QUERIES queries with ROWS memory rows at a time. Each thread takes blocks of queries and multiplies
 * them with the blocks of the memory, one after the other. For each query it keeps a shortlist: rows that beat the k-th
 * best of the last selection. When the shortlist is full, the k best are selected, which raises that bar. Few rows pass
 * it, so selecting costs a fraction of multiplying.
 *
 * A product's last bits depend on a row's position in its block, so equal rows may come out unequal. So the product
 * only screens: the bar is lower than the k-th best by the largest possible error of two products, and the similarities
 * of the remaining rows are computed again, all in the same order.
 *
 * A shortlisted row is one integer: the bits of its similarity, mapped so that integers are ordered as the floats,
 * above the complement of the row's number. So larger is better, and among equally similar rows the first one is
 * larger: the tie rule. The list stays in the order of the rows, because selection reorders a copy.
 */
#include "kernels/cpu/loss.h"
#include "kernels/cpu/onednn.h"

#include <float.h>
#include <math.h>
#include <omp.h>
#include <stdlib.h>

enum { QUERIES = 256, ROWS = 1024, SLACK = 512, SCREEN = 32, AHEAD = 8 };

typedef struct problem {
    int64_t size, dim, queries, k;
    const void *memory, *query;
    double largest_norm; /* f32: the largest norm of a memory row */
} problem;

/* ---- the largest of some keys ------------------------------------------------------------------------------ */

/* Moves the k largest of n to the front: quickselect. The partition moves every key whether it needs to or not, so it
 * has no branch that the processor would mispredict half of the time. */
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

/* The k-th largest, k <= n; the order of the keys is lost. */
static uint64_t kth_largest(uint64_t *keys, int64_t n, int64_t k) {
    select_largest(keys, n, k);
    uint64_t least = keys[0];
    for (int64_t i = 1; i < k; i++) least = keys[i] < least ? keys[i] : least;
    return least;
}

/* The key of a similarity alone; 0 for NaN and -infinity, which are no neighbours. */
static uint64_t key_of_similarity(double similarity) {
    uint64_t bits;
    if (!(similarity > -INFINITY)) return 0;
    similarity += 0.0; /* -0 is as similar as 0 */
    memcpy(&bits, &similarity, sizeof bits);
    return bits >> 63 ? ~bits : bits | UINT64_C(1) << 63;
}

/* The positions of the k largest of n such keys, the first among equals, in their order; a key of 0 is skipped. Returns
 * how many. spare (n) is used if k < n. */
static int64_t largest_places(int64_t *places, uint64_t *spare, const uint64_t *keys, int64_t n, int64_t k) {
    uint64_t bar = 0;
    if (k < n) {
        memcpy(spare, keys, (size_t)n * sizeof *keys);
        bar = kth_largest(spare, n, k);
    }
    int64_t equals = k, count = 0; /* how many keys that equal the bar are wanted */
    for (int64_t i = 0; i < n; i++) equals -= keys[i] > bar;
    for (int64_t i = 0; i < n; i++) {
        if (keys[i] == 0 || keys[i] < bar || (keys[i] == bar && equals-- <= 0)) continue;
        places[count++] = i;
    }
    return count;
}

/* ---- nearest, f32 ------------------------------------------------------------------------------------------ */

typedef struct shortlist {
    uint64_t *keys;  /* k + SLACK of them, */
    uint64_t *spare; /* the same size, shared by a thread's lists */
    int64_t count;
    float bar;          /* rows that do not exceed it are not among the k best */
    float margin;       /* how far products may rank two rows the wrong way round */
    const float *query; /* (dim) */
} shortlist;

CLD_INLINE uint64_t key_of(float similarity, int64_t row) {
    uint32_t bits;
    similarity += 0.0F; /* -0 is as similar as 0 */
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

static void keep_from(shortlist *s, uint64_t least) {
    int64_t kept = 0;
    for (int64_t i = 0; i < s->count; i++) {
        s->keys[kept] = s->keys[i];
        kept += s->keys[kept] >= least;
    }
    s->count = kept;
}

static uint64_t kth_of(const shortlist *s, int64_t k) {
    memcpy(s->spare, s->keys, (size_t)s->count * sizeof *s->keys);
    return kth_largest(s->spare, s->count, k);
}

/* Keeps the candidates for the k best: the k best products, and those within the margin. */
static void shorten(shortlist *s, int64_t k) {
    if (s->count <= k) return;
    uint64_t least = kth_of(s, k);
    s->bar = similarity_of(least) - s->margin;
    uint64_t bar = key_of(s->bar, 0); /* the largest key of this similarity */
    keep_from(s, least <= bar ? least : bar + 1);
}

static const float *memory_row(const problem *q, int64_t row) {
    return (const float *)q->memory + row * q->dim;
}

/* Keeps the k best, by similarities that equal rows share to the last bit. The rows are scattered in memory:
 * prefetched. */
CLD_SIMD static void settle(shortlist *s, const problem *q) {
    int64_t kept = 0;
    for (int64_t i = 0; i < s->count; i++) {
        int64_t row = row_of(s->keys[i]);
        const float *m = memory_row(q, row), *soon = memory_row(q, row_of(s->keys[(i + AHEAD) % s->count]));
        for (int64_t d = 0; d < q->dim; d += 16) __builtin_prefetch(soon + d);
        float similarity = cld__dot_f32(s->query, m, q->dim);
        s->keys[kept] = key_of(similarity, row);
        kept += similarity > -INFINITY;
    }
    s->count = kept;
    if (s->count > q->k) keep_from(s, kth_of(s, q->k));
}

/* Makes room for at least SLACK / 2 more, even if all rows of the memory are the same. */
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

/* A sum of dim products in any order has an error of at most dim u |query| |row|, u = FLT_EPSILON / 2. Two products of
 * one pair differ by at most twice that, and this holds for the row and for the k-th best. */
static shortlist shortlist_of(uint64_t *keys, uint64_t *spare, const float *query, const problem *q) {
    double margin = 2.0 * (double)(q->dim + 2) * FLT_EPSILON * norm_of(query, q->dim) * q->largest_norm;
    return (shortlist){.keys = keys,
                       .spare = spare,
                       .bar = -INFINITY,
                       .margin = (float)fmin(margin, FLT_MAX),
                       .query = query};
}

static void write_list(float *similarities, int64_t *index, const shortlist *s, int64_t k) {
    for (int64_t i = 0; i < k; i++) {
        bool found = i < s->count;
        similarities[i] = found ? similarity_of(s->keys[i]) : -INFINITY;
        index[i] = found ? row_of(s->keys[i]) : 0;
    }
}

static cld_status nearest_f32(float *similarities, int64_t *index, const problem *q) {
    int64_t blocks = (q->queries + QUERIES - 1) / QUERIES;
    int threads = omp_get_max_threads() < blocks ? omp_get_max_threads() : (int)blocks;
    size_t list_keys = (size_t)(q->k + SLACK), key_bytes = (QUERIES + 1) * list_keys * sizeof(uint64_t);
    size_t list_bytes = QUERIES * sizeof(shortlist), similarity_bytes = QUERIES * ROWS * sizeof(float);
    size_t thread_bytes = cld__lines(key_bytes) + cld__lines(list_bytes) + cld__lines(similarity_bytes);
    size_t bytes = (size_t)threads * thread_bytes;
    void *workspace;
    CLD_TRY(cld_cpu_memory.allocate(&workspace, bytes));
    cld_status failed = CLD_OK;
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int64_t b = 0; b < blocks; b++) {
        char *mine = (char *)workspace + (size_t)omp_get_thread_num() * thread_bytes;
        uint64_t *keys = cld__carve(&mine, key_bytes), *spare = keys + QUERIES * list_keys;
        shortlist *lists = cld__carve(&mine, list_bytes);
        float *products = cld__carve(&mine, similarity_bytes);
        int64_t start = b * QUERIES, n = q->queries - start < QUERIES ? q->queries - start : QUERIES;
        for (int64_t i = 0; i < n; i++)
            lists[i] = shortlist_of(keys + (size_t)i * list_keys, spare,
                                    (const float *)q->query + (start + i) * q->dim, q);
        cld_status status = search(lists, products, q, start, n);
        if (status != CLD_OK) {
#pragma omp atomic write
            failed = status;
        }
        for (int64_t i = 0; i < n && status == CLD_OK; i++)
            write_list(similarities + (start + i) * q->k, index + (start + i) * q->k, &lists[i], q->k);
    }
    cld_cpu_memory.release(workspace, bytes);
    return cld_onednn_fail(failed, "weighted_knn: a matrix product");
}

/* ---- nearest, f64: every row, the reference ---------------------------------------------------------------- */

static cld_status nearest_f64(double *similarities, int64_t *index, const problem *q) {
    size_t part = cld__lines((size_t)q->size * sizeof(uint64_t)), bytes = 3 * part;
    void *workspace;
    CLD_TRY(cld_cpu_memory.allocate(&workspace, bytes));
    char *at = workspace;
    double *all = cld__carve(&at, part);
    uint64_t *keys = cld__carve(&at, part), *spare = cld__carve(&at, part);
    for (int64_t i = 0; i < q->queries; i++, similarities += q->k, index += q->k) {
        const double *query = (const double *)q->query + i * q->dim;
        for (int64_t j = 0; j < q->size; j++) {
            all[j] = cld__dot_f64(query, (const double *)q->memory + j * q->dim, q->dim);
            keys[j] = key_of_similarity(all[j]);
        }
        int64_t count = largest_places(index, spare, keys, q->size, q->k);
        for (int64_t j = 0; j < count; j++) similarities[j] = all[index[j]];
        for (int64_t j = count; j < q->k; j++) similarities[j] = -INFINITY, index[j] = 0;
    }
    cld_cpu_memory.release(workspace, bytes);
    return CLD_OK;
}

cld_status cld__nearest(const cld_array *similarities, const cld_array *index, const cld_array *memory,
                        const cld_array *queries) {
    problem q = {.size = memory->shape[0],
                 .dim = memory->shape[1],
                 .queries = queries->shape[0],
                 .k = index->shape[1],
                 .memory = memory->data,
                 .query = queries->data};
    if (q.queries == 0) return CLD_OK;
    if (memory->dtype == CLD_F64) return nearest_f64(similarities->data, index->data, &q);
    q.largest_norm = largest_norm_of(memory->data, q.size, q.dim);
    return nearest_f32(similarities->data, index->data, &q);
}

/* ---- vote -------------------------------------------------------------------------------------------------- */

/* What to subtract from a query's similarities before exp(similarity / T): nothing, unless a sum of k such values, the
 * largest among them, could leave the dtype's range. */
static double shift_of(double largest, int64_t k, double temperature, cld_dtype dtype) {
    double log_of_most = log(dtype == CLD_F64 ? DBL_MAX : FLT_MAX);
    bool fits = fabs(largest / temperature) + log((double)k) < log_of_most;
    return fits || !isfinite(largest) ? 0 : largest;
}

static double value_of(const cld_array *a, int64_t i) {
    return a->dtype == CLD_F64 ? ((const double *)a->data)[i] : (double)((const float *)a->data)[i];
}

/* The memory that a thread needs for a query. */
typedef struct ballot {
    uint64_t *keys, *spare; /* (entries) */
    int64_t *places;        /* (k) */
    double *votes;          /* (classes) */
} ballot;

/* Counts the votes of one query, whose entries start at `first`. */
static void count_votes(const ballot *b, const cld_array *similarities, const int64_t *labels, int64_t first,
                        int64_t classes, int64_t k, double temperature) {
    int64_t entries = similarities->shape[1];
    double largest = -INFINITY;
    for (int64_t i = 0; i < entries; i++) {
        double similarity = value_of(similarities, first + i);
        b->keys[i] = key_of_similarity(similarity);
        if (similarity > largest) largest = similarity;
    }
    int64_t count = largest_places(b->places, b->spare, b->keys, entries, k);
    double shift = shift_of(largest, k, temperature, similarities->dtype);
    for (int64_t c = 0; c < classes; c++) b->votes[c] = 0;
    for (int64_t i = 0; i < count; i++) {
        int64_t at = first + b->places[i];
        b->votes[labels[at]] += exp((value_of(similarities, at) - shift) / temperature);
    }
}

cld_status cld__vote(const cld_array *scores, const cld_array *similarities, const cld_array *labels,
                     int64_t k, double temperature) {
    int64_t queries = scores->shape[0], classes = scores->shape[1], entries = similarities->shape[1];
    CLD_TRY(cld__check_index("weighted_knn", "labels", labels, classes));
    if (queries == 0) return CLD_OK;
    int threads = omp_get_max_threads() < queries ? omp_get_max_threads() : (int)queries;
    size_t list_bytes = (size_t)entries * sizeof(uint64_t), place_bytes = (size_t)k * sizeof(int64_t);
    size_t vote_bytes = (size_t)classes * sizeof(double);
    size_t thread_bytes = 2 * cld__lines(list_bytes) + cld__lines(place_bytes) + cld__lines(vote_bytes);
    size_t bytes = (size_t)threads * thread_bytes;
    void *workspace;
    CLD_TRY(cld_cpu_memory.allocate(&workspace, bytes));
#pragma omp parallel num_threads(threads)
    {
        char *mine = (char *)workspace + (size_t)omp_get_thread_num() * thread_bytes;
        ballot b;
        b.keys = cld__carve(&mine, list_bytes), b.spare = cld__carve(&mine, list_bytes);
        b.places = cld__carve(&mine, place_bytes), b.votes = cld__carve(&mine, vote_bytes);
#pragma omp for schedule(static)
        for (int64_t i = 0; i < queries; i++) {
            count_votes(&b, similarities, labels->data, i * entries, classes, k, temperature);
            for (int64_t c = 0; c < classes; c++) {
                if (scores->dtype == CLD_F64)
                    ((double *)scores->data)[i * classes + c] = b.votes[c];
                else
                    ((float *)scores->data)[i * classes + c] = (float)b.votes[c];
            }
        }
    }
    cld_cpu_memory.release(workspace, bytes);
    return CLD_OK;
}
