/* One image of a batch: opened, its views drawn, decoded as far as they need, and made. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/resample.h"
#include "runtime/data/epoch.h"

#define TRIES 100 /* replacements for an image that cannot be read, before the epoch gives up */

size_t cld__view_stride(const cld_program *p) { return (cld_view_bytes(p->instructions) + 15) & ~(size_t)15; }

void cld__image_worker_free(cld_image_worker *w) {
    cld_source_free(&w->source);
    cld_scratch_free(&w->drawn);
    cld_scratch_free(&w->work);
}

/* ---- which image --------------------------------------------------------------------------------------- */

static int64_t row_of(const cld_epoch *e, int64_t step, int64_t i) {
    int64_t begin;
    cld__part_of_step(e, step, &begin);
    return e->order ? e->order[begin + i] : begin + i;
}

/* This thread's error says what is wrong with that image. Sets *row to another one, which depends only on the seed, the
 * epoch and the image. */
static cld_status replace(const cld_epoch *e, int64_t first, int attempt, int64_t *row) {
    cld_status code = cld_error_code();
    if (code != CLD_INVALID && code != CLD_IO) return code;
    char name[600], reason[1024];
    cld_dataset_describe(e->loader.set, *row, name, sizeof name);
    snprintf(reason, sizeof reason, "%s: %.400s", name, cld_error_message());
    CLD_TRY(cld_bad_images_add(e->loader.bad, *row, reason));
    if (attempt == TRIES)
        return cld_fail(CLD_IO,
                        "loader: image %lld and %d others tried in its place cannot be read; the last is %s",
                        (long long)first + 1, TRIES, reason);
    cld_philox rng = cld_philox_at(e->loader.seed, CLD_RNG_REPLACE, (uint64_t)e->epoch, (uint64_t)first, 0);
    for (int i = 0; i <= attempt; i++) *row = cld_philox_below(&rng, (uint32_t)e->loader.set->count);
    return CLD_OK;
}

static int64_t label_of(const cld_epoch *e, const cld_source *s, int64_t row) {
    return s->has_label ? s->label : ((const int64_t *)e->loader.labels->a.data)[row];
}

static void name_image(cld_slot *slot, int64_t i, int64_t row, int64_t label) {
    ((int64_t *)slot->batch.index->a.data)[i] = row;
    ((int64_t *)slot->batch.labels->a.data)[i] = label;
}

/* ---- drawing ------------------------------------------------------------------------------------------- */

/* Where the drawn views of image i are: for a device in its slot, else in the worker's memory. */
static uint8_t *drawn_at(const cld_epoch *e, cld_slot *slot, int64_t i, int v, cld_image_worker *w) {
    size_t stride = cld__view_stride(&e->program[v]);
    if (e->making != CLD_MADE_ON_HOST)
        return (uint8_t *)slot->drawn[v]->a.data + (size_t)(i * e->program[v].images) * stride;
    uint8_t *at = w->drawn.data;
    for (int before = 0; before < v; before++)
        at += (size_t)e->program[before].images * cld__view_stride(&e->program[before]);
    return at;
}

static cld_status draw(cld_epoch *e, cld_slot *slot, int64_t i, int64_t row, int height, int width,
                       cld_image_worker *w) {
    if (e->making == CLD_MADE_ON_HOST) {
        size_t bytes = 0;
        for (int v = 0; v < e->loader.views; v++)
            bytes += (size_t)e->program[v].images * cld__view_stride(&e->program[v]);
        if (!cld_scratch_reserve(&w->drawn, bytes)) return CLD_NOMEM;
    }
    for (int v = 0; v < e->loader.views; v++) {
        cld_view_key key = {e->loader.seed, (uint64_t)e->epoch, (uint64_t)row, v};
        CLD_TRY(cld_program_draw(&e->program[v], (cld_view *)drawn_at(e, slot, i, v, w),
                                 cld__view_stride(&e->program[v]), height, width, &key));
    }
    return CLD_OK;
}

/* ---- decoding ------------------------------------------------------------------------------------------ */

static cld_rect hull(cld_rect a, cld_rect b) {
    int top = a.top < b.top ? a.top : b.top, left = a.left < b.left ? a.left : b.left;
    int bottom = a.top + a.height > b.top + b.height ? a.top + a.height : b.top + b.height;
    int right = a.left + a.width > b.left + b.width ? a.left + a.width : b.left + b.width;
    return (cld_rect){top, left, bottom - top, right - left};
}

/* By how much the image may be shrunk for the view. */
static int shrink_of(const cld_view *v) {
    const cld_view_instruction *s = v->step;
    if (v->count == 0 || s->op != CLD_VIEW_RESAMPLE) return 1;
    int y = cld_picture_shrink(s->resample.height, s->resample.out_height);
    int x = cld_picture_shrink(s->resample.width, s->resample.out_width);
    return y < x ? y : x;
}

static const cld_view *view_at(const cld_epoch *e, cld_slot *slot, int64_t i, int v, int k,
                               cld_image_worker *w) {
    return (const cld_view *)(drawn_at(e, slot, i, v, w) + (size_t)k * cld__view_stride(&e->program[v]));
}

/* The scale at which the image is decoded: the smallest that is enough for all its views. */
static int scale_for(const cld_epoch *e, cld_slot *slot, int64_t i, cld_image_worker *w) {
    int shrink = e->loader.fast ? 8 : 1;
    for (int v = 0; v < e->loader.views; v++)
        for (int k = 0; k < e->program[v].images && shrink > 1; k++) {
            int most = shrink_of(view_at(e, slot, i, v, k, w));
            if (most < shrink) shrink = most;
        }
    return shrink;
}

/* The part of the image that the view needs at this scale and at larger ones, in pixels of the full size. Larger ones,
 * because not every file format can be shrunk in decoding, and at those scales the part may begin or end some pixels
 * further out. */
static cld_rect part_of(const cld_view *v, int height, int width, int shrink) {
    cld_rect part = cld_view_part(v, height, width, 1);
    for (int scale = 2; scale <= shrink; scale *= 2)
        part = hull(part, cld_view_part(v, height, width, scale));
    return part;
}

/* The same for all its views. */
static cld_rect part_for(const cld_epoch *e, cld_slot *slot, int64_t i, int height, int width, int shrink,
                         cld_image_worker *w) {
    cld_rect all = {0};
    for (int v = 0; v < e->loader.views; v++)
        for (int k = 0; k < e->program[v].images; k++) {
            cld_rect part = part_of(view_at(e, slot, i, v, k, w), height, width, shrink);
            all = v == 0 && k == 0 ? part : hull(all, part);
        }
    return all;
}

/* ---- making -------------------------------------------------------------------------------------------- */

/* The host executes the instructions up to the last one that changes the canvas' size, the device the others. */
static cld_status cut(uint8_t *out, cld_view *view, const cld_pixels *image, cld_scratch *work) {
    int own = 0;
    for (int s = 0; s < view->count; s++)
        if (view->step[s].op == CLD_VIEW_RESAMPLE || view->step[s].op == CLD_VIEW_WINDOW) own = s + 1;
    int rest = view->count - own;
    view->count = own;
    CLD_TRY(cld_kernel(cld_cpu_backend(), image, canvas, out, view, image, work));
    memmove(view->step, view->step + own, (size_t)rest * sizeof view->step[0]);
    view->count = rest;
    view->pixels = view->height * view->width;
    return CLD_OK;
}

static cld_status make_views(cld_epoch *e, cld_slot *slot, int64_t i, const cld_pixels *image,
                             cld_image_worker *w) {
    for (int v = 0; v < e->loader.views; v++) {
        const cld_program *p = &e->program[v];
        size_t size = 3 * (size_t)e->height[v] * (size_t)e->width[v];
        for (int k = 0; k < p->images; k++) {
            cld_view *view = (cld_view *)(drawn_at(e, slot, i, v, w) + (size_t)k * cld__view_stride(p));
            size_t at = (size_t)(i * p->images + k) * size;
            if (view->height != e->height[v] || view->width != e->width[v])
                return cld_fail(
                    CLD_INVALID,
                    "augment: view %d of an image of %d x %d pixels would be %d x %d, and the others are "
                    "%d x %d; end the list with a crop or a resize to one size",
                    v + 1, image->full_height, image->full_width, view->height, view->width, e->height[v],
                    e->width[v]);
            if (e->making == CLD_MADE_ON_HOST)
                CLD_TRY(cld_kernel(cld_cpu_backend(), image, view, (float *)slot->batch.view[v]->a.data + at,
                                   view, image, &w->work));
            else
                CLD_TRY(cut((uint8_t *)slot->cut[v]->a.data + at, view, image, &w->work));
        }
    }
    return CLD_OK;
}

static void note_bounds(const cld_epoch *e, cld_slot *slot, int64_t i, cld_image_worker *w) {
    if (e->making == CLD_MADE_ON_HOST) return;
    for (int v = 0; v < e->loader.views; v++)
        for (int k = 0; k < e->program[v].images; k++)
            cld_view_batch_add(&w->bounds[v], view_at(e, slot, i, v, k, w), e->loader.set->height,
                               e->loader.set->width);
}

/* *fault: the error is the image's own fault, and another one may take its place. */
static cld_status make_row(cld_epoch *e, cld_slot *slot, int64_t i, int64_t row, cld_image_worker *w,
                           bool *fault) {
    cld_dataset *set = e->loader.set;
    *fault = true;
    CLD_TRY(cld_dataset_open(&w->source, set, row));
    int height = w->source.height, width = w->source.width;
    cld_pixels pixels;
    CLD_TRY(draw(e, slot, i, row, height, width, w));
    int shrink = scale_for(e, slot, i, w);
    cld_rect part = part_for(e, slot, i, height, width, shrink, w);
    CLD_TRY(cld_source_pixels(&pixels, &w->source, part, shrink));
    *fault = false;
    CLD_TRY(make_views(e, slot, i, &pixels, w));
    name_image(slot, i, row, label_of(e, &w->source, row));
    return CLD_OK;
}

static cld_status make_held(cld_epoch *e, cld_slot *slot, int64_t i, cld_image_worker *w) {
    cld_held_image *h = &slot->held[i];
    cld_pixels pixels = {
        .data = h->data,
        .stride = 3 * (size_t)h->width,
        .height = h->height,
        .width = h->width,
        .there = {0, 0, h->height, h->width},
        .shrink = 1,
        .full_height = h->height,
        .full_width = h->width,
    };
    CLD_TRY(draw(e, slot, i, h->row, h->height, h->width, w));
    CLD_TRY(make_views(e, slot, i, &pixels, w));
    name_image(slot, i, h->row, h->label);
    return CLD_OK;
}

static cld_status make_any(cld_epoch *e, cld_slot *slot, int64_t step, int64_t i, cld_image_worker *w) {
    int64_t first = row_of(e, step, i), row = first;
    if (e->making == CLD_MADE_ON_DEVICE) {
        CLD_TRY(draw(e, slot, i, row, e->loader.set->height, e->loader.set->width, w));
        name_image(slot, i, row, ((const int64_t *)e->loader.labels->a.data)[row]);
        return CLD_OK;
    }
    if (slot->held) return make_held(e, slot, i, w);
    for (int attempt = 0;; attempt++) {
        bool fault;
        cld_status status = make_row(e, slot, i, row, w, &fault);
        if (status == CLD_OK || !fault) return status;
        CLD_TRY(replace(e, first, attempt, &row));
    }
}

cld_status cld__make_image(cld_epoch *e, cld_slot *slot, int64_t step, int64_t i, cld_image_worker *w) {
    cld_status status = make_any(e, slot, step, i, w);
    cld_source_trim(&w->source);
    if (w->work.bytes > CLD_SOURCE_KEEP) cld_scratch_free(&w->work);
    if (status != CLD_OK) return status;
    note_bounds(e, slot, i, w);
    return CLD_OK;
}

/* ---- sets with one_thread ------------------------------------------------------------------------------ */

/* The views are drawn here too, so that an image that is unsuitable for them can be replaced. */
static cld_status hold_row(cld_epoch *e, cld_slot *slot, int64_t i, int64_t row) {
    cld_held_image *out = &slot->held[i];
    cld_source *s = &e->worker.source;
    cld_pixels pixels;
    CLD_TRY(cld_dataset_open(s, e->loader.set, row));
    CLD_TRY(draw(e, slot, i, row, s->height, s->width, &e->worker));
    CLD_TRY(cld_source_pixels(&pixels, s, (cld_rect){0, 0, s->height, s->width}, 1));
    size_t line = 3 * (size_t)s->width;
    out->data = malloc(line * (size_t)s->height);
    if (!out->data)
        return cld_fail(CLD_NOMEM, "loader: out of memory for an image of %d x %d", s->height, s->width);
    for (int y = 0; y < s->height; y++)
        memcpy(out->data + (size_t)y * line, pixels.data + (size_t)y * pixels.stride, line);
    out->height = s->height;
    out->width = s->width;
    out->row = row;
    out->label = label_of(e, s, row);
    return CLD_OK;
}

cld_status cld__hold_image(cld_epoch *e, cld_slot *slot, int64_t step, int64_t i) {
    int64_t first = row_of(e, step, i), row = first;
    for (int attempt = 0;; attempt++) {
        if (hold_row(e, slot, i, row) == CLD_OK) return CLD_OK;
        CLD_TRY(replace(e, first, attempt, &row));
    }
}
