/* The end of the 8-bit canvas: (level / 255 - mean) / std. Without this step a view has values from 0 to 1. */
#include "runtime/views/kinds.h"

enum { MEAN, STD = 3 };
static const cld_setting settings[] = {
    {"mean", CLD_SETTING_CHANNELS, {NAN, NAN, NAN}, -1000, 1000, NULL, "per channel, of values 0 to 1"},
    {"std",
     CLD_SETTING_CHANNELS,
     {NAN, NAN, NAN},
     CLD_ABOVE_ZERO,
     1000,
     NULL,
     "per channel, of values 0 to 1"},
    {.name = NULL},
};

static cld_status draw(cld_draw *d, const double *numbers, cld_philox *rng) {
    (void)rng;
    cld_draw_normalize(d, numbers + MEAN, numbers + STD);
    return CLD_OK;
}

const cld_view_kind cld_kind_normalize = {
    .name = "normalize",
    .stream = 13,
    .place = CLD_STEP_NORMALIZES,
    .help = "(level / 255 - mean) / std, per channel",
    .settings = settings,
    .instructions = 1,
    .draw = draw,
};
