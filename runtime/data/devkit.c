/* ImageNet's development kit. The contract is in devkit.h. */
#define _GNU_SOURCE
#include "runtime/data/devkit.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/io/file.h"
#include "runtime/io/mat5.h"

#define NAME "ILSVRC2012_devkit_t12"
enum { META, TRUTH, FILES };

/* ---- the files ----------------------------------------------------------------------------------------- */

static cld_status read_file(const char *path, cld__kit_file *f) {
    cld_reader r;
    CLD_TRY(cld_reader_open(&r, path));
    cld_status status = CLD_OK;
    f->length = (size_t)r.bytes;
    if (r.bytes > CLD__MOST_OF_KIT)
        status = cld_fail(CLD_IO, "%.300s: too large for the file of a development kit", path);
    else if (!(f->bytes = calloc(1, f->length + 1)))
        status = cld_fail(CLD_NOMEM, "%.300s: out of memory", path);
    else
        status = cld_reader_get(&r, f->bytes, 0, f->length);
    cld_reader_close(&r);
    return status;
}

/* *found: the folder has the first of the files; then it must have all of them. */
static cld_status read_folder(const char *root, const char *below, cld__kit_file *files, bool *found) {
    for (int i = 0; i < FILES; i++) {
        char *path;
        if (asprintf(&path, "%s%s/%s", root, below, files[i].name) < 0)
            return cld_fail(CLD_NOMEM, "out of memory for the path '%.300s'", root);
        bool is_there = cld_path(path) != CLD_PATH_NONE;
        cld_status status = is_there || (i > 0 && *found) ? read_file(path, &files[i]) : CLD_OK;
        free(path);
        CLD_TRY(status);
        if (i == 0) *found = is_there;
        if (!*found) return CLD_OK;
    }
    return CLD_OK;
}

static cld_status read_files(const char *path, cld__kit_file *files) {
    static const char *const places[] = {"", "/" NAME};
    bool found = false;
    if (cld_path(path) == CLD_PATH_FILE) return cld__kit_unpack(path, files, FILES);
    for (size_t p = 0; p < sizeof places / sizeof *places && !found; p++)
        CLD_TRY(read_folder(path, places[p], files, &found));
    if (found) return CLD_OK;
    char *archive;
    if (asprintf(&archive, "%s/" NAME ".tar.gz", path) < 0)
        return cld_fail(CLD_NOMEM, "out of memory for the path '%.300s'", path);
    cld_status status = cld_path(archive) == CLD_PATH_FILE ? cld__kit_unpack(archive, files, FILES) : CLD_OK;
    free(archive);
    return status;
}

/* ---- the content of the files -------------------------------------------------------------------------- */

/* A WordNet id is a letter and eight digits; it is used as a folder's name. */
static bool is_wnid(const char *text) {
    return text[0] == 'n' && strlen(text) == 9 && strspn(text + 1, "0123456789") == 8;
}

static cld_status read_classes(cld_devkit *d, const cld_mat5 *m, const char *path) {
    int64_t synsets = cld_mat5_count(m);
    d->wnids = calloc((size_t)synsets + 1, sizeof *d->wnids);
    if (!d->wnids) return cld_fail(CLD_NOMEM, "%.300s: out of memory", path);
    for (int64_t i = 0; i < synsets; i++) {
        double children, number;
        char wnid[16];
        CLD_TRY(cld_mat5_number(m, i, "num_children", &children));
        if (children != 0) continue;
        CLD_TRY(cld_mat5_number(m, i, "ILSVRC2012_ID", &number));
        CLD_TRY(cld_mat5_text(m, i, "WNID", wnid, sizeof wnid));
        if (!is_wnid(wnid)) return cld_fail(CLD_IO, "%.300s: '%s' is not a WordNet id", path, wnid);
        if (!(number >= 1 && number <= (double)synsets && number <= UINT16_MAX) ||
            number != (int64_t)number || d->wnids[(int64_t)number - 1][0])
            return cld_fail(CLD_IO, "%.300s: the number of class %s, %g, is already taken or out of range",
                            path, wnid, number);
        strcpy(d->wnids[(int64_t)number - 1], wnid);
        d->classes++;
    }
    if (d->classes == 0)
        return cld_fail(CLD_IO, "%.300s: every synset has children, so none is a class", path);
    for (int64_t c = 0; c < d->classes; c++)
        if (!d->wnids[c][0])
            return cld_fail(CLD_IO, "%.300s: no class has the number %lld of %lld", path, (long long)c + 1,
                            (long long)d->classes);
    return CLD_OK;
}

static cld_status read_truth(cld_devkit *d, const cld__kit_file *f, const char *path) {
    d->numbers = malloc((f->length / 2 + 1) * sizeof *d->numbers); /* a digit and a newline each */
    if (!d->numbers) return cld_fail(CLD_NOMEM, "%.300s: out of memory", path);
    for (const char *at = f->bytes, *end = at + f->length; at < end;) {
        char *after;
        size_t line = strcspn(at, "\r\n");
        long number = strtol(at, &after, 10);
        bool ends = at + line == end || at[line]; /* not at a zero byte */
        if (line == 0 || !ends || after != at + line || number < 1 || number > d->classes)
            return cld_fail(CLD_IO, "%.300s/%s: line %lld is not the number of a class, 1 to %lld", path,
                            f->name, (long long)d->count + 1, (long long)d->classes);
        d->numbers[d->count++] = (uint16_t)(number - 1);
        at = after;
        if (*at == '\r') at++;
        if (*at == '\n') at++;
    }
    return d->count ? CLD_OK : cld_fail(CLD_IO, "%.300s/%s: it is empty", path, f->name);
}

static cld_status read_kit(cld_devkit *d, const char *path, cld__kit_file *files) {
    CLD_TRY(read_files(path, files));
    for (int i = 0; i < FILES; i++)
        if (!files[i].bytes)
            return cld_fail(CLD_IO,
                            "%.300s: no %s there; expected the folder " NAME ", one that holds it, or " NAME
                            ".tar.gz",
                            path, files[i].name);
    char *meta;
    if (asprintf(&meta, "%s/%s", path, files[META].name) < 0)
        return cld_fail(CLD_NOMEM, "out of memory for the path '%.300s'", path);
    cld_mat5 *m = cld_mat5_open(files[META].bytes, files[META].length, meta, "synsets");
    cld_status status = m ? read_classes(d, m, meta) : cld_error_code();
    cld_mat5_free(m);
    free(meta);
    CLD_TRY(status);
    return read_truth(d, &files[TRUTH], path);
}

cld_devkit *cld_devkit_open(const char *path) {
    cld__kit_file files[FILES] = {[META] = {.name = "data/meta.mat"},
                                  [TRUTH] = {.name = "data/ILSVRC2012_validation_ground_truth.txt"}};
    cld_devkit *d = calloc(1, sizeof *d);
    if (!d) return cld_fail_null(CLD_NOMEM, "%.300s: out of memory", path);
    cld_status status = read_kit(d, path, files);
    for (int i = 0; i < FILES; i++) free(files[i].bytes);
    if (status == CLD_OK) return d;
    cld_devkit_free(d);
    return NULL;
}

void cld_devkit_free(cld_devkit *d) {
    if (!d) return;
    free(d->wnids);
    free(d->numbers);
    free(d);
}
