#define _GNU_SOURCE
#include "runtime/tensor/plugin.h"

#include <dlfcn.h>
#include <glob.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "runtime/core/beside.h"

#define LIBRARY "libcld_cuda.so"

/* ---- libraries that the system's loader does not find ------------------------------------------------------------- */

/* The first file that matches the pattern and can be loaded; what is loaded serves whoever needs a library of its name. */
static bool load_matching(const char *pattern) {
    glob_t found;
    bool loaded = false;
    if (glob(pattern, 0, NULL, &found) == 0)
        for (size_t i = 0; i < found.gl_pathc && !loaded; i++)
            loaded = dlopen(found.gl_pathv[i], RTLD_NOW | RTLD_GLOBAL) != NULL;
    globfree(&found);
    return loaded;
}

/* In the wheels of the Python whose bin folder or prefix this is. */
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

/* A prefix where a library was found, or "": the next one is looked for there first. Libraries of one installation fit
 * together; those of several need not, even if their names are the same. */
typedef struct cld_prefix {
    char path[PATH_MAX];
} cld_prefix;

static bool load_from(const char *prefix, const char *soname, cld_prefix *found) {
    if (!load_from_prefix(prefix, soname)) return false;
    snprintf(found->path, sizeof found->path, "%s", prefix);
    return true;
}

/* Beside this python3, and beside what it is a link to: a virtual environment may lie at any step of the way. */
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

/* Beside every python3 of PATH. */
static bool load_from_path(const char *soname, cld_prefix *found) {
    char file[PATH_MAX];
    for (const char *at = getenv("PATH"); at;) {
        int length = (int)strcspn(at, ":"), n = snprintf(file, sizeof file, "%.*s/python3", length, at);
        if (n < (int)sizeof file && access(file, X_OK) == 0 && load_beside(file, soname, found)) return true;
        at = at[length] ? at + length + 1 : NULL;
    }
    return false;
}

static bool load_missing(const char *soname, cld_prefix *found) {
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

/* ---- the library itself -------------------------------------------------------------------------------------------- */

/* The name in "libx.so.9: cannot open shared object file: ...", where that is not the library itself. */
static bool missing_name(const char *problem, char *name, size_t room) {
    const char *end = strstr(problem, ": cannot open shared object file");
    if (!end || (size_t)(end - problem) >= room) return false;
    snprintf(name, room, "%.*s", (int)(end - problem), problem);
    return strchr(name, '/') == NULL;
}

static void *open_library(const char *path) {
    char problem[512], missing[128], before[128] = "";
    cld_prefix found = {""};
    for (;;) {
        void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
        if (library) return library;
        snprintf(problem, sizeof problem, "%s", dlerror());
        if (!missing_name(problem, missing, sizeof missing))
            return cld_fail_null(CLD_BACKEND, "cannot load '%s': %s", path, problem);
        if (strcmp(missing, before) == 0 || !load_missing(missing, &found))
            return cld_fail_null(CLD_BACKEND,
                                 "CUDA needs %s, which is not here: install it (from NVIDIA's packages or "
                                 "Python's wheels), or name its folder in LD_LIBRARY_PATH",
                                 missing);
        snprintf(before, sizeof before, "%s", missing);
    }
}

static const cld_plugin *load(void) {
    static const cld_plugin_host host = {cld_fail, cld_error_code, cld_error_message};
    char path[PATH_MAX];
    if (!cld_find_beside(path, sizeof path, LIBRARY, "CLD_CUDA_PLUGIN"))
        return cld_fail_null(CLD_UNSUPPORTED, "built without CUDA (there is no " LIBRARY
                                              " beside the program; make builds it where nvcc is)");
    void *library = open_library(path);
    if (!library) return NULL;
    cld_plugin_entry_function entry;
    *(void **)&entry = dlsym(library, CLD_PLUGIN_ENTRY);
    if (!entry) return cld_fail_null(CLD_BACKEND, "'%s' is no library of cldlua's devices", path);
    const cld_plugin *plugin = entry(&host);
    if (!plugin) return NULL;
    if (plugin->version != CLD_BACKEND_VERSION)
        return cld_fail_null(CLD_BACKEND,
                             "'%s' has version %d of the contract, this program %d: build both from "
                             "the same source",
                             path, plugin->version, CLD_BACKEND_VERSION);
    return plugin;
}

const cld_plugin *cld__plugin_load(void) {
    static const cld_plugin *plugin;
    static cld_error_record failure;
    if (plugin) return plugin;
    if (failure.code) return (void)cld_error_import(&failure), NULL;
    plugin = load();
    if (!plugin) failure = cld_error_export();
    return plugin;
}
