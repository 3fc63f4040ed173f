/* Creating and listing folders, and holding a folder so that one process at a time works in it.
 *
 * A path may come to name another folder at any time. Code that works in a folder for long therefore holds it: a
 * cld_folder is the folder itself (a descriptor) and its lock. Reads and writes through it (cld_writer_open_in,
 * cld_append_line, ...) go to that folder, even after it was moved or renamed, and never to another folder that now has
 * its path. Once the folder has been removed, every write fails and says so.
 */
#ifndef CLD_IO_FOLDER_H
#define CLD_IO_FOLDER_H

#include <stdbool.h>
#include <stddef.h>

#include "runtime/core/error.h"

typedef enum cld_path_kind { CLD_PATH_NONE, CLD_PATH_FILE, CLD_PATH_FOLDER, CLD_PATH_OTHER } cld_path_kind;
cld_path_kind cld_path(const char *path);

/* Creates the folder and its missing parents with this mode, less the umask (0777 is usual). It may exist already;
 * *created says whether this call created it. */
cld_status cld_make_folder(const char *path, unsigned mode, bool *created);

/* The names in a folder, except "." and "..", sorted bytewise. Free them with cld_free_names. */
cld_status cld_list_folder(const char *path, char ***names, size_t *count);
void cld_free_names(char **names, size_t count);

/* ---- held folders -------------------------------------------------------------------------------------- */

typedef struct cld_folder {
    char *path;     /* as it was given, for messages */
    char *absolute; /* the same from any working folder */
    int fd;         /* -1 once closed, and if someone else holds the folder */
    bool locked;    /* false if the file system cannot lock folders: nothing keeps others out then */
    unsigned made;  /* how many of the path's last names cld_folder_claim created */
} cld_folder;

/* Holds the folder at path; claim creates it, and its missing parents, if it does not exist. CLD_OK with fd -1 means
 * that someone else holds it, in this process or another. The held folder is the one that the path names at that
 * moment, even if it was removed and created again just before. A folder in which no file can be created is an error.
 * On failure nothing is left to clean up. */
cld_status cld_folder_open(cld_folder *f, const char *path);
cld_status cld_folder_claim(cld_folder *f, const char *path);
/* Whether a process holds the folder at path. FREE is only said of file systems whose locks all processes see: those of
 * this machine's disks and memory. A claim at that moment succeeds all the same. */
typedef enum cld_folder_use { CLD_FOLDER_FREE, CLD_FOLDER_HELD, CLD_FOLDER_UNKNOWN } cld_folder_use;
cld_folder_use cld_folder_in_use(const char *path);

/* Also removes what the claim created, if it is still there and empty, before it releases the lock. Twice is fine. */
void cld_folder_close(cld_folder *f);

/* The folder's present path, which the caller frees: the original one, or where it was moved to. NULL once the folder
 * has been removed, or if there is no memory. */
char *cld_folder_where(const cld_folder *f);

cld_path_kind cld_folder_has(const cld_folder *f, const char *name);
cld_status cld_folder_list(const cld_folder *f, char ***names, size_t *count);

/* Removes the temporary of a killed writer (see file.h). One that is still being written is left alone, and so is
 * anything that is not a regular file. */
void cld_folder_remove_leftover(const cld_folder *f, const char *temporary);

/* Fails with "cannot <doing> 'folder/name': reason", from errno. If that is ENOENT or ESTALE and the name is not there,
 * the folder itself is gone, and the message says so. */
cld_status cld_folder_fail(const cld_folder *f, const char *doing, const char *name);

#endif
