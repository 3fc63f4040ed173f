/* Reads a whole file into scratch memory, for data that consists of many files, such as images. */
#ifndef CLD_IO_SLURP_H
#define CLD_IO_SLURP_H

#include <fcntl.h> /* AT_FDCWD */

#include "runtime/core/error.h"
#include "runtime/core/scratch.h"

#define CLD_SLURP_MAX ((size_t)1 << 30) /* bytes: about 16-bit RGB of CLD_PICTURE_MAX_PIXELS */

/* Reads the file at `path`, relative to the folder (a descriptor, or AT_FDCWD), into s->data. It must be a regular
 * file: a FIFO or a device is refused and never waited for. CLD_IO: it cannot be read, is larger than CLD_SLURP_MAX, or
 * was written to meanwhile. The messages do not name the file: the caller puts its name in front. */
cld_status cld_file_slurp(cld_scratch *s, size_t *length, int folder, const char *path);

#endif
