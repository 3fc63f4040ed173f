#define _GNU_SOURCE
#include "runtime/tensor/plugin.h"

#include <dlfcn.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "runtime/core/beside.h"
#include "runtime/core/libraries.h"

#define LIBRARY "libcld_cuda.so"

/* The name in "libx.so.9: cannot open shared object file: ...", if it is not the library itself. */
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
        if (strcmp(missing, before) == 0 || !cld_load_library(missing, &found))
            return cld_fail_null(CLD_BACKEND,
                                 "CUDA needs %s, which was not found: install it (from NVIDIA's packages or "
                                 "Python's wheels), or add its folder to LD_LIBRARY_PATH",
                                 missing);
        snprintf(before, sizeof before, "%s", missing);
    }
}

static const cld_plugin *load(void) {
    static const cld_plugin_host host = {cld_fail, cld_error_code, cld_error_message};
    char path[PATH_MAX];
    if (!cld_find_beside(path, sizeof path, LIBRARY, "CLD_CUDA_PLUGIN"))
        return cld_fail_null(CLD_UNSUPPORTED, "built without CUDA (there is no " LIBRARY
                                              " beside the program; make builds it if there is nvcc)");
    void *library = open_library(path);
    if (!library) return NULL;
    cld_plugin_entry_function entry;
    *(void **)&entry = dlsym(library, CLD_PLUGIN_ENTRY);
    if (!entry) return cld_fail_null(CLD_BACKEND, "'%s' is not a library of cldlua's devices", path);
    const cld_plugin *plugin = entry(&host);
    if (!plugin) return NULL;
    if (plugin->version != CLD_BACKEND_VERSION)
        return cld_fail_null(CLD_BACKEND,
                             "'%s' has version %d of the interface, but this program has %d: build "
                             "both from the same source",
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
