/* Detects that jansson ran out of memory. In many places it reports that as bad UTF-8 or as a syntax error, or not at
 * all, so we watch its allocations.
 *
 *     cld_json_watch();
 *     json_t *value = json_loadb(...);
 *     if (cld_json_starved()) ... out of memory, whatever value and error say: json_decref(value) before the next watch
 */
#ifndef CLD_IO_JSON_MEMORY_H
#define CLD_IO_JSON_MEMORY_H

#include <stdbool.h>

void cld_json_watch(void);       /* starts watching, in this thread */
bool cld_json_starved(void);     /* whether an allocation has failed since */
void cld_json_free(void *block); /* frees what json_dumps returned */

#endif
