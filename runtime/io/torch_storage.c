/* Storages: the elements of PyTorch's tensors, which are outside the pickle. */
#define _GNU_SOURCE
#include "runtime/io/torch_parts.h"

#include <stdlib.h>
#include <string.h>

#include "runtime/core/strings.h"

static const cld__torch_type types[] = {
    {"FloatStorage", "float32", 4, {'f', 4, false, CLD_F32, "float32"}},
    {"DoubleStorage", "float64", 8, {'f', 8, false, CLD_F64, "float64"}},
    {"HalfStorage", "float16", 2, {'f', 2, false, CLD_F16, "float16"}},
    {"BFloat16Storage", "bfloat16", 2, {'f', 2, false, CLD_BF16, "bfloat16"}},
    {"LongStorage", "int64", 8, {'i', 8, false, CLD_I64, "int64"}},
    {"IntStorage", "int32", 4, {'i', 4, false, CLD_I32, "int32"}},
    {"ShortStorage", "int16", 2, {'i', 2, false, CLD_I32, "int16"}},
    {"CharStorage", "int8", 1, {'i', 1, false, CLD_I32, "int8"}},
    {"ByteStorage", "uint8", 1, {'u', 1, false, CLD_U8, "uint8"}},
    {"BoolStorage", "bool", 1, {'b', 1, false, CLD_U8, "bool"}},
    {"UntypedStorage", NULL, 1, {'u', 1, false, CLD_U8, "uint8"}},
    {"_UntypedStorage", NULL, 1, {'u', 1, false, CLD_U8, "uint8"}},
    {NULL, "uint16", 2, {'u', 2, false, CLD_I32, "uint16"}},
    {NULL, "uint32", 4, {'u', 4, false, CLD_I64, "uint32"}},
    {NULL, "uint64", 8, {'u', 8, false, CLD_I64, "uint64"}},
    {"ComplexFloatStorage", "complex64", 8, {0}},
    {"ComplexDoubleStorage", "complex128", 16, {0}},
    {"QInt8Storage", "qint8", 1, {0}},
    {"QUInt8Storage", "quint8", 1, {0}},
    {"QInt32Storage", "qint32", 4, {0}},
    {"QUInt4x2Storage", "quint4x2", 1, {0}},
    {"QUInt2x4Storage", "quint2x4", 1, {0}},
};

enum { TYPES = sizeof types / sizeof *types };

const cld__torch_type *cld__torch_dtype(const char *name) {
    for (size_t i = 0; i < TYPES; i++)
        if (types[i].dtype && strcmp(types[i].dtype, name) == 0) return &types[i];
    return NULL;
}

/* "torch.cuda.FloatStorage": only the part after the last dot matters. */
static const cld__torch_type *storage_type(cld_pickle *p, const cld_pickle_value *class) {
    char name[256];
    if (class->kind != CLD_PICKLE_NAME) return NULL;
    cld_pickle_full_name(p, class, name, sizeof name);
    const char *last = strrchr(name, '.') + 1;
    for (size_t i = 0; i < TYPES; i++)
        if (types[i].storage && strcmp(types[i].storage, last) == 0) return &types[i];
    return NULL;
}

/* ---- what the pickle refers to ------------------------------------------------------------------------- */

/* A reference, before its storage has been looked up. */
typedef struct found {
    cld__torch_reference reference;
    cld__torch_storage storage;
} found;

static const cld_pickle_value *part(cld_pickle *p, const cld_pickle_value *tuple, uint32_t i) {
    return cld_pickle_at(p, cld_pickle_item(p, tuple, i));
}

static bool is_count(const cld_pickle_value *v) { return v->kind == CLD_PICKLE_INTEGER && v->integer >= 0; }

/* Parses ("storage", class, key, device, elements[, (key of the part, its first element, elements)]); false for any
 * other id. */
static bool parse_id(cld_pickle *p, uint32_t value, found *out) {
    const cld_pickle_value *id = cld_pickle_at(p, cld_pickle_at(p, value)->id);
    if (id->kind != CLD_PICKLE_TUPLE || !cld_pickle_equals(p, part(p, id, 0), "storage")) return false;
    const cld_pickle_value *key = part(p, id, 2), *count = part(p, id, 4), *view = part(p, id, 5);
    if (!cld_pickle_is_string(key) || !is_count(count)) return false;
    *out = (found){.reference = {.value = value, .count = (uint64_t)count->integer},
                   .storage = {.type = storage_type(p, part(p, id, 1)), .count = (uint64_t)count->integer}};
    if (view->kind == CLD_PICKLE_TUPLE) {
        const cld_pickle_value *begin = part(p, view, 1), *size = part(p, view, 2);
        if (!is_count(begin) || !is_count(size) || begin->integer > count->integer ||
            size->integer > count->integer - begin->integer)
            return false;
        out->reference.begin = (uint64_t)begin->integer;
        out->reference.count = (uint64_t)size->integer;
    }
    char text[256];
    cld_pickle_text(p, key, text, sizeof text);
    out->storage.key = strdup(text);
    return true;
}

static int by_key(const void *a, const void *b) {
    return strcmp(((const found *)a)->storage.key, ((const found *)b)->storage.key);
}
static int by_value(const void *a, const void *b) {
    uint32_t x = ((const cld__torch_reference *)a)->value, y = ((const cld__torch_reference *)b)->value;
    return (x > y) - (x < y);
}

/* Collects the references' storages, each once. A key with two types or sizes is damage. */
static cld_status gather(cld_torch_file *f, found *list, size_t count) {
    if (count == 0) return CLD_OK;
    qsort(list, count, sizeof *list, by_key);
    f->storages = calloc(count, sizeof *f->storages);
    f->references = calloc(count, sizeof *f->references);
    if (!f->storages || !f->references) return cld_fail(CLD_NOMEM, "%s: out of memory", f->reader.path);
    for (size_t i = 0; i < count; i++) {
        cld__torch_storage *s = f->storage_count ? &f->storages[f->storage_count - 1] : NULL;
        if (!s || strcmp(s->key, list[i].storage.key) != 0) {
            s = &f->storages[f->storage_count++];
            *s = list[i].storage;
            list[i].storage.key = NULL; /* moved */
        } else if (s->type != list[i].storage.type || s->count != list[i].storage.count) {
            return cld_fail(CLD_IO, "%s: damaged: its storage '%s' has two types or sizes", f->reader.path,
                            s->key);
        }
        f->references[i] = list[i].reference;
        f->references[i].storage = f->storage_count - 1;
    }
    f->reference_count = count;
    qsort(f->references, count, sizeof *f->references, by_value);
    return CLD_OK;
}

cld_status cld__torch_find_storages(cld_torch_file *f) {
    void *list = NULL;
    size_t count = 0, room = 0;
    cld_status status = CLD_OK;
    for (uint32_t i = 0; i < cld_pickle_count(f->pickle) && status == CLD_OK; i++) {
        if (cld_pickle_at(f->pickle, i)->kind != CLD_PICKLE_PERSISTENT) continue;
        status = cld_grow(&list, &room, count + 1, sizeof(found));
        if (status != CLD_OK || !parse_id(f->pickle, i, (found *)list + count)) continue;
        if (!((found *)list)[count++].storage.key)
            status = cld_fail(CLD_NOMEM, "%s: out of memory", f->reader.path);
    }
    if (status == CLD_OK) status = gather(f, list, count);
    for (size_t i = 0; i < count; i++) free(((found *)list)[i].storage.key);
    free(list);
    return status;
}

cld__torch_storage *cld__torch_storage_of(cld_torch_file *f, const char *key) {
    size_t low = 0, high = f->storage_count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        int order = strcmp(key, f->storages[middle].key);
        if (order == 0) return &f->storages[middle];
        if (order < 0)
            high = middle;
        else
            low = middle + 1;
    }
    return NULL;
}

const cld__torch_reference *cld__torch_reference_to(const cld_torch_file *f, uint32_t value) {
    cld__torch_reference wanted = {.value = value};
    if (f->reference_count == 0) return NULL;
    return bsearch(&wanted, f->references, f->reference_count, sizeof wanted, by_value);
}

/* ---- their elements ------------------------------------------------------------------------------------ */

uint64_t cld__torch_storage_bytes(const cld__torch_storage *s) {
    uint64_t bytes;
    if (__builtin_mul_overflow(s->count, (uint64_t)s->type->bytes, &bytes)) return UINT64_MAX;
    return bytes;
}

/* Does not read the storage if none of our dtypes can hold its values: such tensors stay objects. */
cld_status cld__torch_read_storage(cld_torch_file *f, cld__torch_storage *s, uint64_t offset, cld_zip *zip) {
    cld_number_type type = s->type->numbers;
    int64_t shape[] = {(int64_t)s->count};
    void *bytes;
    if (!type.bytes) return CLD_OK;
    type.big_endian = f->big_endian && type.bytes > 1;
    CLD_AUTO cld_tensor *t = cld_numbers_new(type, 1, shape, &bytes);
    if (!t) return cld_fail_in("%s", f->reader.path);
    size_t size = (size_t)(s->count * type.bytes);
    CLD_TRY(zip ? cld_zip_read(zip, bytes, size) : cld_reader_get(&f->reader, bytes, offset, size));
    cld_status status = cld_numbers_convert(t, type);
    if (status == CLD_OK) s->tensor = cld_tensor_steal(&t);
    return status == CLD_UNSUPPORTED ? CLD_OK : status;
}

void cld__torch_free_storages(cld_torch_file *f) {
    for (size_t i = 0; i < f->storage_count; i++) {
        free(f->storages[i].key);
        cld_tensor_free(f->storages[i].tensor);
        cld_tensor_free(f->storages[i].typed);
    }
    free(f->storages);
    free(f->references);
}
