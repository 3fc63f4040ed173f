/* torchvision's RandomHorizontalFlip. */
#include "runtime/views/kinds.h"

static const cld_setting settings[] = {
    {.name = "p", .form = CLD_SETTING_PROBABILITY, .defaults = {0.5}, .help = "probability"}, {.name = NULL}};

static cld_status draw(cld_draw *d, const double *numbers, cld_philox *rng) {
    if (cld_draw_happens(rng, numbers[0])) cld_draw_flip(d);
    return CLD_OK;
}

const cld_view_kind cld_kind_flip = {
    .name = "flip",
    .stream = 5,
    .help = "mirrors left to right",
    .settings = settings,
    .instructions = 1,
    .draw = draw,
};
