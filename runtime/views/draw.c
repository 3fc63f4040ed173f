/* Appends instructions, and merges them if the result is the same: called by the files of the kinds. */
#include "runtime/views/program.h"

#include <assert.h>
#include <string.h>

static cld_view_instruction *last(cld_draw *d, cld_view_op op) {
    if (d->view->count == 0) return NULL;
    cld_view_instruction *i = &d->view->step[d->view->count - 1];
    return i->op == (int32_t)op ? i : NULL;
}

cld_view_instruction *cld_draw_add(cld_draw *d, cld_view_op op) {
    assert(d->view->count < d->room); /* otherwise a kind adds more than its `instructions` */
    cld_view_instruction *i = &d->view->step[d->view->count++];
    memset(i, 0, sizeof *i);
    i->op = (int32_t)op;
    return i;
}

void cld_draw_resample(cld_draw *d, cld_rect box, int height, int width, cld_filter filter) {
    cld_view_instruction *i = cld_draw_add(d, CLD_VIEW_RESAMPLE);
    i->resample.top = (float)box.top;
    i->resample.left = (float)box.left;
    i->resample.height = (float)box.height;
    i->resample.width = (float)box.width;
    i->resample.out_height = i->resample.window[2] = d->height = height;
    i->resample.out_width = i->resample.window[3] = d->width = width;
    i->resample.filter = (int32_t)filter;
}

static int larger(int a, int b) { return a > b ? a : b; }
static int smaller(int a, int b) { return a < b ? a : b; }

/* The part of `part` that lies inside the canvas. */
static cld_rect inside(const cld_draw *d, cld_rect part) {
    cld_rect r = {larger(part.top, 0), larger(part.left, 0), 0, 0};
    r.height = smaller(part.top + part.height, d->height) - r.top;
    r.width = smaller(part.left + part.width, d->width) - r.left;
    return r;
}

void cld_draw_window(cld_draw *d, cld_rect part) {
    cld_rect in = inside(d, part);
    if (in.height > 0 && in.width > 0) {
        if (in.height == d->height && in.width == d->width && part.height == in.height &&
            part.width == in.width)
            return;
        /* Resizing an image to its own size copies it. */
        if (d->view->count == 0 && (in.height < d->height || in.width < d->width))
            cld_draw_resample(d, (cld_rect){0, 0, d->height, d->width}, d->height, d->width,
                              CLD_FILTER_BILINEAR);
        cld_view_instruction *r = last(d, CLD_VIEW_RESAMPLE);
        if (r) {
            r->resample.window[0] += in.top;
            r->resample.window[1] += r->flip ? d->width - in.left - in.width : in.left;
            r->resample.window[2] = d->height = in.height;
            r->resample.window[3] = d->width = in.width;
            part.top -= in.top;
            part.left -= in.left;
            if (part.height == in.height && part.width == in.width) return;
        }
    }
    cld_view_instruction *w = cld_draw_add(d, CLD_VIEW_WINDOW);
    w->window.top = part.top;
    w->window.left = part.left;
    w->window.height = d->height = part.height;
    w->window.width = d->width = part.width;
}

void cld_draw_flip(cld_draw *d) {
    cld_view_instruction *resample = last(d, CLD_VIEW_RESAMPLE);
    if (resample)
        resample->flip = !resample->flip;
    else if (last(d, CLD_VIEW_FLIP))
        d->view->count--;
    else
        cld_draw_add(d, CLD_VIEW_FLIP);
}

void cld_draw_normalize(cld_draw *d, const double mean[3], const double std[3]) {
    bool flip = last(d, CLD_VIEW_FLIP) != NULL;
    if (flip) d->view->count--;
    cld_view_instruction *i = cld_draw_add(d, CLD_VIEW_NORMALIZE);
    i->flip = flip;
    for (int c = 0; c < 3; c++) {
        i->normalize.mean[c] = (float)mean[c];
        i->normalize.std[c] = (float)std[c];
    }
}

bool cld_draw_sides(int *along, int *across, double area, const double share[2], const double ratio[2],
                    cld_philox *rng) {
    double target = area * cld_draw_uniform(rng, share[0], share[1]);
    double r = exp(cld_draw_uniform(rng, log(ratio[0]), log(ratio[1])));
    *along = (int)lrint(sqrt(target * r)); /* half to even, as Python's round */
    *across = (int)lrint(sqrt(target / r));
    return *along > 0 && *across > 0;
}
