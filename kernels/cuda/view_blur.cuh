/* Filters: kernels/cpu/view_blur.c. */
#ifndef CLD_CUDA_VIEW_BLUR_CUH
#define CLD_CUDA_VIEW_BLUR_CUH

#include "kernels/cuda/view.cuh"

/* ---- Pillow's GaussianBlur --------------------------------------------------------------------------------------------- */

/* One box blur along x or y, with the border repeated. The radius is a few pixels, so each output sums its own
 * window. */
__device__ inline void box_pass(uint8_t *out, const uint8_t *in, const canvas &c, bool along_x,
                                const cld_box &b) {
    int extent = along_x ? c.width : c.height, stride = along_x ? 1 : c.width, pixels = c.height * c.width;
    for (int k = thread(); k < 3 * pixels; k += threads()) {
        int at = along_x ? k % c.width : k % pixels / c.width;
        const uint8_t *line = in + (k - at * stride);
        int before = at - b.radius - 1, after = at + b.radius + 1;
        uint32_t sum = 0;
        for (int i = before + 1; i < after; i++) sum += line[cld_pixel_clamp(i, extent) * stride];
        before = before < 0 ? 0 : before;
        after = after >= extent ? extent - 1 : after;
        out[k] = cld_pixel_boxed(sum, line[before * stride], line[after * stride], b);
    }
}

__device__ inline void box_blur(const canvas &c, const instruction &s) {
    cld_box b = {s.box.radius, s.box.whole, s.box.edge};
    for (int pass = 0; pass < 2 * CLD_PIXEL_BOXES; pass++) {
        bool there = pass % 2 == 0;
        __syncthreads();
        box_pass(there ? c.work : c.data, there ? c.data : c.work, c, pass < CLD_PIXEL_BOXES, b);
    }
    __syncthreads();
}

/* ---- by taps, a channel at a time: along y from its levels to work (a plane of floats), along x back - */

__device__ inline void tap_blur(const canvas &c, const instruction &s, exchange *shared) {
    int pixels = c.height * c.width, radius = s.taps.radius;
    float *plane = (float *)c.work, *unit = shared->unit;
    __syncthreads();
    for (int v = thread(); v < 256; v += threads()) unit[v] = cld_pixel_unit(v);
    for (int channel = 0; channel < 3; channel++) {
        uint8_t *levels = c.data + channel * pixels;
        __syncthreads();
        for (int k = thread(); k < pixels; k += threads()) {
            int y = k / c.width, x = k % c.width;
            float sum = s.taps.weight[0] * unit[levels[k]];
            for (int t = 1; t <= radius; t++) {
                float before = unit[levels[cld_pixel_reflect(y - t, c.height) * c.width + x]];
                float after = unit[levels[cld_pixel_reflect(y + t, c.height) * c.width + x]];
                sum += s.taps.weight[t] * (before + after);
            }
            plane[k] = sum;
        }
        __syncthreads();
        for (int k = thread(); k < pixels; k += threads()) {
            int x = k % c.width;
            const float *row = plane + (k - x);
            float sum = s.taps.weight[0] * row[x];
            for (int t = 1; t <= radius; t++)
                sum += s.taps.weight[t] *
                       (row[cld_pixel_reflect(x - t, c.width)] + row[cld_pixel_reflect(x + t, c.width)]);
            levels[k] = cld_pixel_from_unit(sum);
        }
    }
    __syncthreads();
}

/* ---- sharpness --------------------------------------------------------------------------------------------------------- */

__device__ inline void sharpen(canvas &c, float factor) {
    int pixels = c.height * c.width, w = c.width;
    __syncthreads();
    for (int k = thread(); k < pixels; k += threads()) {
        int y = k / w, x = k % w;
        bool inner = y > 0 && y + 1 < c.height && x > 0 && x + 1 < w;
        for (int at = k; at < 3 * pixels; at += pixels) {
            const uint8_t *p = c.data + at;
            int level = p[0];
            if (inner) {
                int sum =
                    p[-w - 1] + p[-w] + p[-w + 1] + p[-1] + 5 * p[0] + p[1] + p[w - 1] + p[w] + p[w + 1];
                level = cld_pixel_blend(cld_pixel_smooth(sum), level, factor);
            }
            c.work[at] = (uint8_t)level;
        }
    }
    __syncthreads();
    swap_planes(c);
}

#endif
