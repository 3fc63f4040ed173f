/* Image.transform(AFFINE): kernels/cpu/view_affine.c. */
#ifndef CLD_CUDA_VIEW_AFFINE_CUH
#define CLD_CUDA_VIEW_AFFINE_CUH

#include "kernels/cuda/view.cuh"

/* Not inlined: inlined, they would need more registers than a thread has. */
__device__ __attribute__((noinline)) static uint8_t bicubic(const uint8_t *plane, cld_place place, int height,
                                                            int width) {
    return cld_pixel_bicubic(plane, &place, height, width);
}

__device__ __attribute__((noinline)) static uint8_t bilinear(const uint8_t *plane, cld_place place,
                                                             int height, int width) {
    return cld_pixel_bilinear(plane, &place, height, width);
}

__device__ inline void affine(canvas &c, const instruction &s) {
    int pixels = c.height * c.width;
    bool cubic = s.affine.filter == CLD_FILTER_BICUBIC;
    __syncthreads();
    for (int k = thread(); k < pixels; k += threads()) {
        cld_place place;
        bool inside =
            cld_pixel_place(&place, s.affine.matrix, k % c.width, k / c.width, c.height, c.width) != 0;
        for (int channel = 0; channel < 3; channel++) {
            const uint8_t *plane = c.data + channel * pixels;
            uint8_t level = s.affine.fill[channel];
            if (inside && cubic) level = bicubic(plane, place, c.height, c.width);
            if (inside && !cubic) level = bilinear(plane, place, c.height, c.width);
            c.work[channel * pixels + k] = level;
        }
    }
    __syncthreads();
    swap_planes(c);
}

#endif
