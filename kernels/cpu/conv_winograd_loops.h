/* The inner loops of conv_winograd.c: transforms of tiles, and products of transformed tiles, for two vector widths.
 * conv_winograd_8.c has them for 8 floats (AVX2), conv_winograd_16.c for 16 floats (AVX-512); the code of both is
 * conv_winograd_lanes.h. */
#ifndef CLD_CPU_CONV_WINOGRAD_LOOPS_H
#define CLD_CPU_CONV_WINOGRAD_LOOPS_H

#include <stdbool.h>
#include <stdint.h>

#define PLACES 36 /* of a transformed tile: 6 x 6 */

/* A blocked activation seen as tiles: image 0's tiles row by row, then image 1's, and so on. */
typedef struct tiled {
    float *data;
    int64_t blocks, height, width; /* blocks of 16 channels */
    int64_t down, across, tiles;   /* tiles in an image's column and row, and in all images */
} tiled;

/* Panels of `count` transformed tiles: place p of tile i in block b. */
#define PANEL(data, blocks, count, p, b, i) ((data) + ((((p) * (blocks)) + (b)) * (count) + (i)) * 16)

/* The weights as the product needs them: [place][out / 16][in][16 out]. In the data gradient the kernel's output
 * channels are the convolution's input. */
typedef struct kernels {
    float *data; /* o i h w */
    int64_t in, out, in_stride, out_stride;
    bool turned;
} kernels;

typedef struct cld_winograd_loops {
    int rows; /* tiles that are multiplied at once */
    /* Tile first + i of t, transformed, as tile i of `count` in panels. */
    void (*gather_inputs)(float *panels, int64_t count, const tiled *t, int64_t first, int64_t i,
                          const int padding[2]);
    void (*gather_gradients)(float *panels, int64_t count, const tiled *t, int64_t first, int64_t i);
    void (*scatter_outputs)(const tiled *t, int64_t first, int64_t i, const float *panels, int64_t count);
    /* 16 output channels of one input channel of a kernel, to and from their panels. */
    void (*gather_kernels)(float *panels, const kernels *k, int64_t block, int64_t in);
    void (*scatter_kernels)(const kernels *k, int64_t block, int64_t in, const float *panels);
    /* m[tile][16] = sum over input channels of v[channel / 16][tile][channel % 16] u[channel][16]. */
    void (*multiply_chunk)(float *m, const float *v, const float *u, int64_t count, int64_t in_blocks);
    /* s[channel][16] += sum over tiles of v[channel / 16][tile][channel % 16] w[tile][16]. */
    void (*multiply_wave)(float *s, const float *v, const float *w, int64_t count, int64_t in_blocks);
} cld_winograd_loops;

extern const cld_winograd_loops cld__winograd_8, cld__winograd_16;

#endif
