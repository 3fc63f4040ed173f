/* Programs: checks their steps and the steps' order, and draws them one after the other. */
#include "runtime/views/program.h"
#include "runtime/views/kinds.h"

#include <assert.h>
#include <string.h>

const cld_view_kind *const cld_view_kinds[] = {
#define CLD_ROW(name) &cld_kind_##name,
    CLD_VIEW_KINDS(CLD_ROW)
#undef CLD_ROW
        NULL};

const cld_view_kind *cld_view_kind_named(const char *name) {
    for (const cld_view_kind *const *kind = cld_view_kinds; *kind; kind++)
        if (strcmp((*kind)->name, name) == 0) return *kind;
    return NULL;
}

/* ---- one step ------------------------------------------------------------------------------------------ */

void cld_program_step_default(cld_program_step *step, const cld_view_kind *kind) {
    *step = (cld_program_step){.kind = kind};
    double *numbers = step->numbers;
    for (const cld_setting *s = kind->settings; s->name; s++)
        for (int i = 0, n = cld_setting_numbers(s->form); i < n; i++) *numbers++ = s->defaults[i];
    assert(numbers <= step->numbers + CLD_STEP_NUMBERS);
}

cld_status cld_program_step_check(const cld_program_step *step) {
    const double *numbers = step->numbers;
    for (const cld_setting *s = step->kind->settings; s->name; s++) {
        CLD_TRY(cld_setting_check(s, numbers));
        numbers += cld_setting_numbers(s->form);
    }
    return step->kind->check ? step->kind->check(step->numbers) : CLD_OK;
}

/* ---- the list ------------------------------------------------------------------------------------------ */

static cld_status in_step(const cld_program *p, int i, cld_status status) {
    if (status == CLD_OK) return CLD_OK;
    return cld_fail_in("augment: step %d, %s", i + 1, p->step[i].kind->name);
}

static cld_status check_place(const cld_program *p, int i, int normalized) {
    switch (p->step[i].kind->place) {
    case CLD_STEP_ON_FLOATS:
        if (normalized >= 0) return CLD_OK;
        return cld_fail(CLD_INVALID, "it works on normalized views: put it after normalize{mean, std}");
    default:
        if (normalized < 0) return CLD_OK;
        return cld_fail(
            CLD_INVALID,
            "it works on 8-bit pixels, which step %d, %s, turns into floats: put it before that step",
            normalized + 1, p->step[normalized].kind->name);
    }
}

/* The canvas' size after all steps; 0 x 0 if it depends on an unknown size. */
static cld_status follow_size(const cld_program *p, int *height, int *width) {
    for (int i = 0; i < p->count; i++) {
        const cld_view_kind *kind = p->step[i].kind;
        if (kind->size) CLD_TRY(in_step(p, i, kind->size(p->step[i].numbers, height, width)));
    }
    return CLD_OK;
}

cld_status cld_program_finish(cld_program *p) {
    if (p->count < 0 || p->count > CLD_PROGRAM_STEPS)
        return cld_fail(CLD_INVALID, "augment: %d steps; at most %d", p->count, CLD_PROGRAM_STEPS);
    int normalized = -1, height = 0, width = 0;
    p->images = 1;
    p->instructions = 1; /* for NORMALIZE, if there is no such step */
    for (int i = 0; i < p->count; i++) {
        const cld_view_kind *kind = p->step[i].kind;
        CLD_TRY(in_step(p, i, cld_program_step_check(&p->step[i])));
        CLD_TRY(in_step(p, i, check_place(p, i, normalized)));
        if (kind->place == CLD_STEP_NORMALIZES) normalized = i;
        if (kind->images > 1 && p->images > 1)
            return in_step(
                p, i,
                cld_fail(CLD_INVALID,
                         "there is already one before it; a view can be cut into patches only once"));
        if (kind->images > 1) p->images = kind->images;
        p->instructions += kind->instructions;
        p->occurrence[i] = 0;
        for (int j = 0; j < i; j++) p->occurrence[i] += p->step[j].kind == kind;
    }
    return follow_size(p, &height, &width);
}

cld_status cld_program_size(const cld_program *p, int image_height, int image_width, int *height,
                            int *width) {
    *height = image_height;
    *width = image_width;
    CLD_TRY(follow_size(p, height, width));
    if (*height < 1 || *width < 1)
        return cld_fail(CLD_INVALID, "augment: the views would differ in size, as the images do: add "
                                     "random_resized_crop{size}, resize{size = {height, width}}, "
                                     "center_crop{size} or random_crop{size}");
    return CLD_OK;
}

/* ---- drawing ------------------------------------------------------------------------------------------- */

/* The step's part of the view's stream: 8 bits for the kind, 8 for the position among its kind, 8 for the image. */
static cld_philox stream(const cld_view_key *key, const cld_program *p, int i, int image) {
    cld_philox whole =
        cld_philox_at(key->seed, CLD_RNG_AUGMENT, key->epoch, key->sample, (uint64_t)key->view);
    uint32_t part =
        (uint32_t)p->step[i].kind->stream | (uint32_t)p->occurrence[i] << 8 | (uint32_t)image << 16;
    return cld_philox_part(whole, part);
}

/* The largest canvas that the view has at any time, for an image of this size. */
static int64_t largest_canvas(const cld_view *v, int height, int width) {
    int64_t most = v->count > 0 && v->step[0].op == CLD_VIEW_RESAMPLE ? 0 : (int64_t)height * width;
    for (int i = 0; i < v->count; i++) {
        cld_view_resize(&v->step[i], &height, &width);
        int64_t pixels = (int64_t)height * width;
        if (pixels > most) most = pixels;
    }
    return most;
}

static cld_status draw_one(const cld_program *p, cld_view *v, int image, int height, int width,
                           const cld_view_key *key) {
    static const double zero[3] = {0, 0, 0}, one[3] = {1, 1, 1};
    cld_draw d = {.view = v, .room = p->instructions, .height = height, .width = width, .image = image};
    bool normalized = false, split = false;
    v->count = 0;
    for (int i = 0; i < p->count; i++) {
        const cld_view_kind *kind = p->step[i].kind;
        split = split || kind->images > 1;
        cld_philox rng = stream(key, p, i, split ? image : 0);
        CLD_TRY(in_step(p, i, kind->draw(&d, p->step[i].numbers, &rng)));
        normalized = normalized || kind->place == CLD_STEP_NORMALIZES;
    }
    if (!normalized) cld_draw_normalize(&d, zero, one);
    int64_t pixels = largest_canvas(v, height, width);
    if (pixels > CLD_CANVAS_PIXELS)
        return cld_fail(CLD_INVALID, "augment: an image of %d x %d becomes one of %lld pixels; at most %d",
                        height, width, (long long)pixels, CLD_CANVAS_PIXELS);
    v->height = d.height;
    v->width = d.width;
    v->pixels = (int32_t)pixels;
    return CLD_OK;
}

cld_status cld_program_draw(const cld_program *p, cld_view *out, size_t stride, int image_height,
                            int image_width, const cld_view_key *key) {
    int height = image_height, width = image_width;
    CLD_TRY(follow_size(p, &height, &width));
    for (int image = 0; image < p->images; image++) {
        cld_view *v = (cld_view *)(void *)((char *)out + (size_t)image * stride);
        CLD_TRY(draw_one(p, v, image, image_height, image_width, key));
        assert(v->height == height && v->width == width);
    }
    return CLD_OK;
}
