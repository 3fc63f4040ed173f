#include "kernels/cpu/cpu.h"
const cld_math_ops cld_cpu_math = {0};
