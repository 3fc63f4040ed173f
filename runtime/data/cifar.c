/* Reads the files, one after the other, into one tensor, and the names of the classes. */
#define _GNU_SOURCE
#include "runtime/data/cifar.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/data/cifar_files.h"
#include "runtime/data/cifar_pickle.h"
#include "runtime/io/file.h"

#define SIDE   32
#define PIXELS (SIDE * SIDE * 3)

/* ---- one file ------------------------------------------------------------------------------------------ */

/* An open file whose images have been counted. */
typedef struct source {
    cld_reader reader;
    cld_pickle *pickle; /* python */
    cld_pickle_array data;
    size_t count;
} source;

static void close_source(source *s) {
    cld_pickle_free(s->pickle);
    cld_reader_close(&s->reader);
}

static cld_status count_binary(source *s, const cld_cifar_format *f) {
    size_t row = (size_t)f->label_bytes + PIXELS;
    uint64_t size = s->reader.bytes;
    if (size == 0) return cld_fail(CLD_IO, "%s: the file is empty", s->reader.path);
    if (size % row != 0)
        return cld_fail(CLD_IO, "%s: truncated, or not %s: %llu bytes are not a multiple of the %zu of a row",
                        s->reader.path, f->title, (unsigned long long)size, row);
    if (size >= UINT32_MAX) /* as a bound for a pickle: some hundred times its actual size */
        return cld_fail(CLD_IO, "%s: too large for a CIFAR batch file: %llu bytes", s->reader.path,
                        (unsigned long long)size);
    s->count = (size_t)(size / row);
    return CLD_OK;
}

static cld_status count_python(source *s, const cld_cifar_format *f) {
    s->pickle = cld__cifar_pickle_open(&s->reader);
    if (!s->pickle) return cld_error_code();
    const cld_pickle_array *a = &s->data;
    const char *wanted = "a 2-d array of u1, a row of 3072 for each image, or one of (N, 3, 32, 32)";
    CLD_TRY(cld__cifar_u8_array(s->pickle, "data", wanted, &s->data));
    s->count = a->shape[0];
    if (a->ndim == 4 && a->shape[1] == 3 && a->shape[2] == SIDE && a->shape[3] == SIDE) return CLD_OK;
    if (a->ndim == 2 && a->shape[1] == PIXELS) return CLD_OK;
    if (a->ndim == 2)
        return cld_fail(CLD_IO, "%s: 'data' has %zu columns; an image of %s has %d", s->reader.path,
                        a->shape[1], f->title, PIXELS);
    return cld_fail(CLD_IO, "%s: not a CIFAR batch file: 'data' should be %s; it has %d dimensions",
                    s->reader.path, wanted, a->ndim);
}

/* Opens it and counts its images, before anything of their size is read or allocated. */
static cld_status open_source(source *s, const cld_cifar_place *p, const char *name) {
    char path[4096];
    cld__cifar_path(path, p, name);
    CLD_TRY(cld__cifar_open(&s->reader, path, p->format));
    return p->layout == CLD_LAYOUT_PYTHON ? count_python(s, p->format) : count_binary(s, p->format);
}

/* Converts three planes to one image (32, 32, 3). */
static void interleave(uint8_t *out, const uint8_t *planes) {
    for (int i = 0; i < SIDE * SIDE; i++)
        for (int c = 0; c < 3; c++) out[3 * i + c] = planes[c * SIDE * SIDE + i];
}

static cld_status read_binary(source *s, const cld_cifar_format *f, uint8_t *images, int64_t *labels) {
    size_t row = (size_t)f->label_bytes + PIXELS;
    uint8_t rows[32 * (2 + PIXELS)];
    for (size_t i = 0; i < s->count;) {
        size_t n = s->count - i < 32 ? s->count - i : 32;
        CLD_TRY(cld_reader_get(&s->reader, rows, i * row, n * row));
        for (size_t j = 0; j < n; j++, i++) {
            labels[i] = rows[j * row + (size_t)f->label_at];
            interleave(images + i * PIXELS, rows + j * row + (size_t)f->label_bytes);
        }
    }
    return CLD_OK;
}

/* An axis of the file's array, or a part of one: its extent, and its stride in the images (N, 32, 32, 3). */
typedef struct axis {
    size_t count, stride;
} axis;

/* The axes in the order of the file's memory, the last one fastest; returns their number. */
static int list_axes(const cld_pickle_array *a, axis out[CLD_PICKLE_DIMS + 1]) {
    int n = 0;
    for (int i = 0; i < a->ndim; i++) {
        switch (a->axes[i]) {
        case 0: out[n++] = (axis){a->shape[0], PIXELS}; break;
        case 1:
            out[n++] = (axis){3, 1};
            if (a->ndim == 2) out[n++] = (axis){SIDE * SIDE, 3};
            break;
        case 2: out[n++] = (axis){SIDE, 3 * SIDE}; break;
        case 3: out[n++] = (axis){SIDE, 3}; break;
        }
    }
    return n;
}

/* Reads the array's bytes in order and writes each to its place. */
static cld_status scatter(cld_pickle_stream *s, const axis *axes, int count, uint8_t *out) {
    uint8_t bytes[4096];
    if (count > 1) {
        for (size_t i = 0; i < axes[0].count; i++)
            CLD_TRY(scatter(s, axes + 1, count - 1, out + i * axes[0].stride));
        return CLD_OK;
    }
    for (size_t i = 0; i < axes[0].count;) {
        size_t n = axes[0].count - i < sizeof bytes ? axes[0].count - i : sizeof bytes;
        CLD_TRY(cld_pickle_stream_next(s, bytes, n));
        for (size_t j = 0; j < n; j++, i++) out[i * axes[0].stride] = bytes[j];
    }
    return CLD_OK;
}

static cld_status read_python(source *s, const cld_cifar_format *f, uint8_t *images, int64_t *labels) {
    CLD_TRY(cld__cifar_integers(s->pickle, f->labels_key, labels, s->count));
    axis axes[CLD_PICKLE_DIMS + 1];
    int count = list_axes(&s->data, axes);
    cld_pickle_stream *stream = cld_pickle_stream_open(s->pickle, s->data.data);
    if (!stream) return cld_error_code();
    cld_status status = s->count ? scatter(stream, axes, count, images) : CLD_OK;
    cld_pickle_stream_free(stream);
    return status;
}

static cld_status read_source(source *s, const cld_cifar_place *p, uint8_t *images, int64_t *labels) {
    const cld_cifar_format *f = p->format;
    CLD_TRY(p->layout == CLD_LAYOUT_PYTHON ? read_python(s, f, images, labels)
                                           : read_binary(s, f, images, labels));
    for (size_t i = 0; i < s->count; i++)
        if (labels[i] < 0 || labels[i] >= f->classes)
            return cld_fail(CLD_IO, "%s: row %zu has label %lld; the labels of %s are 0 to %d",
                            s->reader.path, i, (long long)labels[i], f->title, f->classes - 1);
    return CLD_OK;
}

/* ---- the names of the classes -------------------------------------------------------------------------- */

/* Far more than a hundred names need. */
#define MOST_NAMES_BYTES 1048576u

static bool is_space(char c) { return c == ' ' || c == '\t' || c == '\r' || c == '\n'; }

/* A new string without white space at either end. */
static char *trimmed(const char *text, size_t length) {
    while (length > 0 && is_space(text[length - 1])) length--;
    while (length > 0 && is_space(*text)) text++, length--;
    return strndup(text, length);
}

static cld_status python_names(char **names, cld_reader *r, const cld_cifar_format *f) {
    cld_pickle *pickle = cld__cifar_pickle_open(r);
    if (!pickle) return cld_error_code();
    cld_status status = cld__cifar_strings(pickle, f->meta_key, names, (size_t)f->classes);
    cld_pickle_free(pickle);
    for (int i = 0; i < f->classes && names[i] && status == CLD_OK; i++) {
        char *text = names[i];
        names[i] = trimmed(text, strlen(text));
        free(text);
        if (!names[i]) status = cld_fail(CLD_NOMEM, "%s: out of memory", r->path);
    }
    return status;
}

/* One name per line that is not blank, with any line ending. */
static cld_status split_names(char **names, const char *text, size_t size, const cld_cifar_format *f,
                              const char *path) {
    const char *end = text + size;
    if (size >= 3 && memcmp(text, "\xef\xbb\xbf", 3) == 0) text += 3; /* a byte-order mark */
    if (memchr(text, '\0', (size_t)(end - text)))
        return cld_fail(CLD_IO, "%s: it holds zero bytes; the names of the classes should be in UTF-8", path);
    for (int i = 0; i < f->classes && text < end;) {
        size_t length = 0;
        while (text + length < end && text[length] != '\n' && text[length] != '\r') length++;
        names[i] = trimmed(text, length);
        if (!names[i]) return cld_fail(CLD_NOMEM, "%s: out of memory", path);
        text += length + (text + length < end);
        if (*names[i]) {
            i++;
        } else {
            free(names[i]);
            names[i] = NULL;
        }
    }
    return CLD_OK;
}

static cld_status text_names(char **names, cld_reader *r, const cld_cifar_format *f) {
    if (r->bytes > MOST_NAMES_BYTES)
        return cld_fail(CLD_IO, "%s: too large for a list of names: %llu bytes", r->path,
                        (unsigned long long)r->bytes);
    char *text = malloc((size_t)r->bytes + 1);
    if (!text) return cld_fail(CLD_NOMEM, "%s: out of memory", r->path);
    cld_status status = cld_reader_get(r, text, 0, (size_t)r->bytes);
    if (status == CLD_OK) status = split_names(names, text, (size_t)r->bytes, f, r->path);
    free(text);
    return status;
}

static cld_status read_names(char **names, const cld_cifar_place *p) {
    char path[4096];
    bool python = p->layout == CLD_LAYOUT_PYTHON;
    cld_reader r;
    snprintf(path, sizeof path, "%s/%s", p->folder, python ? p->format->meta : p->format->meta_text);
    if (!cld__cifar_exists(path)) return CLD_OK;
    CLD_TRY(cld__cifar_open(&r, path, p->format));
    cld_status status = python ? python_names(names, &r, p->format) : text_names(names, &r, p->format);
    cld_reader_close(&r);
    return status;
}

/* ---- all files ----------------------------------------------------------------------------------------- */

#define MOST_FILES 5

static cld_status read_all(cld_cifar *out, source *sources, const cld_cifar_place *p,
                           const char *const *names) {
    int64_t count = 0;
    for (int i = 0; names[i]; i++) {
        CLD_TRY(open_source(&sources[i], p, names[i]));
        count += (int64_t)sources[i].count;
    }
    if (count == 0)
        return cld_fail(CLD_IO, "%s: the files in '%s' hold no images", p->format->title, p->folder);
    int64_t shape[] = {count, SIDE, SIDE, 3};
    out->images = cld_tensor_new(CLD_U8, 4, shape, cld_cpu_backend());
    out->labels = cld_tensor_new(CLD_I64, 1, shape, cld_cpu_backend());
    if (!out->images || !out->labels) return cld_fail_in("%s", p->format->title);
    uint8_t *images = out->images->a.data;
    int64_t *labels = out->labels->a.data;
    for (int i = 0; names[i]; i++) {
        CLD_TRY(read_source(&sources[i], p, images, labels));
        images += sources[i].count * PIXELS;
        labels += sources[i].count;
    }
    return read_names(out->names, p);
}

cld_status cld_cifar_read(cld_cifar *out, const char *root, cld_cifar_kind kind, cld_cifar_layout layout,
                          bool test) {
    *out = (cld_cifar){0};
    cld_cifar_place p;
    CLD_TRY(cld__cifar_find(&p, root, kind, layout));
    out->classes = p.format->classes;
    source sources[MOST_FILES];
    for (int i = 0; i < MOST_FILES; i++) sources[i] = (source){.reader.fd = -1};
    cld_status status = read_all(out, sources, &p, test ? p.format->test : p.format->train);
    for (int i = 0; i < MOST_FILES; i++) close_source(&sources[i]);
    if (status != CLD_OK) cld_cifar_free(out);
    return status;
}

void cld_cifar_free(cld_cifar *c) {
    cld_tensor_free(c->images);
    cld_tensor_free(c->labels);
    for (int i = 0; i < CLD_CIFAR_MAX_CLASSES; i++) free(c->names[i]);
    *c = (cld_cifar){0};
}
