/* The pickles in CIFAR's batch files, from any writer: dictionaries, lists and tuples of numbers, strings and NumPy
 * arrays, as Python 2 and Python 3 pickle them (runtime/io/pickle.h). Anything else beside the wanted entries is
 * ignored; as a wanted entry it is an error that names it. For cifar.c only. */
#ifndef CLD_DATA_CIFAR_PICKLE_H
#define CLD_DATA_CIFAR_PICKLE_H

#include "runtime/io/pickle.h"

/* The file's value must be a dictionary; errors start with the file's path. The caller owns the reader, which must stay
 * open as long as the pickle. */
cld_pickle *cld__cifar_pickle_open(cld_reader *reader);

/* ---- its entries: an absent key, or a value of another kind, is an error ---- */

/* A dense array of u8. `wanted` describes it for the message. */
cld_status cld__cifar_u8_array(cld_pickle *p, const char *key, const char *wanted, cld_pickle_array *out);
/* A list or tuple of integers, Python's or NumPy's, or an array of them: copied to out if there are exactly `count`. */
cld_status cld__cifar_integers(cld_pickle *p, const char *key, int64_t *out, size_t count);
/* The first `most` entries of a list, tuple or NumPy array of strings, in UTF-8 if the writer's were text, each cut
 * after some 250 bytes: new strings, also on failure. Entries past the end are unchanged. */
cld_status cld__cifar_strings(cld_pickle *p, const char *key, char **out, size_t most);

#endif
