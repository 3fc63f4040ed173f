/* Reads zip archives with libarchive, which is loaded on first use: one member after the other, in the file's order.
 *
 * The directory at the archive's end decides which members there are, zip64 or not. Members may be compressed.
 * Checksums are checked. A member's claimed size is not trusted: nothing of that size is allocated here.
 *
 *     cld_zip *z = cld_zip_open(&reader);
 *     for (;;) {
 *         CLD_TRY(cld_zip_next(z, &member));
 *         if (!member.name) break;
 *         if (wanted(member.name)) CLD_TRY(cld_zip_read(z, out, member.bytes));
 *     }
 */
#ifndef CLD_IO_ZIP_H
#define CLD_IO_ZIP_H

#include "runtime/io/file.h"

typedef struct cld_zip cld_zip;

typedef struct cld_zip_member {
    const char *name; /* NULL after the last one; valid until the next one */
    uint64_t bytes;
} cld_zip_member;

/* The reader stays the caller's and must stay open. NULL on failure. If cldlua was built without libarchive or does not
 * find it, the error names the Debian package. Every error names the archive. */
cld_zip *cld_zip_open(cld_reader *reader);
cld_status cld_zip_next(cld_zip *z, cld_zip_member *member);
/* Reads the whole content of the current member, which must have exactly this many bytes. */
cld_status cld_zip_read(cld_zip *z, void *out, size_t bytes);
/* The same piece by piece: take reads the next bytes of the current member; finish then checks that it ends there, and
 * its checksum. */
cld_status cld_zip_take(cld_zip *z, void *out, size_t bytes);
cld_status cld_zip_finish(cld_zip *z);
void cld_zip_close(cld_zip *z); /* NULL is fine */

#endif
