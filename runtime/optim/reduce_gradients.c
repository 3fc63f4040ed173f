/* The sum of the ranks' gradients, after backward. */
#include <stdlib.h>
#include <string.h>

#include "runtime/autograd/tape.h"
#include "runtime/optim/buckets.h"
#include "runtime/optim/overlap.h"

cld_tensor *cld__begin_presence(const uint8_t *has, int count) {
    const int64_t shape = count;
    CLD_AUTO cld_tensor *flags = cld_tensor_new(CLD_U8, 1, &shape, cld_cpu_backend());
    if (!flags) return NULL;
    memcpy(flags->a.data, has, (size_t)count);
    CLD_TRY_NULL(cld_all_reduce_begin(&flags, 1, CLD_COMM_MAX, 1));
    return cld_tensor_steal(&flags);
}

const uint8_t *cld__presence(const cld_tensor *begun) { return begun->a.data; }

cld_status cld__reduce_present(cld_tensor *const *params, const uint8_t *has, int count) {
    cld_tensor **leaves = calloc((size_t)count + 1, sizeof *leaves);
    if (!leaves) return cld_fail(CLD_NOMEM, "gradients: out of memory");
    int found = 0;
    for (int i = count - 1; i >= 0; i--)
        if (has[i] && !(params[i]->grad && params[i]->grad->summed)) leaves[found++] = params[i];
    cld_buckets b = {0};
    cld_status status = cld__cut_buckets(&b, leaves, found);
    if (status == CLD_OK) status = cld__begin_buckets(&b);
    if (status == CLD_OK) status = cld__join_buckets(&b);
    cld__free_buckets(&b);
    free(leaves);
    return status;
}

cld_status cld_reduce_gradients(cld_tensor *const *params, int count) {
    if (cld_dist_alone()) return CLD_OK;
    CLD_TRY(cld_dense_gradients(params, count));
    uint8_t *has = malloc((size_t)count + 1);
    if (!has) return cld_fail(CLD_NOMEM, "gradients: out of memory");
    for (int i = 0; i < count; i++) has[i] = params[i]->grad != NULL;
    CLD_AUTO cld_tensor *flags = cld__begin_presence(has, count);
    free(has);
    if (!flags) return cld_error_code();
    CLD_TRY(cld_dist_join(cld_cpu_backend()));
    return cld__reduce_present(params, cld__presence(flags), count);
}
