/* Drawing what torchvision draws, and running the kernels of image.h in order. */
#include "runtime/data/augment.h"

#include <math.h>
#include <string.h>

/* ---- settings ------------------------------------------------------------------------------------------ */

static cld_status check_probability(const char *name, double p) {
    if (p >= 0.0 && p <= 1.0) return CLD_OK;
    return cld_fail(CLD_INVALID, "augment: %s is a probability, 0 to 1; got %g", name, p);
}

static cld_status check_range(const char *name, const double range[2], double most) {
    if (range[0] > 0.0 && range[0] <= range[1] && range[1] <= most) return CLD_OK;
    return cld_fail(CLD_INVALID, "augment: %s must be {low, high} with 0 < low <= high <= %g; got {%g, %g}",
                    name, most, range[0], range[1]);
}

static cld_status check_jitter(const char *name, double x, double most) {
    if (x >= 0.0 && x <= most) return CLD_OK;
    return cld_fail(CLD_INVALID, "augment: %s of the colour jitter must be 0 to %g; got %g", name, most, x);
}

cld_status cld_augment_check(const cld_augment *a) {
    if (a->height < 1 || a->width < 1 || a->height > 4096 || a->width > 4096)
        return cld_fail(CLD_INVALID, "augment: size must be 1 to 4096 pixels; got %d x %d", a->height,
                        a->width);
    if (a->crop) {
        CLD_TRY(check_range("scale", a->scale, 1.0));
        CLD_TRY(check_range("ratio", a->ratio, 100.0));
    }
    CLD_TRY(check_probability("jitter_p", a->jitter_p));
    CLD_TRY(check_jitter("brightness", a->brightness, 10.0));
    CLD_TRY(check_jitter("contrast", a->contrast, 10.0));
    CLD_TRY(check_jitter("saturation", a->saturation, 10.0));
    CLD_TRY(check_jitter("hue", a->hue, 0.5));
    CLD_TRY(check_probability("grayscale", a->grayscale_p));
    CLD_TRY(check_probability("blur", a->blur_p));
    if (a->blur_p > 0.0) CLD_TRY(check_range("sigma", a->sigma, 100.0));
    CLD_TRY(check_probability("flip", a->flip_p));
    for (int c = 0; c < 3; c++)
        if (!(a->normalization.std[c] > 0.0f) || !isfinite(a->normalization.mean[c]))
            return cld_fail(CLD_INVALID,
                            "augment: std must be positive and mean finite; channel %d has mean %g, std %g",
                            c + 1, (double)a->normalization.mean[c], (double)a->normalization.std[c]);
    CLD_TRY(check_probability("erasing", a->erasing_p));
    if (a->erasing_p > 0.0) {
        CLD_TRY(check_range("erasing_area", a->erasing_area, 1.0));
        CLD_TRY(check_range("erasing_ratio", a->erasing_ratio, 100.0));
    }
    return CLD_OK;
}

/* ---- drawing ------------------------------------------------------------------------------------------- */

static double uniform(cld_philox *rng, double low, double high) {
    return low + (high - low) * (double)cld_philox_uniform(rng);
}

static bool happens(cld_philox *rng, double p) { return (double)cld_philox_uniform(rng) < p; }

/* A rectangle of some share of the area and log-uniform ratio; false where it came out larger than the image.
 * `along` is the side that grows with the ratio. */
static bool draw_sides(int *along, int *across, double area, const double share[2], const double ratio[2],
                       cld_philox *rng) {
    double target = area * uniform(rng, share[0], share[1]);
    double r = exp(uniform(rng, log(ratio[0]), log(ratio[1])));
    *along = (int)lrint(sqrt(target * r));
    *across = (int)lrint(sqrt(target / r));
    return *along > 0 && *across > 0;
}

/* RandomResizedCrop.get_params: ten tries, then the largest central crop within the ratios. */
static cld_rect draw_crop(int height, int width, const cld_augment *a, cld_philox *rng) {
    cld_rect crop = {0, 0, height, width};
    if (!a->crop) return crop;
    for (int i = 0; i < 10; i++) {
        int w, h;
        if (!draw_sides(&w, &h, (double)height * width, a->scale, a->ratio, rng) || w > width || h > height)
            continue;
        crop.top = (int)cld_philox_below(rng, (uint32_t)(height - h + 1));
        crop.left = (int)cld_philox_below(rng, (uint32_t)(width - w + 1));
        crop.height = h;
        crop.width = w;
        return crop;
    }
    double ratio = (double)width / height;
    if (ratio < a->ratio[0]) crop.height = (int)lrint(width / a->ratio[0]);
    if (ratio > a->ratio[1]) crop.width = (int)lrint(height * a->ratio[1]);
    if (crop.height < 1) crop.height = 1;
    if (crop.width < 1) crop.width = 1;
    crop.top = (height - crop.height) / 2;
    crop.left = (width - crop.width) / 2;
    return crop;
}

/* ---- the steps ----------------------------------------------------------------------------------------- */

static float jitter_factor(cld_philox *rng, double x) {
    return (float)uniform(rng, x < 1.0 ? 1.0 - x : 0.0, 1.0 + x);
}

static void color_jitter(cld_planes view, const cld_augment *a, cld_philox *rng) {
    enum { BRIGHTNESS, CONTRAST, SATURATION, HUE };
    int order[] = {BRIGHTNESS, CONTRAST, SATURATION, HUE};
    for (uint32_t i = 3; i > 0; i--) {
        uint32_t j = cld_philox_below(rng, i + 1);
        int swap = order[i];
        order[i] = order[j];
        order[j] = swap;
    }
    float brightness = jitter_factor(rng, a->brightness), contrast = jitter_factor(rng, a->contrast);
    float saturation = jitter_factor(rng, a->saturation);
    double hue = uniform(rng, -a->hue, a->hue);
    for (int i = 0; i < 4; i++) {
        if (order[i] == BRIGHTNESS && a->brightness > 0.0) cld_image_brightness(view, brightness);
        if (order[i] == CONTRAST && a->contrast > 0.0) cld_image_contrast(view, contrast);
        if (order[i] == SATURATION && a->saturation > 0.0) cld_image_saturation(view, saturation);
        if (order[i] == HUE && a->hue > 0.0) cld_image_hue(view, hue);
    }
}

/* RandomErasing.get_params: ten tries, then nothing is erased; strictly smaller than the view. */
static void erase(float *out, const cld_augment *a, cld_philox *rng) {
    for (int i = 0; i < 10; i++) {
        int h, w;
        if (!draw_sides(&h, &w, (double)a->height * a->width, a->erasing_area, a->erasing_ratio, rng))
            continue;
        if (h >= a->height || w >= a->width) continue;
        int top = (int)cld_philox_below(rng, (uint32_t)(a->height - h + 1));
        int left = (int)cld_philox_below(rng, (uint32_t)(a->width - w + 1));
        for (int c = 0; c < 3; c++)
            for (int y = top; y < top + h; y++)
                memset(out + ((size_t)c * (size_t)a->height + (size_t)y) * (size_t)a->width + left, 0,
                       sizeof *out * (size_t)w);
        return;
    }
}

cld_status cld_augment_view(float *out, const uint8_t *image, int height, int width, const cld_augment *a,
                            cld_philox rng, cld_augment_scratch *scratch) {
    uint8_t *data = cld_scratch_reserve(&scratch->view, 3 * (size_t)a->height * (size_t)a->width);
    if (!data) return CLD_NOMEM;
    cld_planes view = {data, a->height, a->width};
    CLD_TRY(cld_image_resized_crop(view, image, width, draw_crop(height, width, a, &rng), &scratch->work));
    if (happens(&rng, a->jitter_p)) color_jitter(view, a, &rng);
    if (happens(&rng, a->grayscale_p)) cld_image_grayscale(view);
    if (happens(&rng, a->blur_p))
        CLD_TRY(cld_image_gaussian_blur(view, uniform(&rng, a->sigma[0], a->sigma[1]), &scratch->work));
    cld_image_normalize(out, view, &a->normalization, happens(&rng, a->flip_p));
    if (happens(&rng, a->erasing_p)) erase(out, a, &rng);
    return CLD_OK;
}

void cld_augment_scratch_free(cld_augment_scratch *s) {
    cld_scratch_free(&s->view);
    cld_scratch_free(&s->work);
}
