/* Writing safetensors files: the header from one sorted list, then each tensor's bytes, in that order. */
#include "runtime/io/safetensors.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/io/json_memory.h"

const char *cld_safetensors_dtype(cld_dtype dtype) {
    static const char *const names[CLD_DTYPE_COUNT] = {
        [CLD_F32] = "F32", [CLD_F64] = "F64", [CLD_BF16] = "BF16", [CLD_F16] = "F16",
        [CLD_I64] = "I64", [CLD_I32] = "I32", [CLD_U8] = "U8",
    };
    return names[dtype];
}

/* Wide dtypes first: readers that map the file may then view every tensor at its own alignment. */
static int by_width_and_name(const void *a, const void *b) {
    const cld_named_tensor *x = a, *y = b;
    size_t width_x = cld_dtype_size(x->tensor->a.dtype), width_y = cld_dtype_size(y->tensor->a.dtype);
    if (width_x != width_y) return width_x > width_y ? -1 : 1;
    return strcmp(x->name, y->name);
}

static int by_key(const void *a, const void *b) {
    return strcmp(((const cld_metadata *)a)->key, ((const cld_metadata *)b)->key);
}

static size_t tensor_bytes(const cld_tensor *t) {
    return (size_t)cld_numel(&t->a) * cld_dtype_size(t->a.dtype);
}

/* jansson's functions take over a NULL value and answer -1, so that one check at the end of a chain is enough. */
static json_t *describe(const cld_tensor *t, uint64_t begin) {
    json_t *shape = json_array();
    for (int i = 0; i < t->a.ndim; i++)
        if (json_array_append_new(shape, json_integer(t->a.shape[i])) != 0) return json_decref(shape), NULL;
    return json_pack("{s:s, s:o, s:[I, I]}", "dtype", cld_safetensors_dtype(t->a.dtype), "shape", shape,
                     "data_offsets", (json_int_t)begin, (json_int_t)(begin + tensor_bytes(t)));
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
        if (json_object_set_new(header, name, describe(tensors[i].tensor, at)) != 0)
            return cld_json_starved()
                       ? cld_fail(CLD_NOMEM, "out of memory for the header")
                       : cld_fail(CLD_INVALID, "the tensor's name '%s' is not UTF-8 text", name);
        at += tensor_bytes(tensors[i].tensor);
    }
    return CLD_OK;
}

/* The header's text, to free; NULL with an error that does not know the path. */
static char *header_text(const cld_named_tensor *tensors, size_t count, const cld_metadata *metadata,
                         size_t metadata_count) {
    cld_json_watch();
    json_t *header = json_object();
    char *text = NULL;
    if (!header) return cld_fail_null(CLD_NOMEM, "out of memory for the header");
    if (fill_header(header, tensors, count, metadata, metadata_count) == CLD_OK) {
        text = json_dumps(header, JSON_COMPACT);
        if (cld_json_starved()) { /* json_dumps may leave out what it had no memory for, and say nothing */
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

static void put_tensor(cld_writer *w, cld_tensor *t) {
    CLD_AUTO cld_tensor *dense = cld_tensor_on_host(t);
    if (dense)
        cld_writer_put(w, dense->a.data, tensor_bytes(dense));
    else if (w->status == CLD_OK)
        w->status = cld_error_code();
}

cld_status cld_safetensors_write(cld_writer *w, cld_named_tensor *tensors, size_t count,
                                 cld_metadata *metadata, size_t metadata_count) {
    if (count) qsort(tensors, count, sizeof *tensors, by_width_and_name);
    if (metadata_count) qsort(metadata, metadata_count, sizeof *metadata, by_key);
    char *text = header_text(tensors, count, metadata, metadata_count);
    if (!text) {
        cld_status status = cld_fail_in("cannot write '%s'", w->path);
        cld_writer_abandon(w);
        return status;
    }
    put_header(w, text);
    for (size_t i = 0; i < count && w->status == CLD_OK; i++) put_tensor(w, tensors[i].tensor);
    free(text);
    return cld_writer_commit(w);
}

cld_status cld_safetensors_save(const char *path, cld_named_tensor *tensors, size_t count,
                                cld_metadata *metadata, size_t metadata_count) {
    cld_writer w;
    CLD_TRY(cld_writer_open(&w, path));
    return cld_safetensors_write(&w, tensors, count, metadata, metadata_count);
}
