/* Shared by view.cu's families: the canvas while one block makes a view.
 *
 * Steps that only read their own pixel need no barrier in between: a pixel, in all three planes, always belongs to the
 * same thread. All other steps begin and end with one.
 */
#ifndef CLD_CUDA_VIEW_CUH
#define CLD_CUDA_VIEW_CUH

#include "kernels/cuda/number.cuh"
#include "kernels/pixel.h"
#include "kernels/resample.h"
#include "kernels/view.h"

typedef cld_view_instruction instruction;

typedef struct canvas {
    uint8_t *data, *work; /* they take turns, with 4 bytes per pixel each; data: planes (3, height, width) */
    int32_t *taps;        /* for a RESAMPLE */
    int height, width;
} canvas;

/* In shared memory: values exchanged among the threads of a block. */
typedef union exchange {
    unsigned long long sum;
    uint32_t histogram[3][256];
    float unit[256];
} exchange;

__device__ inline int thread() { return (int)threadIdx.x; }
__device__ inline int threads() { return (int)blockDim.x; }

__device__ inline void swap_planes(canvas &c) {
    uint8_t *data = c.data;
    c.data = c.work;
    c.work = data;
}

/* Calls f(r, g, b), references to levels, for every pixel. */
template <typename F> __device__ inline void each_pixel(const canvas &c, F f) {
    int pixels = c.height * c.width;
    for (int k = thread(); k < pixels; k += threads())
        f(c.data[k], c.data[k + pixels], c.data[k + 2 * pixels]);
}

/* Calls f(level) for every level. */
template <typename F> __device__ inline void each_level(const canvas &c, F f) {
    each_pixel(c, [=](uint8_t &r, uint8_t &g, uint8_t &b) {
        r = f(r);
        g = f(g);
        b = f(b);
    });
}

#endif
