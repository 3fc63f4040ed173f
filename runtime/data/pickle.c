/* The opcodes that CIFAR's batch files hold, and access to the dictionary that comes out. */
#include "runtime/data/pickle_machine.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* ---- opcodes of protocol 0, which are text ------------------------------------------------------------- */

/* A line with a decimal number; Python 2 ends a long with L. */
static cld_status take_decimal(cld_pickle *p, int64_t *out) {
    const uint8_t *line = NULL;
    size_t length = 0;
    char text[32], *end;
    CLD_TRY(cld__pickle_take_line(p, &line, &length));
    if (length > 0 && line[length - 1] == 'L') length--;
    if (length == 0 || length >= sizeof text) return cld__pickle_fail(p, "a line is not an integer");
    memcpy(text, line, length);
    text[length] = 0;
    errno = 0;
    *out = strtoll(text, &end, 10);
    if (*end || end != text + length || errno) return cld__pickle_fail(p, "a line is not an integer");
    return CLD_OK;
}

static int hex_digit(int c) {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return -1;
}

/* A Python literal in quotes, unescaped where it lies. */
static cld_status push_quoted(cld_pickle *p) {
    const uint8_t *line = NULL;
    size_t length = 0, size = 0;
    CLD_TRY(cld__pickle_take_line(p, &line, &length));
    if (length < 2 || (line[0] != '\'' && line[0] != '"') || line[length - 1] != line[0])
        return cld__pickle_fail(p, "a string has no quotes");
    uint8_t *data = (uint8_t *)line + 1;
    for (size_t i = 1; i < length - 1; i++) {
        int c = line[i];
        if (c == '\\') {
            static const char escapes[] = "\\'\"nrt", meant[] = "\\'\"\n\r\t";
            const char *found = i + 2 < length ? memchr(escapes, line[++i], sizeof escapes - 1) : NULL;
            if (found) {
                c = meant[found - escapes];
            } else if (line[i] == 'x' && i + 3 < length && hex_digit(line[i + 1]) >= 0 &&
                       hex_digit(line[i + 2]) >= 0) {
                c = hex_digit(line[i + 1]) * 16 + hex_digit(line[i + 2]);
                i += 2;
            } else {
                return cld__pickle_fail(p, "a string has an unknown escape");
            }
        }
        data[size++] = (uint8_t)c;
    }
    return cld__pickle_push(p, (value){.kind = BYTES, .string = {data, size}});
}

/* Two lines: module and name. */
static cld_status push_global_lines(cld_pickle *p) {
    value name[2];
    for (int i = 0; i < 2; i++) {
        const uint8_t *line = NULL;
        size_t length = 0;
        CLD_TRY(cld__pickle_take_line(p, &line, &length));
        name[i] = (value){.kind = BYTES, .string = {line, length}};
    }
    return cld__pickle_push_global(p, &name[0], &name[1]);
}

static cld_status push_global_stack(cld_pickle *p) {
    CLD_TRY(cld__pickle_need(p, 2));
    value module = *value_at(p, *stack_at(p, p->stack.count - 2)),
          name = *value_at(p, *stack_at(p, p->stack.count - 1));
    p->stack.count -= 2;
    return cld__pickle_push_global(p, &module, &name);
}

/* ---- dispatch ------------------------------------------------------------------------------------------ */

static cld_status push_integer(cld_pickle *p, kind kind, int64_t i) {
    return cld__pickle_push(p, (value){.kind = kind, .integer = i});
}

/* A string whose length is a number of so many bytes. */
static cld_status push_string(cld_pickle *p, kind kind, int bytes) {
    uint64_t size = 0;
    const uint8_t *data = NULL;
    CLD_TRY(cld__pickle_take_number(p, bytes, &size));
    CLD_TRY(cld__pickle_take(p, size, &data));
    return cld__pickle_push(p, (value){.kind = kind, .string = {data, (size_t)size}});
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
    int64_t i = 0;
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
    case 'L': CLD_TRY(take_decimal(p, &i)); return push_integer(p, INTEGER, i);
    case 'K': CLD_TRY(cld__pickle_take_number(p, 1, &n)); return push_integer(p, INTEGER, (int64_t)n);
    case 'M': CLD_TRY(cld__pickle_take_number(p, 2, &n)); return push_integer(p, INTEGER, (int64_t)n);
    case 'J':
        CLD_TRY(cld__pickle_take_number(p, 4, &n));
        return push_integer(p, INTEGER, (int32_t)(uint32_t)n);
    case 0x8a: { /* LONG1: so many bytes of two's complement */
        uint64_t bytes = 0;
        CLD_TRY(cld__pickle_take_number(p, 1, &bytes));
        if (bytes > 8) return cld__pickle_fail(p, "an integer has %d bytes", (int)bytes);
        CLD_TRY(cld__pickle_take_number(p, (int)bytes, &n));
        if (bytes > 0 && bytes < 8 && n >> (8 * bytes - 1)) n |= UINT64_MAX << 8 * bytes;
        return push_integer(p, INTEGER, (int64_t)n);
    }

    case 'S': return push_quoted(p);
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
    case 'l': return marked_container(p, LIST);
    case 'd': return marked_container(p, DICT);
    case 't': return marked_container(p, TUPLE);
    case 0x85: return small_tuple(p, 1);
    case 0x86: return small_tuple(p, 2);
    case 0x87: return small_tuple(p, 3);
    case 'a': return last_items(p, LIST, 1);
    case 's': return last_items(p, DICT, 2);
    case 'e': return marked_items(p, LIST);
    case 'u': return marked_items(p, DICT);

    case 'p': CLD_TRY(take_decimal(p, &i)); return cld__pickle_put(p, (uint64_t)i);
    case 'q': CLD_TRY(cld__pickle_take_number(p, 1, &n)); return cld__pickle_put(p, n);
    case 'r': CLD_TRY(cld__pickle_take_number(p, 4, &n)); return cld__pickle_put(p, n);
    case 0x94: return cld__pickle_put(p, p->memo.count); /* MEMOIZE */
    case 'g': CLD_TRY(take_decimal(p, &i)); return cld__pickle_get(p, (uint64_t)i);
    case 'h': CLD_TRY(cld__pickle_take_number(p, 1, &n)); return cld__pickle_get(p, n);
    case 'j': CLD_TRY(cld__pickle_take_number(p, 4, &n)); return cld__pickle_get(p, n);

    case 'c': return push_global_lines(p);
    case 0x93: return push_global_stack(p);
    case 'R': return cld__pickle_reduce(p);
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
    if (value_at(p, p->root)->kind != DICT) return cld__pickle_fail(p, "its value is not a dictionary");
    return CLD_OK;
}

cld_pickle *cld_pickle_read(uint8_t *bytes, size_t size, const char *path) {
    if (size >= UINT32_MAX)
        return cld_fail_null(CLD_IO, "%s: too large for a CIFAR batch file: %zu bytes", path, size);
    cld_pickle *p = calloc(1, sizeof *p);
    if (p) p->path = strdup(path);
    if (!p || !p->path) {
        free(p);
        return cld_fail_null(CLD_NOMEM, "%s: out of memory", path);
    }
    p->begin = p->at = bytes;
    p->end = bytes + size;
    if (run(p) == CLD_OK) return p;
    cld_pickle_free(p);
    return NULL;
}

void cld_pickle_free(cld_pickle *p) {
    if (!p) return;
    list *lists[] = {&p->values, &p->cells, &p->stack, &p->marks, &p->memo};
    for (int i = 0; i < 5; i++) free(lists[i]->data);
    free(p->path);
    free(p);
}

/* ---- access -------------------------------------------------------------------------------------------- */

/* NULL where absent; the last entry of several. */
static const value *find(const cld_pickle *p, const char *key) {
    const value *dict = value_at(p, p->root), *found = NULL;
    const cell *cells = p->cells.data;
    uint32_t c = dict->items.first;
    for (uint32_t i = 0; i < dict->items.count; i += 2) {
        uint32_t next = cells[c].next;
        if (cld__pickle_equals(value_at(p, cells[c].value), key)) found = value_at(p, cells[next].value);
        c = cells[next].next;
    }
    return found;
}

/* The array's extents and bytes, where they fit each other. */
static bool open_array(const cld_pickle *p, const value *v, uint32_t ndim, int64_t *shape, int64_t *item_size,
                       const uint8_t **data) {
    if (!v || v->kind != ARRAY) return false;
    const value *extents = value_at(p, v->array.shape), *dtype = value_at(p, v->array.dtype);
    const value *bytes = value_at(p, v->array.data);
    if (extents->kind != TUPLE || extents->items.count != ndim || dtype->kind != DTYPE ||
        bytes->kind != BYTES)
        return false;
    int64_t total = *item_size = dtype->integer;
    for (uint32_t i = 0; i < ndim; i++) {
        const value *extent = value_at(p, cld__pickle_item(p, extents, i));
        if (extent->kind != INTEGER || extent->integer < 0 || extent->integer > UINT32_MAX) return false;
        shape[i] = extent->integer;
        if (__builtin_mul_overflow(total, shape[i], &total)) return false;
    }
    *data = bytes->string.data;
    return (uint64_t)total == bytes->string.size;
}

cld_status cld_pickle_matrix(const cld_pickle *p, const char *key, const uint8_t **data, size_t *rows,
                             size_t *columns) {
    int64_t shape[2], item_size;
    if (!open_array(p, find(p, key), 2, shape, &item_size, data) || item_size != 1)
        return cld_fail(CLD_IO, "%s: not a CIFAR batch file: '%s' should be a 2-d array of u1", p->path, key);
    *rows = (size_t)shape[0];
    *columns = (size_t)shape[1];
    return CLD_OK;
}

cld_status cld_pickle_integers(const cld_pickle *p, const char *key, int64_t *out, size_t count) {
    const value *v = find(p, key);
    int64_t length, item_size;
    const uint8_t *data;
    if (open_array(p, v, 1, &length, &item_size, &data)) {
        if ((size_t)length != count) goto wrong;
        for (size_t i = 0; i < count; i++, data += item_size) {
            int32_t narrow;
            if (item_size == 8)
                memcpy(&out[i], data, 8);
            else if (item_size == 4)
                memcpy(&narrow, data, 4), out[i] = narrow;
            else
                out[i] = *data;
        }
        return CLD_OK;
    }
    if (!v || v->kind != LIST || v->items.count != count) goto wrong;
    const cell *cells = p->cells.data;
    uint32_t c = v->items.first;
    for (size_t i = 0; i < count; i++, c = cells[c].next) {
        const value *element = value_at(p, cells[c].value);
        if (element->kind != INTEGER) goto wrong;
        out[i] = element->integer;
    }
    return CLD_OK;
wrong:
    return cld_fail(CLD_IO, "%s: not a CIFAR batch file: '%s' should be a list of %zu integers", p->path, key,
                    count);
}

cld_status cld_pickle_string(const cld_pickle *p, const char *key, size_t i, const char **text,
                             size_t *length) {
    const value *v = find(p, key);
    *text = NULL;
    if (!v || v->kind != LIST)
        return cld_fail(CLD_IO, "%s: not a CIFAR file: it has no list '%s'", p->path, key);
    if (i >= v->items.count) return CLD_OK;
    const value *element = value_at(p, cld__pickle_item(p, v, (uint32_t)i));
    if (!is_string(element))
        return cld_fail(CLD_IO, "%s: not a CIFAR file: '%s' holds more than text", p->path, key);
    *text = (const char *)element->string.data;
    *length = element->string.size;
    return CLD_OK;
}
