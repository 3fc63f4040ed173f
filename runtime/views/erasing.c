/* torchvision's RandomErasing: ten tries for a rectangle strictly smaller than the view; if all fail, nothing is
 * erased. */
#include "runtime/views/kinds.h"

enum { P, AREA, RATIO = 3, VALUE = 5 };
static const cld_setting settings[] = {
    {.name = "p", .form = CLD_SETTING_PROBABILITY, .defaults = {0.5}, .help = "probability"},
    {"area", CLD_SETTING_RANGE, {0.02, 0.33}, CLD_ABOVE_ZERO, 1, NULL, "the erased share of the view"},
    {"ratio", CLD_SETTING_RANGE, {0.3, 3.3}, CLD_ABOVE_ZERO, 100, NULL, "its height / width"},
    {"value", CLD_SETTING_CHANNELS, {0, 0, 0}, -1e6, 1e6, NULL, "the new value there, normalized"},
    {.name = NULL},
};

static cld_status draw(cld_draw *d, const double *numbers, cld_philox *rng) {
    if (!cld_draw_happens(rng, numbers[P])) return CLD_OK;
    double area = (double)d->height * d->width;
    for (int i = 0; i < 10; i++) {
        int h, w;
        if (!cld_draw_sides(&h, &w, area, numbers + AREA, numbers + RATIO, rng)) continue;
        if (h >= d->height || w >= d->width) continue;
        cld_view_instruction *e = cld_draw_add(d, CLD_VIEW_ERASE);
        e->erase.top = cld_draw_integer(rng, 0, d->height - h);
        e->erase.left = cld_draw_integer(rng, 0, d->width - w);
        e->erase.height = h;
        e->erase.width = w;
        for (int c = 0; c < 3; c++) e->erase.value[c] = (float)numbers[VALUE + c];
        return CLD_OK;
    }
    return CLD_OK;
}

const cld_view_kind cld_kind_erasing = {
    .name = "erasing",
    .stream = 11,
    .place = CLD_STEP_ON_FLOATS,
    .help = "overwrites a rectangle of the normalized view",
    .settings = settings,
    .instructions = 1,
    .draw = draw,
};
