/* The opcodes, and running them. */
#include "runtime/io/pickle_machine.h"

#include <stdlib.h>
#include <string.h>

/* ---- opcodes of protocol 0, which are text ------------------------------------------------------------- */

/* A line with a decimal number; Python 2 ends a long with L. *fits says whether 64 bits hold it. */
static cld_status take_decimal(cld_pickle *p, int64_t *out, bool *fits) {
    uint32_t offset = 0, length = 0;
    char text[32];
    CLD_TRY(cld__pickle_take_line(p, &offset, &length));
    *out = 0;
    *fits = length < sizeof text;
    if (!*fits) return CLD_OK;
    CLD_TRY(cld__pickle_fetch(p, offset, text, length));
    if (length > 0 && text[length - 1] == 'L') length--;
    uint32_t first = length > 0 && text[0] == '-';
    if (length == first) return cld__pickle_fail(p, "a line is not an integer");
    for (uint32_t i = first; i < length; i++) {
        if (text[i] < '0' || text[i] > '9') return cld__pickle_fail(p, "a line is not an integer");
        int digit = first ? '0' - text[i] : text[i] - '0';
        *fits = *fits && !__builtin_mul_overflow(*out, 10, out) && !__builtin_add_overflow(*out, digit, out);
    }
    return CLD_OK;
}

static cld_status push_integer(cld_pickle *p, kind kind, int64_t i) {
    return cld__pickle_push(p, (value){.kind = kind, .integer = i});
}

static cld_status push_decimal(cld_pickle *p) {
    uint32_t before = p->at;
    int64_t i = 0;
    bool fits = false;
    CLD_TRY(take_decimal(p, &i, &fits));
    if (!fits) return push_integer(p, NUMBER, 0);
    bool two_digits = p->at - before == 3; /* I01 and I00 are True and False */
    char first = '\0';
    CLD_TRY(cld__pickle_fetch(p, before, &first, 1));
    return push_integer(p, two_digits && first == '0' ? BOOL : INTEGER, i);
}

static cld_status push_float(cld_pickle *p) {
    uint32_t offset = 0, length = 0;
    CLD_TRY(cld__pickle_take_line(p, &offset, &length));
    return push_integer(p, NUMBER, 0);
}

static cld_status take_index(cld_pickle *p, uint64_t *index) {
    int64_t i = 0;
    bool fits = false;
    CLD_TRY(take_decimal(p, &i, &fits));
    *index = fits ? (uint64_t)i : UINT64_MAX;
    return CLD_OK;
}

static cld_status push_line(cld_pickle *p, form form) {
    uint32_t offset = 0, length = 0;
    CLD_TRY(cld__pickle_take_line(p, &offset, &length));
    value line = {.kind = TEXT, .string = {.offset = offset, .raw = length, .size = length, .form = form}};
    return cld__pickle_push(p, line);
}

/* A Python literal in quotes. */
static cld_status push_quoted(cld_pickle *p) {
    uint32_t offset = 0, length = 0;
    CLD_TRY(cld__pickle_take_line(p, &offset, &length));
    char first = '\0', last = '\0';
    if (length >= 2) {
        CLD_TRY(cld__pickle_fetch(p, offset, &first, 1));
        CLD_TRY(cld__pickle_fetch(p, offset + length - 1, &last, 1));
    }
    if (first != last || (first != '\'' && first != '"'))
        return cld__pickle_fail(p, "a string has no quotes");
    value string = {.kind = BYTES, .string = {.offset = offset + 1, .raw = length - 2, .form = QUOTED}};
    CLD_TRY(cld__pickle_measure(p, &string));
    return cld__pickle_push(p, string);
}

/* The two strings on the top become a name. */
static cld_status push_global(cld_pickle *p) {
    CLD_TRY(cld__pickle_need(p, 2));
    p->stack.count -= 2;
    return cld__pickle_push_global(p, *stack_at(p, p->stack.count), *stack_at(p, p->stack.count + 1));
}

static cld_status push_global_lines(cld_pickle *p) {
    CLD_TRY(push_line(p, AS_IS));
    CLD_TRY(push_line(p, AS_IS));
    return push_global(p);
}

/* ---- dispatch ------------------------------------------------------------------------------------------ */

/* So many bytes of two's complement. */
static cld_status push_long(cld_pickle *p, int length_bytes) {
    uint64_t bytes = 0, n = 0;
    uint32_t offset = 0;
    CLD_TRY(cld__pickle_take_number(p, length_bytes, &bytes));
    if (bytes > 8) {
        CLD_TRY(cld__pickle_take(p, bytes, &offset));
        return push_integer(p, NUMBER, 0);
    }
    CLD_TRY(cld__pickle_take_number(p, (int)bytes, &n));
    if (bytes > 0 && bytes < 8 && n >> (8 * bytes - 1)) n |= UINT64_MAX << 8 * bytes;
    return push_integer(p, INTEGER, (int64_t)n);
}

/* A string whose length is a number of so many bytes. */
static cld_status push_string(cld_pickle *p, kind kind, int bytes) {
    uint64_t size = 0;
    uint32_t offset = 0;
    CLD_TRY(cld__pickle_take_number(p, bytes, &size));
    CLD_TRY(cld__pickle_take(p, size, &offset));
    value string = {.kind = kind,
                    .string = {.offset = offset, .raw = (uint32_t)size, .size = (uint32_t)size}};
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

/* The top n values as a tuple, or as items of the container below them. */
static cld_status small_tuple(cld_pickle *p, size_t n) {
    CLD_TRY(cld__pickle_need(p, n));
    return cld__pickle_new_container(p, TUPLE, p->stack.count - n);
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
    case 0x88: return push_integer(p, BOOL, 1); /* NEWTRUE */
    case 0x89: return push_integer(p, BOOL, 0); /* NEWFALSE */
    case 'I':
    case 'L': return push_decimal(p);
    case 'K': CLD_TRY(cld__pickle_take_number(p, 1, &n)); return push_integer(p, INTEGER, (int64_t)n);
    case 'M': CLD_TRY(cld__pickle_take_number(p, 2, &n)); return push_integer(p, INTEGER, (int64_t)n);
    case 'J':
        CLD_TRY(cld__pickle_take_number(p, 4, &n));
        return push_integer(p, INTEGER, (int32_t)(uint32_t)n);
    case 0x8a: return push_long(p, 1);
    case 0x8b: return push_long(p, 4);
    case 'F': return push_float(p);
    case 'G': CLD_TRY(cld__pickle_take_number(p, 8, &n)); return push_integer(p, NUMBER, 0);

    case 'S': return push_quoted(p);
    case 'V': return push_line(p, TEXT_LINE);
    case 'U':                                   /* SHORT_BINSTRING */
    case 'C': return push_string(p, BYTES, 1);  /* SHORT_BINBYTES */
    case 'T':                                   /* BINSTRING */
    case 'B': return push_string(p, BYTES, 4);  /* BINBYTES */
    case 0x8e:                                  /* BINBYTES8 */
    case 0x96: return push_string(p, BYTES, 8); /* BYTEARRAY8 */
    case 0x8c: return push_string(p, TEXT, 1);  /* SHORT_BINUNICODE */
    case 'X': return push_string(p, TEXT, 4);   /* BINUNICODE */
    case 0x8d: return push_string(p, TEXT, 8);  /* BINUNICODE8 */

    case ']': return cld__pickle_new_container(p, LIST, p->stack.count);
    case '}': return cld__pickle_new_container(p, DICT, p->stack.count);
    case ')': return cld__pickle_new_container(p, TUPLE, p->stack.count);
    case 0x8f: return cld__pickle_new_container(p, SET, p->stack.count);
    case 'l': return marked_container(p, LIST);
    case 'd': return marked_container(p, DICT);
    case 't': return marked_container(p, TUPLE);
    case 0x91: return marked_container(p, SET); /* FROZENSET */
    case 0x85: return small_tuple(p, 1);
    case 0x86: return small_tuple(p, 2);
    case 0x87: return small_tuple(p, 3);
    case 'a': return last_items(p, LIST, 1);
    case 's': return last_items(p, DICT, 2);
    case 'e': return marked_items(p, LIST);
    case 'u': return marked_items(p, DICT);
    case 0x90: return marked_items(p, SET); /* ADDITEMS */
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

    case 'c': return push_global_lines(p);
    case 0x93: return push_global(p); /* STACK_GLOBAL */
    case 'R': return cld__pickle_reduce(p);
    case 0x81: return cld__pickle_new_object(p, 1); /* NEWOBJ */
    case 0x92: return cld__pickle_new_object(p, 2); /* NEWOBJ_EX */
    case 'b': return cld__pickle_build(p);
    }
    p->at--;
    if (opcode > ' ' && opcode < 0x7F)
        return cld__pickle_fail(p, "the pickle opcode '%c' (0x%02x) is unknown", opcode, opcode);
    return cld__pickle_fail(p, "the pickle opcode 0x%02x is unknown", opcode);
}

static cld_status run(cld_pickle *p) {
    CLD_TRY(cld__pickle_push(p, (value){.kind = NONE})); /* value 0 */
    p->stack.count = 0;
    for (;;) {
        uint64_t opcode = 0;
        CLD_TRY(cld__pickle_take_number(p, 1, &opcode));
        if (opcode == '.') break;
        CLD_TRY(execute(p, (uint8_t)opcode));
    }
    CLD_TRY(cld__pickle_need(p, 1));
    p->root = *stack_at(p, p->stack.count - 1);
    const value *root = value_at(p, p->root);
    if (root->kind == DICT) return CLD_OK;
    if (root->kind != OBJECT) return cld__pickle_fail(p, "its value is not a dictionary");
    char name[2][64];
    cld__pickle_text(p, value_at(p, root->object.module), name[0], sizeof name[0]);
    cld__pickle_text(p, value_at(p, root->object.name), name[1], sizeof name[1]);
    return cld__pickle_fail(p, "it uses '%s.%s', which no dictionary of arrays needs (nothing was run)",
                            name[0], name[1]);
}

cld_pickle *cld_pickle_open(cld_reader *reader) {
    if (reader->bytes >= UINT32_MAX)
        return cld_fail_null(CLD_IO, "%s: too large for a CIFAR batch file: %llu bytes", reader->path,
                             (unsigned long long)reader->bytes);
    cld_pickle *p = calloc(1, sizeof *p);
    if (!p) return cld_fail_null(CLD_NOMEM, "%s: out of memory", reader->path);
    p->reader = reader;
    p->size = (uint32_t)reader->bytes;
    p->most = (1u << 18) + p->size / 128; /* an image of 3072 bytes has some fifteen values at most */
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
