/* Inside the CPU backend: what its files share. Each *_ops table is filled in by backend.c from these functions. */
#ifndef CLD_CPU_H
#define CLD_CPU_H

#include "kernels/backend.h"

extern const cld_memory_ops cld_cpu_memory;
extern const cld_math_ops cld_cpu_math;   /* math.c gathers elementwise.c, reduce.c, gemm.c, ... */
extern const cld_conv_ops cld_cpu_conv;   /* conv.c, norm.c, pool.c */
extern const cld_loss_ops cld_cpu_loss;   /* loss.c gathers bank.c, nce.c, kmeans.c, knn.c */
extern const cld_optim_ops cld_cpu_optim; /* optim.c */

#endif
