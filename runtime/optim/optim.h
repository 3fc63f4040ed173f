/* Optimizers: what changes parameters after backward has filled in their gradients.
 *
 * An optimizer holds references to the parameters and writes them in place; a parameter without a gradient is
 * left alone. It is C rather than Lua so that gradients are never handed to the garbage collector.
 */
#ifndef CLD_OPTIM_H
#define CLD_OPTIM_H

#include "runtime/autograd/tape.h"

/* ---- loss_scale.c: for fp16 (runtime/ops/precision.h), whose smallest number is too large for many a gradient ---- */

/* Backward starts with a gradient of `scale` instead of 1, and the step divides by it. It grows after many good steps;
 * one whose gradients are not finite is not made, and halves it (Micikevicius et al., "Mixed Precision Training", ICLR
 * 2018). Both tensors have no dimension and are on the parameters' device; NULL before the first step in fp16. */
typedef struct cld_loss_scale {
    cld_tensor *scale; /* f32 */
    cld_tensor *good;  /* i32: steps made since it last changed */
} cld_loss_scale;

cld_status cld_loss_scale_start(cld_loss_scale *s, const cld_backend *device); /* where it has not */
void cld_loss_scale_drop(cld_loss_scale *s);
cld_tensor *cld_loss_scale_gradient(const cld_loss_scale *s, const cld_tensor *loss); /* of the loss */
/* *made becomes 0 where a gradient is not finite. All are on one device. */
cld_status cld_loss_scale_check(cld_tensor *made, cld_tensor *const *params, int count);
cld_status cld_loss_scale_update(cld_loss_scale *s, const cld_tensor *made);

/* ---- sgd.c: PyTorch's SGD ---- */

/* For each parameter w with gradient g, and its buffer where momentum is not 0:
 *
 *     g   += weight_decay w
 *     buf  = momentum buf + (1 - dampening) g    (the first time: buf = g)
 *     w   -= lr buf                              (nesterov: w -= lr (g + momentum buf); without momentum: w -= lr g) */

/* Parameters that share their settings. */
typedef struct cld_sgd_group {
    int count;              /* of its parameters, which follow those of the group before */
    cld_sgd_params options; /* lr NaN: the optimizer's */
} cld_sgd_group;

typedef struct cld_sgd {
    int count, group_count;
    cld_tensor **params;
    cld_tensor **buffers; /* NULL entries: no step has been made with this parameter */
    cld_sgd_group *groups;
    double lr; /* NaN: none given, each step must bring its own */
    cld_tensor *
        skipped; /* i64 of no dimension: steps not made because the loss, or in fp16 a gradient, was not finite */
    cld_loss_scale loss_scale;
} cld_sgd;

/* What one step is given. The tensors have one element and may be NULL: they are read on the device, so that nobody
 * waits for it, and a step that was captured goes by what they hold when it is replayed. */
typedef struct cld_sgd_step_params {
    double lr;             /* for all groups; NaN: each group's own, and the optimizer's for the others */
    cld_tensor *lr_tensor; /* in place of it, of any dtype and device */
    cld_tensor *condition; /* u8, on the parameters' device: nothing changes where it is 0 */
} cld_sgd_step_params;

/* Retains params, as many as the groups count together: leaves, contiguous, f32 or f64, none twice. An error names the
 * first that is not, or the setting that is out of range. */
cld_sgd *cld_sgd_new(cld_tensor *const *params, const cld_sgd_group *groups, int group_count, double lr);
void cld_sgd_free(cld_sgd *s);
cld_status cld_sgd_set_lr(cld_sgd *s, double lr);
void cld_sgd_zero_grad(cld_sgd *s); /* drops the gradients: .grad is NULL */
cld_status cld_sgd_step(cld_sgd *s, const cld_sgd_step_params *p);
/* zero_grad, backward from loss, step. A loss that is not finite is not followed: the parameters and whatever else
 * backward would have changed (a memory bank) stay as they are, and skipped counts it. Returns whether the step was
 * made, as u8 of no dimension on the parameters' device. p's condition is not looked at: this is it.
 *
 * In fp16 the gradients are left multiplied by the loss scale. One that is not finite, of a loss that is, keeps the
 * parameters and what goes by the returned value as they are; what backward itself changes (a memory bank) it does. */
cld_tensor *cld_sgd_minimize(cld_sgd *s, cld_tensor *loss, const cld_sgd_step_params *p);
/* Another's state. */
typedef struct cld_sgd_state {
    cld_tensor *const *buffers; /* as many as parameters; an empty tensor stands for none */
    cld_tensor *skipped;        /* an integer */
    cld_tensor *scale, *good;   /* NULL, both: it had none */
} cld_sgd_state;
/* Go on from it, with copies. What is there is written in place. Where something does not fit nothing has changed. */
cld_status cld_sgd_load(cld_sgd *s, const cld_sgd_state *state);

/* ---- ema.c: the momentum encoder's update, targets[i] = decay targets[i] + (1 - decay) sources[i] ---- */

/* count pairs, dense, of one shape and dtype, all on one device; targets are written in place. decay: 0 to 1. Nothing
 * changes where condition (u8, one element, or NULL) is 0. */
cld_status cld_ema(cld_tensor *const *targets, cld_tensor *const *sources, int count, double decay,
                   cld_tensor *condition);

#endif
