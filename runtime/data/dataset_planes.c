/* A data set of the images in a file that holds nothing else, three planes each. Read as they are asked for. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/core/text.h"
#include "runtime/data/dataset.h"
#include "runtime/io/file.h"

typedef struct planes_set {
    cld_dataset base;
    cld_reader reader;
    bool by_columns;
} planes_set;

static cld_status open_row(cld_dataset *d, int64_t row, cld_source *s) {
    planes_set *p = (planes_set *)d;
    size_t h = (size_t)d->height, w = (size_t)d->width, n = h * w;
    uint8_t *planes = cld_scratch_reserve(&s->file, 6 * n), *to = planes + 3 * n;
    if (!planes) return CLD_NOMEM;
    CLD_TRY(cld_reader_get(&p->reader, planes, (uint64_t)row * 3 * n, 3 * n));
    size_t down = p->by_columns ? 1 : w, right = p->by_columns ? h : 1;
    for (size_t y = 0; y < h; y++)
        for (size_t x = 0; x < w; x++)
            for (size_t c = 0; c < 3; c++) to[3 * (y * w + x) + c] = planes[c * n + y * down + x * right];
    s->height = d->height;
    s->width = d->width;
    s->pixels = to;
    return CLD_OK;
}

static void describe(const cld_dataset *d, int64_t row, char *text, size_t size) {
    char path[512];
    const char *name = ((const planes_set *)d)->reader.path;
    cld_printable(path, sizeof path, name, strlen(name), CLD_ONE_LINE);
    snprintf(text, size, "%s, image %lld", path, (long long)row + 1);
}

static void free_set(cld_dataset *d) {
    cld_reader_close(&((planes_set *)d)->reader);
    free(d);
}

static const cld_dataset_ops ops = {"planes", open_row, describe, free_set};

cld_dataset *cld_dataset_of_planes(const char *path, int height, int width, bool by_columns) {
    uint64_t bytes = 3 * (uint64_t)height * (uint64_t)width;
    planes_set *p = calloc(1, sizeof *p);
    if (!p) return cld_fail_null(CLD_NOMEM, "data set: out of memory");
    if (cld_reader_open(&p->reader, path) != CLD_OK) {
        free(p);
        return NULL;
    }
    p->base = (cld_dataset){
        .ops = &ops,
        .count = (int64_t)(p->reader.bytes / bytes),
        .height = height,
        .width = width,
        .references = 1,
    };
    p->by_columns = by_columns;
    if (p->reader.bytes > 0 && p->reader.bytes % bytes == 0) return &p->base;
    cld_fail(
        CLD_IO,
        "%s: truncated, or not what its name says: %llu bytes are not a multiple of the %llu of an image of "
        "%d x %d pixels",
        path, (unsigned long long)p->reader.bytes, (unsigned long long)bytes, height, width);
    free_set(&p->base);
    return NULL;
}
