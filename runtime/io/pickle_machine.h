/* The pickle machine's insides, shared by pickle.c (opcodes), pickle_machine.c (stack, containers, memo),
 * pickle_names.c (what is called), pickle_input.c (the file and its strings) and pickle_array.c (NumPy's arrays).
 *
 * Everything is an index into a growing array, so a pickle may refer to itself: nothing is ever followed recursively,
 * and everything is freed together.
 */
#ifndef CLD_IO_PICKLE_MACHINE_H
#define CLD_IO_PICKLE_MACHINE_H

#include "runtime/io/pickle.h"

/* Values and the cells of containers are numbered in the order of their creation, at most one of each per input
 * byte. */
typedef cld_pickle_value value;
typedef cld_pickle_kind kind;
typedef cld_pickle_form form;

typedef struct cell {
    uint32_t value, next;
} cell;

typedef struct list {
    void *data;
    size_t count, room;
} list;

#define WINDOW 65536

struct cld_pickle {
    cld_pickle_source source;
    uint64_t at;
    const uint8_t *window; /* all of the memory, or buffer */
    uint64_t window_start, window_size;
    list values;   /* value; number 0 is None */
    list cells;    /* cell: the links of the containers' lists */
    list stack;    /* uint32_t: values */
    list marks;    /* size_t: heights of the stack */
    list memo;     /* uint32_t: values; 0 if nothing was put there */
    uint32_t root; /* the value of the whole pickle */
    uint8_t buffer[WINDOW];
};

static inline value *value_at(const cld_pickle *p, uint32_t i) { return (value *)p->values.data + i; }
static inline uint32_t *stack_at(const cld_pickle *p, size_t i) { return (uint32_t *)p->stack.data + i; }

/* CLD_IO: "<path>: not a CIFAR batch file: at byte 17, ..." */
cld_status cld__pickle_fail(const cld_pickle *p, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* Input: pickle_input.c. take skips bytes without reading them. A line ends with a newline, which is skipped too. */
cld_status cld__pickle_take(cld_pickle *p, uint64_t size, uint64_t *offset);
cld_status cld__pickle_take_number(cld_pickle *p, int bytes, uint64_t *out); /* little-endian */
cld_status cld__pickle_take_line(cld_pickle *p, uint64_t *offset, uint64_t *length);
cld_status cld__pickle_fetch(cld_pickle *p, uint64_t offset, void *out, size_t bytes);

/* Strings. measure sets the decoded size; a string that cannot be decoded is an error. */
cld_status cld__pickle_measure(cld_pickle *p, value *v);

/* The stack. need: fails if there are fewer than n values above the current mark. */
cld_status cld__pickle_need(const cld_pickle *p, size_t n);
cld_status cld__pickle_push(cld_pickle *p, value v);
cld_status cld__pickle_push_value(cld_pickle *p, uint32_t i);
cld_status cld__pickle_mark(cld_pickle *p);
cld_status cld__pickle_pop_mark(cld_pickle *p, size_t *height);

/* Everything above `height` becomes the contents of a new container, or of the one just below it. */
cld_status cld__pickle_new_container(cld_pickle *p, kind kind, size_t height);
cld_status cld__pickle_extend(cld_pickle *p, kind kind, size_t height);
/* Adds one item. */
cld_status cld__pickle_append(cld_pickle *p, uint32_t container, uint32_t item);

cld_status cld__pickle_put(cld_pickle *p, uint64_t index);
cld_status cld__pickle_get(cld_pickle *p, uint64_t index);

/* Names, and the opcodes that use them: pickle_names.c. */
cld_status cld__pickle_push_name(cld_pickle *p, uint32_t module, uint32_t name);
cld_status cld__pickle_push_persistent(cld_pickle *p);
cld_status cld__pickle_reduce(cld_pickle *p);
cld_status cld__pickle_new_object(cld_pickle *p, size_t arguments);
cld_status cld__pickle_build(cld_pickle *p);

#endif
