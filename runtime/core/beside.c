#define _GNU_SOURCE
#include "runtime/core/beside.h"

#include <dlfcn.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* The folder of this program, or of the module that a stock Lua has loaded, with '/'. */
static void own_folder(char *out, size_t room) {
    Dl_info self;
    char path[PATH_MAX];
    out[0] = '\0';
    if (!dladdr((const void *)cld_find_beside, &self) || !self.dli_fname) return;
    /* for a program started through PATH it is only the bare name */
    bool resolved = realpath(strchr(self.dli_fname, '/') ? self.dli_fname : "/proc/self/exe", path) != NULL;
    char *slash = resolved ? strrchr(path, '/') : NULL;
    if (slash && (size_t)(slash + 2 - path) <= room)
        snprintf(out, room, "%.*s", (int)(slash + 1 - path), path);
}

bool cld_find_beside(char *out, size_t room, const char *library, const char *variable) {
    static const char *const places[] = {"", "../", "../lib/cldlua/", "../../../cldlua/",
                                         "../lib/lua/5.4/cld/"};
    const char *named = getenv(variable);
    char folder[PATH_MAX];
    if (named && *named)
        return snprintf(out, room, "%s%s", strchr(named, '/') ? "" : "./", named) < (int)room;
    own_folder(folder, sizeof folder);
    for (size_t i = 0; i < sizeof places / sizeof *places; i++)
        if (snprintf(out, room, "%s%s%s", folder, places[i], library) < (int)room && access(out, R_OK) == 0)
            return true;
    return false;
}
