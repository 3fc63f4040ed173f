/* The Barnes-Hut quadtree. Points are sorted by their Morton code, with 16 bits per axis, so that each cell is a range
 * of points. Cells are written in the order of a walk that visits a cell before its children. The walk needs no stack,
 * since a cell says where to continue without its children. Points with the same code share a leaf and count as one
 * place; they are nearer to each other than 1 / 65536 of the whole. */
#include "runtime/embed/embed.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { BITS = 16, RADIX = 11, BUCKETS = 1 << RADIX }; /* three passes sort 32 bits */

cld_status cld__tree_new(cld_tree *t, int64_t n) {
    *t = (cld_tree){.n = n, .room = 2 * n + 64};
    t->cells = malloc((size_t)t->room * sizeof *t->cells);
    t->keys = malloc((size_t)n * sizeof *t->keys);
    t->other = malloc((size_t)n * sizeof *t->other);
    if (t->cells && t->keys && t->other) return CLD_OK;
    cld__tree_free(t);
    return cld_fail(CLD_NOMEM, "tsne: out of memory for a tree of %lld points", (long long)n);
}

void cld__tree_free(cld_tree *t) {
    free(t->cells);
    free(t->keys);
    free(t->other);
    *t = (cld_tree){0};
}

/* The bits of a 16-bit number, with a zero above each. */
static uint32_t spread(uint32_t v) {
    v = (v | v << 8) & 0x00ff00ff;
    v = (v | v << 4) & 0x0f0f0f0f;
    v = (v | v << 2) & 0x33333333;
    return (v | v << 1) & 0x55555555;
}

/* A key is the code in the upper half and the point's number in the lower. */
static uint32_t code_of(uint64_t key) { return (uint32_t)(key >> 32); }

static void sort(cld_tree *t) {
    for (int pass = 0; pass < 3; pass++) {
        int shift = 32 + RADIX * pass;
        uint32_t first[BUCKETS + 1] = {0};
        for (int64_t i = 0; i < t->n; i++) first[(t->keys[i] >> shift & (BUCKETS - 1)) + 1]++;
        for (int b = 0; b < BUCKETS; b++) first[b + 1] += first[b];
        for (int64_t i = 0; i < t->n; i++)
            t->other[first[t->keys[i] >> shift & (BUCKETS - 1)]++] = t->keys[i];
        uint64_t *sorted = t->other;
        t->other = t->keys, t->keys = sorted;
    }
}

typedef struct frame {
    const double *y;
    double width; /* of the whole tree */
} frame;

static cld_status more_room(cld_tree *t) {
    cld_cell *more = realloc(t->cells, 2 * (size_t)t->room * sizeof *more);
    if (!more) return cld_fail(CLD_NOMEM, "tsne: out of memory for a tree of %lld points", (long long)t->n);
    t->cells = more, t->room *= 2;
    return CLD_OK;
}

/* Writes the cell of the sorted points from begin to end, whose codes agree in all but the lowest `bits` of each
 * axis. */
static cld_status write_cell(cld_tree *t, const frame *f, int64_t begin, int64_t end, int bits) {
    if (t->used == t->room) CLD_TRY(more_room(t));
    int64_t at = t->used++;
    double x = 0, y = 0, width = f->width / (1 << (BITS - bits));
    for (int64_t i = begin; i < end; i++) {
        const double *point = f->y + 2 * (t->keys[i] & 0xffffffff);
        x += point[0], y += point[1];
    }
    int64_t count = end - begin;
    bool is_leaf = count == 1 || bits == 0;
    t->cells[at] = (cld_cell){
        .x = x / count, .y = y / count, .width = is_leaf ? 0 : width * width, .count = (int32_t)count};
    for (int64_t from = begin; !is_leaf && from < end;) {
        uint32_t child = code_of(t->keys[from]) >> 2 * (bits - 1);
        int64_t to = from + 1, last = end; /* finds the first point of the next child */
        while (to < last) {
            int64_t middle = (to + last) / 2;
            if (code_of(t->keys[middle]) >> 2 * (bits - 1) == child)
                to = middle + 1;
            else
                last = middle;
        }
        CLD_TRY(write_cell(t, f, from, to, bits - 1));
        from = to;
    }
    t->cells[at].next = (int32_t)t->used;
    return CLD_OK;
}

cld_status cld__tree_build(cld_tree *t, const double *y) {
    double low[2] = {INFINITY, INFINITY}, high[2] = {-INFINITY, -INFINITY};
    for (int64_t i = 0; i < t->n; i++)
        for (int a = 0; a < 2; a++)
            low[a] = fmin(low[a], y[2 * i + a]), high[a] = fmax(high[a], y[2 * i + a]);
    double width = fmax(high[0] - low[0], high[1] - low[1]) * (1 + 1e-9);
    if (!isfinite(width))
        return cld_fail(CLD_INVALID, "tsne: the points are no longer finite: are the rows too large?");
    double scale = width > 0 ? (1 << BITS) / width : 0;
    for (int64_t i = 0; i < t->n; i++) {
        uint32_t at[2];
        for (int a = 0; a < 2; a++) at[a] = (uint32_t)fmin((y[2 * i + a] - low[a]) * scale, (1 << BITS) - 1);
        t->keys[i] = (uint64_t)(spread(at[0]) | spread(at[1]) << 1) << 32 | (uint64_t)i;
    }
    sort(t);
    t->used = 0;
    return write_cell(t, &(frame){.y = y, .width = width}, 0, t->n, BITS);
}

double cld__tree_repulsion(const cld_tree *t, const double y[2], double angle, double force[2]) {
    double sum = 0, fx = 0, fy = 0, limit = angle * angle;
    for (int64_t i = 0; i < t->used;) {
        const cld_cell *c = &t->cells[i];
        double dx = y[0] - c->x, dy = y[1] - c->y, distance = dx * dx + dy * dy;
        if (c->width > 0 && c->width >= limit * distance) {
            i++;
            continue;
        }
        double w = 1 / (1 + distance), share = c->count * w;
        sum += share;
        fx += share * w * dx, fy += share * w * dy;
        i = c->next;
    }
    force[0] += fx, force[1] += fy;
    return sum;
}
