/* Memory to work in, kept from one job to the next. */
#include "runtime/core/scratch.h"

#include <stdlib.h>

#include "runtime/core/error.h"

uint8_t *cld_scratch_reserve(cld_scratch *s, size_t bytes) {
    if (bytes <= s->bytes) return s->data;
    if (s->more) return s->more(s, bytes);
    uint8_t *data = aligned_alloc(64, (bytes + 63) & ~(size_t)63);
    if (!data)
        return cld_fail_null(CLD_NOMEM, "out of memory: an image needs %.1f MiB to work in",
                             (double)bytes / 0x1p20);
    free(s->data);
    s->data = data;
    s->bytes = bytes;
    return data;
}

void cld_scratch_free(cld_scratch *s) {
    free(s->data);
    *s = (cld_scratch){0};
}
