/* The MD5 of a file, read in time slices, so that a person can see the progress and stop it. */
#ifndef CLD_IO_CHECKSUM_H
#define CLD_IO_CHECKSUM_H

#include <stdbool.h>
#include <stdint.h>

#include "runtime/core/error.h"

typedef struct cld_checksum cld_checksum;

/* The file must be a regular one. NULL on failure. */
cld_checksum *cld_checksum_new(const char *path);
/* Reads for about this many seconds. *read: bytes so far. *done: hex holds the sum. */
cld_status cld_checksum_step(cld_checksum *c, double seconds, uint64_t *read, bool *done, char hex[33]);
void cld_checksum_free(cld_checksum *c);

#endif
