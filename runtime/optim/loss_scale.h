/* The dynamic loss scale for fp16 (runtime/ops/precision.h), whose smallest number is larger than many gradients. */
#ifndef CLD_OPTIM_LOSS_SCALE_H
#define CLD_OPTIM_LOSS_SCALE_H

#include "runtime/tensor/tensor.h"

/* Backward starts with a gradient of `scale` instead of 1, and the step divides by it. The scale grows after many good
 * steps. If gradients are not finite, the step is skipped and the scale is halved (Micikevicius et al., "Mixed
 * Precision Training", ICLR 2018). Both tensors are 0-d and on the parameters' device; NULL before the first step in
 * fp16. */
typedef struct cld_loss_scale {
    cld_tensor *scale; /* f32 */
    cld_tensor *good;  /* i32: steps made since it last changed */
} cld_loss_scale;

cld_status cld_loss_scale_start(cld_loss_scale *s, const cld_backend *device); /* if it has not */
void cld_loss_scale_drop(cld_loss_scale *s);
/* The gradient that the loss starts with: weight times the scale. */
cld_tensor *cld_loss_scale_gradient(const cld_loss_scale *s, const cld_tensor *loss, double weight);
/* *made becomes 0 if a gradient is not finite. All are on one device. */
cld_status cld_loss_scale_check(cld_tensor *made, cld_tensor *const *params, int count);
cld_status cld_loss_scale_update(cld_loss_scale *s, const cld_tensor *made);

#endif
