/* Parts of the canvas, and its mirror image: kernels/cpu/view_move.c. */
#ifndef CLD_CUDA_VIEW_MOVE_CUH
#define CLD_CUDA_VIEW_MOVE_CUH

#include "kernels/cuda/view.cuh"

__device__ inline void flip(canvas &c) {
    int pixels = c.height * c.width;
    __syncthreads();
    for (int k = thread(); k < pixels; k += threads()) {
        int x = k % c.width, from = k - x + (c.width - 1 - x);
        for (int at = 0; at < 3 * pixels; at += pixels) c.work[k + at] = c.data[from + at];
    }
    __syncthreads();
    swap_planes(c);
}

__device__ inline void window(canvas &c, const instruction &s) {
    int height = s.window.height, width = s.window.width, pixels = height * width;
    __syncthreads();
    for (int k = thread(); k < pixels; k += threads()) {
        int y = s.window.top + k / width, x = s.window.left + k % width;
        bool inside = y >= 0 && y < c.height && x >= 0 && x < c.width;
        for (int channel = 0; channel < 3; channel++)
            c.work[channel * pixels + k] =
                inside ? c.data[(channel * c.height + y) * c.width + x] : (uint8_t)s.window.fill[channel];
    }
    __syncthreads();
    swap_planes(c);
    c.height = height;
    c.width = width;
}

#endif
