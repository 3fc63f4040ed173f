/* Strings in one block, lists that grow. The contract is in strings.h. */
#include "runtime/core/strings.h"

#include <stdlib.h>
#include <string.h>

cld_status cld_grow(void **list, size_t *room, size_t count, size_t element) {
    if (count <= *room) return CLD_OK;
    size_t wanted = *room ? *room : 64;
    while (wanted < count && wanted <= SIZE_MAX / 2) wanted *= 2;
    void *grown = wanted < count || wanted > SIZE_MAX / element ? NULL : realloc(*list, wanted * element);
    if (!grown) return cld_fail(CLD_NOMEM, "out of memory for a list of %zu entries", count);
    *list = grown;
    *room = wanted;
    return CLD_OK;
}

cld_status cld_strings_add(cld_strings *s, const char *text, size_t length, uint64_t *at) {
    CLD_TRY(cld_grow((void **)&s->bytes, &s->room, s->used + length + 1, 1));
    *at = s->used;
    memcpy(s->bytes + s->used, text, length);
    s->bytes[s->used + length] = '\0';
    s->used += length + 1;
    return CLD_OK;
}

void cld_strings_free(cld_strings *s) {
    free(s->bytes);
    *s = (cld_strings){0};
}
