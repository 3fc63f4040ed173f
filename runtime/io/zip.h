/* Zip archives, read with libarchive, which is loaded on first use: members one after the other, as they lie in the file.
 *
 * The directory at the archive's end counts, zip64 or not; members may be compressed. Checksums are compared. What a
 * member claims to have is a claim: nothing of its size is allocated here.
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
    const char *name; /* NULL behind the last; good until the next one */
    uint64_t bytes;
} cld_zip_member;

/* The reader stays the caller's, and open. NULL on failure, also if cldlua was built without libarchive or does not find
 * it: the error names the Debian package. Every error names the archive. */
cld_zip *cld_zip_open(cld_reader *reader);
cld_status cld_zip_next(cld_zip *z, cld_zip_member *member);
/* The whole content of the member at hand, which must have so many bytes. */
cld_status cld_zip_read(cld_zip *z, void *out, size_t bytes);
/* The same piece by piece: the next bytes of the member at hand; then that it ends there, and that its checksum is right. */
cld_status cld_zip_take(cld_zip *z, void *out, size_t bytes);
cld_status cld_zip_finish(cld_zip *z);
void cld_zip_close(cld_zip *z); /* NULL is fine */

#endif
