/* A strict reader for the pickles that CIFAR's batch files are, whoever wrote them: dictionaries, lists and tuples of
 * numbers, strings and NumPy arrays, as Python 2 and Python 3 pickle them in protocols 0 to 5.
 *
 * It runs no code. A pickle may name any Python function and have it called; the few names known here are those that
 * rebuild an array, a number, a dictionary or a byte string, and what they do is written out in C (pickle_names.c). What
 * anything else would have made is an object of which the name is known and nothing more: it may lie beside the wanted
 * entries, and as one of them it is an error that names it.
 *
 * The file is read in one pass through a small window; strings stay in it until they are asked for. Work is linear in the
 * size of the file, and so is memory, of which pixels take none.
 */
#ifndef CLD_DATA_PICKLE_H
#define CLD_DATA_PICKLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "runtime/io/file.h"

typedef struct cld_pickle cld_pickle;

/* Reads a pickle whose value is a dictionary; the errors start with the file's path. The reader is the caller's and must
 * stay open as long as the pickle. */
cld_pickle *cld_pickle_open(cld_reader *reader);
void cld_pickle_free(cld_pickle *p);

/* ---- the entries of the dictionary: an absent key, or a value of another kind, is an error ---- */

#define CLD_PICKLE_DIMS 4

/* A dense array of u8. Its memory is written as axes[0], the slowest, to axes[ndim - 1]. */
typedef struct cld_pickle_array {
    int ndim;
    size_t shape[CLD_PICKLE_DIMS];
    int axes[CLD_PICKLE_DIMS];
    uint32_t data;
} cld_pickle_array;

/* `wanted` describes it for the message. */
cld_status cld_pickle_u8_array(cld_pickle *p, const char *key, const char *wanted, cld_pickle_array *out);

/* A list or tuple of integers, plain or NumPy's, or an array of them: copied to out if there are exactly `count`. */
cld_status cld_pickle_integers(cld_pickle *p, const char *key, int64_t *out, size_t count);
/* The first `most` entries of a list, tuple or NumPy array of strings, in UTF-8 if the writer's were text and each cut after
 * some 250 bytes: new strings, also when it fails; what lies past the end stays as it was. */
cld_status cld_pickle_strings(cld_pickle *p, const char *key, char **out, size_t most);

/* ---- an array's bytes, from the first on ---- */

typedef struct cld_pickle_stream cld_pickle_stream;

cld_pickle_stream *cld_pickle_stream_open(cld_pickle *p, const cld_pickle_array *array);
cld_status cld_pickle_stream_next(cld_pickle_stream *s, uint8_t *out, size_t bytes);
void cld_pickle_stream_free(cld_pickle_stream *s);

#endif
