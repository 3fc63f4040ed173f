/* f32 convolutions on oneDNN: what conv.c calls. */
#ifndef CLD_CPU_CONV_ONEDNN_H
#define CLD_CPU_CONV_ONEDNN_H

#include "kernels/cpu/cpu.h"

typedef enum cld_conv_direction { CLD_CONV_FORWARD, CLD_CONV_DATA, CLD_CONV_WEIGHTS } cld_conv_direction;

/* The three arrays of a convolution; the direction says which one is written. bias may be NULL. It is an input in
 * CLD_CONV_FORWARD, an output in CLD_CONV_WEIGHTS, and unused in CLD_CONV_DATA. */
typedef struct cld_conv_arrays {
    const cld_array *x, *w, *y, *bias;
} cld_conv_arrays;

cld_status cld_onednn_conv(cld_conv_direction direction, const cld_conv_arrays *arrays,
                           const cld_conv_params *p, bool winograd);

/* What oneDNN compiles for here (DNNL_MAX_CPU_ISA=AVX2 in the environment lowers it). With AVX-512 its fastest kernels
 * take nChw16c as we store it; with AVX2 it reorders to nChw8c and back. */
typedef enum cld_isa { CLD_ISA_OTHER, CLD_ISA_AVX2, CLD_ISA_AVX512 } cld_isa;
cld_isa cld_onednn_isa(void);

#endif
