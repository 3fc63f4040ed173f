#include "runtime/tensor/kept.h"

#include <pthread.h>
#include <stdlib.h>

/* Guards the list and the `kept` of its tensors: several threads may use a network. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static cld_tensor *list; /* the weights that keep a copy */
static uint64_t now = 1; /* counts the calls of cld_kept_take_stale */

/* The uses of the running capture; NULL if there is none. */
static cld_kept_uses *uses;
static const cld_backend *capturing; /* its device */

static bool is_of(const cld_tensor *weight, uint64_t epoch) {
    const cld_kept_copy *k = &weight->kept;
    return k->version == atomic_load(&weight->storage->version) && k->epoch == epoch;
}

static bool is_current(const cld_tensor *weight) { return is_of(weight, cld_capture_epoch()); }

/* Has 16 bits, and differs from the weight only in dtype and layout. */
static bool is_half(const cld_kept_copy *k) {
    return k->tensor && cld_dtype_is_half(k->tensor->a.dtype) && k->rounded == k->tensor->a.dtype;
}

/* A copy from before the capture can serve the recorded work too, if the graph makes sure that it is valid at each
 * replay. */
static bool is_adoptable(const cld_tensor *weight) {
    return uses && cld_device(weight) == capturing && is_half(&weight->kept) &&
           is_of(weight, cld_capture_epoch() - 1);
}

static bool adopt(cld_tensor *weight) {
    cld_kept_copy *k = &weight->kept;
    if (!is_adoptable(weight)) return false;
    if (uses->count == uses->room) {
        int room = uses->room ? 2 * uses->room : 64;
        cld_kept_used *grown = realloc(uses->of, (size_t)room * sizeof *grown);
        if (!grown) return false; /* then the work makes its own copy */
        uses->of = grown;
        uses->room = room;
    }
    uses->of[uses->count++] =
        (cld_kept_used){cld_tensor_retain(weight), cld_tensor_retain(k->tensor), k->rounded, false};
    k->epoch = cld_capture_epoch();
    return true;
}

static void unlink_weight(cld_tensor *weight) {
    cld_kept_copy *k = &weight->kept;
    *k->previous = k->next;
    if (k->next) k->next->kept.previous = k->previous;
}

static void link_weight(cld_tensor *weight) {
    cld_kept_copy *k = &weight->kept;
    k->next = list;
    k->previous = &list;
    if (list) list->kept.previous = &k->next;
    list = weight;
}

/* Removes it from the list; the copy now belongs to the caller. */
static cld_tensor *let_go(cld_tensor *weight) {
    cld_tensor *copy = weight->kept.tensor;
    if (copy) unlink_weight(weight);
    weight->kept = (cld_kept_copy){0};
    return copy;
}

cld_tensor *cld_kept_take(cld_tensor *weight, cld_dtype rounded, cld_dtype dtype, cld_layout layout) {
    cld_kept_copy *k = &weight->kept;
    pthread_mutex_lock(&lock);
    bool fits =
        k->tensor && k->rounded == rounded && k->tensor->a.dtype == dtype && k->tensor->a.layout == layout;
    if (fits) {
        k->used = now;
        k->taken = true;
    }
    bool good = fits && (is_current(weight) || adopt(weight));
    cld_tensor *copy = good ? cld_tensor_retain(k->tensor) : NULL;
    pthread_mutex_unlock(&lock);
    return copy;
}

void cld_kept_set(cld_tensor *weight, cld_tensor *copy, cld_dtype rounded, unsigned version) {
    pthread_mutex_lock(&lock);
    cld_tensor *before = let_go(weight);
    if (copy) {
        weight->kept = (cld_kept_copy){.tensor = copy,
                                       .rounded = rounded,
                                       .version = version,
                                       .epoch = cld_capture_epoch(),
                                       .used = now,
                                       .taken = true};
        link_weight(weight);
    }
    pthread_mutex_unlock(&lock);
    cld_tensor_free(before);
}

void cld_kept_drop(cld_tensor *weight) {
    if (weight->kept.tensor) cld_kept_set(weight, NULL, CLD_F32, 0);
}

/* ---- a step that writes the copy along with the weight ---- */

cld_tensor *cld_kept_writable(cld_tensor *weight) {
    const cld_kept_copy *k = &weight->kept;
    pthread_mutex_lock(&lock);
    bool good = is_half(k) && k->taken && is_current(weight);
    cld_tensor *copy = good ? cld_tensor_retain(k->tensor) : NULL;
    pthread_mutex_unlock(&lock);
    return copy;
}

void cld_kept_written(cld_tensor *weight, cld_tensor *copy) {
    cld_kept_copy *k = &weight->kept;
    atomic_fetch_add(&copy->storage->version, 1);
    pthread_mutex_lock(&lock);
    if (k->tensor == copy) {
        k->version = atomic_load(&weight->storage->version);
        k->taken = false;
    }
    pthread_mutex_unlock(&lock);
}

/* ---- captured graphs ---- */

void cld_kept_begin_capture(const cld_backend *device, cld_kept_uses *of) {
    pthread_mutex_lock(&lock);
    capturing = device;
    uses = of;
    pthread_mutex_unlock(&lock);
}

void cld_kept_end_capture(void) {
    pthread_mutex_lock(&lock);
    for (int i = 0; uses && i < uses->count; i++) {
        cld_kept_used *u = &uses->of[i];
        u->renewed = u->weight->kept.tensor == u->copy && is_of(u->weight, cld_capture_epoch() - 1);
    }
    uses = NULL;
    pthread_mutex_unlock(&lock);
}

static bool is_good(const cld_kept_used *u) {
    pthread_mutex_lock(&lock);
    bool good = u->weight->kept.tensor == u->copy && is_current(u->weight);
    pthread_mutex_unlock(&lock);
    return good;
}

cld_status cld_kept_before_replay(const cld_backend *device, cld_kept_uses *of) {
    cld_array *arrays = NULL;
    int count = 0;
    cld_status status = CLD_OK;
    for (int i = 0; i < of->count; i++) {
        const cld_kept_used *u = &of->of[i];
        if (is_good(u)) continue;
        if (!arrays) arrays = calloc(2 * (size_t)of->count, sizeof *arrays);
        if (!arrays) return cld_fail(CLD_NOMEM, "graph: out of memory");
        arrays[count] = u->copy->a;
        arrays[of->count + count++] = u->weight->a;
        atomic_fetch_add(&u->copy->storage->version, 1);
    }
    if (count) status = cld_copy_many(device, count, arrays, arrays + of->count);
    free(arrays);
    return status;
}

void cld_kept_after_replay(cld_kept_uses *of) {
    for (int i = 0; i < of->count; i++) {
        const cld_kept_used *u = &of->of[i];
        if (u->renewed)
            cld_kept_set(u->weight, cld_tensor_retain(u->copy), u->rounded,
                         atomic_load(&u->weight->storage->version));
    }
}

void cld_kept_drop_uses(cld_kept_uses *of) {
    for (int i = 0; i < of->count; i++) {
        cld_tensor_free(of->of[i].weight);
        cld_tensor_free(of->of[i].copy);
    }
    free(of->of);
    *of = (cld_kept_uses){0};
}

/* ---- renewal ---- */

/* Retains it, unless it is about to be freed: then false. */
static bool retain_alive(cld_tensor *weight) {
    int refs = atomic_load(&weight->refs);
    while (refs > 0)
        if (atomic_compare_exchange_weak(&weight->refs, &refs, refs + 1)) return true;
    return false;
}

int cld_kept_take_stale(const cld_backend *device, cld_kept_stale *out, int room) {
    int count = 0;
    cld_tensor *before = NULL; /* the copies, linked through their own `kept.next` */
    pthread_mutex_lock(&lock);
    for (cld_tensor *weight = list, *next; weight && count < room; weight = next) {
        const cld_kept_copy k = weight->kept;
        next = k.next;
        if (k.used != now || cld_device(weight) != device || is_current(weight) || is_adoptable(weight) ||
            !retain_alive(weight))
            continue;
        out[count++] = (cld_kept_stale){weight, k.rounded, k.tensor->a.dtype, k.tensor->a.layout};
        cld_tensor *copy = let_go(weight);
        copy->kept.next = before;
        before = copy;
    }
    now++;
    pthread_mutex_unlock(&lock);
    for (cld_tensor *next; before; before = next) {
        next = before->kept.next;
        before->kept.next = NULL;
        cld_tensor_free(before);
    }
    return count;
}
