/* The library of CUDA devices, read from here: the one symbol that it exports, and which file fills in which part of the
 * contract. */
#include "kernels/cuda/blas.h"
#include "kernels/cuda/cuda.h"
#include "kernels/cuda/dnn.h"
#include "kernels/cuda/error.h"

#include <stdio.h>

static char name[16];
static int opened = -1;

const char *cld_cuda_name(void) { return name; }

static const char *library(void) {
    static _Thread_local char text[160];
    snprintf(text, sizeof text, "%s, %s, %s", cld_cuda_version(), cld_cuda_blas_version(),
             cld_cuda_dnn_version());
    return text;
}

static const cld_backend *open_device(int ordinal) {
    static const cld_backend cuda = {
        .version = CLD_BACKEND_VERSION,
        .name = name,
        .library = library,
        .memory = &cld_cuda_memory_ops,
        .math = &cld_cuda_math,
        .conv = &cld_cuda_conv,
        .loss = &cld_cuda_loss,
        .optim = &cld_cuda_optim,
        .image = &cld_cuda_image,
        .graph = &cld_cuda_graph,
    };
    if (opened == ordinal) return &cuda;
    if (opened >= 0)
        return cld_fail_null(CLD_INVALID, "this process computes on cuda:%d already, and on one device alone",
                             opened);
    CLD_TRY_NULL(cld_cuda_open(ordinal));
    CLD_TRY_NULL(cld_cuda_open_faults());
    snprintf(name, sizeof name, "cuda:%d", ordinal);
    opened = ordinal;
    return &cuda;
}

#ifdef CLD_ON_HOST
#    define EMULATED true
#else
#    define EMULATED false
#endif

__attribute__((visibility("default"))) const cld_plugin *cld_plugin_entry(const cld_plugin_host *host) {
    static const cld_plugin plugin = {
        .version = CLD_BACKEND_VERSION,
        .emulated = EMULATED,
        .count = cld_cuda_count,
        .facts = cld_cuda_facts,
        .open = open_device,
    };
    cld_cuda_set_host(host);
    return &plugin;
}
