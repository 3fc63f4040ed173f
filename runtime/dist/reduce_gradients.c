/* The sum of the ranks' gradients, in buckets: some large messages instead of many small ones. */
#include <stdlib.h>

#include "runtime/autograd/tape.h"
#include "runtime/dist/dist.h"

#define BUCKET_BYTES (25 << 20) /* as PyTorch's DistributedDataParallel has them (Li et al., VLDB 2020) */

/* Those that have a gradient on some rank get one of zeros if they lack it. */
static cld_status fill_gaps(cld_tensor *const *params, int count) {
    const int64_t shape = count;
    CLD_AUTO cld_tensor *has = cld_tensor_new(CLD_U8, 1, &shape, cld_cpu_backend());
    if (!has) return cld_error_code();
    uint8_t *flags = has->a.data;
    for (int i = 0; i < count; i++) flags[i] = params[i]->grad != NULL;
    CLD_TRY(cld_all_reduce(&has, 1, CLD_COMM_MAX, 1));
    for (int i = 0; i < count; i++) {
        const cld_tensor *p = params[i];
        if (!flags[i] || p->grad) continue;
        cld_tensor *zeros = cld_tensor_full(p->a.dtype, p->a.ndim, p->a.shape, cld_device(p), 0);
        if (!zeros) return cld_error_code();
        cld_set_gradient(params[i], zeros);
    }
    return CLD_OK;
}

static bool fits(const cld_tensor *first, const cld_tensor *grad, size_t bytes) {
    return first->a.dtype == grad->a.dtype && cld_device(first) == cld_device(grad) && bytes < BUCKET_BYTES;
}

cld_status cld_reduce_gradients(cld_tensor *const *params, int count) {
    if (cld_dist_alone()) return CLD_OK;
    CLD_TRY(fill_gaps(params, count));
    CLD_TRY(cld_dense_gradients(params, count));
    cld_tensor **bucket = calloc((size_t)count, sizeof *bucket);
    if (!bucket) return cld_fail(CLD_NOMEM, "gradients: out of memory");
    cld_status status = CLD_OK;
    const cld_backend *device = NULL;
    for (int i = count - 1; i >= 0 && status == CLD_OK;) { /* the last layers' gradients come first */
        size_t bytes = 0;
        int n = 0;
        for (; i >= 0; i--) {
            cld_tensor *g = params[i]->grad;
            if (!g || g->summed) continue;
            if (n && !fits(bucket[0], g, bytes)) break;
            bucket[n++] = g;
            bytes += (size_t)cld_numel(&g->a) * cld_dtype_size(g->a.dtype);
        }
        if (n) device = cld_device(bucket[0]);
        if (n) status = cld_all_reduce_begin(bucket, n, CLD_COMM_SUM, 1);
        for (int k = 0; k < n; k++) bucket[k]->summed = true;
    }
    free(bucket);
    if (status == CLD_OK && device) status = cld_dist_join(device);
    return status;
}
