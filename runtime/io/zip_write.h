/* Writes zip archives: members are stored uncompressed, each one's data at a multiple of 64 bytes of the file.
 *
 * PyTorch's reader needs this to map them into memory (torch.load(mmap=True)). We do not use libarchive for it, because
 * it neither pads a member nor tells where it puts one. The padding is a field of a member's header that readers skip.
 *
 *     cld_zip_writer *z = cld_zip_create(path);
 *     if (!z) return cld_error_code();
 *     cld_zip_put(z, "archive/version", "3\n", 2);     // failures are remembered ...
 *     return cld_zip_commit(z);                        // ... and reported here
 *
 * As file.h says, the old file stays until the new one is on the disk. All times are the start of zip's calendar, so
 * that equal members make equal files. Every member has the 64-bit sizes of zip64 besides the usual ones, as
 * numpy.savez writes them, so files may have any size.
 */
#ifndef CLD_IO_ZIP_WRITE_H
#define CLD_IO_ZIP_WRITE_H

#include "runtime/io/file.h"

typedef struct cld_zip_writer cld_zip_writer;

/* NULL on failure. */
cld_zip_writer *cld_zip_create(const char *path);

/* Write a member of this many bytes: begin, add its pieces, end. After a failure they only return the same status
 * again. Names are UTF-8, at most 65,000 bytes, and must differ. */
cld_status cld_zip_begin(cld_zip_writer *z, const char *name, uint64_t bytes);
cld_status cld_zip_add(cld_zip_writer *z, const void *data, size_t bytes);
cld_status cld_zip_end(cld_zip_writer *z);
/* All three in one call. */
cld_status cld_zip_put(cld_zip_writer *z, const char *name, const void *data, size_t bytes);

/* CLD_OK, or the first failure of the calls so far. */
cld_status cld_zip_status(const cld_zip_writer *z);
/* Makes commit fail with the thread's error record, because something else went wrong. */
void cld_zip_spoil(cld_zip_writer *z, cld_status status);
/* Ends the writer. */
cld_status cld_zip_commit(cld_zip_writer *z);

#endif
