/* Draws on the pixels of a tensor u8 (height, width, 3), antialiased, or u8 (height, width), where a pixel that is at
 * least half covered becomes the pen's first number: these are the dots of braille characters.
 *
 * One call paints each pixel only once, even if the parts that it draws overlap. Points are f64 (n, 2), x and y, dense,
 * on the cpu; a point that is not finite is a gap. The image is dense and on the cpu; anything outside it is cut off.
 */
#ifndef CLD_PLOT_CANVAS_H
#define CLD_PLOT_CANVAS_H

#include "runtime/tensor/tensor.h"

typedef struct cld_pen {
    double width;     /* pixels */
    double on, off;   /* of a dashed line, in pixels along it; 0, 0: a solid line */
    double opacity;   /* 0 to 1 */
    uint8_t color[3]; /* red, green, blue; only the first for dots */
} cld_pen;

/* Lines from point to point, with round ends; a point between gaps is a disc. */
cld_status cld_canvas_lines(cld_tensor *image, const cld_tensor *points, const cld_pen *pen);
/* A disc of the pen's width on every point. */
cld_status cld_canvas_discs(cld_tensor *image, const cld_tensor *points, const cld_pen *pen);
/* The rectangle between two corners. */
cld_status cld_canvas_rectangle(cld_tensor *image, double x0, double y0, double x1, double y1,
                                const cld_pen *pen);

/* Text of a size in pixels (capitals have 0.72 of it) whose baseline begins at (x, y) and goes upwards if it is
 * vertical. ASCII; any other character is an empty box. */
cld_status cld_canvas_text(cld_tensor *image, const char *text, size_t length, double x, double y,
                           double size, bool vertical, const cld_pen *pen);
double cld_text_width(const char *text, size_t length, double size);

/* ---- for font.c ---- */

typedef struct cld_mask {
    uint8_t *covered; /* 0 to 255, a byte for each pixel */
    int64_t height, width;
} cld_mask;

cld_status cld_mask_new(cld_mask *m, const cld_tensor *image);
void cld_mask_line(cld_mask *m, double x0, double y0, double x1, double y1, double width);
/* Paints what is covered, and frees the mask. */
void cld_mask_paint(cld_mask *m, cld_tensor *image, const cld_pen *pen);

#endif
