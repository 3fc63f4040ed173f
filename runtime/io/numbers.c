/* Reading numbers straight into a tensor, and widening them there. */
#include "runtime/io/numbers.h"

#include <string.h>

#include "runtime/io/float8.h"

/* Converts in place. The file's numbers are at the end of data, and the dtype's, which are at least as wide, are
 * written from the beginning on, so that none is overwritten before it is read. */
static cld_status convert(char *data, int64_t count, cld_number_type type) {
    size_t from = type.bytes, to = cld_dtype_size(type.dtype);
    const unsigned char *in = (unsigned char *)data + (size_t)count * (to - from);
    for (int64_t i = 0; i < count; i++, in += from, data += to) {
        uint64_t bits = 0;
        for (size_t b = 0; b < from; b++) bits |= (uint64_t)in[type.big_endian ? from - 1 - b : b] << 8 * b;
        if (type.kind == 'i') {
            int unused = 64 - 8 * (int)from;
            bits = (uint64_t)((int64_t)(bits << unused) >> unused);
        } else if (type.kind == 'u' && bits > INT64_MAX) {
            return cld_fail(CLD_UNSUPPORTED, "the value %llu does not fit i64, which %s becomes",
                            (unsigned long long)bits, type.name);
        }
        memcpy(data, &bits, to);
    }
    return CLD_OK;
}

static void convert_float8(char *data, int64_t count, char kind) {
    uint32_t values[256];
    const unsigned char *in = (unsigned char *)data + (size_t)count * 3;
    cld_float8_values(kind, values);
    for (int64_t i = 0; i < count; i++) memcpy(data + 4 * i, &values[in[i]], 4);
}

/* Whether the type is none of our dtypes, so that the tensor must remember it. */
static bool is_foreign(cld_number_type type) {
    return type.bytes != cld_dtype_size(type.dtype) || type.kind == 'b' ||
           (type.kind == 'u' && type.bytes > 1);
}

cld_tensor *cld_numbers_new(cld_number_type type, int ndim, const int64_t *shape, void **bytes) {
    cld_tensor *t = cld_tensor_new(type.dtype, ndim, shape, cld_cpu_backend());
    if (!t) return NULL;
    size_t wider = (size_t)cld_numel(&t->a) * (cld_dtype_size(type.dtype) - type.bytes);
    *bytes = (char *)t->a.data + wider;
    return t;
}

cld_status cld_numbers_convert(cld_tensor *t, cld_number_type type) {
    size_t size = cld_dtype_size(type.dtype);
    bool same_bytes = size == type.bytes && !type.big_endian && !(type.kind == 'u' && size == 8);
    if (cld_is_float8(type.kind))
        convert_float8(t->a.data, cld_numel(&t->a), type.kind);
    else if (!same_bytes)
        CLD_TRY(convert(t->a.data, cld_numel(&t->a), type));
    if (is_foreign(type)) t->stored = (cld_stored){type.kind, type.bytes, atomic_load(&t->storage->version)};
    return CLD_OK;
}

void cld_numbers_hand_on(cld_tensor *view, const cld_tensor *whole) {
    view->stored = whole->stored;
    view->stored.version = atomic_load(&view->storage->version);
}

bool cld_numbers_came_as(const cld_tensor *t, char *kind, uint8_t *bytes) {
    if (!t->stored.kind || t->stored.version != atomic_load(&t->storage->version)) return false;
    *kind = t->stored.kind;
    *bytes = t->stored.bytes;
    return true;
}

cld_tensor *cld_read_numbers(cld_reader *r, uint64_t offset, cld_number_type type, int ndim,
                             const int64_t *shape) {
    void *bytes;
    CLD_AUTO cld_tensor *t = cld_numbers_new(type, ndim, shape, &bytes);
    if (!t) return NULL;
    CLD_TRY_NULL(cld_reader_get(r, bytes, offset, (size_t)cld_numel(&t->a) * type.bytes));
    CLD_TRY_NULL(cld_numbers_convert(t, type));
    return cld_tensor_steal(&t);
}
