/* Mappings of levels to levels: kernels/cpu/view_levels.c. */
#ifndef CLD_CUDA_VIEW_LEVELS_CUH
#define CLD_CUDA_VIEW_LEVELS_CUH

#include "kernels/cuda/view.cuh"

__device__ inline void invert(const canvas &c) {
    each_level(c, [](int v) { return (uint8_t)(255 - v); });
}

__device__ inline void solarize(const canvas &c, int level) {
    each_level(c, [=](int v) { return cld_pixel_solarize(v, level); });
}

__device__ inline void solarize_add(const canvas &c, int level) {
    each_level(c, [=](int v) { return cld_pixel_solarize_add(v, level); });
}

__device__ inline void posterize(const canvas &c, int bits) {
    int mask = cld_pixel_posterize_mask(bits);
    each_level(c, [=](int v) { return (uint8_t)(v & mask); });
}

/* ---- by the histograms of the channels ------------------------------------------------------------------------------------ */

__device__ inline void count_levels(const canvas &c, exchange *shared) {
    uint32_t *histogram = shared->histogram[0];
    __syncthreads();
    for (int i = thread(); i < 3 * 256; i += threads()) histogram[i] = 0;
    __syncthreads();
    each_pixel(c, [=](uint8_t &r, uint8_t &g, uint8_t &b) {
        atomicAdd(&histogram[r], 1u);
        atomicAdd(&histogram[256 + g], 1u);
        atomicAdd(&histogram[512 + b], 1u);
    });
    __syncthreads();
}

__device__ inline void autocontrast(const canvas &c, exchange *shared) {
    count_levels(c, shared);
    int low[3], high[3];
    for (int channel = 0; channel < 3; channel++) {
        const uint32_t *histogram = shared->histogram[channel];
        int first = 0, last = 255;
        while (first < 255 && histogram[first] == 0) first++;
        while (last > 0 && histogram[last] == 0) last--;
        low[channel] = first;
        high[channel] = last;
    }
    each_pixel(c, [=](uint8_t &r, uint8_t &g, uint8_t &b) {
        r = cld_pixel_stretch(r, low[0], high[0]);
        g = cld_pixel_stretch(g, low[1], high[1]);
        b = cld_pixel_stretch(b, low[2], high[2]);
    });
}

/* One thread per channel turns the histogram into a table. */
__device__ inline void equalize(const canvas &c, exchange *shared) {
    count_levels(c, shared);
    if (thread() < 3) {
        uint32_t *table = shared->histogram[thread()], below = 0;
        uint32_t step = cld_pixel_equalize_step(table);
        for (int v = 0; v < 256; v++) {
            uint32_t here = table[v];
            table[v] = cld_pixel_equalize(v, below, step);
            below += here;
        }
    }
    __syncthreads();
    const uint32_t *table = shared->histogram[0];
    each_pixel(c, [=](uint8_t &r, uint8_t &g, uint8_t &b) {
        r = (uint8_t)table[r];
        g = (uint8_t)table[256 + g];
        b = (uint8_t)table[512 + b];
    });
}

#endif
