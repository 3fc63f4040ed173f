/* f32 convolutions on oneDNN: what conv.c calls. */
#ifndef CLD_CPU_CONV_ONEDNN_H
#define CLD_CPU_CONV_ONEDNN_H

#include "kernels/cpu/cpu.h"

typedef enum cld_conv_direction { CLD_CONV_FORWARD, CLD_CONV_DATA, CLD_CONV_WEIGHTS } cld_conv_direction;

/* The three arrays of a convolution; which of them is written, the direction says. bias may be NULL: an input
 * in CLD_CONV_FORWARD, an output in CLD_CONV_WEIGHTS, unused in CLD_CONV_DATA. */
typedef struct cld_conv_arrays {
    const cld_array *x, *w, *y, *bias;
} cld_conv_arrays;

cld_status cld_onednn_conv(cld_conv_direction direction, const cld_conv_arrays *arrays,
                           const cld_conv_params *p, bool winograd);

/* True where oneDNN's fastest kernels on this processor take nChw16c: with AVX-512. */
bool cld_onednn_wants_blocks(void);

#endif
