/* Writing safetensors files: the header from one sorted list, then each tensor's bytes in the same order. */
#include "runtime/io/safetensors.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/io/json_memory.h"

/* Wide types first, so that every tensor is aligned for readers that map the file. */
static int by_width_and_name(const void *a, const void *b) {
    const cld_named_tensor *x = a, *y = b;
    if (x->written.bytes != y->written.bytes) return x->written.bytes > y->written.bytes ? -1 : 1;
    return strcmp(x->name, y->name);
}

static int by_key(const void *a, const void *b) {
    return strcmp(((const cld_metadata *)a)->key, ((const cld_metadata *)b)->key);
}

static uint64_t bytes_of(const cld_named_tensor *x) {
    return (uint64_t)cld_numel(&x->tensor->a) * x->written.bytes;
}

/* Finds the type that each tensor is written as. */
static cld_status find_types(cld_named_tensor *tensors, size_t count) {
    for (size_t i = 0; i < count; i++) {
        const char *name = tensors[i].type;
        const cld_number_type *type =
            name ? cld_safetensors_type(name) : cld_safetensors_type_of(tensors[i].tensor);
        if (!type)
            return cld_fail(
                CLD_INVALID,
                "'%.100s' cannot be of type '%.100s'; there are F64, F32, F16, BF16, I64, I32, I16, I8, "
                "U64, U32, U16, U8, BOOL, F8_E4M3, F8_E5M2, F8_E8M0, F8_E4M3FNUZ and F8_E5M2FNUZ",
                tensors[i].name, name);
        tensors[i].written = *type;
    }
    return CLD_OK;
}

/* jansson's functions accept a NULL value and return -1, so one check at the end of a chain is enough. */
static json_t *describe(const cld_named_tensor *x, uint64_t begin) {
    const cld_tensor *t = x->tensor;
    json_t *shape = json_array();
    for (int i = 0; i < t->a.ndim; i++)
        if (json_array_append_new(shape, json_integer(t->a.shape[i])) != 0) return json_decref(shape), NULL;
    return json_pack("{s:s, s:o, s:[I, I]}", "dtype", x->written.name, "shape", shape, "data_offsets",
                     (json_int_t)begin, (json_int_t)(begin + bytes_of(x)));
}

static json_t *metadata_object(const cld_metadata *metadata, size_t count) {
    json_t *table = json_object();
    for (size_t i = 0; i < count; i++)
        if (json_object_set_new(table, metadata[i].key, json_string(metadata[i].value)) != 0) {
            json_decref(table);
            if (cld_json_starved()) return cld_fail_null(CLD_NOMEM, "out of memory for the header");
            return cld_fail_null(CLD_INVALID, "metadata '%s' is not UTF-8 text", metadata[i].key);
        }
    return table;
}

static cld_status fill_header(json_t *header, const cld_named_tensor *tensors, size_t count,
                              const cld_metadata *metadata, size_t metadata_count) {
    uint64_t at = 0;
    if (metadata_count) {
        json_t *table = metadata_object(metadata, metadata_count);
        if (!table) return cld_error_code();
        if (json_object_set_new(header, "__metadata__", table) != 0)
            return cld_fail(CLD_NOMEM, "out of memory for the header");
    }
    for (size_t i = 0; i < count; i++) {
        const char *name = tensors[i].name;
        if (strcmp(name, "__metadata__") == 0 || json_object_get(header, name))
            return cld_fail(CLD_INVALID, "a tensor cannot be named '%s': the name is taken", name);
        if (json_object_set_new(header, name, describe(&tensors[i], at)) != 0)
            return cld_json_starved()
                       ? cld_fail(CLD_NOMEM, "out of memory for the header")
                       : cld_fail(CLD_INVALID, "the tensor's name '%s' is not UTF-8 text", name);
        at += bytes_of(&tensors[i]);
    }
    return CLD_OK;
}

/* The header's text, which the caller frees; NULL with an error that does not name the path. */
static char *header_text(const cld_named_tensor *tensors, size_t count, const cld_metadata *metadata,
                         size_t metadata_count) {
    cld_json_watch();
    json_t *header = json_object();
    char *text = NULL;
    if (!header) return cld_fail_null(CLD_NOMEM, "out of memory for the header");
    if (fill_header(header, tensors, count, metadata, metadata_count) == CLD_OK) {
        text = json_dumps(header, JSON_COMPACT);
        if (cld_json_starved()) { /* json_dumps may silently leave out what it had no memory for */
            cld_json_free(text);
            text = NULL;
        }
        if (!text) cld_fail(CLD_NOMEM, "out of memory for the header");
    }
    json_decref(header);
    return text;
}

static void put_header(cld_writer *w, const char *text) {
    size_t length = strlen(text), padded = (length + 7) / 8 * 8;
    unsigned char prefix[8];
    for (int i = 0; i < 8; i++) prefix[i] = (unsigned char)((uint64_t)padded >> (8 * i));
    cld_writer_put(w, prefix, sizeof prefix);
    cld_writer_put(w, text, length);
    cld_writer_put(w, "       ", padded - length);
}

static void put_tensor(cld_writer *w, const cld_named_tensor *x) {
    cld_status status = cld_write_numbers(w, x->tensor, x->written);
    if (status == CLD_OK || w->status != CLD_OK) return;
    cld_fail_in("tensor '%.100s'", x->name);
    w->status = cld_fail_in("cannot write '%s'", w->path);
}

cld_status cld_safetensors_write(cld_writer *w, cld_named_tensor *tensors, size_t count,
                                 cld_metadata *metadata, size_t metadata_count) {
    char *text = NULL;
    if (metadata_count) qsort(metadata, metadata_count, sizeof *metadata, by_key);
    if (find_types(tensors, count) == CLD_OK) {
        if (count) qsort(tensors, count, sizeof *tensors, by_width_and_name);
        text = header_text(tensors, count, metadata, metadata_count);
    }
    if (!text) {
        cld_status status = cld_fail_in("cannot write '%s'", w->path);
        cld_writer_abandon(w);
        return status;
    }
    put_header(w, text);
    for (size_t i = 0; i < count && w->status == CLD_OK; i++) put_tensor(w, &tensors[i]);
    free(text);
    return cld_writer_commit(w);
}

cld_status cld_safetensors_save(const char *path, cld_named_tensor *tensors, size_t count,
                                cld_metadata *metadata, size_t metadata_count) {
    cld_writer w;
    CLD_TRY(cld_writer_open(&w, path));
    return cld_safetensors_write(&w, tensors, count, metadata, metadata_count);
}
