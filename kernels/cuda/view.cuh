/* What view.cu's families share: the canvas while one block makes a view.
 *
 * Steps that look at their own pixel alone need no barrier in between: a pixel, in all three planes, is always the same
 * thread's. All others begin with one and end with one.
 */
#ifndef CLD_CUDA_VIEW_CUH
#define CLD_CUDA_VIEW_CUH

#include "kernels/cuda/number.cuh"
#include "kernels/pixel.h"
#include "kernels/resample.h"
#include "kernels/view.h"

typedef cld_view_instruction instruction;

typedef struct canvas {
    uint8_t *data,
        *work;     /* data: planes (3, height, width); they take turns. Each has room for 4 bytes a pixel */
    int32_t *taps; /* of a RESAMPLE */
    int height, width;
} canvas;

/* In shared memory: what the threads of a block tell each other. */
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

/* f(r, g, b), references to levels, of every pixel. */
template <typename F> __device__ inline void each_pixel(const canvas &c, F f) {
    int pixels = c.height * c.width;
    for (int k = thread(); k < pixels; k += threads())
        f(c.data[k], c.data[k + pixels], c.data[k + 2 * pixels]);
}

/* f(level) of every level. */
template <typename F> __device__ inline void each_level(const canvas &c, F f) {
    each_pixel(c, [=](uint8_t &r, uint8_t &g, uint8_t &b) {
        r = f(r);
        g = f(g);
        b = f(b);
    });
}

#endif
