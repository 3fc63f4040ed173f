/* The content of a batch file's dictionary: arrays, integers and strings by key. */
#include "runtime/data/cifar_pickle.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef cld_pickle_value value;

cld_pickle *cld__cifar_pickle_open(cld_reader *reader) {
    if (reader->bytes >= UINT32_MAX)
        return cld_fail_null(CLD_IO, "%s: too large for a CIFAR batch file: %llu bytes", reader->path,
                             (unsigned long long)reader->bytes);
    /* A batch file is nearly all pixels: there are at most some fifteen values per image of 3072 bytes. */
    cld_pickle_source source = {.path = reader->path,
                                .kind = "a CIFAR batch file",
                                .reader = reader,
                                .end = reader->bytes,
                                .most = (1u << 18) + (uint32_t)reader->bytes / 128};
    cld_pickle *p = cld_pickle_open(&source);
    if (!p) return NULL;
    const value *root = cld_pickle_at(p, cld_pickle_root(p));
    if (root->kind == CLD_PICKLE_DICT) return p;
    char name[160];
    if (root->kind == CLD_PICKLE_OBJECT || root->kind == CLD_PICKLE_NAME) {
        cld_pickle_full_name(p, root, name, sizeof name);
        (void)cld_fail(
            CLD_IO,
            "%s: not a CIFAR batch file: it uses '%s', which no dictionary of arrays needs (nothing was run)",
            reader->path, name);
    } else {
        (void)cld_fail(CLD_IO, "%s: not a CIFAR batch file: its value is not a dictionary", reader->path);
    }
    cld_pickle_free(p);
    return NULL;
}

/* NULL if absent; the last entry if there are several. */
static const value *find(cld_pickle *p, const char *key) {
    const value *found = NULL;
    uint32_t name, held;
    cld_pickle_cursor c = cld_pickle_items(cld_pickle_at(p, cld_pickle_root(p)));
    while (cld_pickle_next(p, &c, &name) && cld_pickle_next(p, &c, &held))
        if (cld_pickle_equals(p, cld_pickle_at(p, name), key)) found = cld_pickle_at(p, held);
    return found;
}

/* Describes the value for messages: "it is a list of 3". */
static const char *describe(cld_pickle *p, const value *v, char text[192]) {
    static const char *const names[] = {
        [CLD_PICKLE_NONE] = "None",          [CLD_PICKLE_BOOL] = "a bool",
        [CLD_PICKLE_INTEGER] = "an integer", [CLD_PICKLE_NUMBER] = "a number",
        [CLD_PICKLE_BYTES] = "a string",     [CLD_PICKLE_TEXT] = "a string",
        [CLD_PICKLE_LIST] = "a list",        [CLD_PICKLE_TUPLE] = "a tuple",
        [CLD_PICKLE_SET] = "a set",          [CLD_PICKLE_DICT] = "a dictionary",
        [CLD_PICKLE_DTYPE] = "a dtype",      [CLD_PICKLE_PERSISTENT] = "kept elsewhere"};
    char name[160];
    if (!v) return "the file has none";
    if (v->kind == CLD_PICKLE_OBJECT || v->kind == CLD_PICKLE_NAME) {
        cld_pickle_full_name(p, v, name, sizeof name);
        snprintf(text, 192, "it uses '%.100s', which no array needs (nothing was run)", name);
    } else if (v->kind == CLD_PICKLE_LIST || v->kind == CLD_PICKLE_TUPLE) {
        snprintf(text, 192, "it is %s of %u", names[v->kind], v->items.count);
    } else if (v->kind != CLD_PICKLE_ARRAY) {
        snprintf(text, 192, "it is %s", names[v->kind]);
    } else {
        const value *shape = cld_pickle_at(p, v->array.shape), *dtype = cld_pickle_at(p, v->array.dtype);
        const value *type = dtype->kind == CLD_PICKLE_DTYPE ? cld_pickle_at(p, dtype->dtype.name) : NULL;
        name[0] = '\0';
        if (type && cld_pickle_is_string(type)) cld_pickle_text(p, type, name, sizeof name);
        int used = snprintf(text, 192, "it is an array of %.20s (", name);
        for (uint32_t i = 0; shape->kind == CLD_PICKLE_TUPLE && i < shape->items.count && i < 5; i++) {
            const value *extent = cld_pickle_at(p, cld_pickle_item(p, shape, i));
            if (extent->kind == CLD_PICKLE_INTEGER)
                used += snprintf(text + used, 192 - (size_t)used, "%s%lld", i ? ", " : "",
                                 (long long)extent->integer);
        }
        snprintf(text + used, 192 - (size_t)used, ")");
    }
    return text;
}

/* ---- arrays -------------------------------------------------------------------------------------------- */

cld_status cld__cifar_u8_array(cld_pickle *p, const char *key, const char *wanted, cld_pickle_array *out) {
    const value *v = find(p, key);
    char text[192];
    if (cld_pickle_open_array(p, v, out) && out->dtype->dtype.code == 'u' && out->dtype->dtype.bytes == 1)
        return CLD_OK;
    return cld_fail(CLD_IO, "%s: not a CIFAR batch file: '%s' should be %s; %s", cld_pickle_path(p), key,
                    wanted, describe(p, v, text));
}

/* v itself if it is a list or tuple, or the list in which an array of Python objects keeps them; NULL for anything
 * else. */
static const value *as_list(const cld_pickle *p, const value *v) {
    if (v && v->kind == CLD_PICKLE_ARRAY) v = cld_pickle_at(p, v->array.data);
    return v && (v->kind == CLD_PICKLE_LIST || v->kind == CLD_PICKLE_TUPLE) ? v : NULL;
}

static cld_status read_integers(cld_pickle *p, const cld_pickle_array *array, int64_t *out, size_t count,
                                bool *whole) {
    cld_pickle_stream *s = cld_pickle_stream_open(p, array->data);
    if (!s) return cld_error_code();
    cld_status status = CLD_OK;
    uint8_t chunk[4096];
    size_t size = array->dtype->dtype.bytes, many = sizeof chunk / size;
    *whole = true;
    while (count > 0 && status == CLD_OK) {
        size_t n = count < many ? count : many;
        status = cld_pickle_stream_next(s, chunk, n * size);
        for (size_t i = 0; status == CLD_OK && i < n; i++) {
            value number = cld_pickle_element(array->dtype, chunk + i * size);
            *whole = *whole && number.kind == CLD_PICKLE_INTEGER;
            *out++ = number.integer;
        }
        count -= n;
    }
    cld_pickle_stream_free(s);
    return status;
}

/* Whether it is an array of `count` integers: (N), (N, 1) and (1, N) are treated as the same N numbers. */
static bool open_integers(const cld_pickle *p, const value *v, size_t count, cld_pickle_array *array) {
    if (!cld_pickle_open_array(p, v, array)) return false;
    if (array->dtype->dtype.code != 'i' && array->dtype->dtype.code != 'u') return false;
    size_t elements = 1, longest = array->ndim ? 0 : 1;
    for (int i = 0; i < array->ndim; i++) {
        elements *= array->shape[i];
        if (array->shape[i] > longest) longest = array->shape[i];
    }
    return elements == count && (longest == count || count == 0);
}

cld_status cld__cifar_integers(cld_pickle *p, const char *key, int64_t *out, size_t count) {
    const value *v = find(p, key), *list = as_list(p, v);
    cld_pickle_array array;
    bool whole = false;
    char text[192];
    if (open_integers(p, v, count, &array)) {
        CLD_TRY(read_integers(p, &array, out, count, &whole));
    } else if (list && list->items.count == count) {
        cld_pickle_cursor c = cld_pickle_items(list);
        uint32_t item;
        whole = true;
        for (size_t i = 0; whole && cld_pickle_next(p, &c, &item); i++) {
            const value *element = cld_pickle_at(p, item);
            whole = element->kind == CLD_PICKLE_INTEGER;
            out[i] = element->integer;
            if (open_integers(p, element, 1, &array)) CLD_TRY(read_integers(p, &array, &out[i], 1, &whole));
            if (!whole)
                return cld_fail(
                    CLD_IO,
                    "%s: not a CIFAR batch file: '%s' should be a list of %zu integers; entry %zu: %s",
                    cld_pickle_path(p), key, count, i, describe(p, element, text));
        }
    }
    if (whole) return CLD_OK;
    return cld_fail(CLD_IO, "%s: not a CIFAR batch file: '%s' should be a list of %zu integers; %s",
                    cld_pickle_path(p), key, count, describe(p, v, text));
}

/* ---- strings ------------------------------------------------------------------------------------------- */

static bool is_text(const value *dtype) { return dtype->dtype.code == 'S' || dtype->dtype.code == 'U'; }

/* The next element of an array of text, cut to fit. */
static cld_status next_text(cld_pickle_stream *s, const value *dtype, char text[256]) {
    size_t unit = dtype->dtype.code == 'U' ? 4 : 1, used = 0;
    bool ended = false;
    for (size_t bytes = dtype->dtype.bytes; bytes >= unit; bytes -= unit) {
        uint32_t code = 0;
        uint8_t raw[4], piece[4];
        CLD_TRY(cld_pickle_stream_next(s, raw, unit));
        for (size_t b = 0; b < unit; b++)
            code |= (uint32_t)raw[dtype->dtype.big_endian ? unit - 1 - b : b] << 8 * b;
        ended = ended || used + 4 >= 256 || code == 0 || code > 0x10FFFF;
        if (ended) continue;
        size_t made = unit == 1 ? (piece[0] = raw[0], 1) : cld_pickle_utf8(code, piece);
        memcpy(text + used, piece, made);
        used += made;
    }
    text[used] = '\0';
    return CLD_OK;
}

static cld_status keep(const cld_pickle *p, const char *text, char **out) {
    *out = strdup(text);
    return *out ? CLD_OK : cld_fail(CLD_NOMEM, "%s: out of memory", cld_pickle_path(p));
}

static cld_status array_strings(cld_pickle *p, const cld_pickle_array *array, size_t count, char **out) {
    char text[256];
    cld_pickle_stream *s = cld_pickle_stream_open(p, array->data);
    if (!s) return cld_error_code();
    cld_status status = CLD_OK;
    for (size_t i = 0; i < count && status == CLD_OK; i++) {
        status = next_text(s, array->dtype, text);
        if (status == CLD_OK) status = keep(p, text, &out[i]);
    }
    cld_pickle_stream_free(s);
    return status;
}

cld_status cld__cifar_strings(cld_pickle *p, const char *key, char **out, size_t most) {
    const value *v = find(p, key), *list = as_list(p, v);
    cld_pickle_array array;
    if (cld_pickle_open_array(p, v, &array) && array.ndim == 1 && is_text(array.dtype))
        return array_strings(p, &array, array.shape[0] < most ? array.shape[0] : most, out);
    if (!list) return cld_fail(CLD_IO, "%s: not a CIFAR file: it has no list '%s'", cld_pickle_path(p), key);
    cld_pickle_cursor c = cld_pickle_items(list);
    uint32_t item;
    for (size_t i = 0; i < most && cld_pickle_next(p, &c, &item); i++) {
        const value *element = cld_pickle_at(p, item);
        char text[256];
        if (cld_pickle_is_string(element)) {
            cld_pickle_text(p, element, text, sizeof text);
            CLD_TRY(keep(p, text, &out[i]));
        } else if (cld_pickle_open_array(p, element, &array) && array.ndim == 0 && is_text(array.dtype)) {
            CLD_TRY(array_strings(p, &array, 1, &out[i]));
        } else {
            return cld_fail(CLD_IO, "%s: not a CIFAR file: '%s' holds something other than text",
                            cld_pickle_path(p), key);
        }
    }
    return CLD_OK;
}
