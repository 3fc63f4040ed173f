/* The names that the machine knows, and what a call of each would have done. */
#include "runtime/io/pickle_machine.h"

#include <stdio.h>
#include <string.h>

/* What a name is known as. */
enum {
    UNKNOWN,
    RECONSTRUCT,
    FROM_BUFFER,
    SCALAR,
    NDARRAY,
    DTYPE_CLASS,
    ENCODE,
    BYTES_CLASS,
    MAPPING,
    SEQUENCE,
    SET_CLASS,
    RECONSTRUCTOR
};

static const struct {
    const char *module, *name;
    int known;
} names[] = {
    {"numpy.core.multiarray", "_reconstruct", RECONSTRUCT},
    {"numpy._core.multiarray", "_reconstruct", RECONSTRUCT}, /* since NumPy 2 */
    {"numpy.core.numeric", "_frombuffer", FROM_BUFFER},      /* protocol 5 */
    {"numpy._core.numeric", "_frombuffer", FROM_BUFFER},
    {"numpy.core.multiarray", "scalar", SCALAR},
    {"numpy._core.multiarray", "scalar", SCALAR},
    {"numpy", "ndarray", NDARRAY},
    {"numpy", "dtype", DTYPE_CLASS},
    {"_codecs", "encode", ENCODE},         /* byte strings of Python 3 in protocols below 3 */
    {"__builtin__", "bytes", BYTES_CLASS}, /* empty ones, in those protocols */
    {"__builtin__", "bytearray", BYTES_CLASS},
    {"builtins", "bytes", BYTES_CLASS},
    {"builtins", "bytearray", BYTES_CLASS},
    {"collections", "OrderedDict", MAPPING},
    {"collections", "defaultdict", MAPPING},
    {"collections", "Counter", MAPPING},
    {"__builtin__", "dict", MAPPING},
    {"builtins", "dict", MAPPING},
    {"collections", "deque", SEQUENCE},
    {"__builtin__", "set", SET_CLASS}, /* of Python 3 in protocols below 4, and of Python 2 */
    {"__builtin__", "frozenset", SET_CLASS},
    {"builtins", "set", SET_CLASS},
    {"builtins", "frozenset", SET_CLASS},
    {"copy_reg", "_reconstructor", RECONSTRUCTOR}, /* an object, in protocols below 2 */
    {"copyreg", "_reconstructor", RECONSTRUCTOR},
};

cld_status cld__pickle_push_name(cld_pickle *p, uint32_t module, uint32_t name) {
    if (!cld_pickle_is_string(value_at(p, module)) || !cld_pickle_is_string(value_at(p, name)))
        return cld__pickle_fail(p, "a name is not text");
    char in[64], called[64];
    value v = {.kind = CLD_PICKLE_NAME, .name = {.module = module, .name = name}};
    cld_pickle_text(p, value_at(p, module), in, sizeof in);
    cld_pickle_text(p, value_at(p, name), called, sizeof called);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strcmp(in, names[i].module) == 0 && strcmp(called, names[i].name) == 0)
            v.name.known = names[i].known;
    return cld__pickle_push(p, v);
}

void cld_pickle_full_name(cld_pickle *p, const value *v, char *out, size_t room) {
    char module[128], name[128];
    if (v->kind == CLD_PICKLE_OBJECT) v = value_at(p, v->object.name);
    cld_pickle_text(p, value_at(p, v->name.module), module, sizeof module);
    cld_pickle_text(p, value_at(p, v->name.name), name, sizeof name);
    snprintf(out, room, "%s.%s", module, name);
}

static const value *argument(const cld_pickle *p, const value *tuple, uint32_t i) {
    return value_at(p, cld_pickle_item(p, tuple, i));
}

/* An instance of an unknown class: the name of what is called, or of that object's own class, and the arguments. */
static cld_status make_object(cld_pickle *p, uint32_t called, uint32_t arguments) {
    const value *callee = value_at(p, called);
    value v = {.kind = CLD_PICKLE_OBJECT, .object = {.name = called, .arguments = arguments}};
    if (callee->kind == CLD_PICKLE_OBJECT) {
        v.object.name = callee->object.name;
        v.object.indirect = true;
    }
    return cld__pickle_push(p, v);
}

/* ---- NumPy's numbers ----------------------------------------------------------------------------------- */

/* dtype("u1", align, copy) */
static cld_status make_dtype(cld_pickle *p, const value *arguments) {
    char text[16];
    value dtype = {.kind = CLD_PICKLE_DTYPE, .dtype = {.name = cld_pickle_item(p, arguments, 0)}};
    const value *name = value_at(p, dtype.dtype.name);
    if (!cld_pickle_is_string(name)) return cld__pickle_push(p, dtype);
    cld_pickle_text(p, name, text, sizeof text);
    dtype.dtype.big_endian = text[0] == '>';
    const char *code = text + (text[0] && strchr("<>=|", text[0]));
    bool known = (*code == 'b' && code[1] == '1') ||
                 ((*code == 'i' || *code == 'u') && code[1] && strchr("1248", code[1])) ||
                 (*code == 'f' && code[1] && strchr("248", code[1]));
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

/* scalar(dtype, bytes) */
static cld_status make_scalar(cld_pickle *p, uint32_t called, uint32_t number) {
    const value *arguments = value_at(p, number);
    const value *dtype = argument(p, arguments, 0), *bytes = argument(p, arguments, 1);
    uint8_t raw[16];
    if (dtype->kind != CLD_PICKLE_DTYPE) return cld__pickle_fail(p, "a NumPy number has no dtype");
    if (!dtype->dtype.code || bytes->kind != CLD_PICKLE_BYTES || bytes->string.size != dtype->dtype.bytes)
        return make_object(p, called, number);
    if (dtype->dtype.code == 'S' || dtype->dtype.code == 'U') { /* an array without dimensions */
        value array = {.kind = CLD_PICKLE_ARRAY, .array = {.order = 'C'}};
        array.array.dtype = cld_pickle_item(p, arguments, 0);
        array.array.data = cld_pickle_item(p, arguments, 1);
        CLD_TRY(cld__pickle_new_container(p, CLD_PICKLE_TUPLE, p->stack.count));
        array.array.shape = *stack_at(p, --p->stack.count);
        return cld__pickle_push(p, array);
    }
    /* At most 8 bytes; raw also has room for the zero byte and for one more character. */
    if (cld_pickle_text(p, bytes, (char *)raw, sizeof raw) != dtype->dtype.bytes)
        return cld__pickle_fail(p, "a NumPy number has too few bytes");
    return cld__pickle_push(p, cld_pickle_element(dtype, raw));
}

/* ---- strings ------------------------------------------------------------------------------------------- */

/* encode(text, "latin1"): the text value itself becomes bytes. */
static cld_status encode(cld_pickle *p, const value *arguments) {
    uint32_t number = cld_pickle_item(p, arguments, 0);
    value text = *value_at(p, number);
    const value *encoding = argument(p, arguments, 1);
    bool again = text.kind == CLD_PICKLE_BYTES &&
                 (text.string.form == CLD_PICKLE_LATIN1 || text.string.form == CLD_PICKLE_LATIN1_LINE);
    if (text.kind != CLD_PICKLE_TEXT && !again)
        return cld__pickle_fail(p, "something other than text is encoded");
    if (!cld_pickle_is_string(encoding))
        return cld__pickle_fail(p, "text is encoded without the name of an encoding");
    if (!cld_pickle_equals(p, encoding, "latin1") && !cld_pickle_equals(p, encoding, "latin-1")) {
        char name[80];
        cld_pickle_text(p, encoding, name, sizeof name);
        return cld__pickle_fail(p, "text is encoded as '%s'; only latin1 is known", name);
    }
    if (!again) {
        text.kind = CLD_PICKLE_BYTES;
        text.string.form =
            text.string.form == CLD_PICKLE_TEXT_LINE ? CLD_PICKLE_LATIN1_LINE : CLD_PICKLE_LATIN1;
        CLD_TRY(cld__pickle_measure(p, &text));
        *value_at(p, number) = text;
    }
    return cld__pickle_push_value(p, number);
}

/* bytes(), bytearray(bytes), bytearray(text, "latin-1") */
static cld_status make_bytes(cld_pickle *p, uint32_t called, uint32_t number) {
    const value *arguments = value_at(p, number);
    if (arguments->items.count == 0) return cld__pickle_push(p, (value){.kind = CLD_PICKLE_BYTES});
    if (arguments->items.count == 2) return encode(p, arguments);
    if (argument(p, arguments, 0)->kind != CLD_PICKLE_BYTES) return make_object(p, called, number);
    return cld__pickle_push_value(p, cld_pickle_item(p, arguments, 0));
}

/* ---- containers ---------------------------------------------------------------------------------------- */

/* Python 2 makes an OrderedDict from a list of pairs; others are filled later. */
static cld_status make_mapping(cld_pickle *p, const value *arguments) {
    const value from = *argument(p, arguments, 0);
    if (from.kind == CLD_PICKLE_DICT) return cld__pickle_push_value(p, cld_pickle_item(p, arguments, 0));
    CLD_TRY(cld__pickle_push(p, (value){.kind = CLD_PICKLE_DICT}));
    if (from.kind != CLD_PICKLE_LIST && from.kind != CLD_PICKLE_TUPLE) return CLD_OK;
    uint32_t dict = *stack_at(p, p->stack.count - 1), item;
    for (cld_pickle_cursor c = cld_pickle_items(&from); cld_pickle_next(p, &c, &item);) {
        const value pair = *value_at(p, item);
        if ((pair.kind != CLD_PICKLE_LIST && pair.kind != CLD_PICKLE_TUPLE) || pair.items.count != 2)
            return cld__pickle_fail(p, "a dictionary is made of something that is not a pair");
        CLD_TRY(cld__pickle_append(p, dict, cld_pickle_item(p, &pair, 0)));
        CLD_TRY(cld__pickle_append(p, dict, cld_pickle_item(p, &pair, 1)));
    }
    return CLD_OK;
}

/* deque(items), set(items), or empty and filled later. */
static cld_status make_sequence(cld_pickle *p, kind kind, const value *arguments) {
    const value from = *argument(p, arguments, 0);
    bool listed = from.kind == CLD_PICKLE_LIST || from.kind == CLD_PICKLE_TUPLE;
    CLD_TRY(cld__pickle_push(p, (value){.kind = kind}));
    uint32_t made = *stack_at(p, p->stack.count - 1), item;
    if (!listed) return CLD_OK;
    for (cld_pickle_cursor c = cld_pickle_items(&from); cld_pickle_next(p, &c, &item);)
        CLD_TRY(cld__pickle_append(p, made, item));
    return CLD_OK;
}

/* _frombuffer(data, dtype, shape, order, axes) */
static cld_status from_buffer(cld_pickle *p, const value *arguments) {
    value array = {.kind = CLD_PICKLE_ARRAY};
    const value *order = argument(p, arguments, 3);
    array.array.order = cld_pickle_equals(p, order, "C")   ? 'C'
                        : cld_pickle_equals(p, order, "F") ? 'F'
                        : cld_pickle_equals(p, order, "K") ? 'K'
                                                           : '\0';
    if (!array.array.order) return cld__pickle_fail(p, "an array's order is not C, F or K");
    array.array.data = cld_pickle_item(p, arguments, 0);
    array.array.dtype = cld_pickle_item(p, arguments, 1);
    array.array.shape = cld_pickle_item(p, arguments, 2);
    array.array.axes = cld_pickle_item(p, arguments, 4);
    return cld__pickle_push(p, array);
}

/* ---- the opcodes --------------------------------------------------------------------------------------- */

static cld_status call(cld_pickle *p, uint32_t called, uint32_t number) {
    const value *callee = value_at(p, called);
    value arguments = *value_at(p, number);
    bool is_unknown =
        callee->kind == CLD_PICKLE_OBJECT || (callee->kind == CLD_PICKLE_NAME && !callee->name.known);
    if (is_unknown) return make_object(p, called, number);
    if (callee->kind != CLD_PICKLE_NAME || arguments.kind != CLD_PICKLE_TUPLE)
        return cld__pickle_fail(p, "something that is not a function is called");
    switch (callee->name.known) {
    case RECONSTRUCT:
        return cld__pickle_push(p, (value){.kind = CLD_PICKLE_ARRAY}); /* empty: its state follows */
    case FROM_BUFFER: return from_buffer(p, &arguments);
    case SCALAR: return make_scalar(p, called, number);
    case DTYPE_CLASS: return make_dtype(p, &arguments);
    case ENCODE: return encode(p, &arguments);
    case BYTES_CLASS: return make_bytes(p, called, number);
    case MAPPING: return make_mapping(p, &arguments);
    case SEQUENCE: return make_sequence(p, CLD_PICKLE_LIST, &arguments);
    case SET_CLASS: return make_sequence(p, CLD_PICKLE_SET, &arguments);
    case RECONSTRUCTOR: { /* (class, base, the base's state) */
        uint32_t class = cld_pickle_item(p, &arguments, 0);
        bool is_class = value_at(p, class)->kind == CLD_PICKLE_NAME;
        return make_object(p, is_class ? class : called, is_class ? 0 : number);
    }
    }
    return cld__pickle_fail(p, "numpy.ndarray is called"); /* only ever an argument of _reconstruct */
}

cld_status cld__pickle_reduce(cld_pickle *p) {
    CLD_TRY(cld__pickle_need(p, 2));
    p->stack.count -= 2;
    return call(p, *stack_at(p, p->stack.count), *stack_at(p, p->stack.count + 1));
}

/* An instance of a class, which has so many operands above it on the stack. */
cld_status cld__pickle_new_object(cld_pickle *p, size_t operands) {
    CLD_TRY(cld__pickle_need(p, 1 + operands));
    p->stack.count -= 1 + operands;
    return call(p, *stack_at(p, p->stack.count), *stack_at(p, p->stack.count + 1));
}

/* The top of the stack becomes an id. PyTorch's legacy files put a module's class, with its source text, into an id:
 * that becomes the class. */
cld_status cld__pickle_push_persistent(cld_pickle *p) {
    CLD_TRY(cld__pickle_need(p, 1));
    uint32_t id = *stack_at(p, --p->stack.count);
    const value *v = value_at(p, id);
    if (v->kind == CLD_PICKLE_TUPLE && cld_pickle_equals(p, argument(p, v, 0), "module"))
        return cld__pickle_push_value(p, cld_pickle_item(p, v, 1));
    return cld__pickle_push(p, (value){.kind = CLD_PICKLE_PERSISTENT, .id = id});
}

static bool is_container(const value *v) {
    return v->kind == CLD_PICKLE_DICT || v->kind == CLD_PICKLE_LIST || v->kind == CLD_PICKLE_SET;
}

/* The state of a dtype is (version, byte order, ...), that of an array (version, shape, dtype, is_fortran, data). */
cld_status cld__pickle_build(cld_pickle *p) {
    CLD_TRY(cld__pickle_need(p, 2));
    uint32_t state_number = *stack_at(p, p->stack.count - 1);
    value state = *value_at(p, state_number);
    value *target = value_at(p, *stack_at(p, p->stack.count - 2));
    p->stack.count--;
    if (target->kind == CLD_PICKLE_OBJECT) target->object.state = state_number;
    /* Other values ignore their state, such as an OrderedDict's attributes. */
    if (target->kind == CLD_PICKLE_OBJECT || target->kind == CLD_PICKLE_NAME || is_container(target))
        return CLD_OK;
    if (state.kind != CLD_PICKLE_TUPLE ||
        (target->kind != CLD_PICKLE_DTYPE && target->kind != CLD_PICKLE_ARRAY))
        return cld__pickle_fail(p, "a state that is not an array's is set");
    if (target->kind == CLD_PICKLE_DTYPE) {
        target->dtype.big_endian = cld_pickle_equals(p, argument(p, &state, 1), ">");
        return CLD_OK;
    }
    const value *fortran = argument(p, &state, 3);
    if (fortran->kind != CLD_PICKLE_BOOL && fortran->kind != CLD_PICKLE_INTEGER)
        return cld__pickle_fail(p, "an array's state is malformed");
    target->array.order = fortran->integer ? 'F' : 'C';
    target->array.shape = cld_pickle_item(p, &state, 1);
    target->array.dtype = cld_pickle_item(p, &state, 2);
    target->array.data = cld_pickle_item(p, &state, 4);
    return CLD_OK;
}
