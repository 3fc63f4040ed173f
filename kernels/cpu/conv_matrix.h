/* f32 convolutions of maps of a few pixels, as matrix products: what conv.c calls if that is faster than oneDNN's
 * convolution. */
#ifndef CLD_CPU_CONV_MATRIX_H
#define CLD_CPU_CONV_MATRIX_H

#include "kernels/cpu/conv_onednn.h"

/* True if this file computes the convolution: no groups, no bias, and maps and a batch for which it is faster. */
bool cld_matrix_takes(const cld_conv_arrays *arrays, const cld_conv_params *p);
cld_status cld_matrix_conv(cld_conv_direction direction, const cld_conv_arrays *arrays,
                           const cld_conv_params *p);

#endif
