/* Rows of other data sets as a data set: a subset, a concatenation. Lua chooses the rows. */
#include "runtime/data/dataset.h"

#include <stdlib.h>
#include <string.h>

typedef struct selection {
    cld_dataset base;
    int count;
    cld_dataset **parts; /* (count) retained */
    int32_t *part;       /* (rows) NULL: all of the first */
    int64_t *row;        /* (rows) */
} selection;

static cld_dataset *part_of(const selection *s, int64_t row) { return s->parts[s->part ? s->part[row] : 0]; }

static cld_status open_row(cld_dataset *d, int64_t row, cld_source *source) {
    selection *s = (selection *)d;
    cld_dataset *part = part_of(s, row);
    source->upright = part->upright;
    CLD_TRY(part->ops->open(part, s->row[row], source));
    source->has_label = false; /* a selection's labels may differ: Lua has them */
    return CLD_OK;
}

static void describe(const cld_dataset *d, int64_t row, char *text, size_t size) {
    const selection *s = (const selection *)d;
    cld_dataset_describe(part_of(s, row), s->row[row], text, size);
}

static void free_set(cld_dataset *d) {
    selection *s = (selection *)d;
    for (int i = 0; s->parts && i < s->count; i++) cld_dataset_free(s->parts[i]);
    free(s->parts);
    free(s->part);
    free(s->row);
    free(s);
}

static const cld_dataset_ops ops = {"selection", open_row, describe, free_set};

static void *copy(const void *from, size_t bytes) {
    void *to = malloc(bytes ? bytes : 1);
    if (to) memcpy(to, from, bytes);
    return to;
}

cld_dataset *cld_dataset_select(cld_dataset *const *parts, int count, const int32_t *part, const int64_t *row,
                                int64_t rows) {
    if (count < 1 || rows < 1) return cld_fail_null(CLD_INVALID, "data set: the selection has no images");
    for (int64_t i = 0; i < rows; i++) {
        int p = part ? part[i] : 0;
        if (p < 0 || p >= count)
            return cld_fail_null(CLD_INVALID, "data set: there are %d sets, but none with number %d", count,
                                 p);
        if (row[i] < 0 || row[i] >= parts[p]->count)
            return cld_fail_null(CLD_INVALID,
                                 "data set: index %lld is out of range for %lld images; indices count from 0",
                                 (long long)row[i], (long long)parts[p]->count);
    }
    selection *s = calloc(1, sizeof *s);
    if (!s) return cld_fail_null(CLD_NOMEM, "data set: out of memory");
    s->base = (cld_dataset){
        .ops = &ops, .count = rows, .height = parts[0]->height, .width = parts[0]->width, .references = 1};
    s->parts = calloc((size_t)count, sizeof *s->parts);
    s->part = part ? copy(part, (size_t)rows * sizeof *part) : NULL;
    s->row = copy(row, (size_t)rows * sizeof *row);
    if (!s->parts || (part && !s->part) || !s->row) {
        free_set(&s->base);
        return cld_fail_null(CLD_NOMEM, "data set: out of memory for a selection of %lld images",
                             (long long)rows);
    }
    s->count = count;
    for (int i = 0; i < count; i++) {
        s->parts[i] = cld_dataset_retain(parts[i]);
        s->base.one_thread |= parts[i]->one_thread;
        if (parts[i]->height != s->base.height || parts[i]->width != s->base.width)
            s->base.height = s->base.width = 0;
    }
    return &s->base;
}
