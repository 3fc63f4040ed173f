/* torchvision's RandomSolarize, of levels 0 to 255. */
#include "runtime/views/kinds.h"

enum { THRESHOLD, P };
static const cld_setting settings[] = {
    {"threshold", CLD_SETTING_INTEGER, {128}, 0, 256, NULL, "levels from this on are inverted, 0 to 256"},
    {.name = "p", .form = CLD_SETTING_PROBABILITY, .defaults = {0.5}, .help = "probability"},
    {.name = NULL},
};

static cld_status draw(cld_draw *d, const double *numbers, cld_philox *rng) {
    if (cld_draw_happens(rng, numbers[P]))
        cld_draw_add(d, CLD_VIEW_SOLARIZE)->level = (int32_t)numbers[THRESHOLD];
    return CLD_OK;
}

const cld_view_kind cld_kind_solarize = {
    .name = "solarize",
    .stream = 9,
    .help = "inverts bright levels",
    .settings = settings,
    .instructions = 1,
    .draw = draw,
};
