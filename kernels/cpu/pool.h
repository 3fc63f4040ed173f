/* Pooling on the CPU (pool.c); arguments as in the backend's table. */
#ifndef CLD_CPU_POOL_H
#define CLD_CPU_POOL_H

#include "kernels/backend.h"

cld_status cld_cpu_max_pool(const cld_array *y, const cld_array *argmax, const cld_array *x,
                            const cld_pool_params *p);
cld_status cld_cpu_max_pool_backward(const cld_array *dx, const cld_array *dy, const cld_array *argmax,
                                     const cld_pool_params *p);
cld_status cld_cpu_avg_pool(const cld_array *y, const cld_array *x, const cld_pool_params *p);
cld_status cld_cpu_avg_pool_backward(const cld_array *dx, const cld_array *dy, const cld_pool_params *p);

#endif
