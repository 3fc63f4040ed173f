/* A data set of image files, each read whole on demand. */
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/core/text.h"
#include "runtime/data/dataset.h"
#include "runtime/io/slurp.h"

typedef struct files_set {
    cld_dataset base;
    cld_listing *listing;
} files_set;

static cld_status open_row(cld_dataset *d, int64_t row, cld_source *s) {
    char path[PATH_MAX];
    cld_listing_path(((files_set *)d)->listing, row, path, sizeof path);
    CLD_TRY(cld_file_slurp(&s->file, &s->length, AT_FDCWD, path));
    s->bytes = s->file.data;
    return CLD_OK;
}

static void describe(const cld_dataset *d, int64_t row, char *text, size_t size) {
    char path[PATH_MAX];
    cld_listing_path(((const files_set *)d)->listing, row, path, sizeof path);
    cld_printable(text, size, path, strlen(path), CLD_ONE_LINE);
}

static void free_set(cld_dataset *d) {
    cld_listing_free(((files_set *)d)->listing);
    free(d);
}

static const cld_dataset_ops ops = {"files", open_row, describe, free_set};

cld_dataset *cld_dataset_of_files(cld_listing *l) {
    files_set *f = malloc(sizeof *f);
    if (!f) return cld_fail_null(CLD_NOMEM, "data set: out of memory");
    f->base = (cld_dataset){.ops = &ops, .count = l->count, .references = 1};
    f->listing = cld_listing_retain(l);
    return &f->base;
}
