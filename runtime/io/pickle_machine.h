/* The pickle machine's insides, shared by pickle.c (opcodes), pickle_machine.c (stack, containers, memo),
 * pickle_names.c (what may be called), pickle_input.c (the file and its strings) and pickle_entries.c (what comes out).
 *
 * Everything is a number into a growing array, so that a pickle that refers to itself is no trouble: nothing
 * is ever followed recursively, nothing is freed before the whole.
 */
#ifndef CLD_DATA_PICKLE_MACHINE_H
#define CLD_DATA_PICKLE_MACHINE_H

#include "runtime/io/pickle.h"

/* NUMBER: neither of 64 bits nor whole. OBJECT: what an unknown name would have made, or the name itself. */
typedef enum kind {
    NONE,
    BOOL,
    INTEGER,
    NUMBER,
    BYTES,
    TEXT,
    LIST,
    TUPLE,
    SET,
    DICT,
    GLOBAL,
    DTYPE,
    ARRAY,
    OBJECT
} kind;

/* The names that a pickle may call. */
typedef enum global {
    RECONSTRUCT,
    FROM_BUFFER,
    SCALAR,
    NDARRAY,
    DTYPE_CLASS,
    ENCODE,
    BYTES_CLASS,
    MAPPING
} global;

/* How a string lies in the file. */
typedef enum form {
    AS_IS,       /* bytes, or text in UTF-8 */
    QUOTED,      /* a Python literal without its quotes */
    TEXT_LINE,   /* Latin-1 with \u escapes; to UTF-8 */
    LATIN1,      /* UTF-8; to bytes */
    LATIN1_LINE, /* Latin-1 with \u escapes; to bytes */
} form;

/* Values and the cells of containers are numbered as they are made, no more than one of each per byte of input. */
typedef struct value {
    kind kind;
    union {
        int64_t integer; /* BOOL and INTEGER; a GLOBAL's name */
        struct {
            uint32_t offset, raw,
                size; /* in the file; its bytes there, and decoded, which TEXT_LINE does not know */
            form form;
        } string; /* BYTES and TEXT */
        struct {
            uint32_t first, last, count;
        } items; /* a DICT's are key, value, key, value */
        struct {
            uint32_t name, bytes; /* a value, for messages; of one element */
            char code; /* b, i, u: a number; S, U: text, U in four bytes a character; 0: of no such kind */
            bool big_endian;
        } dtype;
        struct {
            uint32_t shape, dtype, data, axes; /* values; 0 until built */
            char order; /* C, F, or K: shape is the memory's, and axes are how it is permuted */
        } array;
        struct {
            uint32_t module, name; /* values */
        } object;
    };
} value;

typedef struct cell {
    uint32_t value, next;
} cell;

typedef struct list {
    void *data;
    size_t count, room;
} list;

#define WINDOW 65536

struct cld_pickle {
    cld_reader *reader;
    uint32_t size, at;
    uint32_t window_start, window_size;
    size_t most;   /* no list below grows beyond this */
    list values;   /* value; number 0 is None */
    list cells;    /* cell: links of the containers' chains */
    list stack;    /* uint32_t: values */
    list marks;    /* size_t: heights of the stack */
    list memo;     /* uint32_t: values; 0 where nothing was put */
    uint32_t root; /* the dictionary */
    uint8_t window[WINDOW];
};

static inline value *value_at(const cld_pickle *p, uint32_t i) { return (value *)p->values.data + i; }
static inline uint32_t *stack_at(const cld_pickle *p, size_t i) { return (uint32_t *)p->stack.data + i; }
static inline bool is_string(const value *v) { return v->kind == BYTES || v->kind == TEXT; }

/* CLD_IO: "<path>: not a CIFAR batch file: at byte 17, ..." */
cld_status cld__pickle_fail(const cld_pickle *p, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* Input: pickle_input.c. take passes over bytes without reading them. A line ends with a newline, which is passed over
 * too. */
cld_status cld__pickle_take(cld_pickle *p, uint64_t size, uint32_t *offset);
cld_status cld__pickle_take_number(cld_pickle *p, int bytes, uint64_t *out); /* little-endian */
cld_status cld__pickle_take_line(cld_pickle *p, uint32_t *offset, uint32_t *length);
cld_status cld__pickle_fetch(cld_pickle *p, uint32_t offset, void *out, size_t bytes);

/* Strings. text: the decoded string, ended by a zero byte and cut to fit the room; its length. Never fails: what cannot
 * be read or decoded ends it. measure: sets the decoded size; an error if it cannot be decoded. */
size_t cld__pickle_utf8(uint32_t code, uint8_t out[4]); /* the character's bytes; their number */
size_t cld__pickle_text(cld_pickle *p, const value *v, char *out, size_t room);
cld_status cld__pickle_measure(cld_pickle *p, value *v);
bool cld__pickle_equals(cld_pickle *p, const value *v, const char *text); /* a string with these bytes */

/* The stack. need: n values above the current mark. */
cld_status cld__pickle_need(const cld_pickle *p, size_t n);
cld_status cld__pickle_push(cld_pickle *p, value v);
cld_status cld__pickle_push_value(cld_pickle *p, uint32_t i);
cld_status cld__pickle_mark(cld_pickle *p);
cld_status cld__pickle_pop_mark(cld_pickle *p, size_t *height);

/* Everything above `height` becomes the contents of a new container, or of the one just below it. */
cld_status cld__pickle_new_container(cld_pickle *p, kind kind, size_t height);
cld_status cld__pickle_extend(cld_pickle *p, kind kind, size_t height);
/* One more item. */
cld_status cld__pickle_append(cld_pickle *p, uint32_t container, uint32_t item);
uint32_t cld__pickle_item(const cld_pickle *p, const value *v, uint32_t i); /* None past the end */

cld_status cld__pickle_put(cld_pickle *p, uint64_t index);
cld_status cld__pickle_get(cld_pickle *p, uint64_t index);

/* Names, and the opcodes that use them: pickle_names.c. */
cld_status cld__pickle_push_global(cld_pickle *p, uint32_t module, uint32_t name);
cld_status cld__pickle_reduce(cld_pickle *p);
cld_status cld__pickle_new_object(cld_pickle *p, size_t arguments);
cld_status cld__pickle_build(cld_pickle *p);

/* The little-endian or big-endian integer of a dtype: a BOOL, an INTEGER, or a NUMBER that does not fit. */
value cld__pickle_number(const value *dtype, const uint8_t *bytes);

#endif
