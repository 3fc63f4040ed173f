/* Reading and writing whole files.
 *
 * A file that matters is never half written. cld_writer writes under a temporary name in the same folder, and
 * only cld_writer_commit (flush to disk, rename, flush the folder) replaces the old file with it. Until then, and
 * after any failure (disk full, power cut, kill -9), the old file is as it was.
 *
 *     cld_writer w;
 *     CLD_TRY(cld_writer_open(&w, path));
 *     cld_writer_put(&w, header, length);          // failures are remembered ...
 *     cld_writer_put(&w, data, bytes);
 *     return cld_writer_commit(&w);                // ... and reported here; the temporary is then gone
 *
 * A symbolic link is followed, as open() does: the file that it names is replaced (or created) in that file's own
 * folder, and the link stays. The new file has the old one's permissions, and its owner and group if the system
 * allows that. If there was no old file, the mode is 0666 less the umask. Other hard links keep the old content. The
 * folder's permissions, not the file's, decide whether the file may be replaced.
 *
 * The temporary is called <name>.<16 hexadecimal digits>.tmp. It is always a new file (O_EXCL), so an existing file or
 * link of that name is never written to, and several writers of one path, threads or processes, do not disturb each
 * other: the last to commit wins. The temporary is locked (flock) until it is renamed, so one that is not locked was
 * left by a process that has ended.
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
    int folder;             /* the file's own, with links followed */
    char *name, *temporary; /* names in that folder */
    int fd;                 /* -1 once finished */
    cld_status status;      /* of the first failure; the message is in the thread's error record */
} cld_writer;

/* On failure nothing is left to clean up. */
cld_status cld_writer_open(cld_writer *w, const char *path);
/* After a failure it only returns the same status again. */
cld_status cld_writer_put(cld_writer *w, const void *data, size_t bytes);
/* Overwrites bytes that were put before, such as a header that is known only at the end. */
cld_status cld_writer_patch(cld_writer *w, uint64_t offset, const void *data, size_t bytes);
/* Both end the writer. commit reports the first failure of all previous calls. Once the file is in place it succeeds,
 * even if the folder cannot be flushed; cld_writer_warning then says so. */
cld_status cld_writer_commit(cld_writer *w);
void cld_writer_abandon(cld_writer *w); /* leaves the thread's error record alone */

/* A warning about this thread's successful commits, or NULL. It is returned once, and only once per process. */
const char *cld_writer_warning(void);

/* A file opened for reading. */
typedef struct cld_reader {
    char *path;
    int fd;
    uint64_t bytes; /* the file's size when it was opened */
} cld_reader;

/* Opens a regular file. On failure nothing is left to clean up. */
cld_status cld_reader_open(cld_reader *r, const char *path);
/* Reads exactly that range, or fails. */
cld_status cld_reader_get(cld_reader *r, void *data, uint64_t offset, size_t bytes);
void cld_reader_close(cld_reader *r); /* twice is fine */

/* ---- in a held folder ----------------------------------------------------------------------------------- */

/* Like cld_writer_open and cld_reader_open, for a name in the folder. */
cld_status cld_writer_open_in(cld_writer *w, const cld_folder *folder, const char *name);
cld_status cld_reader_open_in(cld_reader *r, const cld_folder *folder, const char *name);

/* Appends a line (given without its newline) to a text file, which is created if it does not exist. This is a single
 * write, so after a power cut or on a full disk part of the line may be there; the next line then starts on a line of
 * its own. The file is looked up each time, so if it was moved away a new one is started. With zero bytes the file is
 * only created. */
cld_status cld_append_line(const cld_folder *folder, const char *name, const char *line, size_t bytes);

#endif
