/* Many zero-terminated strings in one block of memory, and lists that grow.
 *
 * For a million file names, malloc's overhead would be larger than the text. A string is named by its offset, because
 * the block moves when it grows.
 */
#ifndef CLD_CORE_STRINGS_H
#define CLD_CORE_STRINGS_H

#include <stddef.h>
#include <stdint.h>

#include "runtime/core/error.h"

typedef struct cld_strings {
    char *bytes; /* NULL while empty */
    size_t used, room;
} cld_strings;

/* Appends a copy; *at is its offset. */
cld_status cld_strings_add(cld_strings *s, const char *text, size_t length, uint64_t *at);
void cld_strings_free(cld_strings *s); /* may be called twice */

/* Makes room for `count` elements of this size in *list, which may move. It doubles as it grows. */
cld_status cld_grow(void **list, size_t *room, size_t count, size_t element);

#endif
