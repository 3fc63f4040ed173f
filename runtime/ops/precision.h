/* The precision of computation: what convolutions round their inputs and weights to.
 *
 *     fp32   nothing
 *     tf32   10 of f32's 23 bits, in the device's own products and convolutions; the cpu, which has none, stays at f32
 *     bf16   convolutions give bf16 activations, which norms, pools and elementwise ops pass on
 *     fp16   the same in f16: its gradients need a loss scale (runtime/optim)
 *
 * Sums are in f32, and parameters, their gradients and the statistics of norms stay f32. Features are f32: an average
 * pool that leaves one value per map returns f32, and so does everything computed from it: heads, normalize, softmax,
 * losses. With bf16 and fp16 a device may use tf32 for the remaining f32 work.
 *
 * A linear layer follows its input, whatever the precision. With f32 input it rounds nothing. With 16-bit input
 * (flattened maps of a convolution, for example) its weight is rounded to the same 16 bits, and the result is f32. A
 * convolution with 16-bit input and an f32 weight works as with that precision.
 */
#ifndef CLD_OPS_PRECISION_H
#define CLD_OPS_PRECISION_H

#include "runtime/tensor/tensor.h"

/* name in C, name in Lua, what f32 inputs are rounded to */
#define CLD_PRECISIONS(X)                                                                                    \
    X(FP32, "fp32", CLD_F32)                                                                                 \
    X(TF32, "tf32", CLD_F32)                                                                                 \
    X(BF16, "bf16", CLD_BF16)                                                                                \
    X(FP16, "fp16", CLD_F16)

typedef enum cld_precision {
#define CLD_ENUM(name, text, dtype) CLD_PRECISION_##name,
    CLD_PRECISIONS(CLD_ENUM)
#undef CLD_ENUM
        CLD_PRECISION_COUNT
} cld_precision;

const char *cld_precision_name(cld_precision p);
cld_status cld_precision_parse(const char *name, cld_precision *out);

/* One for the process; fp32 at first. */
cld_precision cld_get_precision(void);
void cld_set_precision(cld_precision p);

/* What a convolution rounds x to: f32 to the precision's dtype; other dtypes are kept. */
cld_dtype cld_factor_dtype(const cld_tensor *x);
/* The dtype of features computed from x: f32 if both x and the precision have 16 bits, else x's dtype. */
cld_dtype cld_feature_dtype(const cld_tensor *x);
/* x in cld_feature_dtype, itself (retained) if it already is: for ops whose result needs more precision. */
cld_tensor *cld_unrounded(cld_tensor *x);

/* The form of a weight that a kernel needs: rounded to one dtype, stored in that or a wider one, in a layout. */
typedef struct cld_weight_form {
    cld_dtype rounded, dtype;
    cld_layout layout;
} cld_weight_form;
/* weight itself (retained) if it has that form, else a copy off the tape. A leaf keeps the copy until it is written to,
 * so that the views of a step, and all batches of an evaluation, share it. Then the copies of all weights in use are
 * renewed together. */
cld_tensor *cld_weight_as(cld_tensor *weight, cld_weight_form form);

#endif
