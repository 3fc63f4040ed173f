/* NVIDIA's libraries that the system's loader does not find: in CUDA's folders, or in the wheels of a Python. */
#ifndef CLD_CORE_LIBRARIES_H
#define CLD_CORE_LIBRARIES_H

#include <limits.h>
#include <stdbool.h>

/* A prefix where a library was found, or "": the next one is looked for there first. Libraries of one installation fit
 * together; those of several need not, even if their names are the same. */
typedef struct cld_prefix {
    char path[PATH_MAX];
} cld_prefix;

/* Is it found, and loaded? Then whoever asks for a library of that name gets it. */
bool cld_load_library(const char *soname, cld_prefix *found);

#endif
