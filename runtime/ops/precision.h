/* The precision of computation: what convolutions round their factors to.
 *
 *     fp32   nothing
 *     tf32   10 bits of f32's 23, in the device's own products and convolutions; the cpu, which has none, stays at f32
 *     bf16   convolutions give bf16 activations, which norms, pools and elementwise ops pass on
 *     fp16   the same in f16: its gradients need a loss scale (runtime/optim)
 *
 * Sums are in f32, and parameters, their gradients and the statistics of norms stay f32. The features are f32: an average
 * pool that leaves one value of each map gives f32, and so does all that is computed from them: the heads, normalize,
 * softmax, the losses. Under bf16 and fp16 a device may use tf32 for what is left of f32.
 *
 * A linear layer goes by its input, whatever the precision: beside f32 it rounds nothing, beside 16 bits (of convolutions'
 * maps that were flattened, say) its weight is rounded to them, and the result is f32. A convolution of 16 bits beside a
 * weight of f32 means the same as under the precision.
 */
#ifndef CLD_OPS_PRECISION_H
#define CLD_OPS_PRECISION_H

#include "runtime/tensor/tensor.h"

/* name in C, name in Lua, what factors of f32 are rounded to */
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

/* Of the process; fp32 at first. */
cld_precision cld_get_precision(void);
void cld_set_precision(cld_precision p);

/* What a convolution rounds x to: f32 to the precision's dtype; any other dtype stays. */
cld_dtype cld_factor_dtype(const cld_tensor *x);
/* What features are in that are computed of x: f32 if x has 16 bits and so has the precision, else x's dtype. */
cld_dtype cld_feature_dtype(const cld_tensor *x);
/* x in cld_feature_dtype, itself (retained) if it is so: for ops whose result needs more. */
cld_tensor *cld_unrounded(cld_tensor *x);

/* How a kernel wants a weight: rounded to one dtype, and given in that or a wider one, in a layout. */
typedef struct cld_weight_form {
    cld_dtype rounded, dtype;
    cld_layout layout;
} cld_weight_form;
/* weight itself (retained) where it is so, else a copy off the tape. A leaf keeps the copy until it is written to, so
 * that the views of a step, and all batches of an evaluation, share it; then those of all weights in use are renewed
 * together. */
cld_tensor *cld_weight_as(cld_tensor *weight, cld_weight_form form);

#endif
