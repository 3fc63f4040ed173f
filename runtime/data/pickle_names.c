/* The names that a batch file may use, and what calling each would have done. */
#include "runtime/data/pickle_machine.h"

#include <string.h>

static const struct {
    const char *module, *name;
    global global;
} globals[] = {
    {"numpy.core.multiarray", "_reconstruct", RECONSTRUCT},
    {"numpy._core.multiarray", "_reconstruct", RECONSTRUCT}, /* since NumPy 2 */
    {"numpy.core.numeric", "_frombuffer", FROM_BUFFER},      /* protocol 5 */
    {"numpy._core.numeric", "_frombuffer", FROM_BUFFER},
    {"numpy", "ndarray", NDARRAY},
    {"numpy", "dtype", DTYPE_CLASS},
    {"_codecs", "encode", ENCODE}, /* byte strings of Python 3 in protocols below 3 */
};

/* A string for %.*s. */
#define SHOWN(v) (int)((v)->string.size < 80 ? (v)->string.size : 80), (const char *)(v)->string.data

cld_status cld__pickle_push_global(cld_pickle *p, const value *module, const value *name) {
    for (size_t i = 0; i < sizeof globals / sizeof *globals; i++)
        if (cld__pickle_equals(module, globals[i].module) && cld__pickle_equals(name, globals[i].name))
            return cld__pickle_push(p, (value){.kind = GLOBAL, .integer = globals[i].global});
    if (!is_string(module) || !is_string(name)) return cld__pickle_fail(p, "a name is not text");
    return cld__pickle_fail(p, "it uses '%.*s.%.*s', which no NumPy array needs (nothing was run)",
                            SHOWN(module), SHOWN(name));
}

static const value *argument(const cld_pickle *p, const value *tuple, uint32_t i) {
    return value_at(p, cld__pickle_item(p, tuple, i));
}

/* dtype("u1", align, copy): those that hold pixels or labels. */
static cld_status make_dtype(cld_pickle *p, const value *arguments) {
    static const struct {
        const char *name;
        int bytes;
    } known[] = {{"u1", 1}, {"|u1", 1}, {"i4", 4}, {"<i4", 4}, {"i8", 8}, {"<i8", 8}};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (cld__pickle_equals(argument(p, arguments, 0), known[i].name))
            return cld__pickle_push(p, (value){.kind = DTYPE, .integer = known[i].bytes});
    return cld__pickle_fail(p, "an array's dtype is none of u1, i4, i8");
}

/* encode(text, "latin1"): UTF-8 of characters below 256 becomes bytes, in place. */
static cld_status encode(cld_pickle *p, const value *arguments) {
    uint32_t number = cld__pickle_item(p, arguments, 0);
    value *text = value_at(p, number);
    const value *encoding = argument(p, arguments, 1);
    if (text->kind != TEXT) return cld__pickle_fail(p, "something other than text is encoded");
    if (!is_string(encoding)) return cld__pickle_fail(p, "text is encoded without the name of an encoding");
    if (!cld__pickle_equals(encoding, "latin1"))
        return cld__pickle_fail(p, "text is encoded as '%.*s'; known is latin1", SHOWN(encoding));
    uint8_t *data = (uint8_t *)text->string.data;
    size_t length = text->string.size, size = 0;
    for (size_t i = 0; i < length; i++) {
        bool wide = (data[i] & 0xFE) == 0xC2 && i + 1 < length && (data[i + 1] & 0xC0) == 0x80;
        if (data[i] >= 0x80 && !wide)
            return cld__pickle_fail(p, "text to encode as latin1 has other characters");
        uint8_t byte = wide ? (uint8_t)(data[i] << 6 | (data[i + 1] & 0x3F)) : data[i];
        i += wide;
        data[size++] = byte;
    }
    *text = (value){.kind = BYTES, .string = {data, size}};
    return cld__pickle_push_value(p, number);
}

/* _frombuffer(data, dtype, shape, order) */
static cld_status from_buffer(cld_pickle *p, const value *arguments) {
    if (!cld__pickle_equals(argument(p, arguments, 3), "C"))
        return cld__pickle_fail(p, "an array is not in C order");
    value array = {.kind = ARRAY};
    array.array.data = cld__pickle_item(p, arguments, 0);
    array.array.dtype = cld__pickle_item(p, arguments, 1);
    array.array.shape = cld__pickle_item(p, arguments, 2);
    return cld__pickle_push(p, array);
}

cld_status cld__pickle_reduce(cld_pickle *p) {
    CLD_TRY(cld__pickle_need(p, 2));
    value callee = *value_at(p, *stack_at(p, p->stack.count - 2));
    value arguments = *value_at(p, *stack_at(p, p->stack.count - 1));
    p->stack.count -= 2;
    if (callee.kind != GLOBAL || arguments.kind != TUPLE)
        return cld__pickle_fail(p, "something is called that is no function");
    switch ((global)callee.integer) {
    case RECONSTRUCT: return cld__pickle_push(p, (value){.kind = ARRAY}); /* empty: its state follows */
    case FROM_BUFFER: return from_buffer(p, &arguments);
    case DTYPE_CLASS: return make_dtype(p, &arguments);
    case ENCODE: return encode(p, &arguments);
    case NDARRAY: break; /* only ever an argument of _reconstruct */
    }
    return cld__pickle_fail(p, "numpy.ndarray is called");
}

/* The state of a dtype is (version, byte order, ...), of an array (version, shape, dtype, is_fortran, data). */
cld_status cld__pickle_build(cld_pickle *p) {
    CLD_TRY(cld__pickle_need(p, 2));
    value state = *value_at(p, *stack_at(p, p->stack.count - 1));
    value *target = value_at(p, *stack_at(p, p->stack.count - 2));
    p->stack.count--;
    if (state.kind != TUPLE || (target->kind != DTYPE && target->kind != ARRAY))
        return cld__pickle_fail(p, "a state is set that is not an array's");
    if (target->kind == DTYPE) {
        const value *order = argument(p, &state, 1);
        if (cld__pickle_equals(order, "<") || cld__pickle_equals(order, "|")) return CLD_OK;
        return cld__pickle_fail(p, "an array is not little-endian");
    }
    const value *fortran = argument(p, &state, 3);
    if ((fortran->kind != BOOL && fortran->kind != INTEGER) || fortran->integer)
        return cld__pickle_fail(p, "an array is not in C order");
    target->array.shape = cld__pickle_item(p, &state, 1);
    target->array.dtype = cld__pickle_item(p, &state, 2);
    target->array.data = cld__pickle_item(p, &state, 4);
    return CLD_OK;
}
