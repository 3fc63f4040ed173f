/* Scratch memory that grows to what the largest job needed; zero-initialize it, one per thread. */
#ifndef CLD_CORE_SCRATCH_H
#define CLD_CORE_SCRATCH_H

#include <stddef.h>
#include <stdint.h>

typedef struct cld_scratch {
    uint8_t *data;
    size_t bytes;
    /* If set, memory comes from this function, which also frees it. */
    uint8_t *(*more)(struct cld_scratch *s, size_t bytes);
} cld_scratch;

/* At least `bytes` bytes, 64-byte aligned, with undefined content; the previous ones are released. NULL: out of memory,
 * recorded. */
uint8_t *cld_scratch_reserve(cld_scratch *s, size_t bytes);
void cld_scratch_free(cld_scratch *s);

#endif
