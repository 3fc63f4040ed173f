/* Elementwise work, reductions, products, indexing on the CPU, gathered into the backend's table. */
#include "kernels/cpu/math.h"

const cld_math_ops cld_cpu_math = {
    .copy = cld__copy,
    .fill = cld__fill,
    .unary = cld__unary,
    .binary = cld__binary,
    .where = cld__where,
    .reduce = cld__reduce,
    .arg_reduce = cld__arg_reduce,
};
