/* A data set of the images in a tar archive, which stays open; each image is read in place. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/core/text.h"
#include "runtime/data/dataset.h"
#include "runtime/io/file.h"
#include "runtime/io/slurp.h"

typedef struct members_set {
    cld_dataset base;
    cld_listing *listing;
    cld_reader reader;
    int64_t *offset, *size; /* (count) */
} members_set;

static cld_status open_row(cld_dataset *d, int64_t row, cld_source *s) {
    members_set *m = (members_set *)d;
    size_t size = (size_t)m->size[row];
    if (size > CLD_SLURP_MAX)
        return cld_fail(CLD_INVALID, "its %zu bytes are too many for an image file; at most %zu are read",
                        size, CLD_SLURP_MAX);
    uint8_t *to = cld_scratch_reserve(&s->file, size ? size : 1);
    if (!to) return CLD_NOMEM;
    CLD_TRY(cld_reader_get(&m->reader, to, (uint64_t)m->offset[row], size));
    s->bytes = to;
    s->length = size;
    return CLD_OK;
}

static void describe(const cld_dataset *d, int64_t row, char *text, size_t size) {
    const members_set *m = (const members_set *)d;
    char path[4096];
    cld_listing_path(m->listing, row, path, sizeof path);
    cld_printable(text, size, path, strlen(path), CLD_ONE_LINE);
}

static void free_set(cld_dataset *d) {
    members_set *m = (members_set *)d;
    cld_listing_free(m->listing);
    cld_reader_close(&m->reader);
    free(m->offset);
    free(m->size);
    free(m);
}

static const cld_dataset_ops ops = {"members", open_row, describe, free_set};

cld_dataset *cld_dataset_of_members(const cld_tar *t, cld_listing *l) {
    members_set *m = calloc(1, sizeof *m);
    if (!m) return cld_fail_null(CLD_NOMEM, "data set: out of memory");
    m->base = (cld_dataset){.ops = &ops, .count = l->count, .references = 1};
    m->listing = cld_listing_retain(l);
    m->reader.fd = -1;
    size_t count = (size_t)l->count;
    m->offset = malloc(count * sizeof *m->offset);
    m->size = malloc(count * sizeof *m->size);
    if (!m->offset || !m->size) {
        cld_fail(CLD_NOMEM, "data set: out of memory for %zu images", count);
        goto fail;
    }
    for (size_t i = 0; i < count; i++) {
        m->offset[i] = t->offsets[l->members[i]];
        m->size[i] = t->sizes[l->members[i]];
    }
    if (cld_reader_open(&m->reader, t->path) == CLD_OK) return &m->base;
    m->reader.fd = -1;
fail:
    free_set(&m->base);
    return NULL;
}
