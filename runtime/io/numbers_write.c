/* Writing numbers as types that are none of our dtypes: in pieces, so that the whole is never copied. */
#include <math.h>
#include <string.h>

#include "runtime/io/float8.h"
#include "runtime/io/numbers.h"

enum { PIECE = 4096 }; /* elements */

static cld_status does_not_fit(double value, cld_number_type type) {
    return cld_fail(CLD_INVALID, "the value %.17g does not fit %s", value, type.name);
}

/* Whole numbers, which must be in the type's range. */
static cld_status put_integers(unsigned char *out, const int64_t *in, int64_t count, cld_number_type type) {
    int bits = 8 * type.bytes;
    int64_t least = type.kind != 'i' ? 0 : bits == 64 ? INT64_MIN : -((int64_t)1 << (bits - 1));
    int64_t most = type.kind == 'b' ? 1
                   : bits == 64     ? INT64_MAX
                                    : ((int64_t)1 << (bits - (type.kind == 'i'))) - 1;
    for (int64_t i = 0; i < count; i++, out += type.bytes) {
        if (in[i] < least || in[i] > most)
            return cld_fail(CLD_INVALID, "the value %lld does not fit %s", (long long)in[i], type.name);
        for (int b = 0; b < type.bytes; b++) out[b] = (unsigned char)((uint64_t)in[i] >> (8 * b));
    }
    return CLD_OK;
}

static cld_status put_whole_floats(unsigned char *out, const double *in, int64_t count,
                                   cld_number_type type) {
    for (int64_t i = 0; i < count; i++, out += type.bytes) {
        bool whole = in[i] >= -0x1p63 && in[i] < 0x1p63 && in[i] == floor(in[i]);
        if (!whole) return does_not_fit(in[i], type);
        int64_t value = (int64_t)in[i];
        CLD_TRY(put_integers(out, &value, 1, type));
    }
    return CLD_OK;
}

static cld_status put_float8(unsigned char *out, const char *in, int64_t count, cld_number_type type,
                             const uint32_t values[256]) {
    for (int64_t i = 0; i < count; i++) {
        uint32_t bits;
        float value;
        memcpy(&bits, in + 4 * i, 4);
        memcpy(&value, &bits, 4);
        if (!cld_float8_encode(type.kind, values, bits, &out[i])) return does_not_fit(value, type);
    }
    return CLD_OK;
}

/* `count` elements of a dense tensor, from `first` on, as a 1-d tensor of the dtype. */
static cld_tensor *piece_of(const cld_tensor *dense, int64_t first, int64_t count, cld_dtype dtype) {
    int64_t stride = 1;
    char *data = (char *)dense->a.data + (size_t)first * cld_dtype_size(dense->a.dtype);
    CLD_AUTO cld_tensor *view = cld_tensor_view(dense, 1, &count, &stride, data);
    if (!view || dense->a.dtype == dtype) return cld_tensor_steal(&view); /* keeps a NaN's bits */
    return cld_tensor_cast(view, dtype);
}

static cld_status put_piece(cld_take_bytes *take, void *to, const cld_tensor *dense, int64_t first,
                            int64_t count, cld_number_type type, const uint32_t values[256]) {
    unsigned char out[8 * PIECE];
    bool is_float = cld_dtype_is_float(dense->a.dtype), to_integers = strchr("iub", type.kind) != NULL;
    cld_dtype dtype = cld_is_float8(type.kind) ? CLD_F32
                      : !to_integers           ? type.dtype
                      : is_float               ? CLD_F64
                                               : CLD_I64;
    CLD_AUTO cld_tensor *piece = piece_of(dense, first, count, dtype);
    if (!piece) return cld_error_code();
    const void *in = piece->a.data;
    if (cld_is_float8(type.kind))
        CLD_TRY(put_float8(out, in, count, type, values));
    else if (to_integers)
        CLD_TRY(is_float ? put_whole_floats(out, in, count, type) : put_integers(out, in, count, type));
    else
        memcpy(out, in, (size_t)count * type.bytes);
    return take(to, out, (size_t)count * type.bytes);
}

/* Whether the elements in memory already have the file's bytes. */
static bool is_same(const cld_tensor *t, cld_number_type type) {
    char kind;
    uint8_t bytes;
    if (t->a.dtype != type.dtype || cld_dtype_size(t->a.dtype) != type.bytes) return false;
    bool is_own = type.kind == 'f' || type.kind == 'i' || (type.kind == 'u' && type.bytes == 1);
    return is_own || (cld_numbers_came_as(t, &kind, &bytes) && kind == type.kind && bytes == type.bytes);
}

cld_status cld_give_numbers(cld_take_bytes *take, void *to, cld_tensor *t, cld_number_type type) {
    uint32_t values[256] = {0};
    CLD_AUTO cld_tensor *dense = cld_tensor_on_host(t);
    if (!dense) return cld_error_code();
    int64_t count = cld_numel(&dense->a);
    if (is_same(t, type)) return take(to, dense->a.data, (size_t)count * type.bytes);
    if (cld_is_float8(type.kind)) cld_float8_values(type.kind, values);
    for (int64_t first = 0; first < count; first += PIECE)
        CLD_TRY(
            put_piece(take, to, dense, first, count - first < PIECE ? count - first : PIECE, type, values));
    return CLD_OK;
}

static cld_status take_to_file(void *to, const void *data, size_t bytes) {
    return cld_writer_put(to, data, bytes);
}

cld_status cld_write_numbers(cld_writer *w, cld_tensor *t, cld_number_type type) {
    return cld_give_numbers(take_to_file, w, t, type);
}
