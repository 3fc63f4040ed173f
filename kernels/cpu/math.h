/* Shared by the files behind cld_math_ops.
 *
 * How elementwise work is done: walk.c merges the dimensions of all arrays into as few loops as their strides allow,
 * cuts the innermost one into pieces of at most CLD_PIECE elements and hands each piece to a body, in parallel if there
 * is enough work. The body loads its inputs into the compute type (convert.c; a pointer into the array if no conversion
 * is needed), runs one vectorized loop in L1, and stores. So there is one loop per operation and compute type, not per
 * dtype and stride. */
#ifndef CLD_CPU_MATH_H
#define CLD_CPU_MATH_H

#include "kernels/cpu/cpu.h"

#define CLD_PIECE       1024
#define CLD_WALK_ARRAYS 4

/* f32, bf16 and f16 are computed in float, integers in int64_t. */
typedef enum cld_compute { CLD_COMPUTE_FLOAT, CLD_COMPUTE_DOUBLE, CLD_COMPUTE_INT } cld_compute;

typedef union cld_piece {
    float f[CLD_PIECE];
    double d[CLD_PIECE];
    int64_t i[CLD_PIECE];
} cld_piece;

cld_compute cld__compute_type(cld_dtype dtype);

/* n elements of the dtype, stride elements apart, as the compute type: in buffer, or where they already lie. */
const void *cld__load(cld_compute compute, cld_piece *buffer, const void *from, cld_dtype dtype,
                      int64_t stride, int64_t n);
/* Where a body should write its n results of the compute type: buffer, or straight into the array. */
void *cld__store_target(cld_compute compute, cld_piece *buffer, void *to, cld_dtype dtype, int64_t stride);
/* Stores them from there into the array; does nothing if they are already there. */
void cld__store(cld_compute compute, const void *from, void *to, cld_dtype dtype, int64_t stride, int64_t n);

/* a's shape with dense row-major strides, another dtype and no data. */
cld_array cld__dense_like(const cld_array *a, cld_dtype dtype);
/* The offset of line i along dim, in elements; lines are counted row-major over the other dimensions. dim -1: the
 * offset of element i. */
int64_t cld__line_offset(const cld_array *a, int dim, int64_t i);

/* A blocked array as the 5-d strided array that it is in memory: (N, C/16, 16, H, W). A strided 4-d array is split the
 * same way. */
cld_array cld__split_channels(const cld_array *a);

/* data[k] points to the piece's first element of array k; strides are in elements. */
typedef void (*cld_walk_body)(const void *context, char *const data[], const int64_t strides[], int64_t n);

/* All arrays have the same shape; arrays[0] is the output. Blocked and strided arrays may be mixed. */
void cld__walk(const cld_array *const arrays[], int count, cld_walk_body body, const void *context);

/* The functions of the table, by file. */
cld_status cld__copy(const cld_array *out, const cld_array *x);
cld_status cld__fill(const cld_array *out, cld_scalar value);
cld_status cld__unary(cld_unary kind, const cld_array *out, const cld_array *x, cld_scalar a, cld_scalar b);
cld_status cld__binary(cld_binary kind, const cld_array *out, const cld_array *a, const cld_array *b);
cld_status cld__where(const cld_array *out, const cld_array *condition, const cld_array *a,
                      const cld_array *b);
cld_status cld__reduce(cld_reduction kind, const cld_array *out, const cld_array *x);
cld_status cld__arg_reduce(cld_reduction kind, const cld_array *out, const cld_array *x, int dim);
cld_status cld__cumsum(const cld_array *out, const cld_array *x, int dim, bool reverse);
cld_status cld__nonzero(const cld_array *out, const cld_array *x);
cld_status cld__gemm(const cld_array *out, const cld_array *a, const cld_array *b, const cld_array *bias);
cld_status cld__softmax(const cld_array *out, const cld_array *x, int dim, bool log);
cld_status cld__softmax_backward(const cld_array *dx, const cld_array *y, const cld_array *dout, int dim,
                                 bool log);
cld_status cld__cross_entropy(const cld_array *loss, const cld_array *share, const cld_array *dlogits,
                              const cld_array *logits, const cld_array *labels,
                              const cld_cross_entropy_params *p);
cld_status cld__normalize(const cld_array *out, const cld_array *norms, const cld_array *x);
cld_status cld__normalize_backward(const cld_array *dx, const cld_array *y, const cld_array *norms,
                                   const cld_array *dout);
cld_status cld__group_norm(const cld_array *y, const cld_array *mean, const cld_array *invstd,
                           const cld_array *x, const cld_array *weight, const cld_array *bias, double eps);
cld_status cld__group_norm_backward(const cld_array *dx, const cld_array *dweight, const cld_array *dbias,
                                    const cld_array *dy, const cld_array *x, const cld_array *weight,
                                    const cld_array *mean, const cld_array *invstd);
cld_status cld__window_sums(const cld_array *y, const cld_array *x, const cld_array *first,
                            const cld_array *weights);
cld_status cld__gather(const cld_array *out, const cld_array *x, int dim, const cld_array *index);
cld_status cld__scatter_add(const cld_array *out, int dim, const cld_array *index, const cld_array *x);
cld_status cld__index_select(const cld_array *out, const cld_array *x, int dim, const cld_array *index);
cld_status cld__index_add(const cld_array *out, int dim, const cld_array *index, const cld_array *x);
cld_status cld__index_copy(const cld_array *out, int dim, const cld_array *index, const cld_array *x);
cld_status cld__topk(const cld_array *values, const cld_array *index, const cld_array *x, int dim,
                     bool descending);
cld_status cld__eigh(const cld_array *values, const cld_array *vectors, const cld_array *a);
cld_status cld__random(const cld_array *out, cld_random kind, double a, double b, uint64_t seed,
                       uint64_t position, const cld_array *base);

#endif
