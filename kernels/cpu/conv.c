#include "kernels/cpu/cpu.h"
const cld_conv_ops cld_cpu_conv = {0};
