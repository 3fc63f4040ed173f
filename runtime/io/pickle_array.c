/* NumPy's arrays in a pickle: their layout and their elements. */
#include "runtime/io/pickle_machine.h"

#include <math.h>
#include <string.h>

/* Sets `memory` to the extents in memory; false if they are invalid or do not give the string's number of bytes. */
static bool take_extents(const cld_pickle *p, const value *shape, cld_pickle_array *out, size_t memory[]) {
    uint64_t total = out->dtype->dtype.bytes;
    for (int i = 0; i < out->ndim; i++) {
        const value *extent = value_at(p, cld_pickle_item(p, shape, (uint32_t)i));
        if (extent->kind != CLD_PICKLE_INTEGER || extent->integer < 0) return false;
        memory[i] = (size_t)extent->integer;
        if (__builtin_mul_overflow(total, memory[i], &total)) return false;
    }
    return total == out->data->string.size;
}

bool cld_pickle_open_array(const cld_pickle *p, const value *v, cld_pickle_array *out) {
    if (!v || v->kind != CLD_PICKLE_ARRAY) return false;
    const value *shape = value_at(p, v->array.shape), *axes = value_at(p, v->array.axes);
    *out = (cld_pickle_array){.dtype = value_at(p, v->array.dtype), .data = value_at(p, v->array.data)};
    if (shape->kind != CLD_PICKLE_TUPLE || shape->items.count > CLD_PICKLE_DIMS ||
        out->dtype->kind != CLD_PICKLE_DTYPE || !out->dtype->dtype.code ||
        out->data->kind != CLD_PICKLE_BYTES)
        return false;
    size_t memory[CLD_PICKLE_DIMS] = {0};
    out->ndim = (int)shape->items.count;
    if (!take_extents(p, shape, out, memory)) return false;
    if (v->array.order == 'K' && (axes->kind != CLD_PICKLE_TUPLE || (int)axes->items.count != out->ndim))
        return false;
    unsigned seen = 0;
    for (int i = 0; i < out->ndim; i++) {
        int64_t at = v->array.order == 'C' ? i : out->ndim - 1 - i; /* axis i in memory */
        if (v->array.order == 'K') {
            const value *axis = value_at(p, cld_pickle_item(p, axes, (uint32_t)i));
            bool fits = axis->kind == CLD_PICKLE_INTEGER && axis->integer >= 0 && axis->integer < out->ndim;
            at = fits ? axis->integer : 0;
            out->shape[i] = memory[at];
        } else {
            out->shape[i] = memory[i];
        }
        out->axes[at] = i;
        seen |= 1u << at;
    }
    return seen == (1u << out->ndim) - 1;
}

static double half_to_double(uint64_t bits) {
    int exponent = (int)(bits >> 10 & 31), mantissa = (int)(bits & 1023);
    double size = exponent == 31
                      ? (mantissa ? NAN : INFINITY)
                      : ldexp(exponent ? 1024 + mantissa : mantissa, (exponent ? exponent : 1) - 25);
    return bits >> 15 & 1 ? -size : size;
}

static double to_double(uint64_t bits, int size) {
    double number;
    float narrow;
    if (size == 2) return half_to_double(bits);
    memcpy(&number, &bits, sizeof number);
    uint32_t low = (uint32_t)bits;
    memcpy(&narrow, &low, sizeof narrow);
    return size == 4 ? (double)narrow : number;
}

value cld_pickle_element(const value *dtype, const uint8_t *bytes) {
    int size = (int)dtype->dtype.bytes, unused = 64 - 8 * size;
    uint64_t bits = 0;
    for (int i = 0; i < size; i++)
        bits |= (uint64_t)bytes[dtype->dtype.big_endian ? size - 1 - i : i] << 8 * i;
    switch (dtype->dtype.code) {
    case 'b': return (value){.kind = CLD_PICKLE_BOOL, .integer = bits != 0};
    case 'f': return (value){.kind = CLD_PICKLE_NUMBER, .number = to_double(bits, size)};
    case 'i': bits = (uint64_t)((int64_t)(bits << unused) >> unused); break;
    case 'u':
        if (bits > INT64_MAX) return (value){.kind = CLD_PICKLE_NUMBER, .number = (double)bits};
    }
    return (value){.kind = CLD_PICKLE_INTEGER, .integer = (int64_t)bits};
}
