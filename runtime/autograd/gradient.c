/* A leaf's gradient, dense and of its own dtype. Those of weights may be kept as convolutions left them, in 16 bits and
 * the device's own layout, since an optimizer can read them so; whoever else asks gets them from here. */
#include <stdlib.h>

#include "runtime/autograd/tape.h"

static bool is_as_it_came(const cld_tensor *leaf) { return leaf->grad->a.dtype != leaf->a.dtype; }

static uint64_t replays_of(const cld_tensor *came) { return cld_recording_replays(came->storage->recording); }

/* Has a replay written to what the gradient was made of? One of another graph has not, and what others have written to the
 * gradient since stays. */
static bool is_behind(const cld_tensor *leaf) {
    return leaf->grad_came && leaf->grad_replays != replays_of(leaf->grad_came) && !cld_capturing();
}

/* What a replay writes to is kept, so that the next that asks sees its new values. */
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

/* dense[i]: of those leaves that need one; else NULL. Returns how many of arrays are to be copied, or -1. */
static int gather(cld_tensor *const *leaves, int count, cld_tensor **dense, cld_array *to, cld_array *from) {
    int found = 0;
    for (int i = 0; i < count; i++) {
        cld_tensor *leaf = leaves[i];
        if (!leaf->grad) continue;
        bool fresh = is_as_it_came(leaf);
        if (!fresh && !is_behind(leaf)) continue;
        if (fresh && cld_capturing() && leaf->grad->storage->born != cld_capture_epoch()) {
            cld_fail(CLD_INVALID,
                     "graph: the gradient of %s is that of a step before the capture; call zero_grad() first",
                     cld_describe(&leaf->a));
            return -1;
        }
        if (fresh) {
            dense[i] = cld_tensor_new(leaf->a.dtype, leaf->a.ndim, leaf->a.shape, cld_device(leaf));
            if (!dense[i]) return -1;
        }
        to[found] = fresh ? dense[i]->a : leaf->grad->a;
        from[found++] = fresh ? leaf->grad->a : leaf->grad_came->a;
    }
    return found;
}

cld_status cld_dense_gradients(cld_tensor *const *leaves, int count) {
    bool any = false;
    for (int i = 0; i < count && !any; i++)
        any = leaves[i]->grad && (is_as_it_came(leaves[i]) || is_behind(leaves[i]));
    if (!any) return CLD_OK;
    cld_array *arrays = calloc(2 * (size_t)count, sizeof *arrays);
    cld_tensor **dense = calloc((size_t)count, sizeof *dense);
    cld_status status = CLD_NOMEM;
    if (arrays && dense) {
        int found = gather(leaves, count, dense, arrays, arrays + count);
        status = found < 0 ? cld_error_code()
                           : cld_copy_many(cld_device(leaves[0]), found, arrays, arrays + count);
    } else {
        status = cld_fail(CLD_NOMEM, "grad: out of memory");
    }
    for (int i = 0; dense && i < count; i++) {
        cld_tensor *leaf = leaves[i];
        if (status != CLD_OK) {
            cld_tensor_free(dense[i]);
        } else if (dense[i]) {
            take_over(leaf, dense[i]);
        } else if (leaf->grad && is_behind(leaf)) {
            leaf->grad_replays = replays_of(leaf->grad_came);
            atomic_fetch_add(&leaf->grad->storage->version, 1);
        }
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
