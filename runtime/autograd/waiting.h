/* Gradients of leaves that do not yet have the form of a .grad: they have another dtype, or the device's own layout, as
 * those of convolution weights do. They wait for the end of backward, to be cast together in few launches.
 */
#ifndef CLD_AUTOGRAD_WAITING_H
#define CLD_AUTOGRAD_WAITING_H

#include "runtime/tensor/tensor.h"

typedef struct cld_waiting {
    struct {
        cld_tensor *leaf, *gradient; /* owned */
    } * of;
    int count, room;
} cld_waiting;

/* Adds g, whose reference is taken over, for a leaf that has no gradient yet and none waiting. */
cld_status cld__wait(cld_waiting *w, cld_tensor *leaf, cld_tensor *g);
/* The gradient that waits for this leaf, or NULL. */
cld_tensor **cld__waiting_for(const cld_waiting *w, const cld_tensor *leaf);
/* Forgets the leaf's gradient, which somebody has taken over. */
void cld__stop_waiting(cld_waiting *w, const cld_tensor *leaf);
/* Gradients that an optimizer can read become .grad in their original form (cld_dense_gradients); the others still
 * wait. */
void cld__keep_as_they_came(cld_waiting *w);
/* All waiting gradients become .grad, dense and of their leaf's dtype; on an error none does. */
cld_status cld__end_waiting(cld_waiting *w);
void cld__drop_waiting(cld_waiting *w);

/* Nobody else uses g's memory, and no two of its elements share a place. */
static inline bool cld__is_exclusive(const cld_tensor *g) {
    return atomic_load(&g->refs) == 1 && atomic_load(&g->storage->refs) == 1 &&
           (g->a.layout == CLD_BLOCKED || cld_is_contiguous(&g->a));
}
/* Exclusive, and not part of something larger. */
static inline bool cld__is_whole(const cld_tensor *g) {
    return (size_t)cld_numel(&g->a) * cld_dtype_size(g->a.dtype) == g->storage->bytes;
}

#endif
