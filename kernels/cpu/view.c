/* Executes a view, instruction by instruction, with a table of the function for each. First it computes the sizes of
 * all intermediate canvases, so that everything lies in one piece of scratch memory: two canvases, which take turns,
 * and the workspace of the instructions.
 */
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/view.h"
#include "kernels/resample.h"

#include <stdlib.h>

typedef struct row {
    void (*follow)(cld_canvas *c, const cld_view_instruction *s);
    size_t (*bytes)(const cld_canvas *c, const cld_view_instruction *s); /* (optional) */
} row;

static const row rows[CLD_VIEW_OP_COUNT] = {
    [CLD_VIEW_RESAMPLE] = {cld__view_resample, cld__view_resample_bytes},
    [CLD_VIEW_WINDOW] = {cld__view_window, NULL},
    [CLD_VIEW_FLIP] = {cld__view_flip, NULL},
    [CLD_VIEW_BRIGHTNESS] = {cld__view_brightness, NULL},
    [CLD_VIEW_CONTRAST] = {cld__view_contrast, NULL},
    [CLD_VIEW_SATURATION] = {cld__view_saturation, NULL},
    [CLD_VIEW_HUE] = {cld__view_hue, NULL},
    [CLD_VIEW_GREY] = {cld__view_grey, NULL},
    [CLD_VIEW_BOX_BLUR] = {cld__view_box_blur, cld__view_box_blur_bytes},
    [CLD_VIEW_TAP_BLUR] = {cld__view_tap_blur, cld__view_tap_blur_bytes},
    [CLD_VIEW_INVERT] = {cld__view_invert, NULL},
    [CLD_VIEW_SOLARIZE] = {cld__view_solarize, NULL},
    [CLD_VIEW_SOLARIZE_ADD] = {cld__view_solarize_add, NULL},
    [CLD_VIEW_POSTERIZE] = {cld__view_posterize, NULL},
    [CLD_VIEW_AUTOCONTRAST] = {cld__view_autocontrast, NULL},
    [CLD_VIEW_EQUALIZE] = {cld__view_equalize, NULL},
    [CLD_VIEW_SHARPNESS] = {cld__view_sharpness, NULL},
    [CLD_VIEW_AFFINE] = {cld__view_affine, cld__view_affine_bytes},
    [CLD_VIEW_NORMALIZE] = {cld__view_normalize, NULL},
    [CLD_VIEW_ERASE] = {cld__view_erase, NULL},
};

bool cld__view_has_avx2(void) {
    static int known; /* 0: not yet known; else 1 + the answer */
    int now = __atomic_load_n(&known, __ATOMIC_RELAXED);
    if (now) return now == 2;
    bool has = false;
#ifdef CLD_VIEW_AVX2
    const char *plain = getenv("CLD_PLAIN_LOOPS");
    has = __builtin_cpu_supports("avx2") && !(plain && *plain == '1');
#endif
    __atomic_store_n(&known, 1 + has, __ATOMIC_RELAXED);
    return has;
}

/* ---- the image at the start -------------------------------------------------------------------------------------------- */

static bool begins_with_resample(const cld_view *v) {
    return v->count > 0 && v->step[0].op == CLD_VIEW_RESAMPLE;
}

static bool is_inside(cld_rect part, cld_rect whole) {
    return part.top >= whole.top && part.left >= whole.left &&
           part.top + part.height <= whole.top + whole.height &&
           part.left + part.width <= whole.left + whole.width;
}

static cld_status check_image(const cld_view *v, const cld_pixels *image) {
    bool resampled = begins_with_resample(v);
    cld_rect needed = {0, 0, image->height, image->width}, there = image->there;
    if (resampled) {
        cld_axis y = cld_axis_y(v->step, image->shrink, image->height);
        cld_axis x = cld_axis_x(v->step, image->shrink, image->width);
        needed = cld_resample_needs(v->step, &y, &x);
    }
    if (!is_inside(needed, there))
        return cld_fail(CLD_INVALID,
                        "view: needs rows %d to %d and columns %d to %d of the image, but only rows %d to %d "
                        "and columns %d to %d were decoded",
                        needed.top, needed.top + needed.height, needed.left, needed.left + needed.width,
                        there.top, there.top + there.height, there.left, there.left + there.width);
    if (!resampled && image->shrink != 1)
        return cld_fail(CLD_INVALID, "view: an image decoded at 1/%d of its size must be resampled first",
                        image->shrink);
    return CLD_OK;
}

CLD_VIEW_SIMD static void to_planes(uint8_t *restrict r, uint8_t *restrict g, uint8_t *restrict b,
                                    const uint8_t *restrict pixel, int n) {
    for (int i = 0; i < n; i++) {
        r[i] = pixel[3 * i];
        g[i] = pixel[3 * i + 1];
        b[i] = pixel[3 * i + 2];
    }
}

CLD_VIEW_SIMD static void from_planes(uint8_t *restrict pixel, const uint8_t *restrict r,
                                      const uint8_t *restrict g, const uint8_t *restrict b, size_t n) {
    for (size_t i = 0; i < n; i++) {
        pixel[3 * i] = r[i];
        pixel[3 * i + 1] = g[i];
        pixel[3 * i + 2] = b[i];
    }
}

void cld__view_interleave(uint8_t *pixels, const cld_canvas *c) {
    size_t n = cld__view_pixels(c);
    from_planes(pixels, c->data, c->data + n, c->data + 2 * n, n);
}

static void take_image(cld_canvas *c) {
    c->taken = true;
    const cld_pixels *image = c->image;
    size_t n = cld__view_pixels(c), width = (size_t)c->width;
    const uint8_t *from = image->data - (size_t)image->there.top * image->stride -
                          3 * (size_t)image->there.left; /* address of the pixel (0, 0) */
    for (size_t y = 0; y < (size_t)c->height; y++) {
        uint8_t *to = c->data + y * width;
        to_planes(to, to + n, to + 2 * n, from + y * image->stride, c->width);
    }
}

/* ---- the view ---------------------------------------------------------------------------------------------------------- */

/* Memory for the view, and its start. */
static cld_status begin(cld_canvas *c, const cld_view *v, const cld_pixels *image, cld_scratch *scratch) {
    CLD_TRY(check_image(v, image));
    bool resampled = begins_with_resample(v);
    *c = (cld_canvas){.height = image->height, .width = image->width, .image = image, .taken = !resampled};
    size_t most = resampled ? 0 : 3 * cld__view_pixels(c), work = 0;
    for (int i = 0; i < v->count; i++) {
        const row *r = &rows[v->step[i].op];
        size_t bytes = r->bytes ? r->bytes(c, &v->step[i]) : 0;
        work = bytes > work ? bytes : work;
        cld_view_resize(&v->step[i], &c->height, &c->width);
        c->taken = true;
        bytes = 3 * cld__view_pixels(c);
        most = bytes > most ? bytes : most;
    }
    most = cld__view_aligned(most);
    c->data = cld_scratch_reserve(scratch, 2 * most + work);
    if (!c->data) return CLD_NOMEM;
    c->spare = c->data + most;
    c->work = c->spare + most;
    c->height = image->height;
    c->width = image->width;
    c->taken = false;
    if (!resampled) take_image(c);
    return CLD_OK;
}

static cld_status view(float *out, const cld_view *v, const cld_pixels *image, cld_scratch *scratch) {
    cld_canvas c;
    CLD_TRY(begin(&c, v, image, scratch));
    c.out = out;
    for (int i = 0; i < v->count; i++) rows[v->step[i].op].follow(&c, &v->step[i]);
    return CLD_OK;
}

static cld_status canvas(uint8_t *out, const cld_view *v, const cld_pixels *image, cld_scratch *scratch) {
    cld_canvas c;
    CLD_TRY(begin(&c, v, image, scratch));
    for (int i = 0; i < v->count && v->step[i].op != CLD_VIEW_NORMALIZE; i++)
        rows[v->step[i].op].follow(&c, &v->step[i]);
    cld__view_interleave(out, &c);
    return CLD_OK;
}

const cld_image_ops cld_cpu_image = {.view = view, .canvas = canvas};
