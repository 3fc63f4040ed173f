/* Loops over all elements of many tensors, for the optimizers. A network has a few large tensors and many tiny ones;
 * with one loop per tensor, most of the time would go into starting threads. */
#ifndef CLD_CPU_OPTIM_H
#define CLD_CPU_OPTIM_H

#include "kernels/cpu/cpu.h"

/* The number of elements of tensor i. */
typedef int64_t (*cld__size_of)(const void *context, int i);

/* Runs body(context, tensor i, elements [start, end)) over all elements of all tensors. Every thread takes an equal
 * share, whichever tensors it falls in. */
void cld__for_all(int count, cld__size_of size, const void *context,
                  void (*body)(const void *context, int i, int64_t start, int64_t end));

/* Two sums over each tensor: piece returns those over elements [start, end), and sums[2 i] and sums[2 i + 1] receive
 * the totals. The same bits with any number of threads. */
cld_status cld__sum_all(double *sums, int count, cld__size_of size, const void *context,
                        void (*piece)(const void *context, int i, int64_t start, int64_t end, double out[2]));

cld_status cld__optim_step(cld_rule rule, int count, const cld_step_tensor *tensors,
                           const cld_rule_settings *settings,
                           const cld_step_control *control); /* optim_step.c */
cld_status cld__optim_grad_norm(const cld_array *norm, const cld_array *factor, int count,
                                const cld_array *grads, double max_norm,
                                const cld_step_control *control); /* optim_norm.c */

#endif
