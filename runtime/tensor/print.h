/* Prints a tensor: dtype, shape, device, a summary, and the corner values. */
#ifndef CLD_TENSOR_PRINT_H
#define CLD_TENSOR_PRINT_H

#include "runtime/tensor/tensor.h"

#define CLD_PRINT_ROOM 4096 /* always enough: at most two matrices of 7 x 7 values are shown */

/*     tensor f32[3, 40] on cpu, requires_grad
 *     min -1.2, max 3.1, mean 0.04
 *        0.5000   1.2500  -0.1250  ...   0.1000   0.2000   0.3000
 *     ...
 * If there are more than two dimensions, the first and the last matrix are shown, each under its (1-based) index. */
cld_status cld_tensor_print(cld_tensor *x, char *text, size_t room);

#endif
