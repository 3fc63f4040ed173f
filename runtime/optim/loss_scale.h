/* The dynamic scale of the loss for fp16 (runtime/ops/precision.h), whose smallest number is too large for many a
 * gradient. */
#ifndef CLD_OPTIM_LOSS_SCALE_H
#define CLD_OPTIM_LOSS_SCALE_H

#include "runtime/tensor/tensor.h"

/* Backward starts with a gradient of `scale` instead of 1, and the step divides by it. It grows after many good steps;
 * one whose gradients are not finite is not made, and halves it (Micikevicius et al., "Mixed Precision Training", ICLR
 * 2018). Both tensors have no dimension and are on the parameters' device; NULL before the first step in fp16. */
typedef struct cld_loss_scale {
    cld_tensor *scale; /* f32 */
    cld_tensor *good;  /* i32: steps made since it last changed */
} cld_loss_scale;

cld_status cld_loss_scale_start(cld_loss_scale *s, const cld_backend *device); /* if it has not */
void cld_loss_scale_drop(cld_loss_scale *s);
/* The gradient that the loss begins with: weight times the scale. */
cld_tensor *cld_loss_scale_gradient(const cld_loss_scale *s, const cld_tensor *loss, double weight);
/* *made becomes 0 where a gradient is not finite. All are on one device. */
cld_status cld_loss_scale_check(cld_tensor *made, cld_tensor *const *params, int count);
cld_status cld_loss_scale_update(cld_loss_scale *s, const cld_tensor *made);

#endif
