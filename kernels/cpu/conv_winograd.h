/* f32 convolutions of 3 x 3 kernels with stride 1, by Winograd's algorithm. conv.c calls these with AVX2, for which
 * oneDNN does not have this algorithm, and with AVX-512 if they are faster than oneDNN's. */
#ifndef CLD_CPU_CONV_WINOGRAD_H
#define CLD_CPU_CONV_WINOGRAD_H

#include "kernels/cpu/conv_onednn.h"

/* True if this file computes the convolution: blocked x and y, 3 x 3, stride and dilation 1, padding 0 to 2, no groups,
 * no bias, and large enough; with AVX-512, many tiles for its channels. */
bool cld_winograd_takes(const cld_conv_arrays *arrays, const cld_conv_params *p);
cld_status cld_winograd_conv(cld_conv_direction direction, const cld_conv_arrays *arrays,
                             const cld_conv_params *p);

#endif
