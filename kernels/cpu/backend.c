/* The CPU backend. Start reading here: which file fills in which part of the contract. */
#include "kernels/cpu/cpu.h"

#include <oneapi/dnnl/dnnl.h>
#include <stdio.h>

static const char *library(void) {
    static _Thread_local char text[48];
    const dnnl_version_t *v = dnnl_version();
    snprintf(text, sizeof text, "oneDNN %d.%d.%d", v->major, v->minor, v->patch);
    return text;
}

const cld_backend *cld_cpu_backend(void) {
    static const cld_backend cpu = {
        .version = CLD_BACKEND_VERSION,
        .name = "cpu",
        .library = library,
        .memory = &cld_cpu_memory,
        .math = &cld_cpu_math,
        .conv = &cld_cpu_conv,
        .loss = &cld_cpu_loss,
        .optim = &cld_cpu_optim,
        .image = &cld_cpu_image,
    };
    return &cpu;
}
