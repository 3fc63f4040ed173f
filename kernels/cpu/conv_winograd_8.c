/* Winograd's loops in vectors of 8 floats, AVX2's. */
#define LANES 8
#include "kernels/cpu/conv_winograd_lanes.h"
