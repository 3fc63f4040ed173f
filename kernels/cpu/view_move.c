/* Parts of the canvas, and its mirror image. */
#include "kernels/cpu/view.h"

#include <string.h>

CLD_VIEW_SIMD static void mirror(uint8_t *restrict to, const uint8_t *restrict from, size_t width) {
    for (size_t x = 0; x < width; x++) to[x] = from[width - 1 - x];
}

CLD_CPU_VIEW(flip) {
    (void)s;
    size_t width = (size_t)c->width, rows = 3 * (size_t)c->height;
    for (size_t row = 0; row < rows; row++) mirror(c->spare + row * width, c->data + row * width, width);
    cld__view_swap(c);
}

static int least(int a, int b) { return a < b ? a : b; }
static int most(int a, int b) { return a > b ? a : b; }

CLD_CPU_VIEW(window) {
    int top = s->window.top, left = s->window.left, height = s->window.height, width = s->window.width;
    int first = most(0, -top),
        last = most(first, least(height, c->height - top));                       /* rows of the old canvas */
    int begin = most(0, -left), end = most(begin, least(width, c->width - left)); /* its columns */
    for (int channel = 0; channel < 3; channel++) {
        int fill = s->window.fill[channel];
        for (int y = 0; y < height; y++) {
            uint8_t *to = c->spare + ((size_t)channel * (size_t)height + (size_t)y) * (size_t)width;
            if (y < first || y >= last || begin >= width) {
                memset(to, fill, (size_t)width);
                continue;
            }
            const uint8_t *from =
                c->data + ((size_t)channel * (size_t)c->height + (size_t)(top + y)) * (size_t)c->width;
            memset(to, fill, (size_t)begin);
            if (end > begin) memcpy(to + begin, from + left + begin, (size_t)(end - begin));
            memset(to + end, fill, (size_t)(width - end));
        }
    }
    c->height = height;
    c->width = width;
    cld__view_swap(c);
}
