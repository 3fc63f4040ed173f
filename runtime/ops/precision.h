/* The precision of computation: what convolutions and linear layers round their factors to.
 *
 *     fp32   nothing
 *     tf32   10 bits of f32's 23, in the device's own products and convolutions; the cpu, which has none, stays at f32
 *     bf16   convolutions give bf16 activations, which norms, pools and elementwise ops pass on; linear gives f32
 *     fp16   the same in f16: its gradients need a loss scale (runtime/optim)
 *
 * Sums are in f32, and parameters, their gradients and the statistics of norms stay f32. So does all that is computed
 * from features: normalize, softmax, the losses. Under bf16 and fp16 a device may use tf32 for what is left of f32.
 *
 * A tensor of 16 bits beside a weight of f32 means the same without any setting.
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

/* What an op that rounds its factors rounds x to: f32 to the precision's dtype; any other dtype stays. */
cld_dtype cld_factor_dtype(const cld_tensor *x);
/* x itself (retained); in f32 where it has 16 bits and so has the precision: for ops whose result needs more. */
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
