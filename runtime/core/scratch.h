/* Working memory that grows to what the largest job needed; zero-initialize, one per thread. */
#ifndef CLD_CORE_SCRATCH_H
#define CLD_CORE_SCRATCH_H

#include <stddef.h>
#include <stdint.h>

typedef struct cld_scratch {
    uint8_t *data;
    size_t bytes;
    /* If set, memory comes from it instead, and is its own to free. */
    uint8_t *(*more)(struct cld_scratch *s, size_t bytes);
} cld_scratch;

/* At least so many bytes, 64-byte aligned, of undefined content; the last ones are given back. NULL: out of memory,
 * recorded. */
uint8_t *cld_scratch_reserve(cld_scratch *s, size_t bytes);
void cld_scratch_free(cld_scratch *s);

#endif
