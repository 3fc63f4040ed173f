/* topk and sort. Every value becomes an unsigned key in the requested order (NaN above all numbers, -0 equal to 0), so
 * that one integer sort handles all dtypes and both directions. Equal keys keep the order of their indices. The k first
 * of n come from a heap of k; all n from a merge sort. */
#include "kernels/cpu/math.h"
#include "kernels/cpu/simd.h"

#include <omp.h>

typedef struct item {
    uint64_t key;
    int64_t index;
} item;

/* ---- keys ---------------------------------------------------------------------------------------------- */

#define SIGN_BIT (UINT64_C(1) << 63)

/* IEEE numbers compare like integers once negative ones are inverted. */
static uint64_t float_key(double v) {
    uint64_t bits;
    v = v == 0 ? 0 : v;
    memcpy(&bits, &v, sizeof bits);
    return v != v ? UINT64_MAX : bits & SIGN_BIT ? ~bits : bits | SIGN_BIT;
}

static void make_keys(item *items, const cld_array *x, const char *line, int dim, bool descending) {
    bool whole = cld__compute_type(x->dtype) == CLD_COMPUTE_INT;
    cld_compute c = whole ? CLD_COMPUTE_INT : CLD_COMPUTE_DOUBLE;
    int64_t length = x->shape[dim], stride = x->strides[dim];
    cld_piece buffer;
    for (int64_t first = 0; first < length; first += CLD_PIECE) {
        int64_t n = length - first < CLD_PIECE ? length - first : CLD_PIECE;
        const char *from = line + first * stride * (int64_t)cld_dtype_size(x->dtype);
        const void *values = cld__load(c, &buffer, from, x->dtype, stride, n);
        for (int64_t i = 0; i < n; i++) {
            uint64_t key = whole ? (uint64_t)((const int64_t *)values)[i] ^ SIGN_BIT
                                 : float_key(((const double *)values)[i]);
            items[first + i] = (item){descending ? ~key : key, first + i};
        }
    }
}

/* ---- the first k, by a heap whose root is the last among them ----------------------------------------- */

static bool before(const item *a, const item *b) {
    return a->key != b->key ? a->key < b->key : a->index < b->index;
}

static void sift_down(item *heap, int64_t n, int64_t at) {
    item moved = heap[at];
    for (int64_t child; (child = 2 * at + 1) < n; at = child) {
        if (child + 1 < n && before(&heap[child], &heap[child + 1])) child++;
        if (!before(&moved, &heap[child])) break;
        heap[at] = heap[child];
    }
    heap[at] = moved;
}

/* The first k of items, sorted, at their start. */
static void select_first(item *items, int64_t n, int64_t k) {
    for (int64_t i = k / 2 - 1; i >= 0; i--) sift_down(items, k, i);
    for (int64_t i = k; i < n; i++) {
        if (items[i].key >= items[0].key) continue; /* a later index loses a tie */
        items[0] = items[i];
        sift_down(items, k, 0);
    }
    for (int64_t last = k - 1; last > 0; last--) {
        item root = items[0];
        items[0] = items[last];
        items[last] = root;
        sift_down(items, last, 0);
    }
}

/* ---- all, by merging runs ------------------------------------------------------------------------------ */

#define RUN 16

static void sort_run(item *run, int64_t n) {
    for (int64_t i = 1; i < n; i++) {
        item moved = run[i];
        int64_t at = i;
        for (; at > 0 && moved.key < run[at - 1].key; at--) run[at] = run[at - 1];
        run[at] = moved;
    }
}

static void merge(item *to, const item *a, int64_t na, const item *b, int64_t nb) {
    while (na > 0 && nb > 0) {
        bool right = b->key < a->key; /* a's come first among equals */
        *to++ = right ? *b++ : *a++;
        nb -= right;
        na -= !right;
    }
    memcpy(to, na > 0 ? a : b, (size_t)(na + nb) * sizeof *to);
}

/* Sorts n items, using `spare` of the same size; returns whichever of the two holds the result. */
static item *sort_all(item *items, item *spare, int64_t n) {
    for (int64_t at = 0; at < n; at += RUN) sort_run(items + at, n - at < RUN ? n - at : RUN);
    for (int64_t width = RUN; width < n; width *= 2) {
        for (int64_t at = 0; at < n; at += 2 * width) {
            int64_t left = n - at < width ? n - at : width;
            int64_t right = n - at - left < width ? n - at - left : width;
            merge(spare + at, items + at, left, items + at + left, right);
        }
        item *sorted = spare;
        spare = items;
        items = sorted;
    }
    return items;
}

/* ---- lines --------------------------------------------------------------------------------------------- */

static char *line_at(const cld_array *a, int dim, int64_t i) {
    return (char *)a->data + cld__line_offset(a, dim, i) * (int64_t)cld_dtype_size(a->dtype);
}

static void write_line(const cld_array *values, const cld_array *index, const cld_array *x, int dim,
                       int64_t line, const item *items) {
    size_t size = cld_dtype_size(x->dtype);
    char *to = line_at(values, dim, line), *at = line_at(index, dim, line);
    const char *from = line_at(x, dim, line);
    for (int64_t i = 0; i < values->shape[dim]; i++) {
        memcpy(to + i * values->strides[dim] * (int64_t)size,
               from + items[i].index * x->strides[dim] * (int64_t)size, size);
        ((int64_t *)at)[i * index->strides[dim]] = items[i].index;
    }
}

cld_status cld__topk(const cld_array *values, const cld_array *index, const cld_array *x, int dim,
                     bool descending) {
    int64_t numel = cld_numel(x), n = x->shape[dim], k = values->shape[dim];
    if (cld_numel(values) == 0) return CLD_OK;
    int64_t lines = numel / n, room = k == n ? 2 * n : n; /* items per thread */
    int threads = numel < CLD_PARALLEL_MIN ? 1 : omp_get_max_threads();
    if (lines < threads) threads = (int)lines;
    size_t bytes = (size_t)(threads * room) * sizeof(item);
    void *workspace;
    CLD_TRY(cld_cpu_memory.allocate(&workspace, bytes));
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int64_t line = 0; line < lines; line++) {
        item *items = (item *)workspace + omp_get_thread_num() * room;
        make_keys(items, x, line_at(x, dim, line), dim, descending);
        const item *sorted = items;
        if (k == n)
            sorted = sort_all(items, items + n, n);
        else
            select_first(items, n, k);
        write_line(values, index, x, dim, line, sorted);
    }
    cld_cpu_memory.release(workspace, bytes);
    return CLD_OK;
}
