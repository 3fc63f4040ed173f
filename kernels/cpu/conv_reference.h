/* f64 convolutions by plain loops (conv_reference.c). Arguments as in the backend's table. */
#ifndef CLD_CPU_CONV_REFERENCE_H
#define CLD_CPU_CONV_REFERENCE_H

#include "kernels/backend.h"

void cld_reference_conv2d(const cld_array *y, const cld_array *x, const cld_array *w, const cld_array *bias,
                          const cld_conv_params *p);
void cld_reference_conv2d_data(const cld_array *dx, const cld_array *dy, const cld_array *w,
                               const cld_conv_params *p);
void cld_reference_conv2d_weight(const cld_array *dw, const cld_array *dbias, const cld_array *x,
                                 const cld_array *dy, const cld_conv_params *p);

#endif
