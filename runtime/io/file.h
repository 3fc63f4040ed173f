/* Files: whole ones in, whole ones out.
 *
 * A file that matters is never half written. cld_writer writes under a temporary name in the same folder, and
 * only cld_writer_commit (flush to disk, rename, flush the folder) puts it in the place of the old one. Until
 * then, and after any failure (disk full, power cut, kill -9), the old file is as it was.
 *
 *     cld_writer w;
 *     CLD_TRY(cld_writer_open(&w, path));
 *     cld_writer_put(&w, header, length);          // failures are remembered ...
 *     cld_writer_put(&w, data, bytes);
 *     return cld_writer_commit(&w);                // ... and reported here; the temporary is gone then
 *
 * A symbolic link is followed, as open() does: the file that it names is replaced (or made), in that file's own
 * folder, and the link stays. The new file has the old one's permissions, and its owner and group where the system
 * allows that; a file that is new has 0666 less the umask. Other hard links keep the old content. Whether a file may
 * be replaced is its folder's permission to give, not the file's.
 *
 * The temporary is called <name>.<16 hexadecimal digits>.tmp. It is always a new file (O_EXCL), so nothing that lies
 * at its name is written through, and writers of one path, threads or processes, are out of each other's way: the
 * last to commit wins. It is locked (flock) until it has been renamed: one that is not locked was left by a process
 * that is gone.
 *
 * Every error names the path and the system's reason.
 */
#ifndef CLD_IO_FILE_H
#define CLD_IO_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "runtime/io/folder.h"

typedef struct cld_writer {
    char *path;             /* as the caller gave it */
    int folder;             /* that of the file itself, links followed */
    char *name, *temporary; /* in it */
    int fd;                 /* -1 once finished */
    cld_status status;      /* of the first failure; the thread's error record holds its sentence */
} cld_writer;

/* On failure nothing is left to clean up. */
cld_status cld_writer_open(cld_writer *w, const char *path);
/* After a failure it does nothing but repeat the status. */
cld_status cld_writer_put(cld_writer *w, const void *data, size_t bytes);
/* In place of bytes that were put before: a header that is known only at the end. */
cld_status cld_writer_patch(cld_writer *w, uint64_t offset, const void *data, size_t bytes);
/* Both end the writer. commit reports the first failure of all that went before. Once the file is in place it
 * succeeds, even if the folder cannot be flushed: cld_writer_warning says so then. */
cld_status cld_writer_commit(cld_writer *w);
void cld_writer_abandon(cld_writer *w); /* leaves the thread's error record alone */

/* A sentence about this thread's commits that succeeded, or NULL. It is given once, and once per process. */
const char *cld_writer_warning(void);

/* Opened for reading. */
typedef struct cld_reader {
    char *path;
    int fd;
    uint64_t bytes; /* the file's size when it was opened */
} cld_reader;

/* A regular file; on failure nothing is left to clean up. */
cld_status cld_reader_open(cld_reader *r, const char *path);
/* Exactly that range, or an error. */
cld_status cld_reader_get(cld_reader *r, void *data, uint64_t offset, size_t bytes);
void cld_reader_close(cld_reader *r); /* twice is fine */

/* ---- in a folder that is held --------------------------------------------------------------------------- */

/* As cld_writer_open and cld_reader_open, for a name in the folder. */
cld_status cld_writer_open_in(cld_writer *w, const cld_folder *folder, const char *name);
cld_status cld_reader_open_in(cld_reader *r, const cld_folder *folder, const char *name);

/* Add a line (given without its end) to a text file, which is made if there is none, in one write: after a power cut,
 * or on a full disk, part of it may be there. Lines are whole again from the next one on, which begins on a line of its
 * own. The file is looked up each time, so that one that was moved away is begun anew. Zero bytes: it is only made. */
cld_status cld_append_line(const cld_folder *folder, const char *name, const char *line, size_t bytes);

#endif
