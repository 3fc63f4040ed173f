/* The part common to all kinds of data sets: opening an image and decoding a part of it. */
#include "runtime/data/dataset.h"

#include <stdatomic.h>
#include <string.h>

cld_dataset *cld_dataset_retain(cld_dataset *d) {
    atomic_fetch_add(&d->references, 1);
    return d;
}

void cld_dataset_free(cld_dataset *d) {
    if (d && atomic_fetch_sub(&d->references, 1) == 1) d->ops->free(d);
}

void cld_dataset_describe(const cld_dataset *d, int64_t row, char *text, size_t size) {
    d->ops->describe(d, row, text, size);
}

cld_status cld_dataset_open(cld_source *s, cld_dataset *d, int64_t row) {
    if (row < 0 || row >= d->count)
        return cld_fail(CLD_INVALID, "data set: it has %lld images; there is no image %lld",
                        (long long)d->count, (long long)row + 1);
    s->pixels = s->bytes = NULL;
    s->has_label = false;
    s->upright = d->upright;
    CLD_TRY(d->ops->open(d, row, s));
    if (s->pixels) return CLD_OK;
    CLD_TRY(cld_picture_open(&s->picture, s->bytes, s->length));
    /* Orientations 5 to 8 are rotated by a quarter turn. */
    bool swaps = s->upright && s->picture.orientation >= 5;
    s->height = swaps ? s->picture.width : s->picture.height;
    s->width = swaps ? s->picture.height : s->picture.width;
    return CLD_OK;
}

cld_status cld_source_pixels(cld_pixels *out, cld_source *s, cld_rect part, int shrink) {
    if (s->pixels) {
        *out = (cld_pixels){
            .data = s->pixels,
            .stride = 3 * (size_t)s->width,
            .height = s->height,
            .width = s->width,
            .there = {0, 0, s->height, s->width},
            .shrink = 1,
            .full_height = s->height,
            .full_width = s->width,
        };
        return CLD_OK;
    }
    if (!s->upright || s->picture.orientation == 1)
        return cld_picture_decode(out, &s->picture, part, shrink, &s->decoded);
    cld_pixels lying;
    cld_rect whole = {0, 0, s->picture.height, s->picture.width};
    CLD_TRY(cld_picture_decode(&lying, &s->picture, whole, 1, &s->decoded));
    return cld_picture_upright(out, &lying, s->picture.orientation, &s->turned);
}

static cld_status load_row(cld_dataset *d, int64_t row, cld_source *s, uint8_t *to) {
    cld_pixels p;
    CLD_TRY(cld_dataset_open(s, d, row));
    CLD_TRY(cld_source_pixels(&p, s, (cld_rect){0, 0, s->height, s->width}, 1));
    if (s->height != d->height || s->width != d->width)
        return cld_fail(CLD_INVALID, "it has %d x %d pixels, not %d x %d", s->height, s->width, d->height,
                        d->width);
    size_t line = 3 * (size_t)s->width;
    for (int y = 0; y < s->height; y++) memcpy(to + (size_t)y * line, p.data + (size_t)y * p.stride, line);
    return CLD_OK;
}

cld_tensor *cld_dataset_load(cld_dataset *d) {
    int64_t shape[] = {d->count, d->height, d->width, 3};
    if (!d->height)
        return cld_fail_null(CLD_INVALID,
                             "data set: its images differ in size, so they do not fit into one tensor");
    CLD_AUTO cld_tensor *all = cld_tensor_new(CLD_U8, 4, shape, cld_cpu_backend());
    if (!all) return NULL;
    size_t bytes = 3 * (size_t)d->height * (size_t)d->width;
    cld_source s = {0};
    cld_status status = CLD_OK;
    for (int64_t row = 0; row < d->count && status == CLD_OK; row++) {
        status = load_row(d, row, &s, (uint8_t *)all->a.data + (size_t)row * bytes);
        if (status == CLD_OK) continue;
        char name[600];
        cld_dataset_describe(d, row, name, sizeof name);
        cld_fail_in("%s", name);
    }
    cld_source_free(&s);
    return status == CLD_OK ? cld_tensor_steal(&all) : NULL;
}

void cld_source_trim(cld_source *s) {
    cld_scratch *const all[] = {&s->file, &s->decoded, &s->turned};
    for (int i = 0; i < 3; i++)
        if (all[i]->bytes > CLD_SOURCE_KEEP) cld_scratch_free(all[i]);
}

void cld_source_free(cld_source *s) {
    cld_scratch_free(&s->file);
    cld_scratch_free(&s->decoded);
    cld_scratch_free(&s->turned);
}
