/* Scratch memory, kept from one job to the next. Large blocks are mapped separately: the C library keeps free pages at
 * the end of a thread's heap, and many threads that each met a large image once would keep them all. */
#define _GNU_SOURCE
#include "runtime/core/scratch.h"

#include <stdlib.h>
#include <sys/mman.h>

#include "runtime/core/error.h"

/* Under the sanitizers every block comes from the C library, so that they see its bounds. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#    define MAPPED SIZE_MAX
#else
#    define MAPPED ((size_t)4 << 20)
#endif

static uint8_t *allocate(size_t bytes) {
    if (bytes < MAPPED) return aligned_alloc(64, bytes);
    void *data = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return data == MAP_FAILED ? NULL : data;
}

uint8_t *cld_scratch_reserve(cld_scratch *s, size_t bytes) {
    if (bytes <= s->bytes) return s->data;
    if (s->more) return s->more(s, bytes);
    size_t rounded = bytes > SIZE_MAX - 63 ? 0 : (bytes + 63) & ~(size_t)63;
    uint8_t *data = rounded ? allocate(rounded) : NULL;
    if (!data)
        return cld_fail_null(CLD_NOMEM, "out of memory: an image needs %.1f MiB of working memory",
                             (double)bytes / 0x1p20);
    cld_scratch_free(s);
    s->data = data;
    s->bytes = rounded;
    return data;
}

void cld_scratch_free(cld_scratch *s) {
    if (s->bytes < MAPPED)
        free(s->data);
    else
        munmap(s->data, s->bytes);
    *s = (cld_scratch){0};
}
