/* Tar archives, read in place: where each file's bytes lie.
 *
 *     cld_tar *t = cld_tar_open("ILSVRC2012_img_train.tar");
 *     // file i is t->sizes[i] bytes at t->offsets[i] of the archive; its name is cld_tar_name(t, i)
 *
 * Read: ustar, GNU's long names and large sizes, pax headers, the old form without a magic number. A member of the outer
 * archive called x.tar is an archive too: its files are x/name here, which is how ImageNet's training set comes (a tar of
 * one tar per class). A third level is an error.
 *
 * Names are relative, without "." and "//". One that is absolute or has ".." is an error, and so are sparse files and
 * links that are called as images are; other links, folders and devices are left out. An archive must end as tar ends
 * it, with a block of zeros: one that does not was cut off.
 *
 * The headers of a million files lie all over a hundred gigabytes. What was found is kept, as a safetensors file,
 * beside the archive (ARCHIVE.index.safetensors) or, if nothing can be written there, in $XDG_CACHE_HOME/cldlua or
 * ~/.cache/cldlua: "offsets" i64, "sizes" i64 (N), "names" u8 with a zero after each, "name_offsets" i64 (N), and as
 * metadata the archive's size and time of change. Another size or time, or an index that does not hold together, and the
 * archive is read anew.
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
    bool was_indexed; /* nothing but the index was read */
    char *index;      /* the file that keeps it; NULL: none could be written, and `problem` says why */
    char *problem;
    struct {
        size_t offsets, sizes, names;
    } room;
} cld_tar;

/* From its index; or read through, and indexed. */
cld_tar *cld_tar_open(const char *path);
/* Read through, whatever is kept. */
cld_tar *cld_tar_scan(const char *path);
void cld_tar_free(cld_tar *t); /* NULL is fine */

static inline const char *cld_tar_name(const cld_tar *t, int64_t i) { return t->text.bytes + t->names[i]; }

#endif
