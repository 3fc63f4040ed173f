/* The part of its image that a view shows: torchvision's RandomResizedCrop, Resize, CenterCrop and RandomCrop. */
#include "runtime/views/kinds.h"

#define SIDE    4096      /* the most pixels of a view's side */
#define LONGEST (1 << 24) /* of a resized image: floats count exactly up to this */
#define FILTERS "bilinear|bicubic"
#define FILTER_S                                                                                             \
    { "filter", CLD_SETTING_CHOICE, {0}, 0, 1, FILTERS, "antialiased, as Pillow resizes" }

static cld_filter filter_of(double choice) {
    return choice == 0.0 ? CLD_FILTER_BILINEAR : CLD_FILTER_BICUBIC;
}

/* The size that settings[0] gives, whatever the image. */
static cld_status fixed_size(const double *numbers, int *height, int *width) {
    *height = (int)numbers[0];
    *width = (int)numbers[1];
    return CLD_OK;
}

/* ---- random_resized_crop ------------------------------------------------------------------------------- */

enum { SIZE, SCALE = 2, RATIO = 4, CROP_FILTER = 6 };
static const cld_setting resized_crop_settings[] = {
    {"size", CLD_SETTING_SIZE, {NAN, NAN}, 1, SIDE, NULL, "of the view, in pixels"},
    {"scale", CLD_SETTING_RANGE, {0.08, 1}, CLD_ABOVE_ZERO, 1, NULL, "the crop's share of the area"},
    {"ratio", CLD_SETTING_RANGE, {3.0 / 4.0, 4.0 / 3.0}, CLD_ABOVE_ZERO, 100, NULL, "its width / height"},
    FILTER_S,
    {.name = NULL},
};

/* Ten tries, then the largest central crop within the ratios. */
static cld_rect draw_box(int height, int width, const double *scale, const double *ratio, cld_philox *rng) {
    for (int i = 0; i < 10; i++) {
        int h, w;
        if (!cld_draw_sides(&w, &h, (double)height * width, scale, ratio, rng) || w > width || h > height)
            continue;
        int top = cld_draw_integer(rng, 0, height - h), left = cld_draw_integer(rng, 0, width - w);
        return (cld_rect){top, left, h, w};
    }
    cld_rect box = {0, 0, height, width};
    double own = (double)width / height;
    if (own < ratio[0]) box.height = (int)lrint(width / ratio[0]);
    if (own > ratio[1]) box.width = (int)lrint(height * ratio[1]);
    if (box.height < 1) box.height = 1;
    if (box.width < 1) box.width = 1;
    box.top = (height - box.height) / 2;
    box.left = (width - box.width) / 2;
    return box;
}

static cld_status draw_resized_crop(cld_draw *d, const double *numbers, cld_philox *rng) {
    cld_rect box = draw_box(d->height, d->width, numbers + SCALE, numbers + RATIO, rng);
    cld_draw_resample(d, box, (int)numbers[SIZE], (int)numbers[SIZE + 1], filter_of(numbers[CROP_FILTER]));
    return CLD_OK;
}

const cld_view_kind cld_kind_random_resized_crop = {
    .name = "random_resized_crop",
    .stream = 1,
    .help = "a part of random size and ratio, resized",
    .settings = resized_crop_settings,
    .size = fixed_size,
    .instructions = 1,
    .draw = draw_resized_crop,
};

/* ---- resize -------------------------------------------------------------------------------------------- */

enum { RESIZE_FILTER = 2 };
static const cld_setting resize_settings[] = {
    {"size", CLD_SETTING_SHORTER, {NAN, NAN}, 1, SIDE, NULL, "in pixels"},
    FILTER_S,
    {.name = NULL},
};

/* A number is the shorter side; the longer one keeps the proportion, rounded down. */
static cld_status resized(const double *numbers, int *height, int *width) {
    if (numbers[1] != 0.0) return fixed_size(numbers, height, width);
    if (*height == 0 || *width == 0) return CLD_OK;
    int64_t shorter = (int64_t)numbers[0];
    int64_t h = *height <= *width ? shorter : shorter * *height / *width;
    int64_t w = *height <= *width ? shorter * *width / *height : shorter;
    if (h > LONGEST || w > LONGEST)
        return cld_fail(CLD_INVALID,
                        "an image of %d x %d would become %lld x %lld; at most %d is allowed: give size = "
                        "{height, width}",
                        *height, *width, (long long)h, (long long)w, LONGEST);
    *height = (int)h;
    *width = (int)w;
    return CLD_OK;
}

static cld_status draw_resize(cld_draw *d, const double *numbers, cld_philox *rng) {
    (void)rng;
    int height = d->height, width = d->width;
    CLD_TRY(resized(numbers, &height, &width));
    cld_draw_resample(d, (cld_rect){0, 0, d->height, d->width}, height, width,
                      filter_of(numbers[RESIZE_FILTER]));
    return CLD_OK;
}

const cld_view_kind cld_kind_resize = {
    .name = "resize",
    .stream = 2,
    .help = "the whole image, resized",
    .settings = resize_settings,
    .size = resized,
    .instructions = 1,
    .draw = draw_resize,
};

/* ---- center_crop --------------------------------------------------------------------------------------- */

static const cld_setting center_settings[] = {
    {"size", CLD_SETTING_SIZE, {NAN, NAN}, 1, SIDE, NULL, "in pixels; a smaller image gets a black border"},
    {.name = NULL},
};

static int central(int have, int want) {
    return want > have ? -((want - have) / 2) : (int)lrint((have - want) / 2.0);
}

static cld_status draw_center(cld_draw *d, const double *numbers, cld_philox *rng) {
    (void)rng;
    int h = (int)numbers[0], w = (int)numbers[1];
    cld_draw_window(d, (cld_rect){central(d->height, h), central(d->width, w), h, w});
    return CLD_OK;
}

const cld_view_kind cld_kind_center_crop = {
    .name = "center_crop",
    .stream = 3,
    .help = "the middle",
    .settings = center_settings,
    .size = fixed_size,
    .instructions = 2,
    .draw = draw_center,
};

/* ---- random_crop --------------------------------------------------------------------------------------- */

enum { PADDING = 2 };
static const cld_setting random_settings[] = {
    {"size", CLD_SETTING_SIZE, {NAN, NAN}, 1, SIDE, NULL, "in pixels"},
    {"padding", CLD_SETTING_INTEGER, {0}, 0, SIDE, NULL, "black pixels added on every side before the cut"},
    {.name = NULL},
};

/* A random position for a part of `want` pixels. If the part is larger than the padded image, it holds all of it
 * (`pad_if_needed`). */
static int anywhere(int have, int want, int padding, cld_philox *rng) {
    int first = -padding, last = have + padding - want;
    return first <= last ? cld_draw_integer(rng, first, last) : cld_draw_integer(rng, last, first);
}

static cld_status draw_random(cld_draw *d, const double *numbers, cld_philox *rng) {
    int h = (int)numbers[0], w = (int)numbers[1], padding = (int)numbers[PADDING];
    int top = anywhere(d->height, h, padding, rng), left = anywhere(d->width, w, padding, rng);
    cld_draw_window(d, (cld_rect){top, left, h, w});
    return CLD_OK;
}

const cld_view_kind cld_kind_random_crop = {
    .name = "random_crop",
    .stream = 4,
    .help = "a part of fixed size; a smaller image gets a black border",
    .settings = random_settings,
    .size = fixed_size,
    .instructions = 2,
    .draw = draw_random,
};
