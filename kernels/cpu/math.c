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
    .cumsum = cld__cumsum,
    .nonzero = cld__nonzero,
    .gemm = cld__gemm,
    .softmax = cld__softmax,
    .softmax_backward = cld__softmax_backward,
    .cross_entropy = cld__cross_entropy,
    .normalize = cld__normalize,
    .normalize_backward = cld__normalize_backward,
    .gather = cld__gather,
    .scatter_add = cld__scatter_add,
    .index_select = cld__index_select,
    .index_add = cld__index_add,
    .index_copy = cld__index_copy,
    .topk = cld__topk,
    .eigh = cld__eigh,
    .random = cld__random,
};
