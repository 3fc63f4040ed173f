/* The contract between the runtime and a device: one table of functions that every device fills in.
 *
 * The runtime checks shapes, dtypes and devices and allocates every output before it calls; a backend only computes.
 * Outputs come first, then inputs, then sizes and a parameter struct. Nothing here knows tensors, autograd or Lua. A slot
 * may be NULL; the runtime then reports CLD_UNSUPPORTED and names the op.
 *
 * kernels/cpu is always linked in. kernels/cuda is a separate library, libcld_cuda.so, loaded when a program asks for such
 * a device (runtime/tensor/device.c). A library built from another version of the contract is refused.
 *
 * Queues. A device may queue its work and return at once. Then only to_host and synchronize wait for it, and end_step waits
 * for earlier steps. Errors that a kernel finds on the device, such as an index out of range, are reported by the next of
 * these calls. A step must not need to wait, so values that change from step to step can be arrays of one element on the
 * device: the learning rate, the condition under which a step is made, the position of the random numbers.
 */
#ifndef CLD_KERNELS_BACKEND_H
#define CLD_KERNELS_BACKEND_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kernels/comm.h"
#include "kernels/parts.h"
#include "kernels/view.h"
#include "runtime/core/error.h"
#include "runtime/core/scratch.h"

#ifdef __cplusplus
extern "C" {
#endif

#define CLD_BACKEND_VERSION 11
#define CLD_MAX_DIMS        8

/* ---- what a kernel sees of a tensor ------------------------------------------------------------------------- */

/* name in C, name in Lua, bytes */
#define CLD_DTYPES(X)                                                                                        \
    X(F32, "f32", 4)                                                                                         \
    X(F64, "f64", 8)                                                                                         \
    X(BF16, "bf16", 2)                                                                                       \
    X(F16, "f16", 2)                                                                                         \
    X(I64, "i64", 8)                                                                                         \
    X(I32, "i32", 4)                                                                                         \
    X(U8, "u8", 1)

typedef enum cld_dtype {
#define CLD_ENUM(name, text, bytes) CLD_##name,
    CLD_DTYPES(CLD_ENUM)
#undef CLD_ENUM
        CLD_DTYPE_COUNT
} cld_dtype;

typedef enum cld_layout {
    CLD_STRIDED, /* element (i, j, ...) lies at data + i * strides[0] + j * strides[1] + ... */
    CLD_BLOCKED  /* the device's own layout for 4-d activations, dense; strides mean nothing. On the CPU
                 * nChw16c: channels in blocks of 16, [N][C/16][H][W][16], C a multiple of 16. On CUDA
                 * channels last: [N][H][W][C] */
} cld_layout;

typedef struct cld_array {
    void *data; /* the first element; a view's offset is already applied */
    cld_dtype dtype;
    cld_layout layout;
    int ndim;
    int64_t shape[CLD_MAX_DIMS];   /* always the logical shape: (N, C, H, W) for activations */
    int64_t strides[CLD_MAX_DIMS]; /* in elements; 0 where broadcast */
} cld_array;

static inline size_t cld_dtype_size(cld_dtype dtype) {
    static const unsigned char sizes[] = {
#define CLD_SIZE(name, text, bytes) bytes,
        CLD_DTYPES(CLD_SIZE)
#undef CLD_SIZE
    };
    return sizes[dtype];
}

static inline int64_t cld_numel(const cld_array *a) {
    int64_t n = 1;
    for (int i = 0; i < a->ndim; i++) n *= a->shape[i];
    return n;
}

/* Dense, row-major, strided. An array without elements may have any strides. */
static inline bool cld_is_contiguous(const cld_array *a) {
    if (a->layout != CLD_STRIDED) return false;
    int64_t expected = 1;
    for (int i = a->ndim - 1; i >= 0; i--) {
        if (a->shape[i] != 1 && a->strides[i] != expected) return cld_numel(a) == 0;
        expected *= a->shape[i];
    }
    return true;
}

/* A vector, as an array of a's shape with the vector in each row. */
static inline cld_array cld_in_each_row(const cld_array *vector, const cld_array *a) {
    cld_array rows = *a;
    rows.data = vector->data;
    rows.dtype = vector->dtype;
    rows.layout = CLD_STRIDED;
    for (int i = 0; i < a->ndim; i++) rows.strides[i] = i == a->ndim - 1 ? vector->strides[0] : 0;
    return rows;
}

/* A number that is an operand beside tensors. Integer kernels use i, float kernels use d; both are always filled in. */
typedef struct cld_scalar {
    bool is_integer; /* i is the exact value; else i is the nearest int64 */
    int64_t i;
    double d;
} cld_scalar;

static inline cld_scalar cld_integer(int64_t i) {
    cld_scalar s = {true, i, (double)i};
    return s;
}

static inline cld_scalar cld_real(double d) {
    cld_scalar s = {false, 0, d};
    if (d >= -0x1p63 && d < 0x1p63)
        s.is_integer = (double)(s.i = (int64_t)d) == d;
    else if (d == d)
        s.i = d < 0 ? INT64_MIN : INT64_MAX;
    return s;
}

/* ---- memory ------------------------------------------------------------------------------------------------- */

/* In bytes. */
typedef struct cld_memory_info {
    size_t in_use;   /* handed out now, to tensors and workspaces */
    size_t peak;     /* the highest in_use so far, or since reset_peak */
    size_t reserved; /* in large blocks taken from the system, whether in use or cached */
    size_t limit;    /* the most that in_use may reach: the machine's memory, or its control group's limit */
} cld_memory_info;

typedef struct cld_memory_ops {
    /* 64-byte aligned; the contents are undefined. If memory runs out it calls the function given to set_reclaim, empties
     * the cache and tries once more, both for tensors and for a kernel's workspace. */
    cld_status (*allocate)(void **out, size_t bytes);
    void (*release)(void *data, size_t bytes); /* bytes as given to allocate */
    /* Copies dense bytes between this device's memory and the host's. to_host waits for queued work. from_host does not;
     * the host memory may be reused when it returns. */
    cld_status (*to_host)(void *host, const void *device, size_t bytes);
    cld_status (*from_host)(void *device, const void *host, size_t bytes);
    void (*set_reclaim)(void (*reclaim)(void *context), void *context); /* NULL: nothing to call */
    cld_memory_info (*info)(void);
    cld_status (*synchronize)(void); /* (optional) wait for queued work */
    bool (*forbid_waiting)(bool on); /* (optional) while on, waiting is an error; returns the old setting */
    /* (optional) Called when a training step has been queued. Waits for the step a few steps back, so that the host never
     * gets far ahead. A fault that a kernel found in that step is an error here. */
    cld_status (*end_step)(void);
    void (*reset_peak)(void); /* (optional) sets peak to in_use */
} cld_memory_ops;

/* ---- elementwise, reductions, products, indexing, random numbers: the files that kernels/cpu/math.c joins ------ */

/* clang-format off */
typedef enum cld_unary {
    CLD_NEG, CLD_ABS, CLD_SIGN, CLD_EXP, CLD_LOG, CLD_SQRT, CLD_RSQRT, CLD_SQUARE, CLD_RECIPROCAL,
    CLD_SIN, CLD_COS, CLD_TANH, CLD_SIGMOID, CLD_RELU, CLD_FLOOR, CLD_CEIL, CLD_ROUND, CLD_NOT,
    CLD_ISNAN, CLD_ISFINITE,
    CLD_ADD_SCALAR, CLD_MUL_SCALAR, CLD_POW_SCALAR, CLD_RSUB_SCALAR, CLD_RDIV_SCALAR, /* x+a  x*a  x^a  a-x  a/x */
    CLD_CLAMP,                                                                        /* to [a, b] */
    CLD_GELU, CLD_GELU_TANH, CLD_SILU, CLD_SOFTPLUS, CLD_LEAKY_RELU, /* activation.h; a: the slope below 0 */
    CLD_EQ_SCALAR, CLD_NE_SCALAR, CLD_LT_SCALAR, CLD_LE_SCALAR, CLD_GT_SCALAR, CLD_GE_SCALAR /* out is u8 */
} cld_unary;

typedef enum cld_binary {
    CLD_ADD, CLD_SUB, CLD_MUL, CLD_DIV, CLD_POW, CLD_MAXIMUM, CLD_MINIMUM,
    CLD_FLOOR_DIVIDE, CLD_REMAINDER, /* floor(a/b), a - b floor(a/b), as Lua's // and %; an integer b = 0 is an error */
    CLD_EQ, CLD_NE, CLD_LT, CLD_LE, CLD_GT, CLD_GE, CLD_AND, CLD_OR, /* out is u8 */
    CLD_RELU_BACKWARD,                                               /* 0 where b <= 0, else a */
    CLD_GELU_BACKWARD, CLD_GELU_TANH_BACKWARD, CLD_SILU_BACKWARD     /* a times the slope at b */
} cld_binary;
/* clang-format on */

typedef enum cld_reduction { CLD_SUM, CLD_PROD, CLD_MAX, CLD_MIN, CLD_ANY, CLD_ALL } cld_reduction;

typedef enum cld_random { CLD_RANDOM_UNIFORM, CLD_RANDOM_NORMAL } cld_random; /* [a, b); mean, deviation */

typedef enum cld_row_reduction { CLD_MEAN_OF_ROWS, CLD_SUM_OF_ROWS, CLD_EACH_ROW } cld_row_reduction;

typedef struct cld_cross_entropy_params {
    cld_row_reduction reduction;
    double temperature; /* above 0; 1 is none */
    double label_smoothing;
    bool ignores; /* rows labelled `ignored` are left out of the mean and of share */
    int64_t ignored;
} cld_cross_entropy_params;

typedef struct cld_math_ops {
    /* Copies with a cast between any dtypes, strides and layouts; x broadcasts to out by zero strides. */
    cld_status (*copy)(const cld_array *out, const cld_array *x);
    /* (optional) outs[i] = xs[i] as by copy, each pair of the same shape, in few launches. */
    cld_status (*copy_many)(int count, const cld_array *outs, const cld_array *xs);
    cld_status (*fill)(const cld_array *out, cld_scalar value);
    /* out and inputs share shape and, except for comparisons, dtype; inputs may broadcast by zero strides. */
    cld_status (*unary)(cld_unary kind, const cld_array *out, const cld_array *x, cld_scalar a, cld_scalar b);
    cld_status (*binary)(cld_binary kind, const cld_array *out, const cld_array *a, const cld_array *b);
    cld_status (*where)(const cld_array *out, const cld_array *condition, const cld_array *a,
                        const cld_array *b);
    /* out has x's ndim, with size 1 in each reduced dimension. Maximum and minimum are NaN if x contains one. */
    cld_status (*reduce)(cld_reduction kind, const cld_array *out, const cld_array *x);
    /* The 0-based position along dim of the maximum or minimum: the first among equals; NaN wins over everything. */
    cld_status (*arg_reduce)(cld_reduction kind, const cld_array *out_i64, const cld_array *x, int dim);
    /* Inclusive cumulative sums along dim; reverse: from the other end. */
    cld_status (*cumsum)(const cld_array *out, const cld_array *x, int dim, bool reverse);
    /* The 0-based positions of nonzero elements, in row-major order; out has a row for each, with x's ndim columns. */
    cld_status (*nonzero)(const cld_array *out_i64, const cld_array *x);
    /* out = a @ b, with bias (a vector, or NULL) added to each row. All 2-d or all 3-d (batched); out is dense;
     * transposition of a and b is expressed by their strides. All of one dtype, except that out and bias may be f32 if a
     * and b are bf16 or f16. */
    cld_status (*gemm)(const cld_array *out, const cld_array *a, const cld_array *b, const cld_array *bias);
    /* Along dim; log: log-softmax. In softmax_backward, y is the output of the forward pass. */
    cld_status (*softmax)(const cld_array *out, const cld_array *x, int dim, bool log);
    cld_status (*softmax_backward)(const cld_array *dx, const cld_array *y, const cld_array *dout, int dim,
                                   bool log);
    /* The loss of row i of logits (n, classes) is 0 if ignored, else -sum_c q_c log p_c. p is the softmax of row /
     * temperature. q is the smoothed label: with s = label_smoothing, 1 - s at labels[i], plus s / classes everywhere.
     * labels (n) are i64 and checked by the backend. loss: one element, or (n) for CLD_EACH_ROW. share (f32, one element,
     * or NULL): the share of rows whose largest logit, the first among equals, is at their label; a row with a NaN has
     * none. dlogits (or NULL): the gradient of loss; for CLD_EACH_ROW, of each row's loss. One dtype except share and
     * labels; dense, row-major. */
    cld_status (*cross_entropy)(const cld_array *loss, const cld_array *share, const cld_array *dlogits,
                                const cld_array *logits, const cld_array *labels,
                                const cld_cross_entropy_params *p);
    /* Scales the rows of a 2-d x to unit length; norms (rows) are kept for backward; a zero row stays zero. */
    cld_status (*normalize)(const cld_array *out, const cld_array *norms, const cld_array *x);
    cld_status (*normalize_backward)(const cld_array *dx, const cld_array *y, const cld_array *norms,
                                     const cld_array *dout);
    /* Normalizes x (n, channels, inner) to y of the same shape. Each image's channels are split into equal groups, one per
     * column of mean; each group is normalized to mean 0 and variance 1, then multiplied by weight and shifted by bias
     * (channels; or NULL). mean and invstd = 1 / sqrt(variance + eps) are (n, groups), kept for backward. Layer norm: one
     * group, inner 1. All dense; x and y of one dtype, the vectors of the same or, if it has 16 bits, f32. */
    cld_status (*group_norm)(const cld_array *y, const cld_array *mean, const cld_array *invstd,
                             const cld_array *x, const cld_array *weight, const cld_array *bias, double eps);
    /* dx, and the pair dweight, dbias, may be NULL. Repeatable to the bit. */
    cld_status (*group_norm_backward)(const cld_array *dx, const cld_array *dweight, const cld_array *dbias,
                                      const cld_array *dy, const cld_array *x, const cld_array *weight,
                                      const cld_array *mean, const cld_array *invstd);
    /* y (outer, rows, inner) = sums over windows of x (outer, extent, inner): row i is the sum over k of weights[i][k]
     * times x's row first[i] + k. weights (rows, width) and first (rows, i64) come from the runtime; a row outside x has
     * weight 0, and rows with weight 0 are not read. All dense, and all except first of one dtype, f32 or f64. */
    cld_status (*window_sums)(const cld_array *y, const cld_array *x, const cld_array *first,
                              const cld_array *weights);
    /* As in PyTorch: index is i64, and the backend checks it against x's extent along dim. */
    cld_status (*gather)(const cld_array *out, const cld_array *x, int dim, const cld_array *index);
    cld_status (*scatter_add)(const cld_array *out, int dim, const cld_array *index, const cld_array *x);
    cld_status (*index_select)(const cld_array *out, const cld_array *x, int dim, const cld_array *index);
    cld_status (*index_add)(const cld_array *out, int dim, const cld_array *index, const cld_array *x);
    cld_status (*index_copy)(const cld_array *out, int dim, const cld_array *index, const cld_array *x);
    /* The first k of each line along dim, in order, and stable. With k = extent this is a sort. */
    cld_status (*topk)(const cld_array *values, const cld_array *index_i64, const cld_array *x, int dim,
                       bool descending);
    /* values (count, n): the eigenvalues of each symmetric matrix of a (count, n, n), ascending; only lower triangles are
     * read. vectors (count, n, k), or NULL: the eigenvectors of the k smallest, as unit columns whose first largest entry
     * is positive. All dense, f32 or f64. If a matrix has an entry that is not finite, its results are all NaN. */
    cld_status (*eigh)(const cld_array *values, const cld_array *vectors, const cld_array *a);
    /* Element i, in row-major order, is a pure function of (seed, position + base + i); base is one i64, or NULL: 0. */
    cld_status (*random)(const cld_array *out, cld_random kind, double a, double b, uint64_t seed,
                         uint64_t position, const cld_array *base);
    bool (*allow_tf32)(bool on); /* (optional) f32 products may use tf32; returns the old setting */
} cld_math_ops;

/* ---- convolution, normalization, pooling: kernels/cpu/{conv,norm,pool}*.c ------------------------------------ */

/* Activations are 4-d, blocked or row-major. Everything else is row-major, except that w may be blocked if weight_layout
 * asks for it. Activations are f32 or f64, and if accepts_half is set also bf16 or f16. In that case w may be of their
 * dtype or f32; dw, dbias and the vectors of norm are f32, and sums are in f32. */
typedef struct cld_conv_params {
    int stride[2], padding[2], dilation[2], groups; /* rows, columns */
} cld_conv_params;

typedef struct cld_norm_params {
    bool training; /* uses batch statistics and updates the running ones; else uses the running ones */
    bool relu;     /* out = relu(norm(x) [+ residual]) */
    double momentum, eps;
    cld_parts parts; /* of x's images, each with its own statistics; in evaluation there is one part */
    cld_share share; /* this call's share of a step's images, if they come in several calls */
} cld_norm_params;

/* The size of relu's mask, for a device that masks. For each 16 bytes of x, in the device's own layout, the mask has a
 * byte with one bit per element, lowest first, which is set if relu let the element through. */
static inline int64_t cld_norm_mask_bytes(const cld_array *x) {
    return (cld_numel(x) * (int64_t)cld_dtype_size(x->dtype) + 15) / 16;
}

typedef struct cld_pool_params {
    int kernel[2], stride[2], padding[2]; /* rows, columns */
} cld_pool_params;

typedef struct cld_conv_ops {
    /* The layout that this device wants for an activation of this dtype and shape (4-d). */
    cld_layout (*layout)(cld_dtype dtype, const int64_t *shape);
    /* (optional) The same for a convolution's weight (O, C / groups, kernel, kernel); strided if this slot is NULL. */
    cld_layout (*weight_layout)(cld_dtype dtype, const int64_t *shape);
    bool accepts_half; /* takes bf16 and f16 activations in every function here */
    /* Norms' outputs are kept for backward while less than this share of the memory is in use. */
    double keeps_below;
    bool adds_dy;     /* norm_backward takes dy as two terms */
    bool masks;       /* norm writes relu's mask after a residual, and norm_backward takes it in place of y */
    bool weight_like; /* dw may have x's dtype and weight_layout's layout */
    /* (optional) Winograd's algorithm if faster; a digit less precise in f32. On by default. Returns the old setting. */
    bool (*set_winograd)(bool on);
    /* (optional) Whether conv2d's output y should be recomputed in backward rather than kept; depends on the shapes. */
    bool (*rebuilds)(const int64_t *x, const int64_t *w, const int64_t *y);
    /* As in PyTorch: x (N, C, H, W), w (O, C / groups, kernel, kernel), bias (O) or NULL, y (N, O, H', W'). */
    cld_status (*conv2d)(const cld_array *y, const cld_array *x, const cld_array *w, const cld_array *bias,
                         const cld_conv_params *p);
    cld_status (*conv2d_data)(const cld_array *dx, const cld_array *dy, const cld_array *w,
                              const cld_conv_params *p);
    cld_status (*conv2d_weight)(const cld_array *dw, const cld_array *dbias, const cld_array *x,
                                const cld_array *dy, const cld_conv_params *p);
    /* y = (x - mean) * invstd * weight + bias per channel [+ residual] [then relu]. Each part of the batch has its own mean
     * and invstd; (parts, C) are written: in training the parts' own, else one row from the running statistics. residual,
     * weight, bias may be NULL. In training the running statistics are updated (with the unbiased variance) once per view,
     * and batches (i64, one element) counts the views; all three may be NULL. A view's update uses the mean over its
     * blocks, weighted with the blocks' rows. If a view's mean or variance is not finite in a channel, it updates
     * nothing. If a call has only a share of its views' images (share.total > 0), one such view blocks the whole
     * update, and only a call with share.done = 0 adds to batches. mask: NULL, or, if the device masks and relu follows
     * a residual, cld_norm_mask_bytes(x) of u8. sums: NULL, or in training the result of norm_sums, added up over the
     * ranks that share the batch (parts.total > 0). Then mean and invstd are those of whole blocks, and all blocks of
     * each view update the running statistics. */
    cld_status (*norm)(const cld_array *y, const cld_array *mask, const cld_array *mean,
                       const cld_array *invstd, const cld_array *x, const cld_array *residual,
                       const cld_array *weight, const cld_array *bias, const cld_array *running_mean,
                       const cld_array *running_var, const cld_array *batches, const cld_array *sums,
                       const cld_norm_params *p);
    /* sums (parts of the whole batch, 2, C), f64: sums of x and of x squared over the local rows; 0 for a part without
     * local rows. parts.total > 0. */
    cld_status (*norm_sums)(const cld_array *sums, const cld_array *x, const cld_norm_params *p);
    /* Only the last step of norm, without a residual: the same y, bit for bit, from the given mean and invstd. */
    cld_status (*norm_apply)(const cld_array *y, const cld_array *x, const cld_array *weight,
                             const cld_array *bias, const cld_array *mean, const cld_array *invstd,
                             const cld_norm_params *p);
    /* dx, dresidual, and the pair dweight, dbias (C), which are sums over the parts, may be NULL. gate: if relu followed a
     * residual, y or, on a device that masks, the mask, which shows where relu let the value through; else NULL, and relu's
     * input is recomputed from x. dx or dresidual (not both) may be dy's own memory. more_dy: NULL, or, if the device
     * adds_dy, a second term to add to dy. sums: NULL, or the result of norm_backward_sums, added up over the ranks. Then
     * only dx is computed, with the counts of whole blocks: dresidual, if it is not NULL, holds what norm_backward_sums
     * wrote and is read; dweight and dbias are NULL. */
    cld_status (*norm_backward)(const cld_array *dx, const cld_array *dresidual, const cld_array *dweight,
                                const cld_array *dbias, const cld_array *dy, const cld_array *more_dy,
                                const cld_array *x, const cld_array *gate, const cld_array *weight,
                                const cld_array *bias, const cld_array *mean, const cld_array *invstd,
                                const cld_array *sums, const cld_norm_params *p);
    /* All of norm_backward except dx, for the local rows. sums has the shape that norm_sums has: sums of dy after relu's
     * mask, and of its products with x - mean. parts.total > 0. */
    cld_status (*norm_backward_sums)(const cld_array *sums, const cld_array *dresidual,
                                     const cld_array *dweight, const cld_array *dbias, const cld_array *dy,
                                     const cld_array *more_dy, const cld_array *x, const cld_array *gate,
                                     const cld_array *weight, const cld_array *bias, const cld_array *mean,
                                     const cld_array *invstd, const cld_norm_params *p);
    /* argmax: the position in the input plane, h * W + w; same layout as y. */
    cld_status (*max_pool)(const cld_array *y, const cld_array *argmax_i32, const cld_array *x,
                           const cld_pool_params *p);
    cld_status (*max_pool_backward)(const cld_array *dx, const cld_array *dy, const cld_array *argmax_i32,
                                    const cld_pool_params *p);
    /* Padding counts as zeros (PyTorch's count_include_pad). If x has 16 bits, y may be f32; so may the gradients. */
    cld_status (*avg_pool)(const cld_array *y, const cld_array *x, const cld_pool_params *p);
    cld_status (*avg_pool_backward)(const cld_array *dx, const cld_array *dy, const cld_pool_params *p);
} cld_conv_ops;

/* ---- plans of convolutions: optional ------------------------------------------------------------------------------ */

/* Which algorithm of the device's library computes a convolution of one shape. If it is chosen by timing, another process
 * may choose another, which rounds differently. So a run keeps its choices, for the same library on the same chip. */
enum { CLD_PLAN_KNOBS = 48 };
typedef struct cld_conv_plan {
    int kind; /* 0: conv2d, 1: conv2d_data, 2: conv2d_weight */
    cld_dtype dtype;
    bool tf32; /* f32 may be computed as tf32 */
    int64_t x[4], w[4], y[4];
    cld_conv_params params;
    int64_t alignment; /* in bytes, of all three arrays */
    int64_t engine;    /* the library's number for the algorithm */
    int knob_count;
    struct {
        int64_t type, value;
    } knobs[CLD_PLAN_KNOBS];
} cld_conv_plan;

typedef struct cld_plan_ops {
    const char *(*library)(void);           /* the library that the plans belong to: "cuDNN 9.19.0" */
    int (*count)(void);                     /* how many plans were chosen or set so far */
    void (*get)(int i, cld_conv_plan *out); /* 0 <= i < count, in the order their shapes first came */
    /* Use this plan for its shape from the next call on, in place of an earlier choice, if it can be made here. Graphs that
     * are already captured keep theirs. */
    cld_status (*use)(const cld_conv_plan *plan);
} cld_plan_ops;

/* ---- losses, clustering, nearest neighbours: kernels/cpu/{bank,nce,kmeans,knn}.c ----------------------------- */

/* Every array is dense and row-major, f32 or f64, all of one dtype. index, labels and negatives are i64 and checked by the
 * backend. A loss is one element, the mean over the rows. Its gradient df (rows, dim) is computed with it, or is NULL. */
typedef struct cld_loss_ops {
    /* Cross entropy of f . bank^T / temperature against class index[i], streamed: no array of rows x size exists. */
    cld_status (*bank_softmax)(const cld_array *loss, const cld_array *df, const cld_array *f,
                               const cld_array *bank, const cld_array *index, double temperature);
    /* The same, with the positive f . key as class 0 in front of the queue's classes. */
    cld_status (*queue_softmax)(const cld_array *loss, const cld_array *df, const cld_array *f,
                                const cld_array *key, const cld_array *queue, double temperature);
    /* Uniform numbers in 0 .. size - 1, a pure function of (seed, draw). draw is one i64, which is advanced. */
    cld_status (*sample_negatives)(const cld_array *negatives, const cld_array *draw, int64_t size,
                                   uint64_t seed);
    /* NCE; negatives (rows, K) are rows of the bank. z, one element, is <= 0 until the first batch sets it. */
    cld_status (*bank_nce)(const cld_array *loss, const cld_array *df, const cld_array *z, const cld_array *f,
                           const cld_array *bank, const cld_array *index, const cld_array *negatives,
                           double temperature);
    /* bank[index[i]] = normalize(momentum * bank[index[i]] + (1 - momentum) * f[i]), i ascending. Does nothing if
     * the one element of condition (u8, or NULL) is 0. */
    cld_status (*bank_update)(const cld_array *bank, const cld_array *index, const cld_array *f,
                              double momentum, const cld_array *condition);
    /* The ring buffer: queue[(pointer + i) mod size] = keys[i] for all i; if several write the same row, the last one wins.
     * Then pointer (i64, one element) += number of keys, mod size. Does nothing if condition is 0. */
    cld_status (*enqueue)(const cld_array *queue, const cld_array *pointer, const cld_array *keys,
                          const cld_array *condition);
    /* Lloyd's algorithm as CLD defines it, in each part of the rows separately. labels (rows): 0 .. k - 1. centroids (parts
     * * k, dim): part after part. sizes (parts * k): number of members, at least 1. group (rows, or NULL): each row's
     * centroid, part * k + label. empty (parts), f32: centroids without a member at the end, not counting those that must
     * be empty because k exceeds the part's rows. */
    cld_status (*kmeans)(const cld_array *labels, const cld_array *group, const cld_array *centroids,
                         const cld_array *sizes, const cld_array *empty, const cld_array *x,
                         const cld_parts *parts, int iterations);
    /* similarities and index (queries, k): the k <= rows rows of memory (rows, dim) that are most similar by dot product to
     * each of queries (queries, dim), in the order of the rows. Among equally similar rows the first ones win. If fewer
     * than k have a similarity above -infinity (NaN is not above it), the rest is filled with -infinity and 0. A similarity
     * depends on its two rows alone, to the last bit, so a memory may be cut into parts and the lists joined. */
    cld_status (*nearest)(const cld_array *similarities, const cld_array *index, const cld_array *memory,
                          const cld_array *queries);
    /* scores (queries, classes): each of the k <= n largest similarities (queries, n), the first among equals, adds
     * exp(similarity / temperature) to its class in labels (queries, n), in their order. NaN and -infinity add nothing. If
     * a query's scores could overflow or underflow the dtype, they are divided by exp(largest similarity / temperature). */
    cld_status (*vote)(const cld_array *scores, const cld_array *similarities, const cld_array *labels,
                       int64_t k, double temperature);
} cld_loss_ops;

/* ---- optimizers: kernels/cpu/optim*.c -------------------------------------------------------------------------- */

/* How a step changes each parameter; each rule is defined in its file of runtime/optim. */
typedef enum cld_rule { CLD_SGD, CLD_LARS, CLD_ADAM } cld_rule;

/* The settings of a group of parameters. A rule reads only its own. */
typedef struct cld_rule_settings {
    double lr, lr_factor; /* the rate is the product of the two */
    double weight_decay;
    double momentum, dampening; /* sgd; lars: momentum */
    bool nesterov;
    bool adapt; /* lars: if false, neither trust ratio nor weight decay */
    double eta; /* lars: the trust coefficient */
    double beta1, beta2, eps;
    bool decoupled; /* adam: the decay acts on the weight (AdamW), else it is part of the gradient */
} cld_rule_settings;

/* One parameter of a step with its gradient and state: dense arrays of n elements, all f32 or all f64. If takes_half is
 * set, the gradient and copy of an f32 parameter may have 16 bits, and may be channels last, as convolutions have them:
 * for a parameter (out, channels, inner), they are (out, inner, channels). */
typedef struct cld_step_tensor {
    void *param;
    const void *grad;
    void *slots[2]; /* the rule's state: sgd, lars: momentum (NULL if that is 0); adam: the two moments */
    int64_t *steps; /* the number of steps made so far, which a step increments; or NULL */
    void *copy;     /* the new values in 16 bits, or NULL; unchanged if no step is made (condition) */
    int64_t n;
    int64_t channels, inner;                 /* shape of 16-bit arrays; inner 1: in the parameter's order */
    cld_dtype dtype, grad_dtype, copy_dtype; /* grad_dtype: dtype, or one of 16 bits */
    int settings;                            /* index into the step's settings; ascending over the tensors */
} cld_step_tensor;

#define CLD_STEP_INNER 1024 /* the most that inner may be */

/* Values of one element on the device that control a step; each may be NULL. */
typedef struct cld_step_control {
    const cld_array *lr;        /* f64: replaces the settings' lr */
    const cld_array *condition; /* u8: if 0, nothing is written */
    const cld_array *scale;     /* f32: the loss scale; the gradients are divided by it */
    const cld_array *factor;    /* f64: the gradients are multiplied by it */
} cld_step_control;

typedef struct cld_scale_params {
    double growth, backoff; /* factors */
    int interval;           /* number of good steps before it grows */
} cld_scale_params;

typedef struct cld_optim_ops {
    /* One call for all parameters of all groups. A device that queues makes one launch per dtype (lars: two), if the
     * tensors' addresses fit into a launch: 560 tensors in 16 groups always do, 400 if any has 16 bits. */
    cld_status (*step)(cld_rule rule, int count, const cld_step_tensor *tensors,
                       const cld_rule_settings *settings, const cld_step_control *control);
    /* target = decay * target + (1 - decay) * source. Does nothing if the one element of condition (u8, or NULL) is 0.
     * decay_tensor (f64, one element, or NULL) replaces decay. */
    cld_status (*ema)(int count, const cld_array *targets, const cld_array *sources, double decay,
                      const cld_array *decay_tensor, const cld_array *condition);
    /* norm (one element, f32 or f64): the Euclidean norm of all gradients together (dense in any layout, of a step's
     * dtypes), divided by scale; NaN if condition is 0. factor (f64, one element): min(1, max_norm / (norm + 1e-6));
     * NaN if the norm is NaN, 1 if max_norm is infinite. The rest of control is ignored. Repeatable to the bit. */
    cld_status (*grad_norm)(const cld_array *norm, const cld_array *factor, int count, const cld_array *grads,
                            double max_norm, const cld_step_control *control);
    /* Multiplies each array (dense, f32 or f64) by the one element of factor (f64). */
    cld_status (*scale)(int count, const cld_array *arrays, const cld_array *factor);
    /* flag (u8, one element) becomes 0 if any element of the arrays (dense, floats) is not finite, else it is unchanged. */
    cld_status (*all_finite)(const cld_array *flag, int count, const cld_array *arrays);
    /* The dynamic loss scale (Micikevicius et al., "Mixed Precision Training", ICLR 2018). If condition is 0: scale (f32)
     * *= backoff and good (i32) = 0. Else good += 1, and when good reaches the interval: scale *= growth, if that is
     * finite, and good = 0. */
    cld_status (*update_scale)(const cld_array *scale, const cld_array *good, const cld_array *condition,
                               const cld_scale_params *p);
    /* step and grad_norm take 16-bit gradients, and step writes 16-bit copies; blocked then means channels last. */
    bool takes_half;
} cld_optim_ops;

/* ---- images: views as they were drawn (kernels/view.h) --------------------------------------------------------- */

/* What a device must know about a batch of views before it reads them: see cld_view_batch_add in kernels/resample.h. */
typedef struct cld_view_batch {
    size_t stride;    /* bytes between the instructions of consecutive views, a multiple of 8 */
    int64_t pixels;   /* of the largest canvas of any view */
    int64_t narrowed; /* pixels of the largest intermediate image between the two passes of a RESAMPLE */
    int64_t taps; /* of the RESAMPLE with the most: weights, and two more numbers per output, along x and y */
    bool resamples_again; /* a RESAMPLE comes after another instruction */
} cld_view_batch;

typedef struct cld_image_ops {
    /* CPU only: one view on the calling thread. out (3, height, width), f32, dense. */
    cld_status (*view)(float *out, const cld_view *v, const cld_pixels *image, cld_scratch *scratch);
    /* CPU only: the canvas after the view's instructions up to NORMALIZE: interleaved u8 (height, width, 3). */
    cld_status (*canvas)(uint8_t *out, const cld_view *v, const cld_pixels *image, cld_scratch *scratch);
    /* (optional) For a device that queues. views (n, 3, height, width): f32, bf16 or f16, laid out by conv.layout. drawn
     * (u8, (n, stride)): instructions. images: u8, (N, H, W, 3), dense. rows (i64): which images to use, each for
     * equally many consecutive views; NULL: the first n images. Values are the CPU's, rounded. */
    cld_status (*views)(const cld_array *views, const cld_array *images, const cld_array *rows,
                        const cld_array *drawn, const cld_view_batch *batch);
} cld_image_ops;

/* ---- graphs: optional ------------------------------------------------------------------------------------------ */

/* A graph is work that was queued during a capture and can be queued again as a whole. Memory allocated during the
 * capture belongs to the graph: nobody else gets it before the graph is freed. */
typedef struct cld_graph_ops {
    cld_status (*begin)(void);       /* from here on work is recorded instead of run */
    cld_status (*end)(void **graph); /* ends the recording, also on failure */
    cld_status (*replay)(void *graph);
    void (*free)(void *graph);
} cld_graph_ops;

/* ---- the device ------------------------------------------------------------------------------------------------ */

typedef struct cld_backend {
    int version;                  /* CLD_BACKEND_VERSION */
    const char *name;             /* "cpu", "cuda:0" */
    const char *(*library)(void); /* the library that it computes with, and its version: "oneDNN 2.6.3" */
    const cld_memory_ops *memory;
    const cld_math_ops *math;
    const cld_conv_ops *conv;
    const cld_loss_ops *loss;
    const cld_optim_ops *optim;
    const cld_image_ops *image;
    const cld_graph_ops *graph; /* (optional) */
    const cld_plan_ops *plans;  /* (optional) */
    const cld_comm_ops *comm;   /* (optional) kernels/comm.h */
    const cld_lane_ops *lane;   /* (optional) */
} cld_backend;

const cld_backend *cld_cpu_backend(void);

/* ---- a library of devices -------------------------------------------------------------------------------------- */

typedef struct cld_device_facts {
    char name[128];   /* the chip's name */
    size_t memory;    /* bytes */
    int major, minor; /* compute capability */
    int multiprocessors;
} cld_device_facts;

typedef struct cld_plugin {
    int version;                       /* CLD_BACKEND_VERSION */
    bool emulated;                     /* its kernels run on the host, for tests; never chosen unless named */
    cld_status (*count)(int *devices); /* an error says what is missing: the driver, a newer one, ... */
    cld_status (*facts)(int ordinal, cld_device_facts *out);
    /* The device, opened at the first call. A process uses one device: another ordinal later is an error. */
    const cld_backend *(*open)(int ordinal);
} cld_plugin;

/* What such a library is given: the program's error record, which the user reads. */
typedef struct cld_plugin_host {
    cld_status (*fail)(cld_status code, const char *format, ...);
    cld_status (*code)(void);
    const char *(*message)(void);
} cld_plugin_host;

/* The only symbol of such a library. */
#define CLD_PLUGIN_ENTRY "cld_plugin_entry"
typedef const cld_plugin *(*cld_plugin_entry_function)(const cld_plugin_host *host);

#ifdef __cplusplus
}
#endif

#endif
