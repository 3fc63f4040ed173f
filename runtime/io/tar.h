/* Reads tar archives in place: finds where each file's bytes are.
 *
 *     cld_tar *t = cld_tar_open("ILSVRC2012_img_train.tar");
 *     // file i is t->sizes[i] bytes at t->offsets[i] of the archive; its name is cld_tar_name(t, i)
 *
 * It reads ustar, GNU's long names and large sizes, pax headers, and the old format without a magic number. If a member
 * of the outer archive is called x.tar, it is read as an archive too, and its files are called x/name: ImageNet's
 * training set is distributed like this (a tar of one tar per class). A third level is an error.
 *
 * Names are relative, without "." and "//". A name that is absolute or has ".." is an error, and so are sparse files
 * and links whose names are those of images; other links, folders and devices are left out. An archive must end with a
 * block of zeros, as tar writes it: without one it was cut off.
 *
 * The headers of a million files are spread over a hundred gigabytes. So the result is kept in an index, a safetensors
 * file beside the archive (ARCHIVE.index.safetensors) or, if nothing can be written there, in $XDG_CACHE_HOME/cldlua or
 * ~/.cache/cldlua: "offsets" i64, "sizes" i64 (N), "names" u8 with a zero after each, "name_offsets" i64 (N), and as
 * metadata the archive's size and modification time. If the size or time differs, or if the index is not consistent,
 * the archive is read again.
 */
#ifndef CLD_IO_TAR_H
#define CLD_IO_TAR_H

#include <stdbool.h>

#include "runtime/core/strings.h"

typedef struct cld_tar {
    char *path;
    uint64_t bytes; /* of the archive */
    int64_t mtime, mtime_nanoseconds;
    int64_t count;
    int64_t *offsets, *sizes, *names; /* (count); names in text */
    cld_strings text;
    bool was_indexed; /* only the index was read */
    char *index;      /* the index file; NULL if none could be written, and `problem` says why */
    char *problem;
    struct {
        size_t offsets, sizes, names;
    } room;
} cld_tar;

/* Reads the index; without one, reads through the archive and writes an index. */
cld_tar *cld_tar_open(const char *path);
/* Reads through the archive, and ignores any index. */
cld_tar *cld_tar_scan(const char *path);
void cld_tar_free(cld_tar *t); /* NULL is fine */

static inline const char *cld_tar_name(const cld_tar *t, int64_t i) { return t->text.bytes + t->names[i]; }

#endif
