/* Loading shared libraries on first use. */
#include "runtime/io/library.h"

#include <dlfcn.h>
#include <pthread.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static cld_status load(const char *file, const char *package, const char *const *names, void **functions,
                       size_t count) {
    if (functions[count - 1]) return CLD_OK;
    void *library = dlopen(file, RTLD_NOW | RTLD_LOCAL);
    if (!library)
        return cld_fail(CLD_UNSUPPORTED, "cannot load %s (Debian: %s): %s", file, package, dlerror());
    for (size_t i = 0; i < count; i++) {
        void *function = dlsym(library, names[i]);
        if (!function)
            return cld_fail(CLD_UNSUPPORTED, "%s has no %s; a newer one is needed (Debian: %s)", file,
                            names[i], package);
        functions[i] = function;
    }
    return CLD_OK;
}

cld_status cld_library_load(const char *file, const char *package, const char *const *names, void **functions,
                            size_t count) {
    pthread_mutex_lock(&lock);
    cld_status status = load(file, package, names, functions, count);
    pthread_mutex_unlock(&lock);
    return status;
}
