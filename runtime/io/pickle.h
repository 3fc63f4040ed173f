/* A strict reader of pickles of protocols 0 to 5: what Python's pickle module wrote becomes values, and no code runs.
 *
 * A pickle may name any Python function and have it called. The few names known here are those that rebuild NumPy's
 * arrays and numbers, dictionaries, sets and byte strings; what they do is written in C (pickle_names.c). The result of
 * any other call becomes an OBJECT: the name of what would have been called, its arguments, and the state and the items
 * that the result was given. Nothing is ever called.
 *
 * Values are indices into an array, and 0 is None, so a value may contain itself. Code that walks over values must
 * remember which ones it has seen. The file is read in one pass through a small window; strings stay in the file until
 * they are needed. Time and memory are linear in the size of the file; strings take no memory.
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

/* Where a pickle is: in memory if that is not NULL, else in a file. Neither is copied, so it must outlive the
 * pickle. */
typedef struct cld_pickle_source {
    const char *path; /* errors begin with it */
    const char *kind; /* "a CIFAR batch file"; the errors say: not a CIFAR batch file */
    cld_reader *reader;
    const uint8_t *memory;
    uint64_t begin, end; /* it begins at begin; it may end before end */
    uint32_t most;       /* the limit on values, on cells of containers and on memo entries */
    bool persistent;     /* whether it may refer to objects that its file keeps elsewhere */
} cld_pickle_source;

/* NULL on failure. Every error names the path, and the byte if the fault is in the pickle. */
cld_pickle *cld_pickle_open(const cld_pickle_source *source);
void cld_pickle_free(cld_pickle *p);
const char *cld_pickle_path(const cld_pickle *p);
uint64_t cld_pickle_end(const cld_pickle *p); /* the offset after its last byte */

/* ---- values ------------------------------------------------------------------------------------------------- */

typedef enum cld_pickle_kind {
    CLD_PICKLE_NONE,
    CLD_PICKLE_BOOL,
    CLD_PICKLE_INTEGER,
    CLD_PICKLE_NUMBER, /* a float, or an integer of more than 64 bits */
    CLD_PICKLE_BYTES,
    CLD_PICKLE_TEXT,
    CLD_PICKLE_LIST,
    CLD_PICKLE_TUPLE,
    CLD_PICKLE_SET,
    CLD_PICKLE_DICT,
    CLD_PICKLE_NAME,       /* a class or a function */
    CLD_PICKLE_DTYPE,      /* NumPy's */
    CLD_PICKLE_ARRAY,      /* NumPy's */
    CLD_PICKLE_PERSISTENT, /* an object that the file keeps elsewhere, by its id */
    CLD_PICKLE_OBJECT      /* what a call of a name would have returned */
} cld_pickle_kind;

/* How the file stores a string, and how it is decoded. */
typedef enum cld_pickle_form {
    CLD_PICKLE_AS_IS,       /* bytes, or text in UTF-8 */
    CLD_PICKLE_QUOTED,      /* a Python literal without its quotes */
    CLD_PICKLE_TEXT_LINE,   /* Latin-1 with \u escapes; to UTF-8 */
    CLD_PICKLE_LATIN1,      /* UTF-8; to bytes */
    CLD_PICKLE_LATIN1_LINE, /* Latin-1 with \u escapes; to bytes */
} cld_pickle_form;

/* An integer described as "a value" is the number of that value. */
typedef struct cld_pickle_value {
    cld_pickle_kind kind;
    union {
        int64_t integer; /* BOOL and INTEGER */
        double number;   /* NUMBER */
        struct {
            uint64_t offset, raw; /* place and size in the file */
            uint64_t size;        /* decoded size; unknown for TEXT_LINE */
            cld_pickle_form form;
        } string; /* BYTES and TEXT */
        struct {
            uint32_t first, last, count;
        } items; /* LIST, TUPLE, SET; a DICT's are key, value, key, value */
        struct {
            uint32_t module, name; /* values, both strings */
            int known;             /* pickle_names.c */
        } name;
        struct {
            uint32_t name, bytes; /* a value, for messages; the size of one element */
            char code; /* b, i, u, f: a number; S, U: text, with four bytes per character for U; 0: other */
            bool big_endian;
        } dtype;
        struct {
            uint32_t shape, dtype, data, axes; /* values; 0 until built */
            char order; /* C, F, or K: shape is as in memory, and axes says how it is permuted */
        } array;
        uint32_t id; /* PERSISTENT: a value */
        struct {
            uint32_t name;           /* a value, the NAME of what was called */
            uint32_t arguments;      /* a value, usually a TUPLE */
            uint32_t state;          /* a value; 0: none was set */
            uint32_t items, entries; /* values, a LIST and a DICT of what was put into it; 0: nothing */
            bool indirect;           /* what was called is itself the result of a call of the name */
        } object;
    };
} cld_pickle_value;

uint32_t cld_pickle_root(const cld_pickle *p);
uint32_t cld_pickle_count(const cld_pickle *p); /* the number of values */
const cld_pickle_value *cld_pickle_at(const cld_pickle *p, uint32_t i);

/* The i-th item of a container, found by walking from the first one; None past the end. */
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
/* Decodes the string into out, with a zero byte at its end, cut to fit the room and to some 250 bytes, and returns its
 * length. It never fails: the string ends at what cannot be read or decoded. */
size_t cld_pickle_text(cld_pickle *p, const cld_pickle_value *v, char *out, size_t room);
bool cld_pickle_equals(cld_pickle *p, const cld_pickle_value *v,
                       const char *text); /* whether v is a string of these bytes */
/* "module.name" of a NAME or an OBJECT, cut to fit. */
void cld_pickle_full_name(cld_pickle *p, const cld_pickle_value *v, char *out, size_t room);

size_t cld_pickle_utf8(uint32_t code, uint8_t out[4]); /* returns the number of bytes */

/* Reads a string's decoded bytes in order. */
typedef struct cld_pickle_stream cld_pickle_stream;
cld_pickle_stream *cld_pickle_stream_open(cld_pickle *p, const cld_pickle_value *string);
cld_status cld_pickle_stream_next(cld_pickle_stream *s, void *out, size_t bytes); /* fewer are an error */
void cld_pickle_stream_free(cld_pickle_stream *s);
/* The number of decoded bytes. */
cld_status cld_pickle_measure(cld_pickle *p, const cld_pickle_value *string, uint64_t *size);

/* ---- NumPy's arrays ----------------------------------------------------------------------------------------- */

#define CLD_PICKLE_DIMS 8

/* A dense array, and the string with its elements. In memory, axes[0] is the slowest axis and axes[ndim - 1] the
 * fastest. */
typedef struct cld_pickle_array {
    int ndim;
    size_t shape[CLD_PICKLE_DIMS];
    int axes[CLD_PICKLE_DIMS];
    const cld_pickle_value *dtype, *data;
} cld_pickle_array;

/* False if the array's parts do not fit each other, or if its dtype's code is 0. */
bool cld_pickle_open_array(const cld_pickle *p, const cld_pickle_value *v, cld_pickle_array *out);
/* An element, of at most 8 bytes, of a dtype with code b, i, u or f, as a BOOL, an INTEGER or a NUMBER. */
cld_pickle_value cld_pickle_element(const cld_pickle_value *dtype, const uint8_t *bytes);

#endif
