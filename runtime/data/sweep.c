/* The contract is in sweep.h. A ring buffer of items: workers take rows in order, the consumer takes items in order,
 * and neither overtakes the other.
 */
#include "runtime/data/sweep.h"

#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/core/digest.h"
#include "runtime/core/process.h"
#include "runtime/core/workers.h"
#include "runtime/images/follow.h"
#include "runtime/images/image.h"

#define LOOK_SECONDS 0.1 /* between checks for signals */
#define AHEAD        4   /* images that a worker may be ahead by */

typedef struct worker {
    cld_source source;
    cld_scratch canvas, work;
} worker;

typedef struct slot {
    cld_sweep_item item;
    bool done;
} slot;

struct cld_sweep {
    cld_dataset *set;
    cld_sweep_options options;
    slot *slots; /* (depth) row r is in slot r % depth */
    int64_t depth, next_task, next_out;
    bool stop, failed;
    cld_error_record error;
    pthread_mutex_t lock;
    pthread_cond_t work, ready;
    pthread_t *threads; /* (options.workers) */
    int started;
    worker own; /* the consumer's, if there are no workers */
};

/* ---- processing one image -------------------------------------------------------------------------------- */

/* A copy of the whole file. */
static cld_status copy_file(cld_sweep_item *item, const cld_source *s) {
    item->made = malloc(s->length);
    if (!item->made) return cld_fail(CLD_NOMEM, "sweep: out of memory for a file of %zu bytes", s->length);
    memcpy(item->made, s->bytes, s->length);
    item->made_bytes = s->length;
    item->is_copy = true;
    return CLD_OK;
}

/* Resizes the image so that its shorter side has `side` pixels, with the longer one rounded down, and takes a window of
 * that, or all of it. */
static cld_status resample(uint8_t **out, int *height, int *width, const cld_pixels *pixels, int side,
                           bool square, worker *w) {
    union {
        cld_view view;
        uint8_t room[sizeof(cld_view) + sizeof(cld_view_instruction)];
    } one = {0};
    int h = pixels->full_height, wide = pixels->full_width, shorter = h < wide ? h : wide;
    int64_t to_h = (int64_t)side * h / shorter, to_w = (int64_t)side * wide / shorter;
    if (to_h > 65535 || to_w > 65535)
        return cld_fail(CLD_INVALID, "an image of %d x %d pixels is too long and narrow to be resized to %d",
                        h, wide, side);
    cld_view_instruction *step = one.view.step;
    step->op = CLD_VIEW_RESAMPLE;
    step->resample.height = (float)h;
    step->resample.width = (float)wide;
    step->resample.out_height = (int)to_h;
    step->resample.out_width = (int)to_w;
    step->resample.filter = CLD_FILTER_BILINEAR;
    int32_t window[4] = {0, 0, (int32_t)to_h, (int32_t)to_w};
    if (square) {
        window[0] = (int32_t)lrint((double)(to_h - side) / 2); /* as torchvision's CenterCrop */
        window[1] = (int32_t)lrint((double)(to_w - side) / 2);
        window[2] = window[3] = side;
    }
    memcpy(step->resample.window, window, sizeof window);
    CLD_TRY(cld_image_finish_view(&one.view, 1, h, wide));
    *height = one.view.height;
    *width = one.view.width;
    *out = cld_scratch_reserve(&w->canvas, 3 * (size_t)*height * (size_t)*width);
    if (!*out) return CLD_NOMEM;
    return cld_kernel(cld_cpu_backend(), image, canvas, *out, &one.view, pixels, &w->work);
}

/* Copies the whole image, row by row, without gaps. */
static cld_status densely(uint8_t **out, const cld_pixels *pixels, worker *w) {
    size_t line = 3 * (size_t)pixels->width;
    *out = cld_scratch_reserve(&w->canvas, line * (size_t)pixels->height);
    if (!*out) return CLD_NOMEM;
    for (int y = 0; y < pixels->height; y++)
        memcpy(*out + (size_t)y * line, pixels->data + (size_t)y * pixels->stride, line);
    return CLD_OK;
}

static cld_status make_jpeg(cld_sweep_item *item, const cld_sweep_options *o, const cld_pixels *pixels,
                            worker *w) {
    const cld_picture_facts *f = &item->facts;
    int height = item->height, width = item->width, shorter = height < width ? height : width;
    bool fits = o->side == 0 || shorter <= o->side;
    if (fits && item->is_file && f->kind == CLD_PICTURE_JPEG && f->channels == 3 && f->orientation == 1)
        return copy_file(item, &w->source);
    uint8_t *canvas;
    if (fits)
        CLD_TRY(densely(&canvas, pixels, w));
    else
        CLD_TRY(resample(&canvas, &height, &width, pixels, o->side, false, w));
    return cld_picture_encode(&item->made, &item->made_bytes, CLD_PICTURE_JPEG, canvas, height, width,
                              o->quality);
}

static cld_status make_square(cld_sweep_item *item, const cld_sweep_options *o, const cld_pixels *pixels,
                              worker *w) {
    uint8_t *canvas;
    int height, width;
    CLD_TRY(resample(&canvas, &height, &width, pixels, o->side, true, w));
    item->made_bytes = 3 * (size_t)height * (size_t)width;
    item->made = malloc(item->made_bytes);
    if (!item->made)
        return cld_fail(CLD_NOMEM, "sweep: out of memory for an image of %d x %d", height, width);
    memcpy(item->made, canvas, item->made_bytes);
    return CLD_OK;
}

static cld_status read_row(cld_sweep_item *item, const cld_sweep *s, worker *w) {
    cld_source *source = &w->source;
    cld_pixels pixels;
    cld_status status = cld_dataset_open(source, s->set, item->row);
    if (source->bytes) {
        item->is_file = true;
        item->file_bytes = source->length;
        item->digest = cld_digest(source->bytes, source->length);
    }
    CLD_TRY(status);
    item->height = source->height;
    item->width = source->width;
    if (item->is_file) item->facts = cld_picture_facts_of(&source->picture);
    CLD_TRY(cld_source_pixels(&pixels, source, (cld_rect){0, 0, source->height, source->width}, 1));
    if (s->options.make == CLD_SWEEP_JPEG) return make_jpeg(item, &s->options, &pixels, w);
    if (s->options.make == CLD_SWEEP_SQUARE) return make_square(item, &s->options, &pixels, w);
    return CLD_OK;
}

/* An error returned from here is not about the image. */
static cld_status make_item(cld_sweep_item *item, const cld_sweep *s, int64_t row, worker *w) {
    *item = (cld_sweep_item){.row = row};
    cld_status status = read_row(item, s, w);
    cld_source_trim(&w->source);
    if (w->canvas.bytes > CLD_SOURCE_KEEP) cld_scratch_free(&w->canvas);
    if (w->work.bytes > CLD_SOURCE_KEEP) cld_scratch_free(&w->work);
    if (status != CLD_INVALID && status != CLD_IO) return status;
    item->problem = strdup(cld_error_message());
    return item->problem ? CLD_OK : cld_fail(CLD_NOMEM, "sweep: out of memory");
}

static void free_item(cld_sweep_item *item) {
    free(item->problem);
    free(item->made);
    *item = (cld_sweep_item){.row = -1};
}

static void free_worker(worker *w) {
    cld_source_free(&w->source);
    cld_scratch_free(&w->canvas);
    cld_scratch_free(&w->work);
}

/* ---- workers ----------------------------------------------------------------------------------------------- */

static void *work(void *argument) {
    cld_sweep *s = argument;
    worker w = {0};
    pthread_mutex_lock(&s->lock);
    for (;;) {
        /* One slot is the consumer's: its item stays valid until the next call. */
        while (!s->stop && !s->failed && s->next_task < s->set->count &&
               s->next_task >= s->next_out + s->depth - 1)
            pthread_cond_wait(&s->work, &s->lock);
        if (s->stop || s->failed || s->next_task >= s->set->count) break;
        int64_t row = s->next_task++;
        slot *mine = &s->slots[row % s->depth];
        pthread_mutex_unlock(&s->lock);
        cld_status status = make_item(&mine->item, s, row, &w);
        pthread_mutex_lock(&s->lock);
        mine->done = status == CLD_OK;
        if (status != CLD_OK && !s->failed) {
            s->failed = true;
            s->error = cld_error_export();
        }
        pthread_cond_broadcast(&s->ready);
    }
    pthread_mutex_unlock(&s->lock);
    free_worker(&w);
    return NULL;
}

static cld_status start_workers(cld_sweep *s) {
    int wanted = s->options.workers, refused = 0;
    while (s->started < wanted && !refused) {
        refused = cld_start_worker(&s->threads[s->started], work, s);
        if (!refused) s->started++;
    }
    if (!refused) return CLD_OK;
    return cld_fail(CLD_NOMEM, "sweep: the system refuses worker thread %d of %d: %s", s->started + 1, wanted,
                    strerror(refused));
}

/* ---- the sweep ------------------------------------------------------------------------------------------------ */

static cld_status check(const cld_sweep_options *o) {
    int least = o->make == CLD_SWEEP_SQUARE ? 1 : 0;
    if (o->side < least || o->side > 65535)
        return cld_fail(CLD_INVALID, "sweep: side must be %d to 65535 pixels, got %d", least, o->side);
    if (o->make == CLD_SWEEP_JPEG && (o->quality < 1 || o->quality > 100))
        return cld_fail(CLD_INVALID, "sweep: quality must be 1 to 100, got %d", o->quality);
    if (o->workers < 0 || o->workers > 256)
        return cld_fail(CLD_INVALID, "sweep: workers must be 0 to 256, got %d", o->workers);
    return CLD_OK;
}

cld_sweep *cld_sweep_new(cld_dataset *set, const cld_sweep_options *options) {
    CLD_TRY_NULL(check(options));
    cld_sweep *s = calloc(1, sizeof *s);
    if (!s) return cld_fail_null(CLD_NOMEM, "sweep: out of memory");
    s->options = *options;
    if (set->one_thread) s->options.workers = 0;
    s->set = cld_dataset_retain(set);
    pthread_mutex_init(&s->lock, NULL);
    cld_condition_init(&s->work);
    cld_condition_init(&s->ready);
    s->depth = s->options.workers ? (int64_t)AHEAD * s->options.workers + 1 : 1;
    s->slots = calloc((size_t)s->depth, sizeof *s->slots);
    s->threads = calloc((size_t)s->options.workers + 1, sizeof *s->threads);
    if (!s->slots || !s->threads)
        cld_fail(CLD_NOMEM, "sweep: out of memory");
    else if (start_workers(s) == CLD_OK)
        return s;
    cld_sweep_free(s);
    return NULL;
}

/* Waits until the consumer's next item is there. */
static cld_status await(cld_sweep *s, slot *next) {
    cld_status status = CLD_OK;
    pthread_mutex_lock(&s->lock);
    while (!next->done && !s->failed && !cld_is_signalled()) cld_wait_for(&s->ready, &s->lock, LOOK_SECONDS);
    if (!next->done && s->failed)
        status = cld_error_import(&s->error);
    else if (!next->done)
        status = cld_fail(CLD_INTERRUPTED, "sweep: interrupted while it waited");
    pthread_mutex_unlock(&s->lock);
    return status;
}

/* Frees the slot of the item returned last. */
static void give_back(cld_sweep *s) {
    if (s->next_out == 0) return;
    slot *last = &s->slots[(s->next_out - 1) % s->depth];
    if (last->item.row == s->next_out - 1) free_item(&last->item);
}

cld_status cld_sweep_next(cld_sweep *s, cld_sweep_item *out) {
    *out = (cld_sweep_item){.row = -1};
    give_back(s);
    if (s->next_out >= s->set->count) return CLD_OK;
    slot *next = &s->slots[s->next_out % s->depth];
    if (s->started == 0) {
        if (cld_is_signalled()) return cld_fail(CLD_INTERRUPTED, "sweep: interrupted");
        CLD_TRY(make_item(&next->item, s, s->next_out, &s->own));
    } else {
        CLD_TRY(await(s, next));
    }
    *out = next->item;
    pthread_mutex_lock(&s->lock);
    next->done = false;
    s->next_out++;
    pthread_cond_broadcast(&s->work);
    pthread_mutex_unlock(&s->lock);
    return CLD_OK;
}

void cld_sweep_free(cld_sweep *s) {
    if (!s) return;
    pthread_mutex_lock(&s->lock);
    s->stop = true;
    pthread_cond_broadcast(&s->work);
    pthread_mutex_unlock(&s->lock);
    for (int i = 0; i < s->started; i++) pthread_join(s->threads[i], NULL);
    for (int64_t i = 0; s->slots && i < s->depth; i++) free_item(&s->slots[i].item);
    pthread_cond_destroy(&s->work);
    pthread_cond_destroy(&s->ready);
    pthread_mutex_destroy(&s->lock);
    cld_dataset_free(s->set);
    free_worker(&s->own);
    free(s->threads);
    free(s->slots);
    free(s);
}
