/* Finds NVIDIA's libraries that the system's loader does not find: in CUDA's folders, or in the wheels of a Python
 * installation. */
#ifndef CLD_CORE_LIBRARIES_H
#define CLD_CORE_LIBRARIES_H

#include <limits.h>
#include <stdbool.h>

/* The prefix where a library was found, or "". The next library is looked for there first: libraries of one
 * installation fit together, those of several may not, even if their names are the same. */
typedef struct cld_prefix {
    char path[PATH_MAX];
} cld_prefix;

/* Finds and loads it; false if that fails. A later request for a library of that name then gets this one. */
bool cld_load_library(const char *soname, cld_prefix *found);

#endif
