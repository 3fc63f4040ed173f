/* Data sets of images of one size, stored one after the other in a file that stays open: a .npy file, STL-10's file of
 * planes. The file is read, not mapped: if it is truncated while in use, that gives an image that cannot be read,
 * instead of killing the process. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/core/text.h"
#include "runtime/data/dataset.h"
#include "runtime/io/npy.h"

typedef struct array_set {
    cld_dataset base;
    cld_reader reader;
    uint64_t start; /* byte of the first image */
    size_t down,
        right; /* planes: bytes to the pixel below and to the next; 0: pixels are interleaved, row by row */
} array_set;

static cld_status open_row(cld_dataset *d, int64_t row, cld_source *s) {
    array_set *a = (array_set *)d;
    size_t h = (size_t)d->height, w = (size_t)d->width, n = h * w;
    uint8_t *read = cld_scratch_reserve(&s->file, a->right ? 6 * n : 3 * n), *to = read;
    if (!read) return CLD_NOMEM;
    CLD_TRY(cld_reader_get(&a->reader, read, a->start + (uint64_t)row * 3 * n, 3 * n));
    if (a->right) {
        to = read + 3 * n;
        for (size_t y = 0; y < h; y++)
            for (size_t x = 0; x < w; x++)
                for (size_t c = 0; c < 3; c++)
                    to[3 * (y * w + x) + c] = read[c * n + y * a->down + x * a->right];
    }
    s->height = d->height;
    s->width = d->width;
    s->pixels = to;
    return CLD_OK;
}

static void describe(const cld_dataset *d, int64_t row, char *text, size_t size) {
    char path[512];
    const char *name = ((const array_set *)d)->reader.path;
    cld_printable(path, sizeof path, name, strlen(name), CLD_ONE_LINE);
    snprintf(text, size, "%s, image %lld", path, (long long)row + 1);
}

static void free_set(cld_dataset *d) {
    cld_reader_close(&((array_set *)d)->reader);
    free(d);
}

static const cld_dataset_ops ops = {"array", open_row, describe, free_set};

static array_set *open_file(const char *path) {
    array_set *a = calloc(1, sizeof *a);
    if (!a) return cld_fail_null(CLD_NOMEM, "data set: out of memory");
    a->base.ops = &ops;
    a->base.references = 1;
    if (cld_reader_open(&a->reader, path) == CLD_OK) return a;
    free(a);
    return NULL;
}

/* ---- .npy ---------------------------------------------------------------------------------------------- */

static cld_status take_shape(array_set *a, const char *path) {
    cld_npy_bytes b;
    CLD_TRY(cld_npy_find_bytes(&b, &a->reader));
    if (b.ndim == 4 && b.shape[3] == 3 && b.shape[0] >= 1 && b.shape[1] >= 1 && b.shape[2] >= 1 &&
        b.shape[1] <= 65535 && b.shape[2] <= 65535) {
        a->start = b.start;
        a->base.count = b.shape[0];
        a->base.height = (int)b.shape[1];
        a->base.width = (int)b.shape[2];
        return CLD_OK;
    }
    char shape[256] = "";
    for (int i = 0, used = 0; i < b.ndim; i++)
        used +=
            snprintf(shape + used, sizeof shape - (size_t)used, i ? ", %lld" : "%lld", (long long)b.shape[i]);
    return cld_fail(CLD_INVALID,
                    "%s: images must be u1 (n, height, width, 3), 1 to 65535 pixels wide and high; got (%s)",
                    path, shape);
}

cld_dataset *cld_dataset_of_npy(const char *path) {
    array_set *a = open_file(path);
    if (!a || take_shape(a, path) == CLD_OK) return a ? &a->base : NULL;
    free_set(&a->base);
    return NULL;
}

/* ---- a file of planes ---------------------------------------------------------------------------------- */

cld_dataset *cld_dataset_of_planes(const char *path, int height, int width, bool by_columns) {
    uint64_t bytes = 3 * (uint64_t)height * (uint64_t)width;
    array_set *a = open_file(path);
    if (!a) return NULL;
    a->base.count = (int64_t)(a->reader.bytes / bytes);
    a->base.height = height;
    a->base.width = width;
    a->down = by_columns ? 1 : (size_t)width;
    a->right = by_columns ? (size_t)height : 1;
    if (a->reader.bytes > 0 && a->reader.bytes % bytes == 0) return &a->base;
    cld_fail(CLD_IO,
             "%s: truncated, or not what its name says: %llu bytes are not a multiple of the %llu of an "
             "image of %d "
             "x %d pixels",
             path, (unsigned long long)a->reader.bytes, (unsigned long long)bytes, height, width);
    free_set(&a->base);
    return NULL;
}
