/* Folders: made, listed, and held by one process at a time.
 *
 * A path may come to name another folder at any time. Whoever works in a folder for long holds it: a cld_folder is
 * the folder itself (a descriptor) and its lock. What is read and written through it (cld_writer_open_in,
 * cld_append_line, ...) lies in that folder: in its new place after it has been moved or renamed, and never in
 * another that has come to lie at its path. Once the folder has been removed, every write is an error that says so.
 */
#ifndef CLD_IO_FOLDER_H
#define CLD_IO_FOLDER_H

#include <stdbool.h>
#include <stddef.h>

#include "runtime/core/error.h"

typedef enum cld_path_kind { CLD_PATH_NONE, CLD_PATH_FILE, CLD_PATH_FOLDER, CLD_PATH_OTHER } cld_path_kind;
cld_path_kind cld_path(const char *path);

/* The folder and its missing parents, with this mode (0777 less the umask is usual). One that exists is fine; *created
 * says whether this call made it. */
cld_status cld_make_folder(const char *path, unsigned mode, bool *created);

/* The names in a folder but "." and "..", sorted bytewise. Free with cld_free_names. */
cld_status cld_list_folder(const char *path, char ***names, size_t *count);
void cld_free_names(char **names, size_t count);

/* ---- held folders -------------------------------------------------------------------------------------- */

typedef struct cld_folder {
    char *path;     /* as it was given, for messages */
    char *absolute; /* the same from any working folder */
    int fd;         /* -1 once closed, and when another holds the folder */
    bool locked;    /* false on a file system that cannot lock folders: nothing keeps others out there */
    unsigned made;  /* how many of the path's last names cld_folder_claim has made */
} cld_folder;

/* Hold the folder at path; claim makes it, and its missing parents, if there is none. CLD_OK with fd -1: another
 * holds it, in this process or another. The folder that is held is the one that the path names at that moment, however
 * often it was removed and made anew before. A folder in which no file can be made is an error. On failure nothing is
 * left to clean up. */
cld_status cld_folder_open(cld_folder *f, const char *path);
cld_status cld_folder_claim(cld_folder *f, const char *path);
/* Also removes what the claim has made, if it is still there and empty: the lock goes after that. Twice is fine. */
void cld_folder_close(cld_folder *f);

/* The path at which it lies now, to free: its own, or where it has been moved to. NULL once it has been removed, and
 * without memory. */
char *cld_folder_where(const cld_folder *f);

cld_path_kind cld_folder_has(const cld_folder *f, const char *name);
cld_status cld_folder_list(const cld_folder *f, char ***names, size_t *count);

/* Remove the temporary of a writer that was killed (see file.h); one that is being written is left alone, and so is
 * what is no regular file. */
void cld_folder_remove_leftover(const cld_folder *f, const char *temporary);

/* "cannot <doing> 'folder/name': reason" from errno. When that is ENOENT or ESTALE although a name alone was to be
 * made, the folder itself is gone, which the sentence says. */
cld_status cld_folder_fail(const cld_folder *f, const char *doing, const char *name);

#endif
