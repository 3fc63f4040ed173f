/* A whole file into working memory, for data of many files: an image, say. */
#ifndef CLD_IO_SLURP_H
#define CLD_IO_SLURP_H

#include <fcntl.h> /* AT_FDCWD */

#include "runtime/core/error.h"
#include "runtime/core/scratch.h"

#define CLD_SLURP_MAX ((size_t)1 << 30) /* bytes of a file: 16-bit RGB of CLD_PICTURE_MAX_PIXELS, about */

/* The file at `path`, relative to the folder (a descriptor, or AT_FDCWD), into s->data. A regular file is wanted: a FIFO or
 * a device is refused, and never waited for. CLD_IO: it cannot be read, is beyond CLD_SLURP_MAX, or was written to
 * meanwhile. Messages do not know the file's name: who has it puts it in front. */
cld_status cld_file_slurp(cld_scratch *s, size_t *length, int folder, const char *path);

#endif
