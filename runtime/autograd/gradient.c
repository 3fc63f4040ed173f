/* A leaf's gradient, dense and of its own dtype. Gradients of weights may be kept as convolutions left them, in 16 bits
 * and the device's own layout, because an optimizer can read that form; everybody else gets them from here. */
#include <stdlib.h>

#include "runtime/autograd/tape.h"

static bool is_as_it_came(const cld_tensor *leaf) { return leaf->grad->a.dtype != leaf->a.dtype; }

static uint64_t replays_of(const cld_tensor *came) { return cld_recording_replays(came->storage->recording); }

/* Has a replay written to the tensor that the gradient was made from? A replay of another graph has not, and then
 * whatever others have written to the gradient since stays. */
static bool is_behind(const cld_tensor *leaf) {
    return leaf->grad_came && leaf->grad_replays != replays_of(leaf->grad_came) && !cld_capturing();
}

/* Keeps the tensor that a replay writes to, so that the next caller sees its new values. */
static void take_over(cld_tensor *leaf, cld_tensor *dense) {
    cld_tensor *came = leaf->grad;
    dense->loss_scaled = came->loss_scaled;
    leaf->grad = dense;
    if (came->storage->recording && !cld_capturing()) {
        leaf->grad_came = came;
        leaf->grad_replays = replays_of(came);
    } else {
        cld_tensor_free(came);
    }
}

static bool needs_work(const cld_tensor *leaf) {
    return leaf->grad && (is_as_it_came(leaf) || is_behind(leaf));
}

/* dense[i]: a new tensor for those leaves on the device that need one; else NULL. Returns how many of arrays are to be
 * copied, or -1. */
static int gather(cld_tensor *const *leaves, int count, const cld_backend *device, cld_tensor **dense,
                  cld_array *to, cld_array *from) {
    int found = 0;
    for (int i = 0; i < count; i++) {
        cld_tensor *leaf = leaves[i];
        if (cld_device(leaf) != device || !needs_work(leaf)) continue;
        bool fresh = is_as_it_came(leaf);
        if (fresh && cld_capturing() && leaf->grad->storage->born != cld_capture_epoch()) {
            cld_fail(CLD_INVALID,
                     "graph: the gradient of %s is from a step before the capture; call zero_grad() first",
                     cld_describe(&leaf->a));
            return -1;
        }
        if (fresh) {
            dense[i] = cld_tensor_new(leaf->a.dtype, leaf->a.ndim, leaf->a.shape, device);
            if (!dense[i]) return -1;
        }
        to[found] = fresh ? dense[i]->a : leaf->grad->a;
        from[found++] = fresh ? leaf->grad->a : leaf->grad_came->a;
    }
    return found;
}

static void bring_up(cld_tensor *leaf) {
    leaf->grad_replays = replays_of(leaf->grad_came);
    atomic_fetch_add(&leaf->grad->storage->version, 1);
}

/* For the leaves on the device. arrays: room for 2 count; dense: count NULLs, which it holds again at the end. */
static cld_status make_dense(cld_tensor *const *leaves, int count, const cld_backend *device,
                             cld_tensor **dense, cld_array *arrays) {
    int found = gather(leaves, count, device, dense, arrays, arrays + count);
    cld_status status = found < 0 ? cld_error_code() : cld_copy_many(device, found, arrays, arrays + count);
    for (int i = 0; i < count; i++) {
        if (status != CLD_OK)
            cld_tensor_free(dense[i]);
        else if (dense[i])
            take_over(leaves[i], dense[i]);
        else if (cld_device(leaves[i]) == device && needs_work(leaves[i]))
            bring_up(leaves[i]);
        dense[i] = NULL;
    }
    return status;
}

cld_status cld_dense_gradients(cld_tensor *const *leaves, int count) {
    cld_array *arrays = NULL;
    cld_tensor **dense = NULL;
    cld_status status = CLD_OK;
    for (int i = 0; i < count && status == CLD_OK; i++) {
        if (!needs_work(leaves[i])) continue;
        if (!arrays) {
            arrays = calloc(2 * (size_t)count, sizeof *arrays);
            dense = calloc((size_t)count, sizeof *dense);
        }
        if (arrays && dense)
            status = make_dense(leaves, count, cld_device(leaves[i]), dense, arrays);
        else
            status = cld_fail(CLD_NOMEM, "grad: out of memory");
    }
    free(arrays);
    free(dense);
    return status;
}

void cld_set_gradient(cld_tensor *leaf, cld_tensor *gradient) {
    cld_tensor_free(leaf->grad);
    cld_tensor_free(leaf->grad_came);
    leaf->grad = gradient;
    leaf->grad_came = NULL;
}
