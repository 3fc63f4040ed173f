/* A strict reader of pickles of protocols 0 to 5: what Python's pickle module wrote becomes values, and no code runs.
 *
 * A pickle may name any Python function and have it called. The few names known here are those that rebuild NumPy's
 * arrays and numbers, dictionaries, sets and byte strings, and what they do is written out in C (pickle_names.c). What
 * anything else would have made is an OBJECT: the name of what was called, with what, and the state and the items that it
 * was given. Nothing is ever called.
 *
 * Values are numbers into an array: 0 is None, and a value that contains itself is no trouble. Who walks over them keeps
 * account of those that he has seen. The file is read in one pass through a small window; strings stay in it until they
 * are asked for. Work is linear in the size of the file, and so is memory, of which strings take none.
 *
 *     cld_pickle_source source = {.path = path, .kind = "a CIFAR batch file", .reader = &r, .end = r.bytes, ...};
 *     cld_pickle *p = cld_pickle_open(&source);
 *     const cld_pickle_value *root = cld_pickle_at(p, cld_pickle_root(p));
 */
#ifndef CLD_IO_PICKLE_H
#define CLD_IO_PICKLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "runtime/io/file.h"

typedef struct cld_pickle cld_pickle;

/* Where a pickle lies: in a file or, where memory is not NULL, there. Neither is copied; they outlive the pickle. */
typedef struct cld_pickle_source {
    const char *path; /* errors begin with it */
    const char *kind; /* "a CIFAR batch file": what a file with a bad pickle is not */
    cld_reader *reader;
    const uint8_t *memory;
    uint64_t begin, end; /* it begins at begin; it may end before end */
    uint32_t most;       /* values, cells of containers, memo entries: one more of these is an error */
    bool persistent;     /* whether it may refer to what its file keeps elsewhere */
} cld_pickle_source;

/* NULL on failure; every error names the path, and the byte if it is the pickle's. */
cld_pickle *cld_pickle_open(const cld_pickle_source *source);
void cld_pickle_free(cld_pickle *p);
const char *cld_pickle_path(const cld_pickle *p);
uint64_t cld_pickle_end(const cld_pickle *p); /* behind its last byte */

/* ---- values ------------------------------------------------------------------------------------------------- */

typedef enum cld_pickle_kind {
    CLD_PICKLE_NONE,
    CLD_PICKLE_BOOL,
    CLD_PICKLE_INTEGER,
    CLD_PICKLE_NUMBER, /* not whole, or an integer beyond 64 bits */
    CLD_PICKLE_BYTES,
    CLD_PICKLE_TEXT,
    CLD_PICKLE_LIST,
    CLD_PICKLE_TUPLE,
    CLD_PICKLE_SET,
    CLD_PICKLE_DICT,
    CLD_PICKLE_NAME,       /* a class or a function */
    CLD_PICKLE_DTYPE,      /* NumPy's */
    CLD_PICKLE_ARRAY,      /* NumPy's */
    CLD_PICKLE_PERSISTENT, /* what the file keeps elsewhere, under an id */
    CLD_PICKLE_OBJECT      /* what calling a name would have made */
} cld_pickle_kind;

/* How a string lies in the file. */
typedef enum cld_pickle_form {
    CLD_PICKLE_AS_IS,       /* bytes, or text in UTF-8 */
    CLD_PICKLE_QUOTED,      /* a Python literal without its quotes */
    CLD_PICKLE_TEXT_LINE,   /* Latin-1 with \u escapes; to UTF-8 */
    CLD_PICKLE_LATIN1,      /* UTF-8; to bytes */
    CLD_PICKLE_LATIN1_LINE, /* Latin-1 with \u escapes; to bytes */
} cld_pickle_form;

/* Numbers called a value are values' numbers. */
typedef struct cld_pickle_value {
    cld_pickle_kind kind;
    union {
        int64_t integer; /* BOOL and INTEGER */
        double number;   /* NUMBER */
        struct {
            uint64_t offset, raw; /* in the file; its bytes there */
            uint64_t size;        /* its bytes decoded, which TEXT_LINE does not know */
            cld_pickle_form form;
        } string; /* BYTES and TEXT */
        struct {
            uint32_t first, last, count;
        } items; /* LIST, TUPLE, SET; a DICT's are key, value, key, value */
        struct {
            uint32_t module, name; /* values: strings */
            int known;             /* pickle_names.c */
        } name;
        struct {
            uint32_t name, bytes; /* a value, for messages; of one element */
            char code; /* b, i, u, f: a number; S, U: text, U in four bytes a character; 0: of no such kind */
            bool big_endian;
        } dtype;
        struct {
            uint32_t shape, dtype, data, axes; /* values; 0 until built */
            char order; /* C, F, or K: shape is the memory's, and axes are how it is permuted */
        } array;
        uint32_t id; /* PERSISTENT: a value */
        struct {
            uint32_t name;           /* the value: of what was called, a NAME */
            uint32_t arguments;      /* the value: usually a TUPLE */
            uint32_t state;          /* a value; 0: none was set */
            uint32_t items, entries; /* values, a LIST and a DICT: what was put into it; 0: nothing */
            bool indirect;           /* what was called is itself what a call of the name would have made */
        } object;
    };
} cld_pickle_value;

uint32_t cld_pickle_root(const cld_pickle *p);
uint32_t cld_pickle_count(const cld_pickle *p); /* of all values; each number is below it */
const cld_pickle_value *cld_pickle_at(const cld_pickle *p, uint32_t i);

/* The i-th item of a container, which is looked for from the first on; None past the end. */
uint32_t cld_pickle_item(const cld_pickle *p, const cld_pickle_value *v, uint32_t i);

/* All items in order: for (cld_pickle_cursor c = cld_pickle_items(v); cld_pickle_next(p, &c, &i);) */
typedef struct cld_pickle_cursor {
    uint32_t cell, left;
} cld_pickle_cursor;
cld_pickle_cursor cld_pickle_items(const cld_pickle_value *container);
bool cld_pickle_next(const cld_pickle *p, cld_pickle_cursor *c, uint32_t *item);

/* ---- strings ------------------------------------------------------------------------------------------------ */

static inline bool cld_pickle_is_string(const cld_pickle_value *v) {
    return v->kind == CLD_PICKLE_BYTES || v->kind == CLD_PICKLE_TEXT;
}
/* The decoded string, ended by a zero byte and cut to fit the room and after some 250 bytes; its length. Never fails: what
 * cannot be read or decoded ends it. */
size_t cld_pickle_text(cld_pickle *p, const cld_pickle_value *v, char *out, size_t room);
bool cld_pickle_equals(cld_pickle *p, const cld_pickle_value *v,
                       const char *text); /* a string of these bytes */
/* "module.name" of a NAME or an OBJECT, cut to fit. */
void cld_pickle_full_name(cld_pickle *p, const cld_pickle_value *v, char *out, size_t room);

size_t cld_pickle_utf8(uint32_t code, uint8_t out[4]); /* the character's bytes; their number */

/* A string's bytes, from the first on. */
typedef struct cld_pickle_stream cld_pickle_stream;
cld_pickle_stream *cld_pickle_stream_open(cld_pickle *p, const cld_pickle_value *string);
cld_status cld_pickle_stream_next(cld_pickle_stream *s, void *out, size_t bytes); /* fewer are an error */
void cld_pickle_stream_free(cld_pickle_stream *s);
/* How many there are. */
cld_status cld_pickle_measure(cld_pickle *p, const cld_pickle_value *string, uint64_t *size);

/* ---- NumPy's arrays ----------------------------------------------------------------------------------------- */

#define CLD_PICKLE_DIMS 8

/* A dense array, and the string with its elements. Their memory is written as axes[0], the slowest, to axes[ndim - 1]. */
typedef struct cld_pickle_array {
    int ndim;
    size_t shape[CLD_PICKLE_DIMS];
    int axes[CLD_PICKLE_DIMS];
    const cld_pickle_value *dtype, *data;
} cld_pickle_array;

/* False if its parts do not fit each other, or its elements are of no kind that a dtype's code names. */
bool cld_pickle_open_array(const cld_pickle *p, const cld_pickle_value *v, cld_pickle_array *out);
/* The element of a dtype of code b, i, u or f, at most 8 bytes: a BOOL, an INTEGER, or a NUMBER. */
cld_pickle_value cld_pickle_element(const cld_pickle_value *dtype, const uint8_t *bytes);

#endif
