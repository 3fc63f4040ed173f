/* Finding the files, reading one after the other into one tensor, and the names of the classes. */
#define _GNU_SOURCE
#include "runtime/data/cifar.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/data/pickle.h"
#include "runtime/io/file.h"

#define SIDE   32
#define PIXELS (SIDE * SIDE * 3)

/* ---- what is where ------------------------------------------------------------------------------------- */

typedef struct format {
    const char *title;      /* for messages, and the name of a parent folder */
    const char *folder[3];  /* by layout */
    const char *archive[3]; /* where it comes from */
    const char *train[6], *test[2];
    const char *meta; /* python: the pickle with the names of the classes */
    const char *meta_key;
    const char *meta_text;  /* binary: the same, one per line */
    const char *labels_key; /* python */
    int classes;
    int label_bytes, label_at; /* binary: bytes before the pixels; which of them is the label */
} format;

#define HOME "https://www.cs.toronto.edu/~kriz/"
#define CIFAR100(key, count, at)                                                                             \
    {                                                                                                        \
        .title = "CIFAR-100", .folder = {"", "cifar-100-python", "cifar-100-binary"},                        \
        .archive = {"", HOME "cifar-100-python.tar.gz", HOME "cifar-100-binary.tar.gz"}, .train = {"train"}, \
        .test = {"test"}, .meta = "meta", .meta_key = key "_label_names",                                    \
        .meta_text = key "_label_names.txt", .labels_key = key "_labels", .classes = count,                  \
        .label_bytes = 2, .label_at = at,                                                                    \
    }

static const format formats[] = {
    [CLD_CIFAR10] =
        {
            .title = "CIFAR-10",
            .folder = {"", "cifar-10-batches-py", "cifar-10-batches-bin"},
            .archive = {"", HOME "cifar-10-python.tar.gz", HOME "cifar-10-binary.tar.gz"},
            .train = {"data_batch_1", "data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5"},
            .test = {"test_batch"},
            .meta = "batches.meta",
            .meta_key = "label_names",
            .meta_text = "batches.meta.txt",
            .labels_key = "labels",
            .classes = 10,
            .label_bytes = 1,
        },
    [CLD_CIFAR100_FINE] = CIFAR100("fine", 100, 1),
    [CLD_CIFAR100_COARSE] = CIFAR100("coarse", 20, 0),
};

typedef struct place {
    const format *format;
    cld_cifar_layout layout;
    char folder[3072];
} place;

/* "<folder>/<name>", with .bin in the binary layout. */
static void file_path(char path[4096], const place *p, const char *name) {
    snprintf(path, 4096, "%s/%s%s", p->folder, name, p->layout == CLD_LAYOUT_BINARY ? ".bin" : "");
}

/* Whether p->folder holds any file of the data set: then it is the place, and what is missing is an error. */
static bool holds_any(const place *p) {
    char path[4096];
    const char *const *lists[] = {p->format->train, p->format->test};
    for (int l = 0; l < 2; l++)
        for (const char *const *name = lists[l]; *name; name++) {
            file_path(path, p, *name);
            if (cld_path(path) == CLD_PATH_FILE) return true;
        }
    return false;
}

static cld_status find_place(place *p, const char *root, const format *format, cld_cifar_layout layout) {
    if (strlen(root) > 2048)
        return cld_fail(CLD_IO, "%s: the path '%.60s...' is too long", format->title, root);
    if (cld_path(root) != CLD_PATH_FOLDER)
        return cld_fail(CLD_IO, "%s: there is no folder '%s'; it should hold %s from %s", format->title, root,
                        format->folder[CLD_LAYOUT_PYTHON], format->archive[CLD_LAYOUT_PYTHON]);
    p->format = format;
    for (int l = CLD_LAYOUT_PYTHON; l <= CLD_LAYOUT_BINARY; l++) {
        if (layout != CLD_LAYOUT_AUTO && (int)layout != l) continue;
        p->layout = (cld_cifar_layout)l;
        snprintf(p->folder, sizeof p->folder, "%s/%s", root, format->folder[l]);
        if (holds_any(p)) return CLD_OK;
        snprintf(p->folder, sizeof p->folder, "%s/%s/%s", root, format->title, format->folder[l]);
        if (holds_any(p)) return CLD_OK;
        snprintf(p->folder, sizeof p->folder, "%s/%s", root, format->title);
        if (holds_any(p)) return CLD_OK;
        snprintf(p->folder, sizeof p->folder, "%s", root);
        if (holds_any(p)) return CLD_OK;
    }
    int shown = layout == CLD_LAYOUT_BINARY ? CLD_LAYOUT_BINARY : CLD_LAYOUT_PYTHON;
    return cld_fail(CLD_IO, "%s: no %sfiles in '%s', '%s/%s' or '%s/%s/%s'; unpack %s there", format->title,
                    layout == CLD_LAYOUT_AUTO     ? ""
                    : layout == CLD_LAYOUT_PYTHON ? "python-layout "
                                                  : "binary-layout ",
                    root, root, format->folder[shown], root, format->title, format->folder[shown],
                    format->archive[shown]);
}

/* ---- one file ------------------------------------------------------------------------------------------ */

/* The whole file; free the result. */
static uint8_t *read_file(const char *path, size_t *size) {
    cld_reader r;
    CLD_TRY_NULL(cld_reader_open(&r, path));
    uint8_t *bytes = r.bytes < SIZE_MAX ? malloc(r.bytes + 1) : NULL;
    if (!bytes) {
        cld_fail(CLD_NOMEM, "%s: out of memory for its %llu bytes", path, (unsigned long long)r.bytes);
    } else if (cld_reader_get(&r, bytes, 0, (size_t)r.bytes) != CLD_OK) {
        free(bytes);
        bytes = NULL;
    }
    *size = (size_t)r.bytes;
    cld_reader_close(&r);
    return bytes;
}

/* The rows that have been read so far, and room for those that all files together could hold at most. */
typedef struct rows {
    uint8_t *images; /* (room, 32, 32, 3) */
    int64_t *labels; /* (room) */
    size_t count, room;
} rows;

static void add_image(rows *r, const uint8_t *planes) {
    uint8_t *out = r->images + r->count++ * PIXELS;
    for (int i = 0; i < SIDE * SIDE; i++)
        for (int c = 0; c < 3; c++) out[3 * i + c] = planes[c * SIDE * SIDE + i];
}

static cld_status check_labels(const rows *r, size_t from, const format *f, const char *path) {
    for (size_t i = from; i < r->count; i++)
        if (r->labels[i] < 0 || r->labels[i] >= f->classes)
            return cld_fail(CLD_IO, "%s: row %zu has label %lld; the labels of %s are 0 to %d", path,
                            i - from, (long long)r->labels[i], f->title, f->classes - 1);
    return CLD_OK;
}

static cld_status add_binary(rows *r, const uint8_t *bytes, size_t size, const format *f, const char *path) {
    size_t row = (size_t)f->label_bytes + PIXELS;
    if (size == 0) return cld_fail(CLD_IO, "%s: the file is empty", path);
    if (size % row != 0)
        return cld_fail(CLD_IO, "%s: truncated, or not %s: %zu bytes are not a multiple of the %zu of a row",
                        path, f->title, size, row);
    for (size_t i = 0; i < size / row; i++) {
        r->labels[r->count] = bytes[i * row + (size_t)f->label_at];
        add_image(r, bytes + i * row + (size_t)f->label_bytes);
    }
    return CLD_OK;
}

static cld_status add_python(rows *r, uint8_t *bytes, size_t size, const format *f, const char *path) {
    const uint8_t *data = NULL;
    size_t count = 0, columns = 0;
    cld_pickle *p = cld_pickle_read(bytes, size, path);
    if (!p) return cld_error_code();
    cld_status status = cld_pickle_matrix(p, "data", &data, &count, &columns);
    if (status == CLD_OK && columns != PIXELS)
        status = cld_fail(CLD_IO, "%s: 'data' has %zu columns; an image of %s has %d", path, columns,
                          f->title, PIXELS);
    /* `data` could be shared by two keys of a crafted file, but not exceed the file: it has room. */
    if (status == CLD_OK && count > r->room - r->count)
        status = cld_fail(CLD_IO, "%s: it holds more rows than its size allows", path);
    if (status == CLD_OK) status = cld_pickle_integers(p, f->labels_key, r->labels + r->count, count);
    for (size_t i = 0; status == CLD_OK && i < count; i++) add_image(r, data + i * PIXELS);
    cld_pickle_free(p);
    return status;
}

/* ---- all files ----------------------------------------------------------------------------------------- */

static cld_status read_names(char **names, const place *p) {
    const format *f = p->format;
    char path[4096];
    size_t size = 0;
    bool python = p->layout == CLD_LAYOUT_PYTHON;
    snprintf(path, sizeof path, "%s/%s", p->folder, python ? f->meta : f->meta_text);
    if (cld_path(path) == CLD_PATH_NONE) return CLD_OK;
    uint8_t *bytes = read_file(path, &size);
    if (!bytes) return cld_error_code();
    cld_pickle *pickle = python ? cld_pickle_read(bytes, size, path) : NULL;
    cld_status status = python && !pickle ? cld_error_code() : CLD_OK;
    const char *line = (const char *)bytes, *end = line + size;
    for (int i = 0; i < f->classes && status == CLD_OK; i++) {
        const char *text = NULL;
        size_t length = 0;
        if (python) {
            status = cld_pickle_string(pickle, f->meta_key, (size_t)i, &text, &length);
        } else if (line < end) {
            const char *newline = memchr(line, '\n', (size_t)(end - line));
            text = line;
            length = (size_t)((newline ? newline : end) - line);
            line = newline ? newline + 1 : end;
        }
        if (!text || !length) break;
        names[i] = strndup(text, length);
        if (!names[i]) status = cld_fail(CLD_NOMEM, "%s: out of memory", path);
    }
    cld_pickle_free(pickle);
    free(bytes);
    return status;
}

/* At most this many images can be in the files: from their sizes. */
static cld_status count_room(size_t *room, const place *p, const char *const *names) {
    *room = 0;
    for (; *names; names++) {
        char path[4096];
        cld_reader r;
        file_path(path, p, *names);
        if (cld_reader_open(&r, path) != CLD_OK) return cld_fail_in("%s", p->format->title);
        *room += (size_t)(r.bytes / PIXELS);
        cld_reader_close(&r);
    }
    return CLD_OK;
}

/* The first `count` rows of x, which was allocated for more. */
static cld_tensor *first_rows(const cld_tensor *x, size_t count) {
    int64_t shape[CLD_MAX_DIMS];
    memcpy(shape, x->a.shape, sizeof shape);
    shape[0] = (int64_t)count;
    return cld_tensor_view(x, x->a.ndim, shape, x->a.strides, x->a.data);
}

cld_status cld_cifar_read(cld_cifar *out, const char *root, cld_cifar_kind kind, cld_cifar_layout layout,
                          bool test) {
    *out = (cld_cifar){.classes = formats[kind].classes};
    place p;
    rows r = {0};
    CLD_TRY(find_place(&p, root, &formats[kind], layout));
    const char *const *files = test ? p.format->test : p.format->train;
    CLD_TRY(count_room(&r.room, &p, files));
    int64_t shape[] = {(int64_t)r.room, SIDE, SIDE, 3};
    CLD_AUTO cld_tensor *images = cld_tensor_new(CLD_U8, 4, shape, cld_cpu_backend());
    CLD_AUTO cld_tensor *labels = cld_tensor_new(CLD_I64, 1, shape, cld_cpu_backend());
    if (!images || !labels) return cld_fail_in("%s", p.format->title);
    r.images = images->a.data;
    r.labels = labels->a.data;
    for (; *files; files++) {
        char path[4096];
        size_t size = 0, before = r.count;
        file_path(path, &p, *files);
        uint8_t *bytes = read_file(path, &size);
        if (!bytes) return cld_fail_in("%s", p.format->title);
        cld_status status = p.layout == CLD_LAYOUT_PYTHON ? add_python(&r, bytes, size, p.format, path)
                                                          : add_binary(&r, bytes, size, p.format, path);
        free(bytes);
        CLD_TRY(status);
        CLD_TRY(check_labels(&r, before, p.format, path));
    }
    if (r.count == 0)
        return cld_fail(CLD_IO, "%s: the files in '%s' hold no images", p.format->title, p.folder);
    out->images = first_rows(images, r.count);
    out->labels = first_rows(labels, r.count);
    cld_status status = out->images && out->labels ? read_names(out->names, &p) : CLD_NOMEM;
    if (status != CLD_OK) cld_cifar_free(out);
    return status;
}

void cld_cifar_free(cld_cifar *c) {
    cld_tensor_free(c->images);
    cld_tensor_free(c->labels);
    for (int i = 0; i < CLD_CIFAR_MAX_CLASSES; i++) free(c->names[i]);
    *c = (cld_cifar){0};
}
