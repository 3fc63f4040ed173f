/* What a view is drawn with: all of its random numbers, before a pixel is touched. The loader on the host
 * (runtime/data/augment.c) and those of devices draw here, so that a view does not depend on who makes it.
 *
 * Everything comes from one Philox stream per (seed, epoch, sample, view), in the order of the fields. The logarithms of
 * the ratios are taken once, by the host. What is left to differ between devices is exp, in its last bit: a side of a crop
 * is then another only where the root falls within 1e-16 of the middle between two integers, of 1e14 crops about one.
 */
#ifndef CLD_KERNELS_VIEW_H
#define CLD_KERNELS_VIEW_H

#include <math.h>

#include "kernels/backend.h"
#include "runtime/core/philox.h"

typedef struct cld_rect {
    int top, left, height, width; /* pixels, from 0 */
} cld_rect;

typedef enum cld_jitter {
    CLD_JITTER_BRIGHTNESS,
    CLD_JITTER_CONTRAST,
    CLD_JITTER_SATURATION,
    CLD_JITTER_HUE
} cld_jitter;

typedef struct cld_view {
    cld_rect crop;
    bool jitter;
    int order[4]; /* of cld_jitter */
    float brightness, contrast, saturation;
    double hue;
    bool grayscale, blur;
    double sigma;
    bool flip, erase;
    cld_rect erased; /* of the view as it is then, mirrored or not */
} cld_view;

typedef struct cld_view_settings {
    cld_augment augment;
    double log_ratio[2], log_erasing_ratio[2];
} cld_view_settings;

static inline cld_view_settings cld_view_settings_of(const cld_augment *a) {
    cld_view_settings s;
    s.augment = *a;
    for (int i = 0; i < 2; i++) {
        s.log_ratio[i] = a->crop ? log(a->ratio[i]) : 0.0;
        s.log_erasing_ratio[i] = a->erasing_p > 0.0 ? log(a->erasing_ratio[i]) : 0.0;
    }
    return s;
}

CLD_HOST_DEVICE static inline double cld_view_uniform(cld_philox *rng, double low, double high) {
    return low + (high - low) * (double)cld_philox_uniform(rng);
}

CLD_HOST_DEVICE static inline bool cld_view_happens(cld_philox *rng, double p) {
    return (double)cld_philox_uniform(rng) < p;
}

/* A rectangle of some share of the area and log-uniform ratio; false where it came out without a side. `along` is the
 * side that grows with the ratio. */
CLD_HOST_DEVICE static inline bool cld_view_sides(int *along, int *across, double area, const double share[2],
                                                  const double log_ratio[2], cld_philox *rng) {
    double target = area * cld_view_uniform(rng, share[0], share[1]);
    double r = exp(cld_view_uniform(rng, log_ratio[0], log_ratio[1]));
    *along = (int)lrint(sqrt(target * r));
    *across = (int)lrint(sqrt(target / r));
    return *along > 0 && *across > 0;
}

/* RandomResizedCrop.get_params: ten tries, then the largest central crop within the ratios. */
CLD_HOST_DEVICE static inline cld_rect cld_view_crop(int height, int width, const cld_view_settings *s,
                                                     cld_philox *rng) {
    const cld_augment *a = &s->augment;
    cld_rect crop = {0, 0, height, width};
    if (!a->crop) return crop;
    for (int i = 0; i < 10; i++) {
        int w, h;
        if (!cld_view_sides(&w, &h, (double)height * width, a->scale, s->log_ratio, rng) || w > width ||
            h > height)
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

CLD_HOST_DEVICE static inline float cld_view_factor(cld_philox *rng, double x) {
    return (float)cld_view_uniform(rng, x < 1.0 ? 1.0 - x : 0.0, 1.0 + x);
}

CLD_HOST_DEVICE static inline void cld_view_jitter(cld_view *v, const cld_augment *a, cld_philox *rng) {
    for (int i = 0; i < 4; i++) v->order[i] = i;
    for (uint32_t i = 3; i > 0; i--) {
        uint32_t j = cld_philox_below(rng, i + 1);
        int swap = v->order[i];
        v->order[i] = v->order[j];
        v->order[j] = swap;
    }
    v->brightness = cld_view_factor(rng, a->brightness);
    v->contrast = cld_view_factor(rng, a->contrast);
    v->saturation = cld_view_factor(rng, a->saturation);
    v->hue = cld_view_uniform(rng, -a->hue, a->hue);
}

/* RandomErasing.get_params: ten tries, then nothing is erased; strictly smaller than the view. */
CLD_HOST_DEVICE static inline bool cld_view_erased(cld_rect *erased, const cld_view_settings *s,
                                                   cld_philox *rng) {
    const cld_augment *a = &s->augment;
    for (int i = 0; i < 10; i++) {
        int h, w;
        if (!cld_view_sides(&h, &w, (double)a->height * a->width, a->erasing_area, s->log_erasing_ratio, rng))
            continue;
        if (h >= a->height || w >= a->width) continue;
        erased->top = (int)cld_philox_below(rng, (uint32_t)(a->height - h + 1));
        erased->left = (int)cld_philox_below(rng, (uint32_t)(a->width - w + 1));
        erased->height = h;
        erased->width = w;
        return true;
    }
    return false;
}

/* Of an image of this size. */
CLD_HOST_DEVICE static inline void cld_view_draw(cld_view *v, int height, int width,
                                                 const cld_view_settings *s, cld_philox *rng) {
    const cld_augment *a = &s->augment;
    v->crop = cld_view_crop(height, width, s, rng);
    v->jitter = cld_view_happens(rng, a->jitter_p);
    if (v->jitter) cld_view_jitter(v, a, rng);
    v->grayscale = cld_view_happens(rng, a->grayscale_p);
    v->blur = cld_view_happens(rng, a->blur_p);
    if (v->blur) v->sigma = cld_view_uniform(rng, a->sigma[0], a->sigma[1]);
    v->flip = cld_view_happens(rng, a->flip_p);
    v->erase = cld_view_happens(rng, a->erasing_p) && cld_view_erased(&v->erased, s, rng);
}

#endif
