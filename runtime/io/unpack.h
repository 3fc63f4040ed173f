/* A tar archive, plain or compressed with gzip, unpacked into a folder with libarchive, in slices of time as cld_fetch
 * works.
 *
 * Only regular files and folders are made, with the permissions of new ones. Everything else is an error, and the archive
 * is taken for what it then is, no data set: a name that is absolute or has a '..', a link of either kind (one that leads
 * outside would let the next member write there), a device, a file that comes twice.
 *
 * Nothing is believed of the archive: memory does not depend on what it claims. What an error leaves in the folder is the
 * caller's to remove (cld_empty_folder).
 */
#ifndef CLD_IO_UNPACK_H
#define CLD_IO_UNPACK_H

#include <stdbool.h>
#include <stdint.h>

#include "runtime/core/error.h"

typedef struct cld_unpack cld_unpack;

/* NULL on failure, also if cldlua was built without libarchive or does not find it: the error names the Debian package.
 * Every error names the archive, and the member if it is about one. */
cld_unpack *cld_unpack_new(const char *archive, const char *folder);
/* Go on for about so many seconds. *read: bytes of the archive so far. */
cld_status cld_unpack_step(cld_unpack *u, double seconds, uint64_t *read, bool *done);
void cld_unpack_free(cld_unpack *u);

/* Remove all that is in the folder, links themselves and not what they name. */
cld_status cld_empty_folder(const char *path);

#endif
