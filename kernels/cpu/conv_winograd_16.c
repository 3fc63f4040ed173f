/* Winograd's loops in vectors of 16 floats, AVX-512's. */
#define LANES 16
#include "kernels/cpu/conv_winograd_lanes.h"
