/* The names that a batch file may use, and what calling each would have done. */
#include "runtime/io/pickle_machine.h"

#include <string.h>

static const struct {
    const char *module, *name;
    global global;
} globals[] = {
    {"numpy.core.multiarray", "_reconstruct", RECONSTRUCT},
    {"numpy._core.multiarray", "_reconstruct", RECONSTRUCT}, /* since NumPy 2 */
    {"numpy.core.numeric", "_frombuffer", FROM_BUFFER},      /* protocol 5 */
    {"numpy._core.numeric", "_frombuffer", FROM_BUFFER},
    {"numpy.core.multiarray", "scalar", SCALAR},
    {"numpy._core.multiarray", "scalar", SCALAR},
    {"numpy", "ndarray", NDARRAY},
    {"numpy", "dtype", DTYPE_CLASS},
    {"_codecs", "encode", ENCODE},         /* byte strings of Python 3 in protocols below 3 */
    {"__builtin__", "bytes", BYTES_CLASS}, /* empty ones there */
    {"__builtin__", "bytearray", BYTES_CLASS},
    {"builtins", "bytes", BYTES_CLASS},
    {"builtins", "bytearray", BYTES_CLASS},
    {"collections", "OrderedDict", MAPPING},
    {"collections", "defaultdict", MAPPING},
    {"collections", "Counter", MAPPING},
    {"__builtin__", "dict", MAPPING},
    {"builtins", "dict", MAPPING},
};

cld_status cld__pickle_push_global(cld_pickle *p, uint32_t module, uint32_t name) {
    if (!is_string(value_at(p, module)) || !is_string(value_at(p, name)))
        return cld__pickle_fail(p, "a name is not text");
    char in[64], called[64];
    cld__pickle_text(p, value_at(p, module), in, sizeof in);
    cld__pickle_text(p, value_at(p, name), called, sizeof called);
    for (size_t i = 0; i < sizeof globals / sizeof *globals; i++)
        if (strcmp(in, globals[i].module) == 0 && strcmp(called, globals[i].name) == 0)
            return cld__pickle_push(p, (value){.kind = GLOBAL, .integer = globals[i].global});
    return cld__pickle_push(p, (value){.kind = OBJECT, .object = {.module = module, .name = name}});
}

static const value *argument(const cld_pickle *p, const value *tuple, uint32_t i) {
    return value_at(p, cld__pickle_item(p, tuple, i));
}

/* ---- numbers of NumPy's -------------------------------------------------------------------------------- */

/* dtype("u1", align, copy) */
static cld_status make_dtype(cld_pickle *p, const value *arguments) {
    char text[16];
    value dtype = {.kind = DTYPE, .dtype = {.name = cld__pickle_item(p, arguments, 0)}};
    const value *name = value_at(p, dtype.dtype.name);
    if (!is_string(name)) return cld__pickle_push(p, dtype);
    cld__pickle_text(p, name, text, sizeof text);
    dtype.dtype.big_endian = text[0] == '>';
    const char *code = text + (text[0] && strchr("<>=|", text[0]));
    bool known = (*code == 'b' && code[1] == '1') ||
                 ((*code == 'i' || *code == 'u') && code[1] && strchr("1248", code[1]));
    if (known && code[2] == '\0') {
        dtype.dtype.code = *code;
        dtype.dtype.bytes = (uint32_t)(code[1] - '0');
    } else if (*code == 'S' || *code == 'U') {
        uint32_t characters = 0;
        for (const char *digit = code + 1; *digit >= '0' && *digit <= '9' && characters < 1u << 24; digit++)
            characters = 10 * characters + (uint32_t)(*digit - '0');
        dtype.dtype.code = *code;
        dtype.dtype.bytes = *code == 'U' ? 4 * characters : characters;
    }
    return cld__pickle_push(p, dtype);
}

value cld__pickle_number(const value *dtype, const uint8_t *bytes) {
    int size = (int)dtype->dtype.bytes, unused = 64 - 8 * size;
    uint64_t bits = 0;
    for (int i = 0; i < size; i++)
        bits |= (uint64_t)bytes[dtype->dtype.big_endian ? size - 1 - i : i] << 8 * i;
    if (dtype->dtype.code == 'b') return (value){.kind = BOOL, .integer = bits != 0};
    if (dtype->dtype.code == 'i') bits = (uint64_t)((int64_t)(bits << unused) >> unused);
    if (dtype->dtype.code == 'u' && bits > INT64_MAX) return (value){.kind = NUMBER};
    return (value){.kind = INTEGER, .integer = (int64_t)bits};
}

/* scalar(dtype, bytes) */
static cld_status make_scalar(cld_pickle *p, const value *arguments) {
    const value *dtype = argument(p, arguments, 0), *bytes = argument(p, arguments, 1);
    uint8_t raw[16];
    if (dtype->kind != DTYPE) return cld__pickle_fail(p, "a NumPy number has no dtype");
    if (!dtype->dtype.code || bytes->kind != BYTES || bytes->string.size != dtype->dtype.bytes)
        return cld__pickle_push(p, (value){.kind = NUMBER});
    if (dtype->dtype.code == 'S' || dtype->dtype.code == 'U') { /* an array without dimensions */
        value array = {.kind = ARRAY, .array = {.order = 'C'}};
        array.array.dtype = cld__pickle_item(p, arguments, 0);
        array.array.data = cld__pickle_item(p, arguments, 1);
        CLD_TRY(cld__pickle_new_container(p, TUPLE, p->stack.count));
        array.array.shape = *stack_at(p, --p->stack.count);
        return cld__pickle_push(p, array);
    }
    /* At most 8 bytes; room for the zero byte, and what one more character may take. */
    if (cld__pickle_text(p, bytes, (char *)raw, sizeof raw) != dtype->dtype.bytes)
        return cld__pickle_fail(p, "a NumPy number has too few bytes");
    return cld__pickle_push(p, cld__pickle_number(dtype, raw));
}

/* ---- strings ------------------------------------------------------------------------------------------- */

/* encode(text, "latin1"): the text becomes bytes, where it lies. */
static cld_status encode(cld_pickle *p, const value *arguments) {
    uint32_t number = cld__pickle_item(p, arguments, 0);
    value text = *value_at(p, number);
    const value *encoding = argument(p, arguments, 1);
    bool again = text.kind == BYTES && (text.string.form == LATIN1 || text.string.form == LATIN1_LINE);
    if (text.kind != TEXT && !again) return cld__pickle_fail(p, "something other than text is encoded");
    if (!is_string(encoding)) return cld__pickle_fail(p, "text is encoded without the name of an encoding");
    if (!cld__pickle_equals(p, encoding, "latin1") && !cld__pickle_equals(p, encoding, "latin-1")) {
        char name[80];
        cld__pickle_text(p, encoding, name, sizeof name);
        return cld__pickle_fail(p, "text is encoded as '%s'; known is latin1", name);
    }
    if (!again) {
        text.kind = BYTES;
        text.string.form = text.string.form == TEXT_LINE ? LATIN1_LINE : LATIN1;
        CLD_TRY(cld__pickle_measure(p, &text));
        *value_at(p, number) = text;
    }
    return cld__pickle_push_value(p, number);
}

/* bytes(), bytearray(bytes), bytearray(text, "latin-1") */
static cld_status make_bytes(cld_pickle *p, const value *arguments) {
    if (arguments->items.count == 0) return cld__pickle_push(p, (value){.kind = BYTES});
    if (arguments->items.count == 2) return encode(p, arguments);
    if (argument(p, arguments, 0)->kind != BYTES) return cld__pickle_push(p, (value){.kind = NUMBER});
    return cld__pickle_push_value(p, cld__pickle_item(p, arguments, 0));
}

/* ---- containers ---------------------------------------------------------------------------------------- */

/* An OrderedDict of Python 2 is made of a list of pairs; others are filled later. */
static cld_status make_mapping(cld_pickle *p, const value *arguments) {
    value from = *argument(p, arguments, 0);
    if (from.kind == DICT) return cld__pickle_push_value(p, cld__pickle_item(p, arguments, 0));
    CLD_TRY(cld__pickle_push(p, (value){.kind = DICT}));
    if (from.kind != LIST && from.kind != TUPLE) return CLD_OK;
    uint32_t dict = *stack_at(p, p->stack.count - 1), c = from.items.first;
    for (uint32_t i = 0; i < from.items.count; i++) {
        cell at = ((cell *)p->cells.data)[c];
        value pair = *value_at(p, at.value);
        if ((pair.kind != LIST && pair.kind != TUPLE) || pair.items.count != 2)
            return cld__pickle_fail(p, "a dictionary is made of something that is no pair");
        CLD_TRY(cld__pickle_append(p, dict, cld__pickle_item(p, &pair, 0)));
        CLD_TRY(cld__pickle_append(p, dict, cld__pickle_item(p, &pair, 1)));
        c = at.next;
    }
    return CLD_OK;
}

/* _frombuffer(data, dtype, shape, order, axes) */
static cld_status from_buffer(cld_pickle *p, const value *arguments) {
    value array = {.kind = ARRAY};
    const value *order = argument(p, arguments, 3);
    array.array.order = cld__pickle_equals(p, order, "C")   ? 'C'
                        : cld__pickle_equals(p, order, "F") ? 'F'
                        : cld__pickle_equals(p, order, "K") ? 'K'
                                                            : '\0';
    if (!array.array.order) return cld__pickle_fail(p, "an array's order is none of C, F, K");
    array.array.data = cld__pickle_item(p, arguments, 0);
    array.array.dtype = cld__pickle_item(p, arguments, 1);
    array.array.shape = cld__pickle_item(p, arguments, 2);
    array.array.axes = cld__pickle_item(p, arguments, 4);
    return cld__pickle_push(p, array);
}

/* ---- the opcodes --------------------------------------------------------------------------------------- */

static cld_status call(cld_pickle *p, uint32_t called, const value *arguments) {
    const value *callee = value_at(p, called);
    if (callee->kind == OBJECT) return cld__pickle_push_value(p, called);
    if (callee->kind != GLOBAL || arguments->kind != TUPLE)
        return cld__pickle_fail(p, "something is called that is no function");
    switch ((global)callee->integer) {
    case RECONSTRUCT: return cld__pickle_push(p, (value){.kind = ARRAY}); /* empty: its state follows */
    case FROM_BUFFER: return from_buffer(p, arguments);
    case SCALAR: return make_scalar(p, arguments);
    case DTYPE_CLASS: return make_dtype(p, arguments);
    case ENCODE: return encode(p, arguments);
    case BYTES_CLASS: return make_bytes(p, arguments);
    case MAPPING: return make_mapping(p, arguments);
    case NDARRAY: break; /* only ever an argument of _reconstruct */
    }
    return cld__pickle_fail(p, "numpy.ndarray is called");
}

cld_status cld__pickle_reduce(cld_pickle *p) {
    CLD_TRY(cld__pickle_need(p, 2));
    uint32_t called = *stack_at(p, p->stack.count - 2);
    value arguments = *value_at(p, *stack_at(p, p->stack.count - 1));
    p->stack.count -= 2;
    return call(p, called, &arguments);
}

/* An instance of a class, with so many operands after it. */
cld_status cld__pickle_new_object(cld_pickle *p, size_t operands) {
    CLD_TRY(cld__pickle_need(p, 1 + operands));
    uint32_t called = *stack_at(p, p->stack.count - 1 - operands);
    value arguments = *value_at(p, *stack_at(p, p->stack.count - operands));
    p->stack.count -= 1 + operands;
    return call(p, called, &arguments);
}

/* The state of a dtype is (version, byte order, ...), of an array (version, shape, dtype, is_fortran, data). */
cld_status cld__pickle_build(cld_pickle *p) {
    CLD_TRY(cld__pickle_need(p, 2));
    value state = *value_at(p, *stack_at(p, p->stack.count - 1));
    value *target = value_at(p, *stack_at(p, p->stack.count - 2));
    p->stack.count--;
    if (target->kind == OBJECT || target->kind == DICT) return CLD_OK;
    if (state.kind != TUPLE || (target->kind != DTYPE && target->kind != ARRAY))
        return cld__pickle_fail(p, "a state is set that is not an array's");
    if (target->kind == DTYPE) {
        target->dtype.big_endian = cld__pickle_equals(p, argument(p, &state, 1), ">");
        return CLD_OK;
    }
    const value *fortran = argument(p, &state, 3);
    if (fortran->kind != BOOL && fortran->kind != INTEGER)
        return cld__pickle_fail(p, "an array's state is not one");
    target->array.order = fortran->integer ? 'F' : 'C';
    target->array.shape = cld__pickle_item(p, &state, 1);
    target->array.dtype = cld__pickle_item(p, &state, 2);
    target->array.data = cld__pickle_item(p, &state, 4);
    return CLD_OK;
}
