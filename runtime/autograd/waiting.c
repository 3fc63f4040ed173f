#include "runtime/autograd/waiting.h"

#include <stdlib.h>

#include "runtime/autograd/tape.h"

cld_status cld__wait(cld_waiting *w, cld_tensor *leaf, cld_tensor *g) {
    if (w->count == w->room) {
        int room = w->room ? 2 * w->room : 64;
        void *grown = realloc(w->of, (size_t)room * sizeof *w->of);
        if (!grown) {
            cld_tensor_free(g);
            return cld_fail(CLD_NOMEM, "backward: out of memory");
        }
        w->of = grown;
        w->room = room;
    }
    w->of[w->count].leaf = cld_tensor_retain(leaf);
    w->of[w->count++].gradient = g;
    return CLD_OK;
}

cld_tensor **cld__waiting_for(const cld_waiting *w, const cld_tensor *leaf) {
    for (int i = 0; i < w->count; i++)
        if (w->of[i].leaf == leaf) return &w->of[i].gradient;
    return NULL;
}

void cld__stop_waiting(cld_waiting *w, const cld_tensor *leaf) {
    int rest = 0;
    for (int i = 0; i < w->count; i++) {
        if (w->of[i].leaf == leaf)
            cld_tensor_free(w->of[i].leaf);
        else
            w->of[rest++] = w->of[i];
    }
    w->count = rest;
}

/* Has 16 bits, and the device's optimizers can read it. */
static bool can_stay(const cld_tensor *leaf, const cld_tensor *g) {
    const cld_backend *device = cld_device(leaf);
    return device->optim && device->optim->takes_half && leaf->a.dtype == CLD_F32 && !leaf->grad &&
           cld_dtype_is_half(g->a.dtype) && cld__is_exclusive(g) && cld__is_whole(g);
}

void cld__keep_as_they_came(cld_waiting *w) {
    int rest = 0;
    for (int i = 0; i < w->count; i++) {
        if (can_stay(w->of[i].leaf, w->of[i].gradient)) {
            cld_set_gradient(w->of[i].leaf, w->of[i].gradient);
            cld_tensor_free(w->of[i].leaf);
        } else {
            w->of[rest++] = w->of[i];
        }
    }
    w->count = rest;
}

static cld_status cast_all(cld_waiting *w, cld_array *to, cld_array *from) {
    const cld_backend *device = cld_device(w->of[0].leaf);
    for (int i = 0; i < w->count; i++) {
        cld_tensor *leaf = w->of[i].leaf;
        leaf->grad = cld_tensor_new(leaf->a.dtype, leaf->a.ndim, leaf->a.shape, device);
        if (!leaf->grad) return cld_error_code();
        to[i] = leaf->grad->a;
        from[i] = w->of[i].gradient->a;
    }
    return cld_copy_many(device, w->count, to, from);
}

cld_status cld__end_waiting(cld_waiting *w) {
    if (w->count == 0) return CLD_OK;
    cld_array *arrays = calloc(2 * (size_t)w->count, sizeof *arrays);
    if (!arrays) return cld_fail(CLD_NOMEM, "backward: out of memory");
    cld_status status = cast_all(w, arrays, arrays + w->count);
    free(arrays);
    for (int i = 0; i < w->count && status != CLD_OK; i++) cld_set_gradient(w->of[i].leaf, NULL);
    cld__drop_waiting(w);
    return status;
}

void cld__drop_waiting(cld_waiting *w) {
    for (int i = 0; i < w->count; i++) {
        cld_tensor_free(w->of[i].leaf);
        cld_tensor_free(w->of[i].gradient);
    }
    free(w->of);
    *w = (cld_waiting){0};
}
