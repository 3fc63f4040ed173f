/* Gaussian blur in two forms: Pillow's three box blurs (MoCo v2), and a filter with few taps (InfoMin, BYOL). */
#include "kernels/pixel.h"
#include "runtime/views/kinds.h"

enum { SIGMA, P = 2, TAPS };
static const cld_setting settings[] = {
    {"sigma", CLD_SETTING_RANGE, {0.1, 2}, CLD_ABOVE_ZERO, 100, NULL, "standard deviation in pixels"},
    {.name = "p", .form = CLD_SETTING_PROBABILITY, .defaults = {1}, .help = "probability"},
    {"taps", CLD_SETTING_INTEGER, {0}, 0, 23, NULL, "of a filter, odd, at most 23; 0 blurs as Pillow does"},
    {.name = NULL},
};

static int radius_of(const double *numbers) { return (int)numbers[TAPS] / 2; }

static cld_status check(const double *numbers) {
    int taps = (int)numbers[TAPS];
    if (taps == 0 || taps % 2 == 1) return CLD_OK;
    return cld_fail(CLD_INVALID, "taps must be odd, or 0 to blur as Pillow does; got %d", taps);
}

/* The border is reflected without its last pixel. */
static cld_status size(const double *numbers, int *height, int *width) {
    int radius = radius_of(numbers);
    if (*height == 0 || *width == 0 || (*height > radius && *width > radius)) return CLD_OK;
    return cld_fail(CLD_INVALID, "%d taps need at least %d pixels per side; the image is %d x %d by then",
                    2 * radius + 1, radius + 1, *height, *width);
}

static cld_status draw(cld_draw *d, const double *numbers, cld_philox *rng) {
    if (!cld_draw_happens(rng, numbers[P])) return CLD_OK;
    double sigma = cld_draw_uniform(rng, numbers[SIGMA], numbers[SIGMA + 1]);
    if (numbers[TAPS] == 0.0) {
        cld_box box = cld_pixel_box(sigma);
        cld_view_instruction *i = cld_draw_add(d, CLD_VIEW_BOX_BLUR);
        i->box.radius = box.radius;
        i->box.whole = box.whole;
        i->box.edge = box.edge;
        return CLD_OK;
    }
    cld_view_instruction *i = cld_draw_add(d, CLD_VIEW_TAP_BLUR);
    double weight[12], sum = 0.0;
    i->taps.radius = radius_of(numbers);
    for (int x = 0; x <= i->taps.radius; x++) {
        weight[x] = exp(-(double)(x * x) / (2.0 * sigma * sigma));
        sum += x == 0 ? weight[x] : 2.0 * weight[x];
    }
    for (int x = 0; x <= i->taps.radius; x++) i->taps.weight[x] = (float)(weight[x] / sum);
    return CLD_OK;
}

const cld_view_kind cld_kind_gaussian_blur = {
    .name = "gaussian_blur",
    .stream = 8,
    .help = "Gaussian blur: Pillow's, or with a few taps",
    .settings = settings,
    .check = check,
    .size = size,
    .instructions = 1,
    .draw = draw,
};
