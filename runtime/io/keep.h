/* Keeps a file of a held folder under another name: its present content stays there when a newer file replaces the one
 * with the first name (file.h: other hard links keep the old content). */
#ifndef CLD_IO_KEEP_H
#define CLD_IO_KEEP_H

#include "runtime/io/folder.h"

/* Makes `as` another name of the file `name`, replacing what was there, in one step: there is never half a file at
 * `as`, and after a failure or kill -9 the old one is still there. Since this is a hard link, nothing is written twice;
 * on a file system without hard links it is a copy. A symbolic link at `name` is followed, one at `as` is replaced. */
cld_status cld_keep_as(const cld_folder *folder, const char *name, const char *as);

/* Removes a file of the folder, if it exists. */
cld_status cld_folder_remove(const cld_folder *folder, const char *name);

#endif
