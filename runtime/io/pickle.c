/* The opcodes, and running them. */
#include "runtime/io/pickle_machine.h"

#include <locale.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/core/text.h"

#define LONGEST_DECIMAL 128 /* digits; a longer number becomes NaN */

/* ---- opcodes of protocol 0, which are text ------------------------------------------------------------- */

/* A line with a decimal number; Python 2 ends a long with L. It is a NUMBER if it does not fit 64 bits. */
static cld_status take_decimal(cld_pickle *p, value *out) {
    uint64_t offset = 0, length = 0;
    char text[LONGEST_DECIMAL];
    CLD_TRY(cld__pickle_take_line(p, &offset, &length));
    *out = (value){.kind = CLD_PICKLE_NUMBER, .number = NAN};
    if (length >= sizeof text) return CLD_OK;
    CLD_TRY(cld__pickle_fetch(p, offset, text, (size_t)length));
    if (length > 0 && text[length - 1] == 'L') length--;
    uint64_t first = length > 0 && text[0] == '-';
    if (length == first) return cld__pickle_fail(p, "a line is not an integer");
    int64_t whole = 0;
    double real = 0;
    bool fits = true;
    for (uint64_t i = first; i < length; i++) {
        if (text[i] < '0' || text[i] > '9') return cld__pickle_fail(p, "a line is not an integer");
        int digit = first ? '0' - text[i] : text[i] - '0';
        fits = fits && !__builtin_mul_overflow(whole, 10, &whole) &&
               !__builtin_add_overflow(whole, digit, &whole);
        real = 10 * real + digit;
    }
    if (fits)
        *out = (value){.kind = CLD_PICKLE_INTEGER, .integer = whole};
    else
        out->number = real;
    return CLD_OK;
}

static cld_status push_integer(cld_pickle *p, kind kind, int64_t i) {
    return cld__pickle_push(p, (value){.kind = kind, .integer = i});
}

static cld_status push_number(cld_pickle *p, double number) {
    return cld__pickle_push(p, (value){.kind = CLD_PICKLE_NUMBER, .number = number});
}

static cld_status push_decimal(cld_pickle *p) {
    uint64_t before = p->at;
    value number;
    CLD_TRY(take_decimal(p, &number));
    bool two_digits = p->at - before == 3; /* I01 and I00 are True and False */
    char first = '\0';
    CLD_TRY(cld__pickle_fetch(p, before, &first, 1));
    if (two_digits && first == '0') number.kind = CLD_PICKLE_BOOL;
    return cld__pickle_push(p, number);
}

/* A line with Python's repr of a float. */
static cld_status push_float_line(cld_pickle *p) {
    uint64_t offset = 0, length = 0;
    char text[LONGEST_DECIMAL];
    CLD_TRY(cld__pickle_take_line(p, &offset, &length));
    size_t shown = length < sizeof text ? (size_t)length : 0;
    CLD_TRY(cld__pickle_fetch(p, offset, text, shown));
    text[shown] = '\0';
    locale_t before = cld_enter_c_locale();
    char *end = text;
    double number = strtod(text, &end);
    cld_leave_c_locale(before);
    return push_number(p, end > text ? number : NAN);
}

/* Eight bytes, big-endian. */
static cld_status push_float(cld_pickle *p) {
    uint64_t bits = 0;
    double number;
    CLD_TRY(cld__pickle_take_number(p, 8, &bits));
    bits = __builtin_bswap64(bits);
    memcpy(&number, &bits, sizeof number);
    return push_number(p, number);
}

static cld_status take_index(cld_pickle *p, uint64_t *index) {
    value number;
    CLD_TRY(take_decimal(p, &number));
    *index = number.kind == CLD_PICKLE_INTEGER ? (uint64_t)number.integer : UINT64_MAX;
    return CLD_OK;
}

static cld_status push_line(cld_pickle *p, form form) {
    uint64_t offset = 0, length = 0;
    CLD_TRY(cld__pickle_take_line(p, &offset, &length));
    value line = {.kind = CLD_PICKLE_TEXT,
                  .string = {.offset = offset, .raw = length, .size = length, .form = form}};
    return cld__pickle_push(p, line);
}

/* A line with a Python literal in quotes. */
static cld_status push_quoted(cld_pickle *p) {
    uint64_t offset = 0, length = 0;
    CLD_TRY(cld__pickle_take_line(p, &offset, &length));
    char first = '\0', last = '\0';
    if (length >= 2) {
        CLD_TRY(cld__pickle_fetch(p, offset, &first, 1));
        CLD_TRY(cld__pickle_fetch(p, offset + length - 1, &last, 1));
    }
    if (first != last || (first != '\'' && first != '"'))
        return cld__pickle_fail(p, "a string has no quotes");
    value string = {.kind = CLD_PICKLE_BYTES,
                    .string = {.offset = offset + 1, .raw = length - 2, .form = CLD_PICKLE_QUOTED}};
    CLD_TRY(cld__pickle_measure(p, &string));
    return cld__pickle_push(p, string);
}

/* The two strings on top of the stack become a name. */
static cld_status push_name(cld_pickle *p) {
    CLD_TRY(cld__pickle_need(p, 2));
    p->stack.count -= 2;
    return cld__pickle_push_name(p, *stack_at(p, p->stack.count), *stack_at(p, p->stack.count + 1));
}

static cld_status push_name_lines(cld_pickle *p) {
    CLD_TRY(push_line(p, CLD_PICKLE_AS_IS));
    CLD_TRY(push_line(p, CLD_PICKLE_AS_IS));
    return push_name(p);
}

/* ---- dispatch ------------------------------------------------------------------------------------------ */

/* A two's complement integer of more than 8 bytes as a double; NaN if it is too long. */
static cld_status push_large(cld_pickle *p, uint64_t bytes) {
    uint64_t offset = 0;
    uint8_t digits[LONGEST_DECIMAL];
    CLD_TRY(cld__pickle_take(p, bytes, &offset));
    if (bytes > sizeof digits) return push_number(p, NAN);
    CLD_TRY(cld__pickle_fetch(p, offset, digits, (size_t)bytes));
    double number = digits[bytes - 1] & 0x80 ? -1 : 0;
    for (uint64_t i = bytes; i-- > 0;) number = 256 * number + digits[i];
    return push_number(p, number);
}

/* A two's complement integer after its length, a number of `length_bytes` bytes. */
static cld_status push_long(cld_pickle *p, int length_bytes) {
    uint64_t bytes = 0, n = 0;
    CLD_TRY(cld__pickle_take_number(p, length_bytes, &bytes));
    if (bytes > 8) return push_large(p, bytes);
    CLD_TRY(cld__pickle_take_number(p, (int)bytes, &n));
    if (bytes > 0 && bytes < 8 && n >> (8 * bytes - 1)) n |= UINT64_MAX << 8 * bytes;
    return push_integer(p, CLD_PICKLE_INTEGER, (int64_t)n);
}

/* A string after its length, a number of `bytes` bytes. */
static cld_status push_string(cld_pickle *p, kind kind, int bytes) {
    uint64_t size = 0, offset = 0;
    CLD_TRY(cld__pickle_take_number(p, bytes, &size));
    CLD_TRY(cld__pickle_take(p, size, &offset));
    value string = {.kind = kind, .string = {.offset = offset, .raw = size, .size = size}};
    return cld__pickle_push(p, string);
}

static cld_status pop(cld_pickle *p) {
    CLD_TRY(cld__pickle_need(p, 1));
    p->stack.count--;
    return CLD_OK;
}

static cld_status pop_mark(cld_pickle *p) {
    size_t height = 0;
    CLD_TRY(cld__pickle_pop_mark(p, &height));
    p->stack.count = height;
    return CLD_OK;
}

static cld_status duplicate(cld_pickle *p) {
    CLD_TRY(cld__pickle_need(p, 1));
    return cld__pickle_push_value(p, *stack_at(p, p->stack.count - 1));
}

static cld_status marked_container(cld_pickle *p, kind kind) {
    size_t height = 0;
    CLD_TRY(cld__pickle_pop_mark(p, &height));
    return cld__pickle_new_container(p, kind, height);
}

static cld_status marked_items(cld_pickle *p, kind kind) {
    size_t height = 0;
    CLD_TRY(cld__pickle_pop_mark(p, &height));
    return cld__pickle_extend(p, kind, height);
}

/* The top n values become a tuple, or (last_items) items of the container below them. */
static cld_status small_tuple(cld_pickle *p, size_t n) {
    CLD_TRY(cld__pickle_need(p, n));
    return cld__pickle_new_container(p, CLD_PICKLE_TUPLE, p->stack.count - n);
}

static cld_status last_items(cld_pickle *p, kind kind, size_t n) {
    CLD_TRY(cld__pickle_need(p, n));
    return cld__pickle_extend(p, kind, p->stack.count - n);
}

static cld_status execute(cld_pickle *p, uint8_t opcode) {
    uint64_t n = 0;
    switch (opcode) {
    case 0x80: /* PROTO */
        CLD_TRY(cld__pickle_take_number(p, 1, &n));
        return n <= 5 ? CLD_OK : cld__pickle_fail(p, "the pickle's protocol is %d; 0 to 5 are known", (int)n);
    case 0x95: return cld__pickle_take_number(p, 8, &n); /* FRAME */
    case '(': return cld__pickle_mark(p);

    case 'N': return cld__pickle_push_value(p, 0);
    case 0x88: return push_integer(p, CLD_PICKLE_BOOL, 1); /* NEWTRUE */
    case 0x89: return push_integer(p, CLD_PICKLE_BOOL, 0); /* NEWFALSE */
    case 'I':
    case 'L': return push_decimal(p);
    case 'K':
        CLD_TRY(cld__pickle_take_number(p, 1, &n));
        return push_integer(p, CLD_PICKLE_INTEGER, (int64_t)n);
    case 'M':
        CLD_TRY(cld__pickle_take_number(p, 2, &n));
        return push_integer(p, CLD_PICKLE_INTEGER, (int64_t)n);
    case 'J':
        CLD_TRY(cld__pickle_take_number(p, 4, &n));
        return push_integer(p, CLD_PICKLE_INTEGER, (int32_t)(uint32_t)n);
    case 0x8a: return push_long(p, 1);
    case 0x8b: return push_long(p, 4);
    case 'F': return push_float_line(p);
    case 'G': return push_float(p);

    case 'S': return push_quoted(p);
    case 'V': return push_line(p, CLD_PICKLE_TEXT_LINE);
    case 'U':                                              /* SHORT_BINSTRING */
    case 'C': return push_string(p, CLD_PICKLE_BYTES, 1);  /* SHORT_BINBYTES */
    case 'T':                                              /* BINSTRING */
    case 'B': return push_string(p, CLD_PICKLE_BYTES, 4);  /* BINBYTES */
    case 0x8e:                                             /* BINBYTES8 */
    case 0x96: return push_string(p, CLD_PICKLE_BYTES, 8); /* BYTEARRAY8 */
    case 0x8c: return push_string(p, CLD_PICKLE_TEXT, 1);  /* SHORT_BINUNICODE */
    case 'X': return push_string(p, CLD_PICKLE_TEXT, 4);   /* BINUNICODE */
    case 0x8d: return push_string(p, CLD_PICKLE_TEXT, 8);  /* BINUNICODE8 */

    case ']': return cld__pickle_new_container(p, CLD_PICKLE_LIST, p->stack.count);
    case '}': return cld__pickle_new_container(p, CLD_PICKLE_DICT, p->stack.count);
    case ')': return cld__pickle_new_container(p, CLD_PICKLE_TUPLE, p->stack.count);
    case 0x8f: return cld__pickle_new_container(p, CLD_PICKLE_SET, p->stack.count);
    case 'l': return marked_container(p, CLD_PICKLE_LIST);
    case 'd': return marked_container(p, CLD_PICKLE_DICT);
    case 't': return marked_container(p, CLD_PICKLE_TUPLE);
    case 0x91: return marked_container(p, CLD_PICKLE_SET); /* FROZENSET */
    case 0x85: return small_tuple(p, 1);
    case 0x86: return small_tuple(p, 2);
    case 0x87: return small_tuple(p, 3);
    case 'a': return last_items(p, CLD_PICKLE_LIST, 1);
    case 's': return last_items(p, CLD_PICKLE_DICT, 2);
    case 'e': return marked_items(p, CLD_PICKLE_LIST);
    case 'u': return marked_items(p, CLD_PICKLE_DICT);
    case 0x90: return marked_items(p, CLD_PICKLE_SET); /* ADDITEMS */
    case '0': return pop(p);
    case '1': return pop_mark(p);
    case '2': return duplicate(p);

    case 'p': CLD_TRY(take_index(p, &n)); return cld__pickle_put(p, n);
    case 'q': CLD_TRY(cld__pickle_take_number(p, 1, &n)); return cld__pickle_put(p, n);
    case 'r': CLD_TRY(cld__pickle_take_number(p, 4, &n)); return cld__pickle_put(p, n);
    case 0x94: return cld__pickle_put(p, p->memo.count); /* MEMOIZE */
    case 'g': CLD_TRY(take_index(p, &n)); return cld__pickle_get(p, n);
    case 'h': CLD_TRY(cld__pickle_take_number(p, 1, &n)); return cld__pickle_get(p, n);
    case 'j': CLD_TRY(cld__pickle_take_number(p, 4, &n)); return cld__pickle_get(p, n);

    case 'c': return push_name_lines(p);
    case 0x93: return push_name(p); /* STACK_GLOBAL */
    case 'R': return cld__pickle_reduce(p);
    case 0x81: return cld__pickle_new_object(p, 1); /* NEWOBJ */
    case 0x92: return cld__pickle_new_object(p, 2); /* NEWOBJ_EX */
    case 'b': return cld__pickle_build(p);
    case 'Q': /* BINPERSID */
        if (p->source.persistent) return cld__pickle_push_persistent(p);
        break;
    }
    p->at--;
    if (opcode > ' ' && opcode < 0x7F)
        return cld__pickle_fail(p, "the pickle opcode '%c' (0x%02x) is unknown", opcode, opcode);
    return cld__pickle_fail(p, "the pickle opcode 0x%02x is unknown", opcode);
}

static cld_status run(cld_pickle *p) {
    CLD_TRY(cld__pickle_push(p, (value){.kind = CLD_PICKLE_NONE})); /* value 0 */
    p->stack.count = 0;
    for (;;) {
        uint64_t opcode = 0;
        CLD_TRY(cld__pickle_take_number(p, 1, &opcode));
        if (opcode == '.') break;
        CLD_TRY(execute(p, (uint8_t)opcode));
    }
    CLD_TRY(cld__pickle_need(p, 1));
    p->root = *stack_at(p, p->stack.count - 1);
    return CLD_OK;
}

cld_pickle *cld_pickle_open(const cld_pickle_source *source) {
    cld_pickle *p = calloc(1, sizeof *p);
    if (!p) return cld_fail_null(CLD_NOMEM, "%s: out of memory", source->path);
    p->source = *source;
    p->at = source->begin;
    p->window = p->buffer;
    if (source->memory) {
        p->window = source->memory;
        p->window_size = source->end;
    }
    if (run(p) == CLD_OK) return p;
    cld_pickle_free(p);
    return NULL;
}

void cld_pickle_free(cld_pickle *p) {
    if (!p) return;
    list *lists[] = {&p->values, &p->cells, &p->stack, &p->marks, &p->memo};
    for (int i = 0; i < 5; i++) free(lists[i]->data);
    free(p);
}

const char *cld_pickle_path(const cld_pickle *p) { return p->source.path; }
uint64_t cld_pickle_end(const cld_pickle *p) { return p->at; }
uint32_t cld_pickle_root(const cld_pickle *p) { return p->root; }
uint32_t cld_pickle_count(const cld_pickle *p) { return (uint32_t)p->values.count; }
const cld_pickle_value *cld_pickle_at(const cld_pickle *p, uint32_t i) { return value_at(p, i); }
