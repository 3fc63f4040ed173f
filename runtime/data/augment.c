/* The settings checked, and what was drawn for a view (kernels/view.h) done by the kernels of image.h, in order. */
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

/* ---- the steps ----------------------------------------------------------------------------------------- */

static void color_jitter(cld_planes image, const cld_view *v, const cld_augment *a) {
    for (int i = 0; i < 4; i++) {
        if (v->order[i] == CLD_JITTER_BRIGHTNESS && a->brightness > 0.0)
            cld_image_brightness(image, v->brightness);
        if (v->order[i] == CLD_JITTER_CONTRAST && a->contrast > 0.0) cld_image_contrast(image, v->contrast);
        if (v->order[i] == CLD_JITTER_SATURATION && a->saturation > 0.0)
            cld_image_saturation(image, v->saturation);
        if (v->order[i] == CLD_JITTER_HUE && a->hue > 0.0) cld_image_hue(image, v->hue);
    }
}

static void erase(float *out, cld_rect r, const cld_augment *a) {
    for (int c = 0; c < 3; c++)
        for (int y = r.top; y < r.top + r.height; y++)
            memset(out + ((size_t)c * (size_t)a->height + (size_t)y) * (size_t)a->width + r.left, 0,
                   sizeof *out * (size_t)r.width);
}

cld_status cld_augment_view(float *out, const uint8_t *image, int height, int width,
                            const cld_view_settings *s, cld_philox rng, cld_augment_scratch *scratch) {
    const cld_augment *a = &s->augment;
    uint8_t *data = cld_scratch_reserve(&scratch->view, 3 * (size_t)a->height * (size_t)a->width);
    if (!data) return CLD_NOMEM;
    cld_view v = {0};
    cld_view_draw(&v, height, width, s, &rng);
    cld_planes view = {data, a->height, a->width};
    CLD_TRY(cld_image_resized_crop(view, image, width, v.crop, &scratch->work));
    if (v.jitter) color_jitter(view, &v, a);
    if (v.grayscale) cld_image_grayscale(view);
    if (v.blur) CLD_TRY(cld_image_gaussian_blur(view, v.sigma, &scratch->work));
    cld_image_normalize(out, view, &a->normalization, v.flip);
    if (v.erase) erase(out, v.erased, a);
    return CLD_OK;
}

void cld_augment_scratch_free(cld_augment_scratch *s) {
    cld_scratch_free(&s->view);
    cld_scratch_free(&s->work);
}
