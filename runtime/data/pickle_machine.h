/* The pickle machine's insides, shared by pickle.c (opcodes), pickle_machine.c (stack, containers, memo) and
 * pickle_names.c (what may be called).
 *
 * Everything is a number into a growing array, so that a pickle that refers to itself is no trouble: nothing
 * is ever followed recursively, nothing is freed before the whole.
 */
#ifndef CLD_DATA_PICKLE_MACHINE_H
#define CLD_DATA_PICKLE_MACHINE_H

#include "runtime/data/pickle.h"

typedef enum kind { NONE, BOOL, INTEGER, BYTES, TEXT, LIST, TUPLE, DICT, GLOBAL, DTYPE, ARRAY } kind;

/* The names that a pickle may call. */
typedef enum global { RECONSTRUCT, FROM_BUFFER, NDARRAY, DTYPE_CLASS, ENCODE } global;

/* Values and the cells of containers are numbered as they are made, no more than one of each per byte of input. */
typedef struct value {
    kind kind;
    union {
        int64_t integer; /* BOOL and INTEGER; a GLOBAL's name; a DTYPE's bytes per element */
        struct {
            const uint8_t *data;
            size_t size;
        } string; /* BYTES, and TEXT in UTF-8 */
        struct {
            uint32_t first, last, count;
        } items; /* a DICT's are key, value, key, value */
        struct {
            uint32_t shape, dtype, data; /* values; 0 until built */
        } array;
    };
} value;

typedef struct cell {
    uint32_t value, next;
} cell;

typedef struct list {
    void *data;
    size_t count, room;
} list;

struct cld_pickle {
    char *path;
    const uint8_t *begin, *at, *end;
    list values;   /* value; number 0 is None */
    list cells;    /* cell: links of the containers' chains */
    list stack;    /* uint32_t: values */
    list marks;    /* size_t: heights of the stack */
    list memo;     /* uint32_t: values; 0 where nothing was put */
    uint32_t root; /* the dictionary */
};

static inline value *value_at(const cld_pickle *p, uint32_t i) { return (value *)p->values.data + i; }
static inline uint32_t *stack_at(const cld_pickle *p, size_t i) { return (uint32_t *)p->stack.data + i; }
static inline bool is_string(const value *v) { return v->kind == BYTES || v->kind == TEXT; }
bool cld__pickle_equals(const value *v, const char *text); /* a string with these bytes */

/* CLD_IO: "<path>: not a CIFAR batch file: at byte 17, ..." */
cld_status cld__pickle_fail(const cld_pickle *p, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* Input. A line ends with a newline, which is passed over. */
cld_status cld__pickle_take(cld_pickle *p, uint64_t size, const uint8_t **out);
cld_status cld__pickle_take_number(cld_pickle *p, int bytes, uint64_t *out); /* little-endian */
cld_status cld__pickle_take_line(cld_pickle *p, const uint8_t **line, size_t *length);

/* The stack. need: n values above the current mark. */
cld_status cld__pickle_need(const cld_pickle *p, size_t n);
cld_status cld__pickle_push(cld_pickle *p, value v);
cld_status cld__pickle_push_value(cld_pickle *p, uint32_t i);
cld_status cld__pickle_mark(cld_pickle *p);
cld_status cld__pickle_pop_mark(cld_pickle *p, size_t *height);

/* Everything above `height` becomes the contents of a new container, or of the one just below it. */
cld_status cld__pickle_new_container(cld_pickle *p, kind kind, size_t height);
cld_status cld__pickle_extend(cld_pickle *p, kind kind, size_t height);
uint32_t cld__pickle_item(const cld_pickle *p, const value *v, uint32_t i); /* None past the end */

cld_status cld__pickle_put(cld_pickle *p, uint64_t index);
cld_status cld__pickle_get(cld_pickle *p, uint64_t index);

/* Names, and the opcodes that use them: pickle_names.c. */
cld_status cld__pickle_push_global(cld_pickle *p, const value *module, const value *name);
cld_status cld__pickle_reduce(cld_pickle *p);
cld_status cld__pickle_build(cld_pickle *p);

#endif
