/* The settings, the order of an epoch, the worker threads, and the consumer. */
#include "runtime/data/loader.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/core/process.h"
#include "runtime/core/workers.h"
#include "runtime/data/epoch.h"

#define HANG_SECONDS 0.5 /* how long an epoch's end waits for workers that are busy with an image */
#define LOOK_SECONDS 0.1 /* between checks for signals while the consumer waits */
#define MEMORY_CHUNK 16  /* images that a worker takes at once, if they are already in memory */
#define HELD_BYTES   ((size_t)128 << 20) /* about: held images of a set with one_thread */

/* ---- the settings -------------------------------------------------------------------------------------- */

/* Whether a last batch of `images` images is dropped. */
static bool is_dropped(const cld_loader *l, int64_t images) {
    return images < l->batch_size && (l->drop_last || (l->drop_single && images == 1));
}

static cld_status check(const cld_loader *l) {
    const cld_array *labels = &l->labels->a;
    int64_t count = l->set->count;
    if (labels->dtype != CLD_I64 || labels->ndim != 1 || labels->shape[0] != count ||
        !cld_is_contiguous(labels) || cld_device(l->labels) != cld_cpu_backend())
        return cld_fail(CLD_INVALID,
                        "loader: labels must be i64[%lld] on the cpu, one per image; got %s on %s",
                        (long long)count, cld_describe(labels), cld_device(l->labels)->name);
    if (count < 1 || count > UINT32_MAX)
        return cld_fail(CLD_INVALID, "loader: the data set has %lld images", (long long)count);
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
    if (l->batch_size < 1)
        return cld_fail(CLD_INVALID, "loader: batch_size must be at least 1, got %lld",
                        (long long)l->batch_size);
    if (l->block < 0)
        return cld_fail(CLD_INVALID, "loader: block must be at least 0, got %lld", (long long)l->block);
    if (is_dropped(l, count))
        return cld_fail(CLD_INVALID,
                        "loader: batch_size %lld is more than the %lld images of the data set, and %s "
                        "leaves nothing",
                        (long long)l->batch_size, (long long)count,
                        l->drop_last ? "drop_last" : "drop_single");
    for (int v = 0; v < l->views; v++) {
        int height, width;
        CLD_TRY(cld_program_size(l->program[v], l->set->height, l->set->width, &height, &width));
    }
    return CLD_OK;
}

cld_status cld_loader_rest(cld_epoch_rest *out, const cld_loader *l, int64_t first_image) {
    CLD_TRY(check(l));
    int64_t n = l->set->count;
    if (first_image < 0 || first_image > n)
        return cld_fail(CLD_INVALID, "loader: an epoch has %lld images; cannot start after %lld",
                        (long long)n, (long long)first_image);
    int64_t left = n - first_image, last = left % l->batch_size;
    bool is_kept = last > 0 && !is_dropped(l, last);
    out->steps = left / l->batch_size + is_kept;
    out->images = is_kept ? left : left - last;
    return CLD_OK;
}

cld_status cld_loader_resident(cld_tensor **out, const cld_dataset *set, const cld_backend *device) {
    *out = NULL;
    if (!set->tensor || !cld_slot(device, image, views)) return CLD_OK;
    const cld_array *images = &set->tensor->a;
    cld_memory_info info = device->memory->info();
    size_t bytes = (size_t)cld_numel(images) * cld_dtype_size(images->dtype);
    size_t left = info.limit > info.in_use ? info.limit - info.in_use : 0;
    if (bytes > left / 2) return CLD_OK;
    *out = cld_tensor_to(set->tensor, device);
    return *out ? CLD_OK : cld_fail_in("loader");
}

/* ---- the order of an epoch ----------------------------------------------------------------------------- */

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

/* ---- workers ------------------------------------------------------------------------------------------- */

/* Takes the next images of a prepared step, and returns how many; 0: there are none. With the lock held. */
static int64_t take(cld_epoch *e, int64_t *step, int64_t *first) {
    int64_t count = 0;
    while (count == 0 && e->task_step < e->prepared) {
        const cld_slot *s = &e->slots[e->task_step % e->depth];
        int64_t left = (s->held ? s->held_count : s->count) - e->task_image;
        int64_t most = e->loader.set->tensor ? MEMORY_CHUNK : 1;
        if (left == 0 && s->count > 0) break; /* those still have to be read */
        count = left < most ? left : most;
        *step = e->task_step;
        *first = e->task_image;
        e->task_image += count;
        if (e->task_image == s->count) {
            e->task_step++;
            e->task_image = 0;
        }
    }
    return count;
}

/* For an image that has been made. With the lock held. */
static void let_go(cld_epoch *e, cld_held_image *h) {
    free(h->data);
    h->data = NULL;
    e->held_bytes -= cld__held_bytes(h);
}

static void *work(void *argument) {
    cld_epoch *e = argument;
    cld_image_worker worker = {0};
    pthread_mutex_lock(&e->lock);
    for (;;) {
        int64_t step = 0, first = 0, count = 0;
        while (!e->stop && !e->failed && (count = take(e, &step, &first)) == 0 &&
               e->task_step < e->rest.steps)
            pthread_cond_wait(&e->work, &e->lock);
        if (count == 0) break;
        cld_slot *s = &e->slots[step % e->depth];
        pthread_mutex_unlock(&e->lock);
        cld_status status = CLD_OK;
        for (int64_t i = first; i < first + count && status == CLD_OK; i++)
            status = cld__make_image(e, s, step, i, &worker);
        pthread_mutex_lock(&e->lock);
        if (status == CLD_OK) {
            cld__slot_merge_bounds(s, &worker);
            s->done += count;
            for (int64_t i = first; s->held && i < first + count; i++) let_go(e, &s->held[i]);
        } else if (!e->failed) {
            e->failed = true;
            e->error = cld_error_export();
        }
        if (s->done == s->count || s->held || e->failed) pthread_cond_broadcast(&e->ready);
    }
    e->threads_running--;
    pthread_cond_broadcast(&e->work);
    pthread_cond_broadcast(&e->ready);
    pthread_mutex_unlock(&e->lock);
    cld__image_worker_free(&worker);
    return NULL;
}

static cld_status start_workers(cld_epoch *e) {
    int wanted = e->loader.workers, refused = 0;
    while (e->threads_started < wanted && !refused) {
        pthread_mutex_lock(&e->lock);
        e->threads_running++;
        pthread_mutex_unlock(&e->lock);
        refused = cld_start_worker(&e->threads[e->threads_started], work, e);
        if (!refused) e->threads_started++;
    }
    if (!refused) return CLD_OK;
    pthread_mutex_lock(&e->lock);
    e->threads_running--;
    pthread_mutex_unlock(&e->lock);
    return cld_fail(CLD_NOMEM,
                    "loader: the system refuses worker thread %d of %d: %s; workers = %d does without it",
                    e->threads_started + 1, wanted, strerror(refused), e->threads_started);
}

/* Allocates tensors for every step that has a slot by now. */
static cld_status allocate_slots(cld_epoch *e) {
    bool holds = e->loader.set->one_thread && e->making != CLD_MADE_ON_DEVICE;
    while (e->prepared < e->rest.steps && e->prepared < e->next_out + e->depth) {
        cld_slot *s = &e->slots[e->prepared % e->depth];
        if (!s->batch.index) CLD_TRY(cld__slot_allocate(s, e, e->prepared));
        if (holds && !s->held) s->held = calloc((size_t)s->count + 1, sizeof *s->held);
        if (holds && !s->held) return cld_fail(CLD_NOMEM, "loader: out of memory");
        pthread_mutex_lock(&e->lock);
        e->prepared++;
        pthread_cond_broadcast(&e->work);
        pthread_mutex_unlock(&e->lock);
    }
    return CLD_OK;
}

/* ---- waiting ------------------------------------------------------------------------------------------- */

static cld_status signalled(void) { return cld_fail(CLD_INTERRUPTED, "loader: interrupted while it waited"); }

/* Reads one more image of a set that only this thread may open. A second call continues where the first stopped. */
static cld_status hold_next(cld_epoch *e, cld_slot *s, int64_t step) {
    CLD_TRY(cld__hold_image(e, s, step, s->held_count));
    pthread_mutex_lock(&e->lock);
    e->held_bytes += cld__held_bytes(&s->held[s->held_count]);
    s->held_count++;
    pthread_cond_broadcast(&e->work);
    pthread_mutex_unlock(&e->lock);
    return CLD_OK;
}

/* Whether another image may be held. `waits`: waits until it may, or until there is something else to do. */
static bool is_room_to_hold(cld_epoch *e, bool waits) {
    pthread_mutex_lock(&e->lock);
    while (waits && e->held_bytes > HELD_BYTES && !e->failed && !cld_is_signalled())
        cld_wait_for(&e->ready, &e->lock, LOOK_SECONDS);
    bool room = e->held_bytes <= HELD_BYTES;
    pthread_mutex_unlock(&e->lock);
    return room;
}

/* For the workers: reads the images of the consumer's next batch, and of later ones as long as not too many wait. */
static cld_status hold_images(cld_epoch *e) {
    for (int64_t step = e->next_out; step < e->prepared; step++) {
        cld_slot *s = &e->slots[step % e->depth];
        while (s->held_count < s->count) {
            if (!is_room_to_hold(e, step == e->next_out)) return cld_is_signalled() ? signalled() : CLD_OK;
            CLD_TRY(hold_next(e, s, step));
            if (cld_is_signalled()) return signalled();
        }
    }
    return CLD_OK;
}

/* Waits until the workers have made the consumer's next batch. */
static cld_status await_batch(cld_epoch *e, cld_slot *s) {
    cld_status status = CLD_OK;
    pthread_mutex_lock(&e->lock);
    while (s->done < s->count && !e->failed && status == CLD_OK) {
        cld_wait_for(&e->ready, &e->lock, LOOK_SECONDS);
        if (s->done < s->count && cld_is_signalled()) status = signalled();
    }
    bool failed = s->done < s->count && e->failed;
    pthread_mutex_unlock(&e->lock);
    return failed ? cld_error_import(&e->error) : status;
}

/* The same without workers. */
static cld_status make_batch(cld_epoch *e, cld_slot *s) {
    for (; s->done < s->count; s->done++) {
        if (s->held && s->held_count == s->done) CLD_TRY(hold_next(e, s, e->next_out));
        CLD_TRY(cld__make_image(e, s, e->next_out, s->done, &e->worker));
        if (s->held) let_go(e, &s->held[s->done]);
        cld__slot_merge_bounds(s, &e->worker);
        if (s->done + 1 < s->count && cld_is_signalled()) {
            s->done++;
            return signalled();
        }
    }
    return CLD_OK;
}

/* If memory is short, steps without tensors wait for the next call; it is an error only if this call's own step has
 * none. The same holds for images that are held for the workers. */
static cld_status await_next(cld_epoch *e) {
    cld_status status = allocate_slots(e);
    if (e->prepared <= e->next_out) return status;
    cld_slot *s = &e->slots[e->next_out % e->depth];
    if (!e->threads_started) return make_batch(e, s);
    status = s->held ? hold_images(e) : CLD_OK;
    if (s->held && s->held_count < s->count && status != CLD_OK) return status;
    return await_batch(e, s);
}

/* ---- the epoch ----------------------------------------------------------------------------------------- */

static void destroy(cld_epoch *e) {
    for (int i = 0; e->slots && i < e->depth; i++) cld__slot_free(&e->slots[i]);
    pthread_cond_destroy(&e->work);
    pthread_cond_destroy(&e->ready);
    pthread_mutex_destroy(&e->lock);
    cld_dataset_free(e->loader.set);
    cld_tensor_free(e->loader.labels);
    cld_tensor_free(e->loader.resident);
    cld_bad_images_free(e->loader.bad);
    cld__image_worker_free(&e->worker);
    free(e->program);
    free(e->threads);
    free(e->slots);
    free(e->order);
    free(e);
}

/* Epochs whose workers hung when they ended; they are destroyed when the workers have ended. Consumer's thread only. */
static cld_epoch *abandoned;

static void reap(void) {
    for (cld_epoch **at = &abandoned; *at;) {
        cld_epoch *e = *at;
        pthread_mutex_lock(&e->lock);
        bool gone = e->threads_running == 0;
        pthread_mutex_unlock(&e->lock);
        if (!gone) {
            at = &e->next_abandoned;
            continue;
        }
        *at = e->next_abandoned;
        destroy(e);
    }
}

static cld_making making_of(const cld_loader *l) {
    if (l->device == cld_cpu_backend() || !cld_slot(l->device, image, views)) return CLD_MADE_ON_HOST;
    return l->resident ? CLD_MADE_ON_DEVICE : CLD_MADE_FROM_CUT;
}

static cld_status copy_programs(cld_epoch *e) {
    const cld_loader *l = &e->loader;
    e->program = malloc((size_t)l->views * sizeof *e->program);
    if (!e->program) return cld_fail(CLD_NOMEM, "loader: out of memory");
    for (int v = 0; v < l->views; v++) {
        e->program[v] = *l->program[v];
        CLD_TRY(cld_program_size(&e->program[v], l->set->height, l->set->width, &e->height[v], &e->width[v]));
    }
    return CLD_OK;
}

cld_epoch *cld_epoch_new(const cld_loader *l, int64_t epoch, int64_t first_image) {
    reap();
    cld_epoch_rest rest;
    CLD_TRY_NULL(cld_loader_rest(&rest, l, first_image));
    if (epoch < 0 || epoch >= 1 << 22)
        return cld_fail_null(CLD_INVALID, "loader: epoch must be 0 to %d, got %lld", (1 << 22) - 1,
                             (long long)epoch);
    cld_epoch *e = calloc(1, sizeof *e);
    if (!e) return cld_fail_null(CLD_NOMEM, "loader: out of memory");
    uint32_t n = (uint32_t)l->set->count;
    e->loader = *l;
    cld_dataset_retain(l->set);
    cld_tensor_retain(l->labels);
    cld_bad_images_retain(l->bad);
    if (l->resident) cld_tensor_retain(l->resident);
    pthread_mutex_init(&e->lock, NULL);
    cld_condition_init(&e->work);
    cld_condition_init(&e->ready);
    e->making = making_of(l);
    e->epoch = epoch;
    e->first_image = first_image;
    e->rest = rest;
    e->depth = l->workers ? l->prefetch : 1;
    e->slots = calloc((size_t)e->depth, sizeof *e->slots);
    e->threads = calloc((size_t)l->workers + 1, sizeof *e->threads);
    e->order = l->shuffle ? malloc(n * sizeof *e->order) : NULL;
    if (!e->slots || !e->threads || (l->shuffle && !e->order)) {
        cld_fail(CLD_NOMEM, "loader: out of memory for an epoch over %u images", n);
        goto fail;
    }
    if (copy_programs(e) != CLD_OK) goto fail;
    if (e->order) shuffle(e->order, n, l->seed, epoch);
    if (!l->set->one_thread && allocate_slots(e) != CLD_OK && e->prepared == 0) goto fail;
    if (start_workers(e) != CLD_OK) goto fail;
    return e;
fail:
    cld_epoch_free(e);
    return NULL;
}

int cld_epoch_views(const cld_epoch *e) { return e->loader.views; }
double cld_epoch_waited(const cld_epoch *e) { return e->waited; }

cld_status cld_epoch_next(cld_epoch *e, cld_batch *out, bool *done) {
    *done = e->next_out >= e->rest.steps;
    if (*done) return CLD_OK;
    if (cld_capturing())
        return cld_fail(CLD_INVALID, "loader: batches are chosen on the host, which a captured graph cannot "
                                     "repeat; make them arguments of the step");
    double start = cld_clock();
    cld_status status = await_next(e);
    e->waited += cld_clock() - start;
    CLD_TRY(status);
    cld_slot *s = &e->slots[e->next_out % e->depth];
    CLD_TRY(cld__slot_to_device(s, e));
    *out = s->batch;
    s->batch = (cld_batch){0};
    cld__slot_free(s);
    e->next_out++;
    allocate_slots(e);
    return CLD_OK;
}

void cld_epoch_free(cld_epoch *e) {
    reap();
    if (!e) return;
    double until = cld_clock() + HANG_SECONDS;
    pthread_mutex_lock(&e->lock);
    e->stop = true;
    pthread_cond_broadcast(&e->work);
    while (e->threads_running > 0 && cld_clock() < until) cld_wait_for(&e->ready, &e->lock, HANG_SECONDS / 4);
    bool hangs = e->threads_running > 0;
    pthread_mutex_unlock(&e->lock);
    for (int i = 0; i < e->threads_started; i++)
        if (hangs)
            pthread_detach(e->threads[i]);
        else
            pthread_join(e->threads[i], NULL);
    if (!hangs) {
        destroy(e);
        return;
    }
    e->next_abandoned = abandoned;
    abandoned = e;
}
