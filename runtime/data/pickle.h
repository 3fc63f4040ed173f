/* A strict reader for the pickles that CIFAR's batch files are: dictionaries, lists and tuples of numbers,
 * strings and NumPy arrays, as Python 2 (protocols 0 to 2) and Python 3 (protocols 2 to 5) write them.
 *
 * It runs no code. A pickle may name any Python function and have it called; here six names are known, those
 * that rebuild an array, a dtype or a byte string, and what they do is written out below in C. Any other
 * name, opcode or use is an error that says where. Strings point into the caller's bytes, which must outlive
 * the pickle and which reading may change: escaped text is decoded in place. Work and memory are linear in
 * the size of the input.
 */
#ifndef CLD_DATA_PICKLE_H
#define CLD_DATA_PICKLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "runtime/core/error.h"

typedef struct cld_pickle cld_pickle;

/* Reads a pickle whose value is a dictionary; the errors start with path. */
cld_pickle *cld_pickle_read(uint8_t *bytes, size_t size, const char *path);
void cld_pickle_free(cld_pickle *p);

/* ---- the entries of the dictionary: an absent key, or a value of another kind, is an error ---- */

/* A C-ordered array of u8 with ndim 2: its rows and columns. */
cld_status cld_pickle_matrix(const cld_pickle *p, const char *key, const uint8_t **data, size_t *rows,
                             size_t *columns);
/* A list of integers, or a 1-d array of u8, i32 or i64: copied to out if there are exactly `count`. */
cld_status cld_pickle_integers(const cld_pickle *p, const char *key, int64_t *out, size_t count);
/* Entry i of a list of strings; *text is NULL past the end. */
cld_status cld_pickle_string(const cld_pickle *p, const char *key, size_t i, const char **text,
                             size_t *length);

#endif
