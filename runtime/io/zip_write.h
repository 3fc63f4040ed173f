/* Zip archives written: members stored as they are, each one's data at a multiple of 64 bytes of the file.
 *
 * That is what PyTorch's reader maps into memory (torch.load(mmap=True)), and why libarchive does not write them: it
 * neither pads a member nor says where it puts one. The padding is a field of a member's header that readers skip.
 *
 *     cld_zip_writer *z = cld_zip_create(path);
 *     if (!z) return cld_error_code();
 *     cld_zip_put(z, "archive/version", "3\n", 2);     // failures are remembered ...
 *     return cld_zip_commit(z);                        // ... and reported here
 *
 * Written as file.h says: the old file stays until the new one is on the disk. Times are those of the epoch of zip files,
 * so that equal members make equal files. Every member has the 64-bit sizes of zip64 beside the usual ones, as numpy.savez
 * writes them, so files may be as large as they like.
 */
#ifndef CLD_IO_ZIP_WRITE_H
#define CLD_IO_ZIP_WRITE_H

#include "runtime/io/file.h"

typedef struct cld_zip_writer cld_zip_writer;

/* NULL on failure. */
cld_zip_writer *cld_zip_create(const char *path);

/* A member of so many bytes, given in pieces, then ended. After a failure these do nothing but repeat the status. Names are
 * UTF-8, at most 65,000 bytes, and differ. */
cld_status cld_zip_begin(cld_zip_writer *z, const char *name, uint64_t bytes);
cld_status cld_zip_add(cld_zip_writer *z, const void *data, size_t bytes);
cld_status cld_zip_end(cld_zip_writer *z);
/* The three at once. */
cld_status cld_zip_put(cld_zip_writer *z, const char *name, const void *data, size_t bytes);

/* CLD_OK, or the first failure of all that went before. */
cld_status cld_zip_status(const cld_zip_writer *z);
/* Something else went wrong, of which the thread's error record tells: commit will fail with it. */
void cld_zip_spoil(cld_zip_writer *z, cld_status status);
/* Ends the writer. */
cld_status cld_zip_commit(cld_zip_writer *z);

#endif
