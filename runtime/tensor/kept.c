#include "runtime/tensor/kept.h"

#include <pthread.h>

/* Guards the list, and what is in its tensors' `kept`: a network may serve several threads. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static cld_tensor *list; /* of the weights that keep one */
static uint64_t now = 1; /* counts the calls of cld_kept_take_stale */

static bool is_current(const cld_tensor *weight) {
    const cld_kept_copy *k = &weight->kept;
    return k->version == atomic_load(&weight->storage->version) && k->epoch == cld_capture_epoch();
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

/* Out of the list; its copy is the caller's. */
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
    if (fits) k->used = now;
    cld_tensor *copy = fits && is_current(weight) ? cld_tensor_retain(k->tensor) : NULL;
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
                                       .used = now};
        link_weight(weight);
    }
    pthread_mutex_unlock(&lock);
    cld_tensor_free(before);
}

void cld_kept_drop(cld_tensor *weight) {
    if (weight->kept.tensor) cld_kept_set(weight, NULL, CLD_F32, 0);
}

/* Not of one that is about to go. */
static bool retain_alive(cld_tensor *weight) {
    int refs = atomic_load(&weight->refs);
    while (refs > 0)
        if (atomic_compare_exchange_weak(&weight->refs, &refs, refs + 1)) return true;
    return false;
}

int cld_kept_take_stale(const cld_backend *device, cld_kept_stale *out, int room) {
    int count = 0;
    cld_tensor *before = NULL; /* the copies, by way of their own `kept.next` */
    pthread_mutex_lock(&lock);
    for (cld_tensor *weight = list, *next; weight && count < room; weight = next) {
        const cld_kept_copy k = weight->kept;
        next = k.next;
        if (k.used != now || cld_device(weight) != device || is_current(weight) || !retain_alive(weight))
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
