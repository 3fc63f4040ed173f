/* The convolution plans that this process has chosen, and those given to it from elsewhere: the table of the contract.
 * Code that makes plans (dnn.c, host/dnn.cpp) asks here first, and records here what it took. */
#ifndef CLD_CUDA_PLANS_H
#define CLD_CUDA_PLANS_H

#include "kernels/cuda/dnn.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Identifies what a plan is for; it has no engine yet. */
cld_conv_plan cld_plan_for(cld_dnn_kind kind, const cld_dnn_shape *s, bool tf32, int64_t alignment);
/* The plan that was given or chosen for the same, or NULL. */
const cld_conv_plan *cld_plans_given(const cld_conv_plan *wanted);
/* Replaces a given plan, if there is one. */
cld_status cld_plans_chosen(const cld_conv_plan *plan);
/* How many plans were given so far: as long as this number stays the same, the plans made are still the ones to use. */
int64_t cld_plans_round(void);
/* Whether two plans for the same convolution use the same algorithm with the same settings. */
bool cld_same_engine(const cld_conv_plan *a, const cld_conv_plan *b);

extern const cld_plan_ops cld_cuda_plans;

#ifdef __cplusplus
}
#endif

#endif
