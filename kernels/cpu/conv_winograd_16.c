/* Winograd's loops with vectors of 16 floats, for AVX-512. */
#define LANES 16
#include "kernels/cpu/conv_winograd_lanes.h"
