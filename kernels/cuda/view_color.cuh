/* Brightness, contrast, saturation, hue and grey: kernels/cpu/view_color.c. */
#ifndef CLD_CUDA_VIEW_COLOR_CUH
#define CLD_CUDA_VIEW_COLOR_CUH

#include "kernels/cuda/view.cuh"

__device__ inline void blend_with_level(const canvas &c, int level, float factor) {
    each_level(c, [=](int v) { return cld_pixel_blend(level, v, factor); });
}

/* A sum of integers, so the order of the additions does not matter. */
__device__ inline int mean_grey(const canvas &c, exchange *shared) {
    unsigned part = 0;
    __syncthreads();
    if (thread() == 0) shared->sum = 0;
    __syncthreads();
    each_pixel(c, [&](uint8_t &r, uint8_t &g, uint8_t &b) { part += (unsigned)cld_pixel_grey(r, g, b); });
    for (int step = 16; step > 0; step /= 2) part += __shfl_down_sync(0xffffffffu, part, step);
    if (thread() % 32 == 0) atomicAdd(&shared->sum, (unsigned long long)part);
    __syncthreads();
    return (int)((double)shared->sum / (double)(c.height * c.width) + 0.5);
}

__device__ inline void saturate(const canvas &c, float factor) {
    each_pixel(c, [=](uint8_t &r, uint8_t &g, uint8_t &b) {
        int level = cld_pixel_grey(r, g, b);
        r = cld_pixel_blend(level, r, factor);
        g = cld_pixel_blend(level, g, factor);
        b = cld_pixel_blend(level, b, factor);
    });
}

__device__ inline void turn_hue(const canvas &c, int shift) {
    each_pixel(c, [=](uint8_t &r, uint8_t &g, uint8_t &b) { cld_pixel_turn_hue(&r, &g, &b, shift); });
}

__device__ inline void to_grey(const canvas &c) {
    each_pixel(c, [](uint8_t &r, uint8_t &g, uint8_t &b) { r = g = b = (uint8_t)cld_pixel_grey(r, g, b); });
}

#endif
