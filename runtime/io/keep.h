/* A file of a folder that is held, kept under a further name: what it holds now stays there when a newer one takes the
 * first name's place (file.h: other hard links keep the old content). */
#ifndef CLD_IO_KEEP_H
#define CLD_IO_KEEP_H

#include "runtime/io/folder.h"

/* `as` becomes a further name of the file `name`, in place of what was there, as one step: there is never half a file
 * under it, and after a failure or kill -9 what was there before. Nothing is written twice, as it is a hard link; on a
 * file system that has none it is a copy. A symbolic link at `name` is followed, one at `as` is replaced. */
cld_status cld_keep_as(const cld_folder *folder, const char *name, const char *as);

/* Remove a file of the folder; none is fine. */
cld_status cld_folder_remove(const cld_folder *folder, const char *name);

#endif
