/* Jigsaw patches: nine images from one, a patch at a random place in each cell of a grid of 3 x 3 (for 255 pixels:
 * cells of 85, patches of 64 that begin 0 to 21 pixels into their cell). Row by row. */
#include "runtime/views/kinds.h"

#define GRID 3

static const cld_setting settings[] = {
    {"size",
     CLD_SETTING_SIZE,
     {64, 64},
     1,
     4096,
     NULL,
     "of a patch, in pixels; a cell is a third of the image"},
    {.name = NULL},
};

static cld_status size(const double *numbers, int *height, int *width) {
    int h = (int)numbers[0], w = (int)numbers[1];
    if (*height > 0 && *width > 0 && (*height / GRID < h || *width / GRID < w))
        return cld_fail(CLD_INVALID,
                        "patches of %d x %d need an image of at least %d x %d; it is %d x %d by then", h, w,
                        GRID * h, GRID * w, *height, *width);
    *height = h;
    *width = w;
    return CLD_OK;
}

static cld_status draw(cld_draw *d, const double *numbers, cld_philox *rng) {
    int h = (int)numbers[0], w = (int)numbers[1];
    int cell_height = d->height / GRID, cell_width = d->width / GRID;
    int top = d->image / GRID * cell_height + cld_draw_integer(rng, 0, cell_height - h);
    int left = d->image % GRID * cell_width + cld_draw_integer(rng, 0, cell_width - w);
    cld_draw_window(d, (cld_rect){top, left, h, w});
    return CLD_OK;
}

const cld_view_kind cld_kind_jigsaw = {
    .name = "jigsaw",
    .stream = 12,
    .help = "nine patches: nine images from one",
    .settings = settings,
    .size = size,
    .images = GRID * GRID,
    .instructions = 2,
    .draw = draw,
};
