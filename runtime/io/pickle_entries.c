/* What a pickle's dictionary holds: arrays, integers and strings by their key. */
#include "runtime/io/pickle_machine.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* NULL if absent; the last entry of several. */
static const value *find(cld_pickle *p, const char *key) {
    const value *dict = value_at(p, p->root), *found = NULL;
    const cell *cells = p->cells.data;
    uint32_t c = dict->items.first;
    for (uint32_t i = 0; i < dict->items.count; i += 2) {
        uint32_t next = cells[c].next;
        if (cld__pickle_equals(p, value_at(p, cells[c].value), key)) found = value_at(p, cells[next].value);
        c = cells[next].next;
    }
    return found;
}

/* "it is a list of 3", for messages. */
static const char *describe(cld_pickle *p, const value *v, char text[192]) {
    static const char *const names[] = {
        [NONE] = "None",      [BOOL] = "a bool",       [INTEGER] = "an integer", [NUMBER] = "a number",
        [BYTES] = "a string", [TEXT] = "a string",     [LIST] = "a list",        [TUPLE] = "a tuple",
        [SET] = "a set",      [DICT] = "a dictionary", [GLOBAL] = "a name",      [DTYPE] = "a dtype"};
    char module[64], name[64];
    if (!v) return "the file has none";
    if (v->kind == OBJECT) {
        cld__pickle_text(p, value_at(p, v->object.module), module, sizeof module);
        cld__pickle_text(p, value_at(p, v->object.name), name, sizeof name);
        snprintf(text, 192, "it uses '%s.%s', which no array needs (nothing was run)", module, name);
    } else if (v->kind == LIST || v->kind == TUPLE) {
        snprintf(text, 192, "it is %s of %u", names[v->kind], v->items.count);
    } else if (v->kind != ARRAY) {
        snprintf(text, 192, "it is %s", names[v->kind]);
    } else {
        const value *shape = value_at(p, v->array.shape), *dtype = value_at(p, v->array.dtype);
        const value *type = dtype->kind == DTYPE ? value_at(p, dtype->dtype.name) : NULL;
        module[0] = '\0';
        if (type && is_string(type)) cld__pickle_text(p, type, module, sizeof module);
        int used = snprintf(text, 192, "it is an array of %.20s (", module);
        for (uint32_t i = 0; shape->kind == TUPLE && i < shape->items.count && i < 5; i++) {
            const value *extent = value_at(p, cld__pickle_item(p, shape, i));
            if (extent->kind == INTEGER)
                used += snprintf(text + used, 192 - (size_t)used, "%s%lld", i ? ", " : "",
                                 (long long)extent->integer);
        }
        snprintf(text + used, 192 - (size_t)used, ")");
    }
    return text;
}

/* ---- arrays -------------------------------------------------------------------------------------------- */

/* The array, if its parts fit each other and its elements are of a known kind. */
static bool open_array(const cld_pickle *p, const value *v, cld_pickle_array *out, const value **dtype) {
    if (!v || v->kind != ARRAY) return false;
    const value *shape = value_at(p, v->array.shape), *bytes = value_at(p, v->array.data);
    *dtype = value_at(p, v->array.dtype);
    if (shape->kind != TUPLE || shape->items.count > CLD_PICKLE_DIMS || (*dtype)->kind != DTYPE ||
        !(*dtype)->dtype.code || bytes->kind != BYTES)
        return false;
    *out = (cld_pickle_array){.ndim = (int)shape->items.count, .data = v->array.data};
    uint64_t total = (*dtype)->dtype.bytes;
    size_t memory[CLD_PICKLE_DIMS] = {0};
    for (int i = 0; i < out->ndim; i++) {
        const value *extent = value_at(p, cld__pickle_item(p, shape, (uint32_t)i));
        if (extent->kind != INTEGER || extent->integer < 0 || extent->integer > UINT32_MAX) return false;
        memory[i] = (size_t)extent->integer;
        if (__builtin_mul_overflow(total, memory[i], &total)) return false;
    }
    const value *axes = value_at(p, v->array.axes);
    if (v->array.order == 'K' && (axes->kind != TUPLE || (int)axes->items.count != out->ndim)) return false;
    unsigned seen = 0;
    for (int i = 0; i < out->ndim; i++) {
        int64_t at = v->array.order == 'C' ? i : out->ndim - 1 - i; /* axis i in memory */
        if (v->array.order == 'K') {
            const value *axis = value_at(p, cld__pickle_item(p, axes, (uint32_t)i));
            at = axis->kind == INTEGER && axis->integer >= 0 && axis->integer < out->ndim ? axis->integer : 0;
            out->shape[i] = memory[at];
        } else {
            out->shape[i] = memory[i];
        }
        out->axes[at] = i;
        seen |= 1u << at;
    }
    return seen == (1u << out->ndim) - 1 && total == bytes->string.size;
}

cld_status cld_pickle_u8_array(cld_pickle *p, const char *key, const char *wanted, cld_pickle_array *out) {
    const value *v = find(p, key), *dtype = NULL;
    char text[192];
    if (open_array(p, v, out, &dtype) && dtype->dtype.code == 'u' && dtype->dtype.bytes == 1) return CLD_OK;
    return cld_fail(CLD_IO, "%s: not a CIFAR batch file: '%s' should be %s; %s", p->reader->path, key, wanted,
                    describe(p, v, text));
}

/* The list or tuple that v is, or that an array of Python's objects keeps them in; NULL for anything else. */
static const value *as_list(const cld_pickle *p, const value *v) {
    if (v && v->kind == ARRAY) v = value_at(p, v->array.data);
    return v && (v->kind == LIST || v->kind == TUPLE) ? v : NULL;
}

static cld_status read_integers(cld_pickle *p, const cld_pickle_array *array, const value *dtype,
                                int64_t *out, size_t count, bool *whole) {
    cld_pickle_stream *s = cld_pickle_stream_open(p, array);
    if (!s) return cld_error_code();
    cld_status status = CLD_OK;
    uint8_t chunk[4096];
    size_t size = dtype->dtype.bytes, many = sizeof chunk / size;
    *whole = true;
    while (count > 0 && status == CLD_OK) {
        size_t n = count < many ? count : many;
        status = cld_pickle_stream_next(s, chunk, n * size);
        for (size_t i = 0; status == CLD_OK && i < n; i++) {
            value number = cld__pickle_number(dtype, chunk + i * size);
            *whole = *whole && number.kind == INTEGER;
            *out++ = number.integer;
        }
        count -= n;
    }
    cld_pickle_stream_free(s);
    return status;
}

/* Whether it is an array of `count` integers: (N), (N, 1) and (1, N) are the same N numbers. */
static bool open_integers(const cld_pickle *p, const value *v, size_t count, cld_pickle_array *array,
                          const value **dtype) {
    if (!open_array(p, v, array, dtype) || ((*dtype)->dtype.code != 'i' && (*dtype)->dtype.code != 'u'))
        return false;
    size_t elements = 1, longest = array->ndim ? 0 : 1;
    for (int i = 0; i < array->ndim; i++) {
        elements *= array->shape[i];
        if (array->shape[i] > longest) longest = array->shape[i];
    }
    return elements == count && (longest == count || count == 0);
}

cld_status cld_pickle_integers(cld_pickle *p, const char *key, int64_t *out, size_t count) {
    const value *v = find(p, key), *list = as_list(p, v), *dtype = NULL;
    cld_pickle_array array;
    bool whole = false;
    char text[192];
    if (open_integers(p, v, count, &array, &dtype)) {
        CLD_TRY(read_integers(p, &array, dtype, out, count, &whole));
    } else if (list && list->items.count == count) {
        const cell *cells = p->cells.data;
        uint32_t c = list->items.first;
        whole = true;
        for (size_t i = 0; i < count && whole; i++, c = cells[c].next) {
            const value *element = value_at(p, cells[c].value);
            whole = element->kind == INTEGER;
            out[i] = element->integer;
            if (open_integers(p, element, 1, &array, &dtype))
                CLD_TRY(read_integers(p, &array, dtype, &out[i], 1, &whole));
            if (!whole)
                return cld_fail(CLD_IO,
                                "%s: not a CIFAR batch file: '%s' should be a list of %zu integers; of entry "
                                "%zu, %s",
                                p->reader->path, key, count, i, describe(p, element, text));
        }
    }
    if (whole) return CLD_OK;
    return cld_fail(CLD_IO, "%s: not a CIFAR batch file: '%s' should be a list of %zu integers; %s",
                    p->reader->path, key, count, describe(p, v, text));
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
        size_t made = unit == 1 ? (piece[0] = raw[0], 1) : cld__pickle_utf8(code, piece);
        memcpy(text + used, piece, made);
        used += made;
    }
    text[used] = '\0';
    return CLD_OK;
}

static cld_status keep(const cld_pickle *p, const char *text, char **out) {
    *out = strdup(text);
    return *out ? CLD_OK : cld_fail(CLD_NOMEM, "%s: out of memory", p->reader->path);
}

static cld_status array_strings(cld_pickle *p, const cld_pickle_array *array, const value *dtype,
                                size_t count, char **out) {
    char text[256];
    cld_pickle_stream *s = cld_pickle_stream_open(p, array);
    if (!s) return cld_error_code();
    cld_status status = CLD_OK;
    for (size_t i = 0; i < count && status == CLD_OK; i++) {
        status = next_text(s, dtype, text);
        if (status == CLD_OK) status = keep(p, text, &out[i]);
    }
    cld_pickle_stream_free(s);
    return status;
}

cld_status cld_pickle_strings(cld_pickle *p, const char *key, char **out, size_t most) {
    const value *v = find(p, key), *list = as_list(p, v), *dtype = NULL;
    cld_pickle_array array;
    if (open_array(p, v, &array, &dtype) && array.ndim == 1 && is_text(dtype))
        return array_strings(p, &array, dtype, array.shape[0] < most ? array.shape[0] : most, out);
    if (!list) return cld_fail(CLD_IO, "%s: not a CIFAR file: it has no list '%s'", p->reader->path, key);
    const cell *cells = p->cells.data;
    uint32_t c = list->items.first;
    for (size_t i = 0; i < list->items.count && i < most; i++, c = cells[c].next) {
        const value *element = value_at(p, cells[c].value);
        char text[256];
        if (is_string(element)) {
            cld__pickle_text(p, element, text, sizeof text);
            CLD_TRY(keep(p, text, &out[i]));
        } else if (open_array(p, element, &array, &dtype) && array.ndim == 0 && is_text(dtype)) {
            CLD_TRY(array_strings(p, &array, dtype, 1, &out[i]));
        } else {
            return cld_fail(CLD_IO, "%s: not a CIFAR file: '%s' holds more than text", p->reader->path, key);
        }
    }
    return CLD_OK;
}
