/* torchvision's ColorJitter and RandomGrayscale. */
#include "kernels/pixel.h"
#include "runtime/views/kinds.h"

static const cld_setting jitter_settings[] = {
    {"brightness", CLD_SETTING_FACTOR, {1, 1}, 0, 11, NULL, "factor: 0.4 means 0.6 to 1.4"},
    {"contrast", CLD_SETTING_FACTOR, {1, 1}, 0, 11, NULL, "factor"},
    {"saturation", CLD_SETTING_FACTOR, {1, 1}, 0, 11, NULL, "factor"},
    {"hue", CLD_SETTING_SHIFT, {0, 0}, -0.5, 0.5, NULL, "in turns of the circle: 0.1 means -0.1 to 0.1"},
    {.name = "p", .form = CLD_SETTING_PROBABILITY, .defaults = {1}, .help = "probability of all four"},
    {.name = NULL},
};

/* The four changes in a random order, without those whose range is only the neutral value. */
static cld_status draw_jitter(cld_draw *d, const double *numbers, cld_philox *rng) {
    static const cld_view_op ops[] = {CLD_VIEW_BRIGHTNESS, CLD_VIEW_CONTRAST, CLD_VIEW_SATURATION,
                                      CLD_VIEW_HUE};
    int order[4] = {0, 1, 2, 3};
    double drawn[4];
    if (!cld_draw_happens(rng, numbers[8])) return CLD_OK;
    for (int i = 3; i > 0; i--) {
        int j = cld_draw_integer(rng, 0, i), swap = order[i];
        order[i] = order[j];
        order[j] = swap;
    }
    for (int i = 0; i < 4; i++) drawn[i] = cld_draw_uniform(rng, numbers[2 * i], numbers[2 * i + 1]);
    for (int i = 0; i < 4; i++) {
        int which = order[i];
        double neutral = ops[which] == CLD_VIEW_HUE ? 0.0 : 1.0;
        if (numbers[2 * which] == neutral && numbers[2 * which + 1] == neutral) continue;
        cld_view_instruction *step = cld_draw_add(d, ops[which]);
        if (ops[which] == CLD_VIEW_HUE)
            step->shift = cld_pixel_hue_shift(drawn[which]);
        else
            step->factor = (float)drawn[which];
    }
    return CLD_OK;
}

const cld_view_kind cld_kind_color_jitter = {
    .name = "color_jitter",
    .stream = 6,
    .help = "brightness, contrast, saturation and hue changed in a random order",
    .settings = jitter_settings,
    .instructions = 4,
    .draw = draw_jitter,
};

static const cld_setting grayscale_settings[] = {
    {.name = "p", .form = CLD_SETTING_PROBABILITY, .defaults = {0.1}, .help = "probability"}, {.name = NULL}};

static cld_status draw_grayscale(cld_draw *d, const double *numbers, cld_philox *rng) {
    if (cld_draw_happens(rng, numbers[0])) cld_draw_add(d, CLD_VIEW_GREY);
    return CLD_OK;
}

const cld_view_kind cld_kind_random_grayscale = {
    .name = "random_grayscale",
    .stream = 7,
    .help = "all three channels become the grey image",
    .settings = grayscale_settings,
    .instructions = 1,
    .draw = draw_grayscale,
};
