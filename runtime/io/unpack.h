/* Unpacks a tar archive, plain or compressed with gzip, into a folder with libarchive, in time slices like cld_fetch.
 *
 * Only regular files and folders are created, with the permissions of new ones. Anything else is an error, because such
 * an archive is not a data set: a name that is absolute or has a '..', a link of either kind (a link that leads outside
 * would let the next member write there), a device, a file that comes twice.
 *
 * The archive is not trusted: memory does not depend on what it claims. After an error the caller must remove what is
 * in the folder (cld_empty_folder).
 */
#ifndef CLD_IO_UNPACK_H
#define CLD_IO_UNPACK_H

#include <stdbool.h>
#include <stdint.h>

#include "runtime/core/error.h"

typedef struct cld_unpack cld_unpack;

/* NULL on failure. If cldlua was built without libarchive or does not find it, the error names the Debian package.
 * Every error names the archive, and the member if it is about one. */
cld_unpack *cld_unpack_new(const char *archive, const char *folder);
/* Continues for about this many seconds. *read: bytes of the archive so far. */
cld_status cld_unpack_step(cld_unpack *u, double seconds, uint64_t *read, bool *done);
void cld_unpack_free(cld_unpack *u);

/* Removes everything in the folder. Links are removed, not what they name. */
cld_status cld_empty_folder(const char *path);

#endif
