#ifndef _GNU_SOURCE
#    define _GNU_SOURCE /* dladdr, dl_iterate_phdr */
#endif
#include "kernels/cuda/dnn_libraries.h"

#include <cuda_runtime_api.h>
#include <cudnn.h>
#include <dlfcn.h>
#include <limits.h>
#include <link.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/cuda/dnn.h"

#define OLDEST 90800
#if CUDNN_VERSION < OLDEST
#    error "cuDNN 9.8 or newer is needed"
#endif

const char *cld_cuda_dnn_version(void) {
    static char text[32];
    size_t version = cudnnGetVersion();
    snprintf(text, sizeof text, "cuDNN %zu.%zu.%zu", version / 10000, version / 100 % 100, version % 100);
    return text;
}

/* The file of the library that has this function. */
static const char *file_of(size_t (*function)(void)) {
    Dl_info info;
    union {
        size_t (*function)(void);
        const void *address;
    } as = {function};
    return dladdr(as.address, &info) && info.dli_fname ? info.dli_fname : "libcudnn";
}

/* Python wheels have many versions, and those for CUDA 12 and 13 lie in the same place under the same names. */
cld_status cld_cuda_dnn_check(void) {
    size_t major = cudnnGetCudartVersion() / 1000;
    if (cudnnGetVersion() < OLDEST)
        return cld_fail(CLD_BACKEND, "cuDNN %d.%d or newer is needed; %s was found (%s)", OLDEST / 10000,
                        OLDEST / 100 % 100, cld_cuda_dnn_version(), file_of(cudnnGetVersion));
    if (major != CUDART_VERSION / 1000)
        return cld_fail(CLD_BACKEND,
                        "%s (%s) is for CUDA %zu, and libcld_cuda.so for CUDA %d: install cuDNN for CUDA %d "
                        "(Python's wheel is nvidia-cudnn-cu%d)",
                        cld_cuda_dnn_version(), file_of(cudnnGetVersion), major, CUDART_VERSION / 1000,
                        CUDART_VERSION / 1000, CUDART_VERSION / 1000);
    return CLD_OK;
}

cld_status cld__dnn_check_parts(const char *what) {
#define TEXT_OF(x) #x
#define SONAME(x)  ".so." TEXT_OF(x)
    static const char *const needed[] = {
        "libcudnn_engines_precompiled" SONAME(CUDNN_MAJOR),
        "libcudnn_heuristic" SONAME(CUDNN_MAJOR)}; /* in the order of opening */
    for (size_t i = 0; i < sizeof needed / sizeof *needed; i++) {
        void *loaded = dlopen(needed[i], RTLD_LAZY | RTLD_NOLOAD);
        if (!loaded)
            return cld_fail(CLD_BACKEND, "%s: cuDNN cannot load %s: is all of cuDNN %d installed?", what,
                            needed[i], CUDNN_MAJOR);
        dlclose(loaded);
    }
    return cld__dnn_check_folders(what);
}

typedef struct folders {
    char first[PATH_MAX], other[PATH_MAX]; /* "" if there is none */
    char name[64];                         /* a library in the other folder */
} folders;

static void add_folder(folders *f, const char *library) {
    char path[PATH_MAX];
    const char *slash = strrchr(library, '/');
    if (!slash || strncmp(slash + 1, "libcudnn", strlen("libcudnn")) != 0) return;
    if (!realpath(library, path)) snprintf(path, sizeof path, "%s", library);
    *strrchr(path, '/') = '\0';
    if (!f->first[0]) {
        strcpy(f->first, path);
    } else if (strcmp(f->first, path) != 0 && !f->other[0]) {
        strcpy(f->other, path);
        snprintf(f->name, sizeof f->name, "%s", slash + 1);
    }
}

static int add_library(struct dl_phdr_info *info, size_t size, void *to) {
    (void)size;
    if (info->dlpi_name) add_folder(to, info->dlpi_name);
    return 0;
}

static cld_status check_folders(const folders *f, const char *what) {
    if (!f->other[0]) return CLD_OK;
    return cld_fail(
        CLD_BACKEND,
        "%s: cuDNN's libraries come from two folders, '%s' and '%s' (%s): take one of them out of "
        "LD_LIBRARY_PATH, or install all of cuDNN in one",
        what, f->first, f->other, f->name);
}

cld_status cld__dnn_check_folders(const char *what) {
    folders found = {{0}, {0}, {0}};
    dl_iterate_phdr(add_library, &found);
    return check_folders(&found, what);
}
