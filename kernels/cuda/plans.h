/* The plans of convolutions that this process has chosen, and those that it was given by another: the table of the contract.
 * What makes plans (dnn.c, host/dnn.cpp) asks here first, and says here what it took. */
#ifndef CLD_CUDA_PLANS_H
#define CLD_CUDA_PLANS_H

#include "kernels/cuda/dnn.h"

#ifdef __cplusplus
extern "C" {
#endif

/* What a plan is for; it has no engine yet. */
cld_conv_plan cld_plan_for(cld_dnn_kind kind, const cld_dnn_shape *s, bool tf32, int64_t alignment);
/* That was given, or chosen, for the same, or NULL. */
const cld_conv_plan *cld_plans_given(const cld_conv_plan *wanted);
/* In place of what was given, if anything was. */
cld_status cld_plans_chosen(const cld_conv_plan *plan);
/* How many were given so far: as long as that stays, what was made is what is to be used. */
int64_t cld_plans_round(void);
/* Of two plans for the same: is it one algorithm, with the same settings? */
bool cld_same_engine(const cld_conv_plan *a, const cld_conv_plan *b);

extern const cld_plan_ops cld_cuda_plans;

#ifdef __cplusplus
}
#endif

#endif
