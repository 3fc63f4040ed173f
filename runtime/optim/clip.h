/* Gradients scaled down if their common norm is large (Pascanu et al., "On the difficulty of training recurrent neural
 * networks", ICML 2013). */
#ifndef CLD_OPTIM_CLIP_H
#define CLD_OPTIM_CLIP_H

#include "runtime/tensor/tensor.h"

/* Returns the Euclidean norm of all the parameters' gradients together, and multiplies them in place by min(1, max_norm
 * / (norm + 1e-6)), like PyTorch's clip_grad_norm_. The norm is the one before scaling, 0-d, on the gradients' device,
 * f64 if they all are, else f32; 0 if there is no gradient. Two launches; does not wait. It is an error if the
 * gradients are multiplied by an optimizer's loss scale: then the step itself clips. */
cld_tensor *cld_clip_grad_norm(cld_tensor *const *params, int count, double max_norm);

#endif
