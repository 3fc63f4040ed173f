/* The moving average of a list of tensors: targets[i] = decay targets[i] + (1 - decay) sources[i], the update of a
 * momentum encoder (He et al., "Momentum Contrast", CVPR 2020, equation 2). */
#ifndef CLD_OPTIM_EMA_H
#define CLD_OPTIM_EMA_H

#include "runtime/tensor/tensor.h"

/* 0 to 1. If there is a tensor, it replaces the number: one element, any dtype and device. The device reads its value
 * when it does the work; it is not checked. */
typedef struct cld_decay {
    double value;
    cld_tensor *tensor;
} cld_decay;

/* count pairs, dense, each of one shape and dtype (f32 or f64), all on one device; targets are updated in place.
 * Nothing changes if condition (u8, one element, or NULL) is 0. */
cld_status cld_ema(cld_tensor *const *targets, cld_tensor *const *sources, int count, cld_decay decay,
                   cld_tensor *condition);

#endif
