/* The library of CUDA devices. Start reading here: the one symbol that it exports, and which file fills in which part
 * of the contract. */
#include "kernels/cuda/blas.h"
#include "kernels/cuda/cuda.h"
#include "kernels/cuda/dnn.h"
#include "kernels/cuda/error.h"
#include "kernels/cuda/plans.h"

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

/* If this library has no code for the chip, its first launch fails. This is that launch: it writes a 0 to the record of
 * faults, which is 0 anyway. */
static cld_status try_launch(void) {
    const cld_array kind = {.data = cld_cuda_fault(), .dtype = CLD_I32};
    CLD_TRY(cld_cuda_math.fill(&kind, cld_integer(0)));
    return cld_cuda_wait();
}

static cld_status open_all(int ordinal) {
    CLD_TRY(cld_cuda_dnn_check());
    CLD_TRY(cld_cuda_open(ordinal));
    CLD_TRY(cld_cuda_open_faults());
    CLD_TRY(cld_cuda_open_tickets());
    return try_launch();
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
        .plans = &cld_cuda_plans,
        .comm = &cld_cuda_comm,
        .lane = &cld_cuda_lane,
    };
    if (opened == ordinal) return &cuda;
    if (opened >= 0)
        return cld_fail_null(CLD_INVALID, "this process already uses cuda:%d, and can use only one device",
                             opened);
    CLD_TRY_NULL(open_all(ordinal));
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
