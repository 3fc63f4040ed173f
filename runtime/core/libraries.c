#define _GNU_SOURCE
#include "runtime/core/libraries.h"

#include <dlfcn.h>
#include <glob.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Loads the first file that matches the pattern and can be loaded. Whoever needs a library of its name from then on
 * gets this one. */
static bool load_matching(const char *pattern) {
    glob_t found;
    bool loaded = false;
    if (glob(pattern, 0, NULL, &found) == 0)
        for (size_t i = 0; i < found.gl_pathc && !loaded; i++)
            loaded = dlopen(found.gl_pathv[i], RTLD_NOW | RTLD_GLOBAL) != NULL;
    globfree(&found);
    return loaded;
}

/* Searches the wheels of the Python installation with this bin folder or prefix. */
static bool load_from_prefix(const char *prefix, const char *soname) {
    static const char *const packages[] = {"site-packages", "dist-packages"};
    char pattern[PATH_MAX];
    for (int i = 0; i < 2; i++) {
        int n = snprintf(pattern, sizeof pattern, "%s/lib/python3*/%s/nvidia/*/lib/%s", prefix, packages[i],
                         soname);
        if (n < (int)sizeof pattern && load_matching(pattern)) return true;
    }
    return false;
}

static bool load_from(const char *prefix, const char *soname, cld_prefix *found) {
    if (!load_from_prefix(prefix, soname)) return false;
    snprintf(found->path, sizeof found->path, "%s", prefix);
    return true;
}

/* Searches beside this python3, and beside each file in its chain of links: each link may lead out of a virtual
 * environment. */
static bool load_beside(const char *python, const char *soname, cld_prefix *found) {
    char file[PATH_MAX], folder[PATH_MAX], target[PATH_MAX], prefix[PATH_MAX];
    snprintf(file, sizeof file, "%s", python);
    for (int links = 0; links < 8; links++) {
        snprintf(folder, sizeof folder, "%s", file);
        *strrchr(folder, '/') = '\0';
        if (snprintf(prefix, sizeof prefix, "%s/..", folder) < (int)sizeof prefix &&
            load_from(prefix, soname, found))
            return true;
        ssize_t n = readlink(file, target, sizeof target - 1);
        if (n <= 0) return false;
        target[n] = '\0';
        int length = target[0] == '/' ? snprintf(file, sizeof file, "%s", target)
                                      : snprintf(file, sizeof file, "%s/%s", folder, target);
        if (length >= (int)sizeof file) return false;
    }
    return false;
}

/* Searches beside every python3 of PATH. */
static bool load_from_path(const char *soname, cld_prefix *found) {
    char file[PATH_MAX];
    for (const char *at = getenv("PATH"); at;) {
        int length = (int)strcspn(at, ":"), n = snprintf(file, sizeof file, "%.*s/python3", length, at);
        if (n < (int)sizeof file && access(file, X_OK) == 0 && load_beside(file, soname, found)) return true;
        at = at[length] ? at + length + 1 : NULL;
    }
    return false;
}

bool cld_load_library(const char *soname, cld_prefix *found) {
    static const char *const folders[] = {"/usr/local/cuda/lib64", "/usr/local/cuda/lib",
                                          "/usr/local/cuda/targets/x86_64-linux/lib"};
    const char *prefixes[] = {getenv("VIRTUAL_ENV"), getenv("CONDA_PREFIX"), "/usr/local", "/usr"};
    char pattern[PATH_MAX];
    if (found->path[0] && load_from_prefix(found->path, soname)) return true;
    for (size_t i = 0; i < sizeof folders / sizeof *folders; i++) {
        int n = snprintf(pattern, sizeof pattern, "%s/%s", folders[i], soname);
        if (n < (int)sizeof pattern && load_matching(pattern)) return true;
    }
    if (load_from_path(soname, found)) return true;
    for (size_t i = 0; i < sizeof prefixes / sizeof *prefixes; i++)
        if (prefixes[i] && load_from(prefixes[i], soname, found)) return true;
    return false;
}
