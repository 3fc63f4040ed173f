#include "kernels/cpu/cpu.h"
const cld_optim_ops cld_cpu_optim = {0};
