/* Shuffling, slicing into ranks and batches, and the worker threads. */
#include "runtime/data/loader.h"

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

typedef struct slot {
    cld_batch batch;
    bool full; /* written, for the consumer to take; stays so where that fails for want of memory */
} slot;

struct cld_epoch {
    cld_loader loader; /* images and labels retained */
    cld_view_settings view;
    int64_t epoch, first_image; /* where it starts in the order; steps count from there */
    cld_epoch_rest rest;
    uint32_t *order; /* (N) the permutation; NULL where not shuffled */
    slot *slots;     /* (depth) step s lives in slot s % depth */
    int depth;
    int64_t next_out, next_task; /* steps: the consumer's next, the workers' next */
    int64_t prepared;            /* steps below this have their tensors */
    cld_error_record error;
    bool failed, stop;
    pthread_mutex_t lock;
    pthread_cond_t work, ready; /* something to take; something full, or failed */
    pthread_t *threads;
    int threads_running;
    cld_augment_scratch scratch; /* the consumer's, where there are no workers */
};

/* ---- what is in a batch -------------------------------------------------------------------------------- */

/* A last batch, of so many images, that is left out. */
static bool is_dropped(const cld_loader *l, int64_t images) {
    return images < l->batch_size && (l->drop_last || (l->drop_single && images == 1));
}

static cld_status check(const cld_loader *l) {
    const cld_array *images = &l->images->a, *labels = &l->labels->a;
    const cld_backend *cpu = cld_cpu_backend(), *where = cld_device(l->images);
    if (cld_device(l->labels) != cpu || (where != cpu && where != l->device))
        return cld_fail(CLD_INVALID,
                        "loader: images and labels must lie on the cpu; here images are on %s, labels on %s",
                        where->name, cld_device(l->labels)->name);
    if (images->dtype != CLD_U8 || images->ndim != 4 || images->shape[3] != 3 || !cld_is_contiguous(images))
        return cld_fail(CLD_INVALID, "loader: images must be u8[n, height, width, 3], contiguous; got %s",
                        cld_describe(images));
    if (labels->dtype != CLD_I64 || labels->ndim != 1 || labels->shape[0] != images->shape[0] ||
        !cld_is_contiguous(labels))
        return cld_fail(CLD_INVALID, "loader: labels must be i64[%lld], one per image; got %s",
                        (long long)images->shape[0], cld_describe(labels));
    if (images->shape[0] < 1 || images->shape[0] > UINT32_MAX)
        return cld_fail(CLD_INVALID, "loader: the data set has %lld images", (long long)images->shape[0]);
    if (images->shape[1] < 1 || images->shape[2] < 1 || images->shape[1] > 65535 || images->shape[2] > 65535)
        return cld_fail(CLD_INVALID, "loader: images must be 1 to 65535 pixels wide and high; got %s",
                        cld_describe(images));
    if (l->views < 1 || l->views > CLD_MAX_VIEWS)
        return cld_fail(CLD_INVALID, "loader: views must be 1 to %d, got %d", CLD_MAX_VIEWS, l->views);
    if (l->dtype != CLD_F32 && !cld_dtype_is_half(l->dtype))
        return cld_fail(CLD_INVALID, "loader: views are f32, bf16 or f16, not %s", cld_dtype_name(l->dtype));
    if (l->workers < 0 || l->workers > 256)
        return cld_fail(CLD_INVALID, "loader: workers must be 0 to 256, got %d", l->workers);
    if (l->prefetch < 1 || l->prefetch > 1024)
        return cld_fail(CLD_INVALID, "loader: prefetch must be 1 to 1024 batches, got %d", l->prefetch);
    if (l->world < 1 || l->rank < 0 || l->rank >= l->world)
        return cld_fail(CLD_INVALID, "loader: rank must be 0 to world - 1, got rank %d of world %d", l->rank,
                        l->world);
    if (l->batch_size < 1 || l->batch_size % l->world != 0)
        return cld_fail(CLD_INVALID,
                        "loader: batch_size must be a positive multiple of the %d ranks, got %lld", l->world,
                        (long long)l->batch_size);
    if (is_dropped(l, images->shape[0]))
        return cld_fail(CLD_INVALID,
                        "loader: batch_size %lld is more than the %lld images of the data set, and %s "
                        "leaves nothing",
                        (long long)l->batch_size, (long long)images->shape[0],
                        l->drop_last ? "drop_last" : "drop_single");
    return cld_augment_check(&l->augment);
}

cld_status cld_loader_rest(cld_epoch_rest *out, const cld_loader *l, int64_t first_image) {
    CLD_TRY(check(l));
    int64_t n = l->images->a.shape[0];
    if (first_image < 0 || first_image > n)
        return cld_fail(CLD_INVALID, "loader: an epoch has %lld images; cannot start after %lld",
                        (long long)n, (long long)first_image);
    int64_t left = n - first_image, last = left % l->batch_size;
    bool is_kept = last > 0 && !is_dropped(l, last);
    out->steps = left / l->batch_size + is_kept;
    out->images = is_kept ? left : left - last;
    return CLD_OK;
}

/* This rank's part of the step's batch: positions [*begin, *begin + return) of the permutation. */
static int64_t part_of_step(const cld_epoch *e, int64_t step, int64_t *begin) {
    const cld_loader *l = &e->loader;
    int64_t left = e->rest.images - step * l->batch_size;
    int64_t batch = left < l->batch_size ? left : l->batch_size;
    int64_t from = batch * l->rank / l->world, to = batch * (l->rank + 1) / l->world;
    *begin = e->first_image + step * l->batch_size + from;
    return to - from;
}

/* Fisher-Yates: a pure function of (seed, epoch). */
static void shuffle(uint32_t *order, uint32_t n, uint64_t seed, int64_t epoch) {
    cld_philox rng = cld_philox_at(seed, CLD_RNG_SHUFFLE, (uint64_t)epoch, 0, 0);
    for (uint32_t i = 0; i < n; i++) order[i] = i;
    for (uint32_t i = n; i > 1; i--) {
        uint32_t j = cld_philox_below(&rng, i), swap = order[i - 1];
        order[i - 1] = order[j];
        order[j] = swap;
    }
}

void cld_batch_free(cld_batch *b) {
    for (int v = 0; v < CLD_MAX_VIEWS; v++) cld_tensor_free(b->view[v]);
    cld_tensor_free(b->index);
    cld_tensor_free(b->labels);
    *b = (cld_batch){0};
}

/* Images on a device: the views are made there. */
static bool made_on_device(const cld_loader *l) { return cld_device(l->images) != cld_cpu_backend(); }

static cld_status allocate_batch(cld_batch *b, const cld_epoch *e, int64_t step) {
    const cld_loader *l = &e->loader;
    const cld_backend *cpu = cld_cpu_backend();
    int64_t begin, shape[] = {part_of_step(e, step, &begin), 3, l->augment.height, l->augment.width};
    bool complete = true;
    b->views = l->views;
    for (int v = 0; v < l->views; v++) {
        b->view[v] = made_on_device(l) ? cld_tensor_new_activation(l->dtype, shape, l->device)
                                       : cld_tensor_new(CLD_F32, 4, shape, cpu);
        complete &= b->view[v] != NULL;
    }
    b->index = cld_tensor_new(CLD_I64, 1, shape, cpu);
    b->labels = cld_tensor_new(CLD_I64, 1, shape, cpu);
    if (complete && b->index && b->labels) return CLD_OK;
    cld_batch_free(b);
    return cld_fail_in("loader");
}

/* Where the tensor is not so, or not there, yet. */
static cld_status convert(cld_tensor **t, cld_dtype dtype, const cld_backend *device) {
    cld_tensor *moved = cld_tensor_as(*t, dtype, device);
    if (!moved) return cld_fail_in("loader");
    cld_tensor_free(*t);
    *t = moved;
    return CLD_OK;
}

/* On a second try, after one that ran out of memory, the index may be on the device already. */
static void choose_images(cld_batch *b, const cld_epoch *e, int64_t step) {
    if (cld_device(b->index) != cld_cpu_backend()) return;
    const int64_t *labels = e->loader.labels->a.data;
    int64_t *index_out = b->index->a.data, *labels_out = b->labels->a.data;
    int64_t begin, count = part_of_step(e, step, &begin);
    for (int64_t i = 0; i < count; i++) {
        index_out[i] = e->order ? e->order[begin + i] : begin + i;
        labels_out[i] = labels[index_out[i]];
    }
}

static cld_status make_views(cld_batch *b, const cld_epoch *e, cld_augment_scratch *scratch) {
    const cld_loader *l = &e->loader;
    const int64_t *index = b->index->a.data;
    int height = (int)l->images->a.shape[1], width = (int)l->images->a.shape[2];
    size_t image_bytes = 3 * (size_t)height * (size_t)width;
    size_t view_size = 3 * (size_t)l->augment.height * (size_t)l->augment.width;
    for (int64_t i = 0; i < b->index->a.shape[0]; i++) {
        const uint8_t *image = (const uint8_t *)l->images->a.data + (size_t)index[i] * image_bytes;
        for (int v = 0; v < l->views; v++) {
            cld_philox rng =
                cld_philox_at(l->seed, CLD_RNG_AUGMENT, (uint64_t)e->epoch, (uint64_t)index[i], (uint64_t)v);
            float *out = (float *)b->view[v]->a.data + (size_t)i * view_size;
            CLD_TRY(cld_augment_view(out, image, height, width, &e->view, rng, scratch));
        }
    }
    return CLD_OK;
}

static cld_status make_views_on_device(cld_batch *b, const cld_epoch *e) {
    const cld_loader *l = &e->loader;
    CLD_TRY(convert(&b->index, CLD_I64, l->device));
    for (int v = 0; v < l->views; v++)
        CLD_TRY(cld_kernel(l->device, image, augment, &b->view[v]->a, &l->images->a, &b->index->a,
                           &l->augment,
                           &(cld_augment_draw){.seed = l->seed, .epoch = (uint64_t)e->epoch, .view = v}));
    return CLD_OK;
}

static cld_status fill_batch(cld_batch *b, const cld_epoch *e, int64_t step, cld_augment_scratch *scratch) {
    choose_images(b, e, step);
    return made_on_device(&e->loader) ? make_views_on_device(b, e) : make_views(b, e, scratch);
}

/* What the host made, in f32. By the consumer's thread, as every allocation. */
static cld_status bring_to_device(cld_batch *b, const cld_loader *l) {
    for (int v = 0; v < b->views; v++) CLD_TRY(convert(&b->view[v], l->dtype, l->device));
    CLD_TRY(convert(&b->index, CLD_I64, l->device));
    return convert(&b->labels, CLD_I64, l->device);
}

cld_status cld_loader_resident(cld_tensor **out, const cld_tensor *images, const cld_backend *device) {
    *out = NULL;
    if (!cld_slot(device, image, augment)) return CLD_OK;
    cld_memory_info info = device->memory->info();
    size_t bytes = (size_t)cld_numel(&images->a) * cld_dtype_size(images->a.dtype);
    size_t left = info.limit > info.in_use ? info.limit - info.in_use : 0;
    if (bytes > left / 2) return CLD_OK;
    *out = cld_tensor_to(images, device);
    return *out ? CLD_OK : cld_fail_in("loader");
}

/* ---- workers ------------------------------------------------------------------------------------------- */

static void *work(void *argument) {
    cld_epoch *e = argument;
    cld_augment_scratch scratch = {0};
    pthread_mutex_lock(&e->lock);
    for (;;) {
        while (!e->stop && !e->failed && e->next_task < e->rest.steps && e->next_task >= e->prepared)
            pthread_cond_wait(&e->work, &e->lock);
        if (e->stop || e->failed || e->next_task >= e->rest.steps) break;
        int64_t step = e->next_task++;
        slot *s = &e->slots[step % e->depth];
        pthread_mutex_unlock(&e->lock);
        cld_status status = fill_batch(&s->batch, e, step, &scratch);
        pthread_mutex_lock(&e->lock);
        s->full = true;
        if (status != CLD_OK && !e->failed) {
            e->failed = true;
            e->error = cld_error_export();
        }
        pthread_cond_broadcast(&e->ready);
    }
    pthread_cond_broadcast(&e->work);
    pthread_mutex_unlock(&e->lock);
    cld_augment_scratch_free(&scratch);
    return NULL;
}

/* Signals stay with the threads that were there before. */
static cld_status start_workers(cld_epoch *e) {
    int wanted = e->loader.workers, refused = 0;
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    while (e->threads_running < wanted && !refused) {
        refused = pthread_create(&e->threads[e->threads_running], NULL, work, e);
        if (!refused) e->threads_running++;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (!refused) return CLD_OK;
    return cld_fail(CLD_NOMEM,
                    "loader: the system refuses worker thread %d of %d: %s; workers = %d does without it",
                    e->threads_running + 1, wanted, strerror(refused), e->threads_running);
}

/* Tensors for every step that has a slot by now. Called with the lock free. Where memory is short the steps without
 * wait for the next call, and only that of the consumer's next one is its error. */
static cld_status prepare_slots(cld_epoch *e) {
    while (e->prepared < e->rest.steps && e->prepared < e->next_out + e->depth) {
        CLD_TRY(allocate_batch(&e->slots[e->prepared % e->depth].batch, e, e->prepared));
        pthread_mutex_lock(&e->lock);
        e->slots[e->prepared++ % e->depth].full = false;
        pthread_cond_signal(&e->work);
        pthread_mutex_unlock(&e->lock);
    }
    return CLD_OK;
}

/* ---- the epoch ----------------------------------------------------------------------------------------- */

cld_epoch *cld_epoch_new(const cld_loader *l, int64_t epoch, int64_t first_image) {
    cld_epoch_rest rest;
    CLD_TRY_NULL(cld_loader_rest(&rest, l, first_image));
    if (epoch < 0 || epoch >= 1 << 22)
        return cld_fail_null(CLD_INVALID, "loader: epoch must be 0 to %d, got %lld", (1 << 22) - 1,
                             (long long)epoch);
    cld_epoch *e = calloc(1, sizeof *e);
    if (!e) return cld_fail_null(CLD_NOMEM, "loader: out of memory");
    uint32_t n = (uint32_t)l->images->a.shape[0];
    e->loader = *l;
    e->view = cld_view_settings_of(&l->augment);
    if (made_on_device(l)) e->loader.workers = 0;
    cld_tensor_retain(l->images);
    cld_tensor_retain(l->labels);
    pthread_mutex_init(&e->lock, NULL);
    pthread_cond_init(&e->work, NULL);
    pthread_cond_init(&e->ready, NULL);
    e->epoch = epoch;
    e->first_image = first_image;
    e->rest = rest;
    e->depth = e->loader.workers ? l->prefetch : 1;
    e->slots = calloc((size_t)e->depth, sizeof *e->slots);
    e->threads = calloc((size_t)e->loader.workers + 1, sizeof *e->threads);
    e->order = l->shuffle ? malloc(n * sizeof *e->order) : NULL;
    if (!e->slots || !e->threads || (l->shuffle && !e->order)) {
        cld_fail(CLD_NOMEM, "loader: out of memory for an epoch over %u images", n);
        goto fail;
    }
    if (e->order) shuffle(e->order, n, l->seed, epoch);
    if (prepare_slots(e) != CLD_OK) goto fail;
    if (start_workers(e) != CLD_OK) goto fail;
    return e;
fail:
    cld_epoch_free(e);
    return NULL;
}

int cld_epoch_views(const cld_epoch *e) { return e->loader.views; }

cld_status cld_epoch_next(cld_epoch *e, cld_batch *out, bool *done) {
    *done = e->next_out >= e->rest.steps;
    if (*done) return CLD_OK;
    if (cld_capturing())
        return cld_fail(CLD_INVALID, "loader: batches are chosen on the host, which a captured graph cannot "
                                     "repeat; make them arguments of the step");
    cld_status status = prepare_slots(e);
    if (e->prepared <= e->next_out) return status;
    slot *s = &e->slots[e->next_out % e->depth];
    if (!e->threads_running) {
        if (!s->full) CLD_TRY(fill_batch(&s->batch, e, e->next_out, &e->scratch));
        s->full = true;
    } else {
        pthread_mutex_lock(&e->lock);
        while (!s->full && !e->failed) pthread_cond_wait(&e->ready, &e->lock);
        bool failed = e->failed;
        pthread_mutex_unlock(&e->lock);
        if (failed) return cld_error_import(&e->error);
    }
    CLD_TRY(bring_to_device(&s->batch, &e->loader));
    *out = s->batch;
    s->batch = (cld_batch){0};
    e->next_out++;
    prepare_slots(e);
    return CLD_OK;
}

void cld_epoch_free(cld_epoch *e) {
    if (!e) return;
    pthread_mutex_lock(&e->lock);
    e->stop = true;
    pthread_cond_broadcast(&e->work);
    pthread_mutex_unlock(&e->lock);
    for (int i = 0; i < e->threads_running; i++) pthread_join(e->threads[i], NULL);
    for (int i = 0; e->slots && i < e->depth; i++) cld_batch_free(&e->slots[i].batch);
    pthread_cond_destroy(&e->ready);
    pthread_cond_destroy(&e->work);
    pthread_mutex_destroy(&e->lock);
    cld_tensor_free(e->loader.images);
    cld_tensor_free(e->loader.labels);
    cld_augment_scratch_free(&e->scratch);
    free(e->threads);
    free(e->slots);
    free(e->order);
    free(e);
}
