/* Finds libnccl.so.2, and checks that it is new enough. */
#ifndef _GNU_SOURCE
#    define _GNU_SOURCE /* dladdr */
#endif
#include "kernels/cuda/nccl.h"

#include <cuda_runtime_api.h>
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/core/libraries.h"

#define SONAME "libnccl.so.2"
#define OLDEST 21300 /* ncclGetLastError; it knows graphs (2.9) and scaled sums (2.11) */

static void *open_library(void) {
    static const char missing[] = SONAME ": cannot open shared object file";
    char problem[512];
    cld_prefix found = {""};
    void *library = dlopen(SONAME, RTLD_NOW | RTLD_LOCAL);
    if (library) return library;
    snprintf(problem, sizeof problem, "%s", dlerror());
    if (strncmp(problem, missing, strlen(missing)) != 0)
        return cld_fail_null(CLD_BACKEND, "cannot load " SONAME ": %s", problem);
    if (cld_load_library(SONAME, &found)) library = dlopen(SONAME, RTLD_NOW | RTLD_LOCAL);
    if (library) return library;
    return cld_fail_null(
        CLD_UNSUPPORTED,
        "a job on several GPUs needs NCCL (" SONAME "), which was not found: install it (NVIDIA's package "
        "libnccl2, or Python's wheel nvidia-nccl-cu%d), or name its folder in LD_LIBRARY_PATH",
        CUDART_VERSION / 1000);
}

static cld_status find(void **function, void *library, const char *name) {
    Dl_info info;
    *function = dlsym(library, name);
    if (*function) return CLD_OK;
    bool known = dladdr(dlsym(library, "ncclGetVersion"), &info) && info.dli_fname;
    return cld_fail(CLD_BACKEND, "%s has no %s: is it NCCL?", known ? info.dli_fname : SONAME, name);
}

/* Up to 2.8 version numbers had one digit less. */
static cld_status check_version(const cld_nccl *nccl) {
    Dl_info info;
    union {
        ncclResult_t (*function)(int *version);
        const void *address;
    } as = {nccl->GetVersion};
    int version = 0;
    if (nccl->GetVersion(&version) == ncclSuccess && version >= OLDEST) return CLD_OK;
    int thousands = version < 10000 ? 1000 : 10000;
    return cld_fail(CLD_BACKEND, "NCCL %d.%d or newer is needed; NCCL %d.%d.%d was found (%s)",
                    OLDEST / 10000, OLDEST / 100 % 100, version / thousands, version % thousands / 100,
                    version % 100, dladdr(as.address, &info) && info.dli_fname ? info.dli_fname : SONAME);
}

static cld_status find_all(cld_nccl *out, void *library) {
    CLD_TRY(find((void **)&out->GetVersion, library, "ncclGetVersion"));
    CLD_TRY(check_version(out));
#define CLD_FIND(name, result, arguments) CLD_TRY(find((void **)&out->name, library, "nccl" #name));
    CLD_NCCL_FUNCTIONS(CLD_FIND)
#undef CLD_FIND
    return CLD_OK;
}

/* Sums made in NVLink's switches (NVLS) may differ in their last bits from call to call, and ours may not. So they are
 * turned off, unless the environment asks for them. */
static void ask_for_the_same_bits(void) { setenv("NCCL_NVLS_ENABLE", "0", 0); }

const cld_nccl *cld__nccl(void) {
    static cld_nccl nccl;
    static bool opened;
    if (opened) return &nccl;
    ask_for_the_same_bits();
    void *library = open_library();
    if (!library) return NULL;
    CLD_TRY_NULL(find_all(&nccl, library));
    opened = true;
    return &nccl;
}
