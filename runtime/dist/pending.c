/* Running statistics that each rank has updated from its own rows. They are kept in a list until they are averaged over
 * the ranks, in the order in which they were added: the same on all ranks. */
#include <stdlib.h>

#include "runtime/dist/dist.h"

static struct {
    cld_tensor **tensors; /* retained */
    int count, room;
} pending;

cld_status cld_pending_add(cld_tensor *x) {
    for (int i = 0; i < pending.count; i++)
        if (pending.tensors[i] == x) return CLD_OK;
    if (pending.count == pending.room) {
        int room = pending.room ? 2 * pending.room : 64;
        cld_tensor **more = realloc(pending.tensors, (size_t)room * sizeof(cld_tensor *));
        if (!more) return cld_fail(CLD_NOMEM, "batch_norm: out of memory");
        pending.tensors = more;
        pending.room = room;
    }
    pending.tensors[pending.count++] = cld_tensor_retain(x);
    return CLD_OK;
}

/* Those from `first` on that can be sent together: of one dtype and device. */
static int alike_from(int first) {
    const cld_tensor *x = pending.tensors[first];
    int end = first + 1;
    while (end < pending.count && pending.tensors[end]->a.dtype == x->a.dtype &&
           cld_device(pending.tensors[end]) == cld_device(x))
        end++;
    return end - first;
}

cld_status cld_pending_settle(void) {
    cld_status status = CLD_OK;
    double weight = cld_batch_weight();
    for (int i = 0; i < pending.count && status == CLD_OK;) {
        int n = alike_from(i);
        status = cld_all_reduce(pending.tensors + i, n, CLD_COMM_SUM, weight);
        i += n;
    }
    for (int i = 0; i < pending.count; i++) cld_tensor_free(pending.tensors[i]);
    pending.count = 0;
    return status;
}
