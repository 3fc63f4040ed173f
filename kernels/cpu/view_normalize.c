/* The end of a view: levels become floats. */
#include "kernels/cpu/view.h"
#include "kernels/pixel.h"

CLD_VIEW_SIMD static void normalize(float *restrict to, const uint8_t *restrict from, size_t n, float mean,
                                    float std) {
    for (size_t i = 0; i < n; i++) to[i] = cld_pixel_normalize(from[i], mean, std);
}

CLD_VIEW_SIMD static void normalize_mirrored(float *restrict to, const uint8_t *restrict from, size_t n,
                                             float mean, float std) {
    for (size_t i = 0; i < n; i++) to[i] = cld_pixel_normalize(from[n - 1 - i], mean, std);
}

CLD_CPU_VIEW(normalize) {
    size_t width = (size_t)c->width, height = (size_t)c->height, n = height * width;
    for (size_t channel = 0; channel < 3; channel++) {
        float mean = s->normalize.mean[channel], std = s->normalize.std[channel];
        const uint8_t *from = c->data + channel * n;
        float *to = c->out + channel * n;
        if (!s->flip)
            normalize(to, from, n, mean, std);
        else
            for (size_t y = 0; y < height; y++)
                normalize_mirrored(to + y * width, from + y * width, width, mean, std);
    }
}

CLD_CPU_VIEW(erase) {
    size_t width = (size_t)c->width, height = (size_t)c->height;
    size_t top = (size_t)s->erase.top, left = (size_t)s->erase.left;
    for (size_t channel = 0; channel < 3; channel++)
        for (size_t y = top; y < top + (size_t)s->erase.height; y++) {
            float *to = c->out + (channel * height + y) * width + left;
            for (size_t x = 0; x < (size_t)s->erase.width; x++) to[x] = s->erase.value[channel];
        }
}
