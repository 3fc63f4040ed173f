/* The MD5 of a file, read in slices of time, so that a person sees how far it is and can stop it. */
#ifndef CLD_IO_CHECKSUM_H
#define CLD_IO_CHECKSUM_H

#include <stdbool.h>
#include <stdint.h>

#include "runtime/core/error.h"

typedef struct cld_checksum cld_checksum;

/* Of a regular file; NULL on failure. */
cld_checksum *cld_checksum_new(const char *path);
/* Read on for about so many seconds. *read: bytes so far; *done: hex holds the sum. */
cld_status cld_checksum_step(cld_checksum *c, double seconds, uint64_t *read, bool *done, char hex[33]);
void cld_checksum_free(cld_checksum *c);

#endif
