/* The CPU backend, read from here: which file fills in which part of the contract. */
#include "kernels/cpu/cpu.h"

const cld_backend *cld_cpu_backend(void) {
    static const cld_backend cpu = {
        .version = CLD_BACKEND_VERSION,
        .name = "cpu",
        .memory = &cld_cpu_memory,
        .math = &cld_cpu_math,
        .conv = &cld_cpu_conv,
        .loss = &cld_cpu_loss,
        .optim = &cld_cpu_optim,
    };
    return &cpu;
}
