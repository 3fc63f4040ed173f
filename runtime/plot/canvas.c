/* Drawing. The contract is in canvas.h. */
#include "runtime/plot/canvas.h"

#include <math.h>
#include <stdlib.h>

/* ---- masks --------------------------------------------------------------------------------------------- */

cld_status cld_mask_new(cld_mask *m, const cld_tensor *image) {
    *m = (cld_mask){.height = image->a.shape[0], .width = image->a.shape[1]};
    m->covered = calloc((size_t)(m->height * m->width) + 1, 1);
    return m->covered ? CLD_OK : cld_fail(CLD_NOMEM, "out of memory to draw");
}

static void cover(cld_mask *m, int64_t x, int64_t y, double share) {
    uint8_t *at = &m->covered[y * m->width + x];
    int value = (int)(255 * (share < 1 ? share : 1) + 0.5);
    if (value > *at) *at = (uint8_t)value;
}

/* The pixels from floor(least) to ceil(most) that exist. */
static int64_t first_pixel(double least) { return least < 0 ? 0 : (int64_t)least; }
static int64_t last_pixel(double most, int64_t extent) {
    return most < 0 ? -1 : most >= (double)extent ? extent - 1 : (int64_t)most;
}

/* Computed from the distance of each pixel's centre to the line. */
void cld_mask_line(cld_mask *m, double x0, double y0, double x1, double y1, double width) {
    double dx = x1 - x0, dy = y1 - y0, square = dx * dx + dy * dy, reach = width / 2 + 0.5;
    int64_t top = first_pixel(fmin(y0, y1) - reach), bottom = last_pixel(fmax(y0, y1) + reach, m->height);
    for (int64_t y = top; y <= bottom; y++) {
        /* for a steep or long line, only the part near this row */
        double begin = fmin(x0, x1), end = fmax(x0, x1);
        if (fabs(dy) > 1e-9) {
            double slope = dx / dy, above = x0 + ((double)y - reach - y0) * slope,
                   below = x0 + ((double)y + 1 + reach - y0) * slope;
            begin = fmax(begin, fmin(above, below));
            end = fmin(end, fmax(above, below));
        }
        int64_t left = first_pixel(begin - reach), right = last_pixel(end + reach, m->width);
        for (int64_t x = left; x <= right; x++) {
            double px = (double)x + 0.5 - x0, py = (double)y + 0.5 - y0;
            double t = square > 0 ? fmin(1, fmax(0, (px * dx + py * dy) / square)) : 0;
            double far = hypot(px - t * dx, py - t * dy);
            if (far < reach) cover(m, x, y, reach - far);
        }
    }
}

/* Sets the dots that are at least half covered. */
static void paint_dots(const cld_mask *m, uint8_t *pixels, const cld_pen *pen) {
    for (int64_t i = 0; i < m->height * m->width; i++)
        if (m->covered[i] >= 128) pixels[i] = pen->color[0];
}

static void paint_colors(const cld_mask *m, uint8_t *pixels, const cld_pen *pen) {
    for (int64_t i = 0; i < m->height * m->width; i++) {
        if (!m->covered[i]) continue;
        double share = pen->opacity * m->covered[i] / 255;
        for (int c = 0; c < 3; c++)
            pixels[3 * i + c] = (uint8_t)(pixels[3 * i + c] * (1 - share) + pen->color[c] * share + 0.5);
    }
}

void cld_mask_paint(cld_mask *m, cld_tensor *image, const cld_pen *pen) {
    if (image->a.ndim == 3)
        paint_colors(m, image->a.data, pen);
    else
        paint_dots(m, image->a.data, pen);
    free(m->covered);
    m->covered = NULL;
}

/* ---- shapes --------------------------------------------------------------------------------------------- */

static bool is_point(const double *p) { return isfinite(p[0]) && isfinite(p[1]); }

/* Limits a coordinate: far outside nothing is visible, and a line from there keeps its direction well enough. */
static double near(double v) { return fmin(1e6, fmax(-1e6, v)); }

/* Where a point is drawn. In an image of dots it is the middle of the dot that contains the point. */
static void place(const cld_tensor *image, const double *p, double out[2]) {
    bool has_dots = image->a.ndim == 2;
    for (int i = 0; i < 2; i++) out[i] = has_dots ? floor(near(p[i])) + 0.5 : near(p[i]);
}

/* Draws the dashes of a line; *at is the position in the dash pattern. */
static void dashed_line(cld_mask *m, const double *p, const double *q, const cld_pen *pen, double *at) {
    double dx = q[0] - p[0], dy = q[1] - p[1], length = hypot(dx, dy), period = pen->on + pen->off, from = 0;
    while (from < length) {
        bool draws = *at < pen->on;
        double to = fmin(length, from + (draws ? pen->on : period) - *at);
        if (draws)
            cld_mask_line(m, p[0] + dx * from / length, p[1] + dy * from / length, p[0] + dx * to / length,
                          p[1] + dy * to / length, pen->width);
        *at += to - from;
        if (*at >= period - 1e-9) *at = 0;
        from = to > from ? to : length;
    }
}

cld_status cld_canvas_lines(cld_tensor *image, const cld_tensor *points, const cld_pen *pen) {
    cld_mask m;
    CLD_TRY(cld_mask_new(&m, image));
    const double *p = points->a.data;
    double along = 0, last[2] = {NAN, NAN};
    for (int64_t i = 0; i < points->a.shape[0]; i++, p += 2) {
        double here[2];
        bool joined = is_point(last), alone = !joined && (i + 1 == points->a.shape[0] || !is_point(p + 2));
        if (!is_point(p)) {
            last[0] = NAN;
            continue;
        }
        place(image, p, here);
        if (joined && pen->off > 0)
            dashed_line(&m, last, here, pen, &along);
        else if (joined || alone)
            cld_mask_line(&m, alone ? here[0] : last[0], alone ? here[1] : last[1], here[0], here[1],
                          pen->width);
        last[0] = here[0];
        last[1] = here[1];
    }
    cld_mask_paint(&m, image, pen);
    return CLD_OK;
}

cld_status cld_canvas_discs(cld_tensor *image, const cld_tensor *points, const cld_pen *pen) {
    cld_mask m;
    CLD_TRY(cld_mask_new(&m, image));
    const double *p = points->a.data;
    for (int64_t i = 0; i < points->a.shape[0]; i++, p += 2) {
        double here[2];
        if (!is_point(p)) continue;
        place(image, p, here);
        cld_mask_line(&m, here[0], here[1], here[0], here[1], pen->width);
    }
    cld_mask_paint(&m, image, pen);
    return CLD_OK;
}

/* How much of the pixel from `at` to at + 1 is between `least` and `most`. */
static double overlap(double at, double least, double most) {
    return fmax(0, fmin(at + 1, most) - fmax(at, least));
}

cld_status cld_canvas_rectangle(cld_tensor *image, double x0, double y0, double x1, double y1,
                                const cld_pen *pen) {
    cld_mask m;
    double left = near(fmin(x0, x1)), right = near(fmax(x0, x1)), top = near(fmin(y0, y1)),
           bottom = near(fmax(y0, y1));
    CLD_TRY(cld_mask_new(&m, image));
    for (int64_t y = first_pixel(top); y <= last_pixel(bottom, m.height); y++)
        for (int64_t x = first_pixel(left); x <= last_pixel(right, m.width); x++)
            cover(&m, x, y, overlap((double)x, left, right) * overlap((double)y, top, bottom));
    cld_mask_paint(&m, image, pen);
    return CLD_OK;
}
