/* What a pickle's objects mean to PyTorch: which calls would have made a tensor, and from what. If such a call would
 * not have accepted its arguments, the object stays as it is. A tensor outside its storage is damage. */
#include "runtime/io/torch_parts.h"

#include <stdlib.h>
#include <string.h>

typedef cld_pickle_value value;

static uint32_t item(cld_torch_file *f, const value *tuple, uint32_t i) {
    return cld_pickle_item(f->pickle, tuple, i);
}
static const value *part(cld_torch_file *f, const value *tuple, uint32_t i) {
    return cld_pickle_at(f->pickle, item(f, tuple, i));
}

/* ---- tensors ------------------------------------------------------------------------------------------- */

/* Reads a tuple of integers that are not negative. */
static bool take_numbers(cld_torch_file *f, const value *tuple, int64_t *out) {
    for (uint32_t i = 0; i < tuple->items.count; i++) {
        const value *n = part(f, tuple, i);
        if (n->kind != CLD_PICKLE_INTEGER || n->integer < 0) return false;
        out[i] = n->integer;
    }
    return true;
}

/* How many elements of the storage such a view spans, from its first to its last: 0 if the view is empty, -1 if that
 * number, or the number of the view's own elements, is too large. */
static int64_t reach(int ndim, const int64_t *shape, const int64_t *strides) {
    int64_t last = 0, elements = 1;
    bool overflows = false;
    for (int i = 0; i < ndim; i++) {
        int64_t way;
        if (shape[i] == 0) return 0;
        overflows |= __builtin_mul_overflow(shape[i] - 1, strides[i], &way) ||
                     __builtin_add_overflow(last, way, &last) ||
                     __builtin_mul_overflow(elements, shape[i], &elements);
    }
    return overflows || elements > INT64_MAX / 8 || last == INT64_MAX ? -1 : last + 1;
}

/* Converts an untyped storage's bytes to elements of the type, once. *out is NULL, without an error, if that is not
 * possible. */
static cld_status give_type(cld_torch_file *f, cld__torch_storage *s, const cld__torch_type *type,
                            cld_tensor **out) {
    int64_t shape[] = {(int64_t)(s->count / type->bytes)};
    void *bytes;
    *out = s->again == type ? s->typed : NULL;
    if (s->again || !type->numbers.bytes) return CLD_OK;
    cld_number_type numbers = type->numbers;
    numbers.big_endian = f->big_endian && numbers.bytes > 1;
    CLD_AUTO cld_tensor *t = cld_numbers_new(numbers, 1, shape, &bytes);
    if (!t) return cld_fail_in("%s", f->reader.path);
    memcpy(bytes, s->tensor->a.data, (size_t)shape[0] * type->bytes);
    s->again = type;
    if (cld_numbers_convert(t, numbers) == CLD_OK) *out = s->typed = cld_tensor_steal(&t);
    return CLD_OK;
}

/* Makes the view of the reference's storage; *out stays NULL if that was not read. */
static cld_status make_view(cld_torch_file *f, const cld__torch_reference *r, const cld__torch_type *type,
                            int ndim, const int64_t *shape, const int64_t *strides, int64_t begin,
                            cld_tensor **out) {
    cld__torch_storage *s = &f->storages[r->storage];
    cld_tensor *whole = s->tensor;
    if (!whole) return CLD_OK;
    uint64_t there = r->count, first = r->begin;
    if (type && type != s->type) {
        if (s->type->dtype) return CLD_OK; /* not untyped */
        CLD_TRY(give_type(f, s, type, &whole));
        if (!whole) return CLD_OK;
        there /= type->bytes;
        first /= type->bytes;
    }
    int64_t reached = reach(ndim, shape, strides);
    if (reached < 0 ||
        (reached > 0 && ((uint64_t)begin > there || (uint64_t)reached > there - (uint64_t)begin)))
        return cld_fail(CLD_IO, "%s: damaged: a tensor reaches beyond the %llu elements of its storage '%s'",
                        f->reader.path, (unsigned long long)there, s->key);
    uint64_t offset = reached ? first + (uint64_t)begin : 0;
    char *data = (char *)whole->a.data + offset * cld_dtype_size(whole->a.dtype);
    *out = cld_tensor_view(whole, ndim, shape, strides, data);
    if (!*out) return cld_fail_in("%s", f->reader.path);
    cld_numbers_hand_on(*out, whole);
    return CLD_OK;
}

/* Whether the tensor is conjugated or negated, while the stored elements are not. */
static bool is_altered(const value *metadata) {
    return metadata->kind == CLD_PICKLE_DICT && metadata->items.count > 0;
}

/* _rebuild_tensor(storage, offset, size, stride, requires_grad, hooks[, dtype][, metadata]); version 3 has the
 * dtype. */
static cld_status make_tensor(cld_torch_file *f, const value *arguments, bool has_dtype, cld_tensor **out) {
    const cld__torch_reference *r = cld__torch_reference_to(f, item(f, arguments, 0));
    const value *begin = part(f, arguments, 1), *size = part(f, arguments, 2),
                *stride = part(f, arguments, 3);
    const cld__torch_type *type = NULL;
    int64_t shape[CLD_MAX_DIMS], strides[CLD_MAX_DIMS];
    if (!r || begin->kind != CLD_PICKLE_INTEGER || begin->integer < 0 || size->kind != CLD_PICKLE_TUPLE ||
        stride->kind != CLD_PICKLE_TUPLE || size->items.count != stride->items.count ||
        is_altered(part(f, arguments, has_dtype ? 7 : 6)) || size->items.count > CLD_MAX_DIMS ||
        !take_numbers(f, size, shape) || !take_numbers(f, stride, strides))
        return CLD_OK;
    if (has_dtype) {
        char name[64];
        const value *dtype = part(f, arguments, 6);
        if (dtype->kind != CLD_PICKLE_NAME) return CLD_OK;
        cld_pickle_full_name(f->pickle, dtype, name, sizeof name);
        type = strncmp(name, "torch.", 6) == 0 ? cld__torch_dtype(name + 6) : NULL;
        if (!type) return CLD_OK;
    }
    return make_view(f, r, type, (int)size->items.count, shape, strides, begin->integer, out);
}

/* A storage by itself. */
static cld_status make_storage(cld_torch_file *f, uint32_t i, cld_tensor **out) {
    const cld__torch_reference *r = cld__torch_reference_to(f, i);
    if (!r || r->count > INT64_MAX) return CLD_OK;
    int64_t shape[] = {(int64_t)r->count}, strides[] = {1};
    return make_view(f, r, NULL, 1, shape, strides, 0, out);
}

/* ---- NumPy's arrays ------------------------------------------------------------------------------------ */

static bool number_type(const value *dtype, cld_number_type *out) {
    static const struct {
        char code;
        uint8_t bytes;
        cld_dtype dtype;
    } kinds[] = {{'f', 2, CLD_F16}, {'f', 4, CLD_F32}, {'f', 8, CLD_F64}, {'i', 1, CLD_I32},
                 {'i', 2, CLD_I32}, {'i', 4, CLD_I32}, {'i', 8, CLD_I64}, {'u', 1, CLD_U8},
                 {'u', 2, CLD_I32}, {'u', 4, CLD_I64}, {'u', 8, CLD_I64}, {'b', 1, CLD_U8}};
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        if (kinds[i].code != dtype->dtype.code || kinds[i].bytes != dtype->dtype.bytes) continue;
        *out = (cld_number_type){.kind = kinds[i].code,
                                 .bytes = kinds[i].bytes,
                                 .dtype = kinds[i].dtype,
                                 .big_endian = dtype->dtype.big_endian && kinds[i].bytes > 1,
                                 .name = "a NumPy array"};
        return true;
    }
    return false;
}

static cld_status make_array(cld_torch_file *f, const value *v, cld_tensor **out) {
    cld_pickle_array a;
    cld_number_type type;
    int64_t memory[CLD_MAX_DIMS], shape[CLD_MAX_DIMS], strides[CLD_MAX_DIMS];
    void *bytes;
    if (!cld_pickle_open_array(f->pickle, v, &a) || !number_type(a.dtype, &type)) return CLD_OK;
    f->array_bytes += a.data->string.size; /* shared bytes are copied for each array */
    if (f->array_bytes > f->reader.bytes + f->data_bytes)
        return cld_fail(CLD_IO, "%s: its NumPy arrays are larger than the file", f->reader.path);
    for (int i = 0; i < a.ndim; i++) memory[i] = (int64_t)a.shape[a.axes[i]];
    CLD_AUTO cld_tensor *t = cld_numbers_new(type, a.ndim, memory, &bytes);
    if (!t) return cld_fail_in("%s", f->reader.path);
    cld_pickle_stream *s = cld_pickle_stream_open(f->pickle, a.data);
    if (!s) return cld_error_code();
    cld_status status = cld_pickle_stream_next(s, bytes, (size_t)a.data->string.size);
    cld_pickle_stream_free(s);
    CLD_TRY(status);
    if (cld_numbers_convert(t, type) != CLD_OK) return CLD_OK; /* does not fit i64: it stays an object */
    for (int i = 0; i < a.ndim; i++) {
        shape[a.axes[i]] = t->a.shape[i];
        strides[a.axes[i]] = t->a.strides[i];
    }
    *out = cld_tensor_view(t, a.ndim, shape, strides, t->a.data);
    if (!*out) return cld_error_code();
    cld_numbers_hand_on(*out, t);
    return CLD_OK;
}

/* ---- calls --------------------------------------------------------------------------------------------- */

enum { MOST_WRAPPERS = 4 }; /* one inside another */

/* Interprets a call, from its function's name without the module and its arguments. */
static cld_status read_call(cld_torch_file *f, const char *name, const value *arguments, uint32_t *within,
                            cld_tensor **out) {
    if (strncmp(name, "_rebuild_parameter", 18) == 0 || strcmp(name, "Size") == 0) {
        uint32_t first = item(f, arguments, 0);
        bool is_size = strcmp(name, "Size") == 0;
        if (!is_size || cld_pickle_at(f->pickle, first)->kind == CLD_PICKLE_TUPLE) *within = first;
        return CLD_OK;
    }
    if (strcmp(name, "_rebuild_tensor") == 0 || strcmp(name, "_rebuild_tensor_v2") == 0)
        return make_tensor(f, arguments, false, out);
    if (strcmp(name, "_rebuild_tensor_v3") == 0) return make_tensor(f, arguments, true, out);
    return CLD_OK;
}

/* The name without its module if it is PyTorch's own; NULL for other names, of which we know nothing. */
static const char *torch_name(cld_torch_file *f, const value *v, char *text, size_t room) {
    if (v->kind != CLD_PICKLE_NAME && v->kind != CLD_PICKLE_OBJECT) return NULL;
    cld_pickle_full_name(f->pickle, v, text, room);
    return strncmp(text, "torch.", 6) == 0 ? strrchr(text, '.') + 1 : NULL;
}

/* Interprets an object, one level deep: sets *out to its tensor, or *within to the value inside it. */
static cld_status read_object(cld_torch_file *f, const value *v, uint32_t *within, cld_tensor **out) {
    char text[256];
    const char *name = v->object.indirect ? NULL : torch_name(f, v, text, sizeof text);
    const value *arguments = cld_pickle_at(f->pickle, v->object.arguments);
    if (!name || arguments->kind != CLD_PICKLE_TUPLE) return CLD_OK;
    if (strcmp(name, "_rebuild_from_type_v2") == 0 || strcmp(name, "_rebuild_from_type") == 0) {
        /* (function, type, its arguments, state): a tensor with attributes, or of a subclass */
        name = torch_name(f, part(f, arguments, 0), text, sizeof text);
        arguments = part(f, arguments, 2);
        if (!name || arguments->kind != CLD_PICKLE_TUPLE) return CLD_OK;
    }
    return read_call(f, name, arguments, within, out);
}

cld_status cld_torch_read(cld_torch_file *f, uint32_t *i, cld_tensor **tensor) {
    *tensor = NULL;
    for (int wrapped = 0; wrapped < MOST_WRAPPERS; wrapped++) {
        const value *v = cld_pickle_at(f->pickle, *i);
        uint32_t within = *i;
        if (v->kind == CLD_PICKLE_PERSISTENT) return make_storage(f, *i, tensor);
        if (v->kind == CLD_PICKLE_ARRAY) return make_array(f, v, tensor);
        if (v->kind != CLD_PICKLE_OBJECT) return CLD_OK;
        CLD_TRY(read_object(f, v, &within, tensor));
        if (within == *i) return CLD_OK;
        *i = within;
    }
    return CLD_OK;
}
