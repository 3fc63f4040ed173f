/* Gradients of leaves that are not as a .grad must be: of another dtype, or in the device's own layout, as those of
 * convolutions' weights are. They wait for the end of backward, to be cast together, in few launches.
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

/* g, whose reference is taken over, for a leaf that has none yet and none that waits. */
cld_status cld__wait(cld_waiting *w, cld_tensor *leaf, cld_tensor *g);
/* The gradient that waits for this leaf, or NULL. */
cld_tensor **cld__waiting_for(const cld_waiting *w, const cld_tensor *leaf);
/* Somebody has taken it over. */
void cld__stop_waiting(cld_waiting *w, const cld_tensor *leaf);
/* Those that an optimizer can take are .grad as they came (cld_dense_gradients); the others still wait. */
void cld__keep_as_they_came(cld_waiting *w);
/* All that wait become .grad, dense and of their leaf's dtype; on an error none does. */
cld_status cld__end_waiting(cld_waiting *w);
void cld__drop_waiting(cld_waiting *w);

/* Nobody else sees g's memory, and each element has its own place in it. */
static inline bool cld__is_exclusive(const cld_tensor *g) {
    return atomic_load(&g->refs) == 1 && atomic_load(&g->storage->refs) == 1 &&
           (g->a.layout == CLD_BLOCKED || cld_is_contiguous(&g->a));
}
/* Nor is it part of something larger. */
static inline bool cld__is_whole(const cld_tensor *g) {
    return (size_t)cld_numel(&g->a) * cld_dtype_size(g->a.dtype) == g->storage->bytes;
}

#endif
