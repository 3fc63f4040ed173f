/* Reading safetensors files. Nothing in the header is used before it has been checked; the JSON itself is
 * jansson's affair, which refuses bad UTF-8, duplicate names, numbers out of range and trailing text. */
#include "runtime/io/safetensors.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

/* The bound of the format's reference reader: 100 MB of names and shapes is not a checkpoint. */
#define MOST_HEADER 100000000u

const char *cld_safetensors_dtype(cld_dtype dtype) {
    static const char *const names[CLD_DTYPE_COUNT] = {
        [CLD_F32] = "F32", [CLD_F64] = "F64", [CLD_BF16] = "BF16", [CLD_F16] = "F16",
        [CLD_I64] = "I64", [CLD_I32] = "I32", [CLD_U8] = "U8",
    };
    return names[dtype];
}

static bool parse_dtype(const char *name, cld_dtype *out) {
    for (int d = 0; d < CLD_DTYPE_COUNT; d++)
        if (strcmp(name, cld_safetensors_dtype((cld_dtype)d)) == 0) return *out = (cld_dtype)d, true;
    *out = CLD_U8;
    return strcmp(name, "BOOL") == 0; /* one byte each, 0 or 1 */
}

/* ---- the header ---------------------------------------------------------------------------------------- */

#define DAMAGED(file, ...)                                                                                   \
    (cld_fail(CLD_IO, __VA_ARGS__), cld_fail_in("%s: damaged file", (file)->reader.path))

static cld_status foreign(const cld_safetensors *f, const char *why) {
    return cld_fail(CLD_IO, "%s: not a safetensors file (%s)", f->reader.path, why);
}

/* The header's JSON, or NULL; sets data_start. */
static json_t *read_header(cld_safetensors *f) {
    unsigned char prefix[8];
    uint64_t length = 0, size = f->reader.bytes;
    if (size < sizeof prefix) return foreign(f, "shorter than its length prefix"), NULL;
    CLD_TRY_NULL(cld_reader_get(&f->reader, prefix, 0, sizeof prefix));
    for (int i = 7; i >= 0; i--) length = length << 8 | prefix[i];
    if (length < 2 || length > MOST_HEADER) return foreign(f, "its first 8 bytes are no header length"), NULL;
    if (size < 9) return DAMAGED(f, "it ends after the length prefix"), NULL;
    unsigned char first;
    CLD_TRY_NULL(cld_reader_get(&f->reader, &first, 8, 1));
    if (first != '{') return foreign(f, "no JSON object follows its first 8 bytes"), NULL;
    if (length > size - 8)
        return DAMAGED(f, "the header wants %llu bytes, the file has %llu after the length prefix",
                       (unsigned long long)length, (unsigned long long)(size - 8)),
               NULL;

    char *text = malloc(length);
    if (!text) return cld_fail_null(CLD_NOMEM, "%s: out of memory for the header", f->reader.path);
    json_t *header = NULL;
    if (cld_reader_get(&f->reader, text, 8, length) == CLD_OK) {
        json_error_t error;
        header = json_loadb(text, length, JSON_REJECT_DUPLICATES, &error);
        if (!header)
            DAMAGED(f, "the header is not JSON: %s at byte %d", error.text, 8 + error.position);
        else if (!json_is_object(header)) /* cannot be: it starts with a brace */
            DAMAGED(f, "the header is not a JSON object");
    }
    free(text);
    f->data_start = 8 + length;
    return header;
}

int cld__by_key(const void *a, const void *b) {
    return strcmp(((const cld_metadata *)a)->key, ((const cld_metadata *)b)->key);
}

static cld_status read_metadata(cld_safetensors *f, json_t *object) {
    const char *key;
    json_t *value;
    if (!json_is_object(object)) return DAMAGED(f, "__metadata__ is not an object");
    f->metadata = calloc(json_object_size(object) + 1, sizeof *f->metadata);
    if (!f->metadata) return cld_fail(CLD_NOMEM, "%s: out of memory for the metadata", f->reader.path);
    json_object_foreach(object, key, value) {
        if (!json_is_string(value)) return DAMAGED(f, "metadata '%s' is not a string", key);
        cld_metadata *m = &f->metadata[f->metadata_count++];
        m->key = strdup(key);
        m->value = strdup(json_string_value(value));
        if (!m->key || !m->value)
            return cld_fail(CLD_NOMEM, "%s: out of memory for the metadata", f->reader.path);
    }
    qsort(f->metadata, f->metadata_count, sizeof *f->metadata, cld__by_key);
    return CLD_OK;
}

/* Shape times dtype in bytes; false where that is no 63-bit number. */
static bool tensor_bytes(const cld_safetensors_entry *e, uint64_t *out) {
    uint64_t bytes = cld_dtype_size(e->dtype);
    for (int i = 0; i < e->ndim; i++)
        if (__builtin_mul_overflow(bytes, (uint64_t)e->shape[i], &bytes) || bytes > INT64_MAX) return false;
    *out = bytes;
    return true;
}

static cld_status read_entry(cld_safetensors *f, const char *name, json_t *object) {
    json_t *dtype = json_object_get(object, "dtype"), *shape = json_object_get(object, "shape"),
           *offsets = json_object_get(object, "data_offsets");
    if (!json_is_string(dtype) || !json_is_array(shape) || json_array_size(offsets) != 2 ||
        json_object_size(object) != 3)
        return DAMAGED(f, "tensor '%s' is not described by dtype, shape and data_offsets", name);

    cld_safetensors_entry *e = &f->entries[f->count];
    if (!parse_dtype(json_string_value(dtype), &e->dtype))
        return cld_fail(CLD_UNSUPPORTED,
                        "%s: tensor '%s' has the dtype %s; known are F32 F64 BF16 F16 I64 I32 U8 BOOL",
                        f->reader.path, name, json_string_value(dtype));
    if (json_array_size(shape) > CLD_MAX_DIMS)
        return cld_fail(CLD_UNSUPPORTED, "%s: tensor '%s' has %zu dimensions; at most %d are known",
                        f->reader.path, name, json_array_size(shape), CLD_MAX_DIMS);
    e->ndim = (int)json_array_size(shape);
    for (int i = 0; i < e->ndim; i++) {
        json_t *extent = json_array_get(shape, (size_t)i);
        if (!json_is_integer(extent) || json_integer_value(extent) < 0)
            return DAMAGED(f, "dimension %d of tensor '%s' is not a size", i + 1, name);
        e->shape[i] = json_integer_value(extent);
    }
    json_t *begin = json_array_get(offsets, 0), *end = json_array_get(offsets, 1);
    if (!json_is_integer(begin) || !json_is_integer(end) || json_integer_value(begin) < 0 ||
        json_integer_value(end) < json_integer_value(begin))
        return DAMAGED(f, "the offsets of tensor '%s' are not a range", name);
    e->begin = (uint64_t)json_integer_value(begin);
    e->end = (uint64_t)json_integer_value(end);
    uint64_t bytes;
    if (!tensor_bytes(e, &bytes) || bytes != e->end - e->begin)
        return DAMAGED(f, "tensor '%s': its %s elements do not fill its %llu bytes", name,
                       json_string_value(dtype), (unsigned long long)(e->end - e->begin));
    e->name = strdup(name);
    if (!e->name) return cld_fail(CLD_NOMEM, "%s: out of memory for the header", f->reader.path);
    f->count++;
    return CLD_OK;
}

static int by_place(const void *a, const void *b) {
    const cld_safetensors_entry *x = a, *y = b;
    if (x->begin != y->begin) return x->begin < y->begin ? -1 : 1;
    if (x->end != y->end) return x->end < y->end ? -1 : 1; /* empty tensors first */
    return strcmp(x->name, y->name);
}

/* Without gap or overlap, up to the end of the file. */
static cld_status check_places(cld_safetensors *f) {
    uint64_t at = 0, room = f->reader.bytes - f->data_start;
    qsort(f->entries, f->count, sizeof *f->entries, by_place);
    for (size_t i = 0; i < f->count; i++) {
        const cld_safetensors_entry *e = &f->entries[i];
        if (e->end > room)
            return DAMAGED(f, "tensor '%s' ends at data byte %llu, the file at %llu: it is cut off", e->name,
                           (unsigned long long)e->end, (unsigned long long)room);
        if (e->begin != at)
            return DAMAGED(f, "tensor '%s' starts at data byte %llu, expected %llu: %s", e->name,
                           (unsigned long long)e->begin, (unsigned long long)at,
                           e->begin < at ? "tensors overlap" : "there is a gap");
        at = e->end;
    }
    if (at != room) return DAMAGED(f, "%llu bytes follow the last tensor", (unsigned long long)(room - at));
    return CLD_OK;
}

static cld_status read_entries(cld_safetensors *f, json_t *header) {
    const char *name;
    json_t *value;
    f->entries = calloc(json_object_size(header) + 1, sizeof *f->entries);
    if (!f->entries) return cld_fail(CLD_NOMEM, "%s: out of memory for the header", f->reader.path);
    json_object_foreach(header, name, value) {
        bool metadata = strcmp(name, "__metadata__") == 0;
        CLD_TRY(metadata ? read_metadata(f, value) : read_entry(f, name, value));
    }
    return check_places(f);
}

/* ---- the file ------------------------------------------------------------------------------------------ */

cld_safetensors *cld_safetensors_open(const char *path) {
    cld_safetensors *f = calloc(1, sizeof *f);
    if (!f) return cld_fail_null(CLD_NOMEM, "out of memory for the file '%s'", path);
    cld_status status = cld_reader_open(&f->reader, path);
    if (status == CLD_OK) {
        json_t *header = read_header(f);
        status = json_is_object(header) ? read_entries(f, header) : cld_error_code();
        json_decref(header);
    }
    if (status == CLD_OK) return f;
    cld_safetensors_close(f);
    return NULL;
}

cld_tensor *cld_safetensors_read(cld_safetensors *f, size_t i) {
    const cld_safetensors_entry *e = &f->entries[i];
    CLD_AUTO cld_tensor *t = cld_tensor_new(e->dtype, e->ndim, e->shape, cld_cpu_backend());
    cld_status status = t ? cld_reader_get(&f->reader, t->a.data, f->data_start + e->begin, e->end - e->begin)
                          : cld_fail_in("%s", f->reader.path);
    if (status == CLD_OK) return cld_tensor_steal(&t);
    cld_fail_in("tensor '%s'", e->name);
    return NULL;
}

void cld_safetensors_close(cld_safetensors *f) {
    if (!f) return;
    for (size_t i = 0; i < f->count; i++) free(f->entries[i].name);
    for (size_t i = 0; i < f->metadata_count; i++) {
        free(f->metadata[i].key);
        free(f->metadata[i].value);
    }
    free(f->entries);
    free(f->metadata);
    cld_reader_close(&f->reader);
    free(f);
}
