/* The one loop over arrays of any strides: see math.h. Dimensions are reordered so that the output is walked in memory
 * order, and merged if all arrays allow it; if all arrays are dense, a single line remains. If an input is transposed
 * relative to the output, tiles of it are transposed first, so that each of its cache lines is read once and bodies see
 * it dense. */
#include "kernels/cpu/math.h"
#include "kernels/cpu/simd.h"

#include <stdlib.h>

cld_array cld__dense_like(const cld_array *a, cld_dtype dtype) {
    cld_array dense = *a;
    int64_t inside = 1;
    dense.data = NULL;
    dense.dtype = dtype;
    dense.layout = CLD_STRIDED;
    for (int i = a->ndim - 1; i >= 0; inside *= a->shape[i--]) dense.strides[i] = inside;
    return dense;
}

int64_t cld__line_offset(const cld_array *a, int dim, int64_t i) {
    int64_t offset = 0;
    for (int d = a->ndim - 1; d >= 0; d--) {
        if (d == dim) continue;
        offset += i % a->shape[d] * a->strides[d];
        i /= a->shape[d];
    }
    return offset;
}

cld_array cld__split_channels(const cld_array *a) {
    int64_t n = a->shape[0], c = a->shape[1], h = a->shape[2], w = a->shape[3];
    cld_array s = {.data = a->data, .dtype = a->dtype, .layout = CLD_STRIDED, .ndim = 5};
    const int64_t shape[5] = {n, c / 16, 16, h, w};
    const int64_t blocked[5] = {c * h * w, 16 * h * w, 1, 16 * w, 16};
    const int64_t strided[5] = {a->strides[0], 16 * a->strides[1], a->strides[1], a->strides[2],
                                a->strides[3]};
    for (int i = 0; i < 5; i++) {
        s.shape[i] = shape[i];
        s.strides[i] = a->layout == CLD_BLOCKED ? blocked[i] : strided[i];
    }
    return s;
}

/* The merged loops; strides are in bytes, except the innermost, which is in elements. */
typedef struct loops {
    int ndim; /* >= 1; the last is the line whose pieces the bodies get */
    int64_t shape[CLD_MAX_DIMS];
    int64_t strides[CLD_WALK_ARRAYS][CLD_MAX_DIMS];
    size_t size[CLD_WALK_ARRAYS];
    int count;
} loops;

/* Does dimension p go outside q? Larger strides in the output, then in the inputs, go outside. */
static bool outside(const cld_array *a, int count, int p, int q) {
    for (int k = 0; k < count; k++) {
        int64_t sp = llabs(a[k].strides[p]), sq = llabs(a[k].strides[q]);
        if (sp != sq) return sp > sq;
    }
    return p < q;
}

static void merge(loops *l, const cld_array *a, int count) {
    int order[CLD_MAX_DIMS], dims = 0;
    for (int d = 0; d < a[0].ndim; d++) { /* insertion sort */
        if (a[0].shape[d] == 1) continue;
        int at = dims++;
        while (at > 0 && outside(a, count, d, order[at - 1])) {
            order[at] = order[at - 1];
            at--;
        }
        order[at] = d;
    }
    l->ndim = 0;
    l->count = count;
    for (int i = 0; i < dims; i++) {
        int d = order[i], last = l->ndim - 1;
        bool joins = last >= 0;
        for (int k = 0; k < count && joins; k++)
            joins = l->strides[k][last] == a[k].strides[d] * a[0].shape[d];
        if (joins)
            l->shape[last] *= a[0].shape[d];
        else
            l->shape[last = l->ndim++] = a[0].shape[d];
        for (int k = 0; k < count; k++) l->strides[k][last] = a[k].strides[d];
    }
    if (l->ndim == 0) {
        l->shape[l->ndim++] = 1;
        for (int k = 0; k < count; k++) l->strides[k][0] = 1;
    }
    for (int k = 0; k < count; k++) {
        l->size[k] = cld_dtype_size(a[k].dtype);
        for (int i = 0; i < l->ndim - 1; i++) l->strides[k][i] *= (int64_t)l->size[k];
    }
}

/* Runs pieces first..last - 1 of all, with pieces_per_line of them in each line. */
static void run(const loops *l, char *const base[], int64_t first, int64_t last, int64_t pieces_per_line,
                cld_walk_body body, const void *context) {
    int inner = l->ndim - 1;
    if (first == last) return;
    int64_t index[CLD_MAX_DIMS], strides[CLD_WALK_ARRAYS], line = first / pieces_per_line;
    char *start[CLD_WALK_ARRAYS], *data[CLD_WALK_ARRAYS];
    for (int k = 0; k < l->count; k++) {
        start[k] = base[k];
        strides[k] = l->strides[k][inner];
    }
    for (int d = inner - 1; d >= 0; d--) {
        index[d] = line % l->shape[d];
        line /= l->shape[d];
        for (int k = 0; k < l->count; k++) start[k] += index[d] * l->strides[k][d];
    }
    int64_t piece = first % pieces_per_line;
    for (int64_t i = first; i < last; i++) {
        int64_t offset = piece * CLD_PIECE, left = l->shape[inner] - offset;
        for (int k = 0; k < l->count; k++) data[k] = start[k] + offset * strides[k] * (int64_t)l->size[k];
        body(context, data, strides, left < CLD_PIECE ? left : CLD_PIECE);
        if (++piece < pieces_per_line) continue;
        piece = 0;
        for (int d = inner - 1; d >= 0; d--) {
            for (int k = 0; k < l->count; k++) start[k] += l->strides[k][d];
            if (++index[d] < l->shape[d]) break;
            for (int k = 0; k < l->count; k++) start[k] -= l->shape[d] * l->strides[k][d];
            index[d] = 0;
        }
    }
}

static void run_lines(const loops *l, char *const base[], cld_walk_body body, const void *context) {
    int64_t numel = 1, length = l->shape[l->ndim - 1];
    for (int d = 0; d < l->ndim; d++) numel *= l->shape[d];
    int64_t pieces_per_line = (length + CLD_PIECE - 1) / CLD_PIECE, pieces = numel / length * pieces_per_line;
    if (numel < CLD_PARALLEL_MIN) {
        run(l, base, 0, pieces, pieces_per_line, body, context);
        return;
    }
#pragma omp parallel for schedule(static)
    for (int64_t block = 0; block < 64; block++)
        run(l, base, pieces * block / 64, pieces * (block + 1) / 64, pieces_per_line, body, context);
}

/* ---- transposed inputs --------------------------------------------------------------------------------- */

/* A tile of LINES lines of COLUMNS elements is copied for the body, in the order of the output. */
#define LINES   16
#define COLUMNS 64

/* Is the input dense along the second innermost dimension, and not along the innermost? */
static bool is_turned(const loops *l, int k) {
    int inner = l->ndim - 1;
    return l->strides[k][inner - 1] == (int64_t)l->size[k] && llabs(l->strides[k][inner]) > 1;
}

static bool any_is_turned(const loops *l) {
    int inner = l->ndim - 1;
    if (inner < 1 || l->shape[inner] < LINES || l->shape[inner - 1] < LINES) return false;
    for (int k = 1; k < l->count; k++)
        if (is_turned(l, k)) return true;
    return false;
}

#define TURN(T)                                                                                              \
    {                                                                                                        \
        T *y = to;                                                                                           \
        for (int64_t column = 0; column < columns; column++) {                                               \
            const T *x = (const T *)from + column * stride;                                                  \
            for (int64_t line = 0; line < lines; line++) y[line * COLUMNS + column] = x[line];               \
        }                                                                                                    \
    }

static void turn(void *to, const char *from, int64_t stride, size_t size, int64_t lines, int64_t columns) {
    switch (size) {
    case 1: TURN(uint8_t) break;
    case 2: TURN(uint16_t) break;
    case 4: TURN(uint32_t) break;
    default: TURN(uint64_t) break;
    }
}

/* The lines from start[] on. */
static void run_tile(const loops *l, char *const start[], int64_t lines, int64_t columns, cld_walk_body body,
                     const void *context) {
    uint64_t copies[CLD_WALK_ARRAYS][LINES * COLUMNS];
    int inner = l->ndim - 1;
    char *data[CLD_WALK_ARRAYS];
    int64_t strides[CLD_WALK_ARRAYS], steps[CLD_WALK_ARRAYS];
    for (int k = 0; k < l->count; k++) {
        bool turned = k > 0 && is_turned(l, k);
        if (turned) turn(copies[k], start[k], l->strides[k][inner], l->size[k], lines, columns);
        data[k] = turned ? (char *)copies[k] : start[k];
        strides[k] = turned ? 1 : l->strides[k][inner];
        steps[k] = turned ? COLUMNS * (int64_t)l->size[k] : l->strides[k][inner - 1];
    }
    for (int64_t line = 0; line < lines; line++) {
        char *at[CLD_WALK_ARRAYS];
        for (int k = 0; k < l->count; k++) at[k] = data[k] + line * steps[k];
        body(context, at, strides, columns);
    }
}

static int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }

static void run_tiles(const loops *l, char *const base[], cld_walk_body body, const void *context) {
    int inner = l->ndim - 1;
    int64_t length = l->shape[inner], height = l->shape[inner - 1], outer = 1;
    int64_t across = (length + COLUMNS - 1) / COLUMNS, down = (height + LINES - 1) / LINES;
    for (int d = 0; d < inner - 1; d++) outer *= l->shape[d];
#pragma omp parallel for schedule(static) if (outer * height * length >= CLD_PARALLEL_MIN)
    for (int64_t tile = 0; tile < outer * down * across; tile++) {
        int64_t column = tile % across * COLUMNS, line = tile / across % down * LINES;
        char *start[CLD_WALK_ARRAYS];
        for (int k = 0; k < l->count; k++)
            start[k] = base[k] + line * l->strides[k][inner - 1] +
                       column * l->strides[k][inner] * (int64_t)l->size[k];
        int64_t rest = tile / across / down;
        for (int d = inner - 2; d >= 0; rest /= l->shape[d--])
            for (int k = 0; k < l->count; k++) start[k] += rest % l->shape[d] * l->strides[k][d];
        run_tile(l, start, least(height - line, LINES), least(length - column, COLUMNS), body, context);
    }
}

void cld__walk(const cld_array *const arrays[], int count, cld_walk_body body, const void *context) {
    cld_array a[CLD_WALK_ARRAYS] = {0};
    char *base[CLD_WALK_ARRAYS];
    loops l;
    int64_t numel = cld_numel(arrays[0]);
    if (numel == 0) return;
    bool blocked = false;
    for (int k = 0; k < count; k++) blocked |= arrays[k]->layout == CLD_BLOCKED;
    for (int k = 0; k < count; k++) {
        a[k] = blocked ? cld__split_channels(arrays[k]) : *arrays[k];
        base[k] = a[k].data;
    }
    merge(&l, a, count);
    if (any_is_turned(&l))
        run_tiles(&l, base, body, context);
    else
        run_lines(&l, base, body, context);
}
