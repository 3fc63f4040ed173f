/* Winograd's loops with vectors of 8 floats, for AVX2. */
#define LANES 8
#include "kernels/cpu/conv_winograd_lanes.h"
