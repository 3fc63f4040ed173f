/* Internal to the CPU backend: what its files share. Each table is filled in by the file named; backend.c joins
 * them. */
#ifndef CLD_CPU_H
#define CLD_CPU_H

#include "kernels/backend.h"

extern const cld_memory_ops cld_cpu_memory; /* memory.c; kernels take their workspace from it */
extern const cld_math_ops cld_cpu_math;     /* math.c, from elementwise.c, reduce.c, gemm.c, ... */
extern const cld_conv_ops cld_cpu_conv;     /* conv.c, from conv_*.c, norm.c, pool.c */
extern const cld_loss_ops cld_cpu_loss;     /* loss.c, from bank.c, nce.c, kmeans.c, knn.c */
extern const cld_optim_ops cld_cpu_optim;   /* optim.c */
extern const cld_image_ops cld_cpu_image;   /* view.c, from view_*.c */

/* Whether a condition of the contract holds: u8, one element, or NULL. */
static inline bool cld__holds(const cld_array *condition) {
    return !condition || *(const uint8_t *)condition->data != 0;
}

#endif
