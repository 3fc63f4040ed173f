/* A data set of the images in a .npy file, which stays open. Read, not mapped: a file that is cut off while it is in use is
 * then an image that cannot be read, and not the end of the process. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/core/text.h"
#include "runtime/data/dataset.h"
#include "runtime/io/npy.h"

typedef struct npy_set {
    cld_dataset base;
    cld_reader reader;
    uint64_t start;
} npy_set;

static cld_status open_row(cld_dataset *d, int64_t row, cld_source *s) {
    npy_set *n = (npy_set *)d;
    size_t bytes = 3 * (size_t)d->height * (size_t)d->width;
    uint8_t *to = cld_scratch_reserve(&s->file, bytes);
    if (!to) return CLD_NOMEM;
    CLD_TRY(cld_reader_get(&n->reader, to, n->start + (uint64_t)row * bytes, bytes));
    s->height = d->height;
    s->width = d->width;
    s->pixels = to;
    return CLD_OK;
}

static void describe(const cld_dataset *d, int64_t row, char *text, size_t size) {
    char path[512];
    const char *name = ((const npy_set *)d)->reader.path;
    cld_printable(path, sizeof path, name, strlen(name), CLD_ONE_LINE);
    snprintf(text, size, "%s, image %lld", path, (long long)row + 1);
}

static void free_set(cld_dataset *d) {
    cld_reader_close(&((npy_set *)d)->reader);
    free(d);
}

static const cld_dataset_ops ops = {"npy", open_row, describe, free_set};

static cld_status check_shape(const cld_npy_bytes *b, const char *path) {
    if (b->ndim == 4 && b->shape[3] == 3 && b->shape[0] >= 1 && b->shape[1] >= 1 && b->shape[2] >= 1 &&
        b->shape[1] <= 65535 && b->shape[2] <= 65535)
        return CLD_OK;
    char shape[128];
    int used = 0;
    for (int i = 0; i < b->ndim; i++)
        used += snprintf(shape + used, sizeof shape - (size_t)used, i ? ", %lld" : "%lld",
                         (long long)b->shape[i]);
    return cld_fail(CLD_INVALID,
                    "%s: images must be u1 (n, height, width, 3), 1 to 65535 pixels wide and high; got (%s)",
                    path, b->ndim ? shape : "");
}

cld_dataset *cld_dataset_of_npy(const char *path) {
    npy_set *n = calloc(1, sizeof *n);
    cld_npy_bytes bytes;
    if (!n) return cld_fail_null(CLD_NOMEM, "data set: out of memory");
    if (cld_reader_open(&n->reader, path) != CLD_OK) {
        free(n);
        return NULL;
    }
    n->base.ops = &ops;
    if (cld_npy_find_bytes(&bytes, &n->reader) != CLD_OK || check_shape(&bytes, path) != CLD_OK) {
        free_set(&n->base);
        return NULL;
    }
    n->start = bytes.start;
    n->base.count = bytes.shape[0];
    n->base.height = (int)bytes.shape[1];
    n->base.width = (int)bytes.shape[2];
    n->base.references = 1;
    return &n->base;
}
