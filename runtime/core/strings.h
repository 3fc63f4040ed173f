/* Many strings in one block of memory, each with a zero byte after it, and lists that grow.
 *
 * A million file names would cost more in malloc's own bytes than in letters. An offset names a string here, because the
 * block moves when it grows.
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
void cld_strings_free(cld_strings *s); /* twice is fine */

/* *list, of elements of this size, has room for `count` of them afterwards; it may move. It doubles as it grows. */
cld_status cld_grow(void **list, size_t *room, size_t count, size_t element);

#endif
