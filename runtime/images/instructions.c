/* Instructions of views from numbers, and checks of them. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/pixel.h"
#include "runtime/core/error.h"
#include "runtime/core/text.h"
#include "runtime/images/follow.h"

/* ---- instructions from numbers ------------------------------------------------------------------------- */

static const struct {
    const char *name;
    int numbers;
} forms[CLD_VIEW_OP_COUNT] = {
    [CLD_VIEW_RESAMPLE] = {"resample", 12},
    [CLD_VIEW_WINDOW] = {"window", 7},
    [CLD_VIEW_FLIP] = {"flip", 0},
    [CLD_VIEW_BRIGHTNESS] = {"brightness", 1},
    [CLD_VIEW_CONTRAST] = {"contrast", 1},
    [CLD_VIEW_SATURATION] = {"saturation", 1},
    [CLD_VIEW_HUE] = {"hue", 1},
    [CLD_VIEW_GREY] = {"grey", 0},
    [CLD_VIEW_BOX_BLUR] = {"box_blur", 1},
    [CLD_VIEW_TAP_BLUR] = {"tap_blur", -1}, /* 1 to 12 */
    [CLD_VIEW_INVERT] = {"invert", 0},
    [CLD_VIEW_SOLARIZE] = {"solarize", 1},
    [CLD_VIEW_SOLARIZE_ADD] = {"solarize_add", 1},
    [CLD_VIEW_POSTERIZE] = {"posterize", 1},
    [CLD_VIEW_AUTOCONTRAST] = {"autocontrast", 0},
    [CLD_VIEW_EQUALIZE] = {"equalize", 0},
    [CLD_VIEW_SHARPNESS] = {"sharpness", 1},
    [CLD_VIEW_AFFINE] = {"affine", 10},
    [CLD_VIEW_NORMALIZE] = {"normalize", 7},
    [CLD_VIEW_ERASE] = {"erase", 7},
};

/* 0 if it does not fit; the checks below find other mistakes. */
static int32_t integer(double x) { return fabs(x) < 0x1p30 ? (int32_t)x : 0; }

cld_status cld_image_instruction(cld_view_instruction *out, const char *name, const double *numbers,
                                 int count) {
    int op = 0;
    while (op < CLD_VIEW_OP_COUNT && strcmp(forms[op].name, name) != 0) op++;
    if (op == CLD_VIEW_OP_COUNT) {
        char shown[64];
        cld_printable(shown, sizeof shown, name, strlen(name), CLD_ONE_LINE);
        return cld_fail(CLD_INVALID, "follow: there is no instruction '%s'", shown);
    }
    bool fits = forms[op].numbers == count || (op == CLD_VIEW_TAP_BLUR && count >= 1 && count <= 12);
    if (!fits && op == CLD_VIEW_TAP_BLUR)
        return cld_fail(CLD_INVALID, "follow: tap_blur takes 1 to 12 numbers, got %d", count);
    if (!fits)
        return cld_fail(CLD_INVALID, "follow: %s takes %d numbers, got %d", name, forms[op].numbers, count);
    const double *n = numbers;
    *out = (cld_view_instruction){.op = op};
    switch ((cld_view_op)op) {
    case CLD_VIEW_RESAMPLE:
        out->resample.top = (float)n[0];
        out->resample.left = (float)n[1];
        out->resample.height = (float)n[2];
        out->resample.width = (float)n[3];
        out->resample.out_height = integer(n[4]);
        out->resample.out_width = integer(n[5]);
        for (int i = 0; i < 4; i++) out->resample.window[i] = integer(n[6 + i]);
        out->resample.filter = integer(n[10]);
        out->flip = n[11] != 0;
        break;
    case CLD_VIEW_WINDOW:
        out->window.top = integer(n[0]);
        out->window.left = integer(n[1]);
        out->window.height = integer(n[2]);
        out->window.width = integer(n[3]);
        for (int i = 0; i < 3; i++) out->window.fill[i] = integer(n[4 + i]);
        break;
    case CLD_VIEW_BRIGHTNESS:
    case CLD_VIEW_CONTRAST:
    case CLD_VIEW_SATURATION:
    case CLD_VIEW_SHARPNESS: out->factor = (float)n[0]; break;
    case CLD_VIEW_HUE: out->shift = integer(n[0]); break;
    case CLD_VIEW_BOX_BLUR: {
        if (!(n[0] >= 0 && n[0] <= 1000))
            return cld_fail(CLD_INVALID, "follow: box_blur: sigma must be 0 to 1000, got %g", n[0]);
        cld_box b = cld_pixel_box(n[0]);
        out->box.radius = b.radius;
        out->box.whole = b.whole;
        out->box.edge = b.edge;
        break;
    }
    case CLD_VIEW_TAP_BLUR:
        out->taps.radius = count - 1;
        for (int i = 0; i < count; i++) out->taps.weight[i] = (float)n[i];
        break;
    case CLD_VIEW_SOLARIZE:
    case CLD_VIEW_SOLARIZE_ADD:
    case CLD_VIEW_POSTERIZE: out->level = integer(n[0]); break;
    case CLD_VIEW_AFFINE:
        memcpy(out->affine.matrix, n, sizeof out->affine.matrix);
        for (int i = 0; i < 3; i++) out->affine.fill[i] = (uint8_t)integer(n[6 + i]);
        out->affine.filter = (uint8_t)integer(n[9]);
        break;
    case CLD_VIEW_NORMALIZE:
        for (int i = 0; i < 3; i++) {
            out->normalize.mean[i] = (float)n[i];
            out->normalize.std[i] = (float)n[3 + i];
        }
        out->flip = n[6] != 0;
        break;
    case CLD_VIEW_ERASE:
        out->erase.top = integer(n[0]);
        out->erase.left = integer(n[1]);
        out->erase.height = integer(n[2]);
        out->erase.width = integer(n[3]);
        for (int i = 0; i < 3; i++) out->erase.value[i] = (float)n[4 + i];
        break;
    default: break;
    }
    return CLD_OK;
}

/* ---- checks -------------------------------------------------------------------------------------------- */

bool cld__image_holds(int top, int left, int height, int width, int all_height, int all_width) {
    return top >= 0 && left >= 0 && height >= 1 && width >= 1 && top <= all_height - height &&
           left <= all_width - width;
}

bool cld__image_is_side(int pixels) { return pixels >= 1 && pixels <= CLD_IMAGE_SIDE; }

static bool is_level(int level) { return level >= 0 && level <= 255; }

/* What is wrong with an instruction for a canvas of this size, or NULL. */
static const char *mistake_in(const cld_view_instruction *s, int height, int width) {
    switch ((cld_view_op)s->op) {
    case CLD_VIEW_RESAMPLE: {
        float top = s->resample.top, left = s->resample.left;
        const int32_t *w = s->resample.window;
        if (!(top >= 0 && left >= 0 && s->resample.height > 0 && s->resample.width > 0 &&
              top + s->resample.height <= (float)height && left + s->resample.width <= (float)width))
            return "the box must be inside the image or canvas";
        if (!cld__image_is_side(s->resample.out_height) || !cld__image_is_side(s->resample.out_width))
            return "the size must be 1 to 65535";
        if (!cld__image_holds(w[0], w[1], w[2], w[3], s->resample.out_height, s->resample.out_width))
            return "the window must be inside the resized box";
        if (s->resample.filter != CLD_FILTER_BILINEAR && s->resample.filter != CLD_FILTER_BICUBIC)
            return "the filter must be 1 (bilinear) or 2 (bicubic)";
        return NULL;
    }
    case CLD_VIEW_WINDOW:
        for (int i = 0; i < 3; i++)
            if (!is_level(s->window.fill[i])) return "fill must be 0 to 255";
        if (abs(s->window.top) > CLD_IMAGE_SIDE || abs(s->window.left) > CLD_IMAGE_SIDE ||
            !cld__image_is_side(s->window.height) || !cld__image_is_side(s->window.width))
            return "the size must be 1 to 65535, top and left -65535 to 65535";
        return NULL;
    case CLD_VIEW_BRIGHTNESS:
    case CLD_VIEW_CONTRAST:
    case CLD_VIEW_SATURATION:
    case CLD_VIEW_SHARPNESS:
        return s->factor >= 0 && s->factor <= 1e6f ? NULL : "the factor must be 0 to 1e6";
    case CLD_VIEW_HUE: return is_level(s->shift) ? NULL : "the shift must be 0 to 255";
    case CLD_VIEW_SOLARIZE: return s->level >= 0 && s->level <= 256 ? NULL : "the level must be 0 to 256";
    case CLD_VIEW_SOLARIZE_ADD: return is_level(s->level) ? NULL : "the level must be 0 to 255";
    case CLD_VIEW_POSTERIZE: return s->level >= 0 && s->level <= 8 ? NULL : "the bits must be 0 to 8";
    case CLD_VIEW_TAP_BLUR:
        for (int i = 0; i <= s->taps.radius; i++)
            if (!isfinite(s->taps.weight[i])) return "weights must be finite";
        return NULL;
    case CLD_VIEW_AFFINE:
        for (int i = 0; i < 6; i++)
            if (!isfinite(s->affine.matrix[i])) return "the matrix must be finite";
        if (s->affine.filter != CLD_FILTER_BILINEAR && s->affine.filter != CLD_FILTER_BICUBIC)
            return "the filter must be 1 (bilinear) or 2 (bicubic)";
        return NULL;
    case CLD_VIEW_NORMALIZE:
        for (int i = 0; i < 3; i++)
            if (!(s->normalize.std[i] > 0) || !isfinite(s->normalize.mean[i]))
                return "std must be positive, mean finite";
        return NULL;
    case CLD_VIEW_ERASE:
        if (!cld__image_holds(s->erase.top, s->erase.left, s->erase.height, s->erase.width, height, width))
            return "the part must be inside the view";
        return NULL;
    default: return NULL;
    }
}

cld_status cld_image_finish_view(cld_view *v, int count, int height, int width) {
    int64_t pixels = 0;
    bool normalized = false;
    for (int i = 0; i < count; i++) {
        const cld_view_instruction *s = &v->step[i];
        const char *name = forms[s->op].name;
        if (normalized != (s->op == CLD_VIEW_ERASE))
            return cld_fail(CLD_INVALID,
                            normalized ? "follow: only erase may follow normalize, not %s"
                                       : "follow: %s needs normalize before it",
                            name);
        const char *mistake = mistake_in(s, height, width);
        if (mistake) return cld_fail(CLD_INVALID, "follow: %s: %s", name, mistake);
        normalized |= s->op == CLD_VIEW_NORMALIZE;
        if (i == 0 && s->op != CLD_VIEW_RESAMPLE) pixels = (int64_t)height * width;
        cld_view_resize(s, &height, &width);
        int64_t now = (int64_t)height * width;
        pixels = now > pixels ? now : pixels;
    }
    if (pixels > INT32_MAX)
        return cld_fail(CLD_INVALID, "follow: %d x %d pixels are too many", height, width);
    v->count = count;
    v->height = height;
    v->width = width;
    v->pixels = (int32_t)pixels;
    return CLD_OK;
}
