/* Image.transform(AFFINE) of the canvas: each output pixel looks for its place in the old one. */
#include "kernels/cpu/view.h"
#include "kernels/pixel.h"

CLD_CPU_VIEW(affine) {
    size_t n = cld__view_pixels(c);
    for (int y = 0; y < c->height; y++)
        for (int x = 0; x < c->width; x++) {
            uint8_t *to = c->spare + (size_t)y * (size_t)c->width + (size_t)x;
            cld_place place;
            bool inside = cld_pixel_place(&place, s->affine.matrix, x, y, c->height, c->width);
            for (size_t channel = 0; channel < 3; channel++) {
                const uint8_t *plane = c->data + channel * n;
                to[channel * n] = !inside ? s->affine.fill[channel]
                                  : s->affine.filter == CLD_FILTER_BICUBIC
                                      ? cld_pixel_bicubic(plane, &place, c->height, c->width)
                                      : cld_pixel_bilinear(plane, &place, c->height, c->width);
            }
        }
    cld__view_swap(c);
}
