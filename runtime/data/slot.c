/* A batch in progress: its part of a step, its tensors, and the device's work on what the workers have drawn and
 * cut. */
#include <stdlib.h>

#include "runtime/data/epoch.h"

/* ---- what is in a batch -------------------------------------------------------------------------------- */

cld_batch_share cld__part_of_step(const cld_epoch *e, int64_t step, int64_t *begin) {
    const cld_loader *l = &e->loader;
    int64_t left = e->rest.images - step * l->batch_size;
    int64_t batch = left < l->batch_size ? left : l->batch_size;
    cld_batch_share share = cld_split_batch(batch, l->block, l->world, l->rank);
    *begin = e->first_image + step * l->batch_size + share.begin;
    return share;
}

void cld_batch_free(cld_batch *b) {
    for (int v = 0; v < CLD_MAX_VIEWS; v++) cld_tensor_free(b->view[v]);
    cld_tensor_free(b->index);
    cld_tensor_free(b->labels);
    *b = (cld_batch){0};
}

void cld__slot_free(cld_slot *s) {
    cld_batch_free(&s->batch);
    cld_tensor_free(s->together);
    for (int v = 0; v < CLD_MAX_VIEWS; v++) {
        cld_tensor_free(s->cut[v]);
        cld_tensor_free(s->drawn[v]);
    }
    for (int64_t i = 0; s->held && i < s->count; i++) free(s->held[i].data);
    free(s->held);
    *s = (cld_slot){0};
}

static cld_tensor *new_on_host(cld_dtype dtype, int ndim, const int64_t *shape) {
    return cld_tensor_new(dtype, ndim, shape, cld_cpu_backend());
}

static bool same_size(const cld_epoch *e, int v, int w) {
    return e->height[v] == e->height[w] && e->width[v] == e->width[w] &&
           e->program[v].images == e->program[w].images;
}

/* The tensor of view v, when it is v's turn. Consecutive views of one size lie one after the other in one tensor, so
 * that a network that takes them as one batch need not copy them (cld_join_rows). */
static cld_tensor *new_view(cld_slot *s, const cld_epoch *e, int v, cld_dtype dtype,
                            const cld_backend *device) {
    int first = v, end = v + 1;
    while (first > 0 && same_size(e, first - 1, v)) first--;
    while (end < e->loader.views && same_size(e, end, v)) end++;
    int64_t rows = s->count * e->program[v].images;
    if (v == first) {
        int64_t shape[] = {(end - first) * rows, 3, e->height[v], e->width[v]};
        cld_tensor_free(s->together);
        s->together = cld_tensor_new_activation(dtype, shape, device);
    }
    return s->together ? cld_tensor_rows(s->together, (v - first) * rows, rows) : NULL;
}

static bool allocate_view(cld_slot *s, const cld_epoch *e, int v) {
    const cld_program *p = &e->program[v];
    int64_t rows = s->count * p->images, h = e->height[v], w = e->width[v];
    if (e->making == CLD_MADE_ON_HOST) {
        s->batch.view[v] = new_view(s, e, v, CLD_F32, cld_cpu_backend());
        return s->batch.view[v] != NULL;
    }
    s->drawn[v] = new_on_host(CLD_U8, 2, (const int64_t[]){rows, (int64_t)cld__view_stride(p)});
    s->bounds[v].stride = cld__view_stride(p);
    if (e->making == CLD_MADE_FROM_CUT) s->cut[v] = new_on_host(CLD_U8, 4, (const int64_t[]){rows, h, w, 3});
    return s->drawn[v] && (s->cut[v] || e->making == CLD_MADE_ON_DEVICE);
}

cld_status cld__slot_allocate(cld_slot *s, const cld_epoch *e, int64_t step) {
    int64_t begin;
    cld_batch_share share = cld__part_of_step(e, step, &begin);
    *s = (cld_slot){.count = share.rows, .batch.share = share};
    s->batch.views = e->loader.views;
    bool complete = true;
    for (int v = 0; v < e->loader.views; v++) complete &= allocate_view(s, e, v);
    s->batch.index = new_on_host(CLD_I64, 1, &s->count);
    s->batch.labels = new_on_host(CLD_I64, 1, &s->count);
    if (complete && s->batch.index && s->batch.labels) return CLD_OK;
    cld__slot_free(s);
    return cld_fail_in("loader");
}

/* ---- the device's work --------------------------------------------------------------------------------- */

/* Unless the tensor already has that form and place. */
static cld_status convert(cld_tensor **t, cld_dtype dtype, const cld_backend *device) {
    cld_tensor *moved = cld_tensor_as(*t, dtype, device);
    if (!moved) return cld_fail_in("loader");
    cld_tensor_free(*t);
    *t = moved;
    return CLD_OK;
}

static cld_status make_view_on_device(cld_slot *s, const cld_epoch *e, int v) {
    const cld_loader *l = &e->loader;
    CLD_TRY(convert(&s->drawn[v], CLD_U8, l->device));
    if (s->cut[v]) CLD_TRY(convert(&s->cut[v], CLD_U8, l->device));
    cld_tensor *view = new_view(s, e, v, l->dtype, l->device);
    if (!view) return cld_fail_in("loader");
    bool resident = e->making == CLD_MADE_ON_DEVICE;
    cld_status status =
        cld_kernel(l->device, image, views, &view->a, resident ? &l->resident->a : &s->cut[v]->a,
                   resident ? &s->batch.index->a : NULL, &s->drawn[v]->a, &s->bounds[v]);
    if (status != CLD_OK) {
        cld_tensor_free(view);
        return status;
    }
    s->batch.view[v] = view;
    return CLD_OK;
}

cld_status cld__slot_to_device(cld_slot *s, const cld_epoch *e) {
    const cld_loader *l = &e->loader;
    CLD_TRY(convert(&s->batch.index, CLD_I64, l->device));
    for (int v = 0; v < s->batch.views; v++)
        if (e->making == CLD_MADE_ON_HOST)
            CLD_TRY(convert(&s->batch.view[v], l->dtype, l->device));
        else if (!s->batch.view[v])
            CLD_TRY(make_view_on_device(s, e, v));
    return convert(&s->batch.labels, CLD_I64, l->device);
}

/* ---- what a device must know about it ------------------------------------------------------------------- */

void cld__slot_merge_bounds(cld_slot *s, cld_image_worker *w) {
    for (int v = 0; v < s->batch.views; v++) {
        cld_view_batch *to = &s->bounds[v], *from = &w->bounds[v];
        if (from->pixels > to->pixels) to->pixels = from->pixels;
        if (from->narrowed > to->narrowed) to->narrowed = from->narrowed;
        if (from->taps > to->taps) to->taps = from->taps;
        to->resamples_again |= from->resamples_again;
        *from = (cld_view_batch){0};
    }
}
