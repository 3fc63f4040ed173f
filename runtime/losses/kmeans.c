/* K-means on the tape: the centroids are means of the rows, and differentiable as such. */
#include "runtime/losses/losses.h"
#include "runtime/ops/ops.h"

enum { SAVED_GROUP, SAVED_SIZES }; /* group: each row's own row in centroids */

/* centroid_j = sum over its members x_i / size_j, so dx_i = dcentroid_group(i) / size_group(i) */
static cld_status kmeans_backward(cld_node *n, cld_tensor *const *dout, cld_tensor **din) {
    CLD_AUTO cld_tensor *group = cld_node_saved(n, SAVED_GROUP), *sizes = cld_node_saved(n, SAVED_SIZES);
    if (!group || !sizes) return cld_error_code();
    CLD_AUTO cld_tensor *shares = cld_div(dout[0], sizes);
    if (!shares) return cld_error_code();
    din[0] = cld_index_select(shares, 0, group);
    return din[0] ? CLD_OK : cld_error_code();
}

static const cld_op kmeans_op = {.name = "kmeans", .backward = kmeans_backward};

cld_status cld__check_kmeans(const char *op, const cld_tensor *x, int64_t k, int64_t iterations) {
    if (k < 1)
        return cld_fail(CLD_INVALID, "%s: %lld clusters of %s; expected at least 1", op, (long long)k,
                        cld_describe(&x->a));
    if (iterations < 1 || iterations > INT32_MAX)
        return cld_fail(CLD_INVALID, "%s: %lld iterations; expected 1 to %d", op, (long long)iterations,
                        INT32_MAX);
    return CLD_OK;
}

void cld__free_groups(cld_groups *g) {
    cld_tensor_free(g->labels);
    cld_tensor_free(g->own);
    cld_tensor_free(g->sizes);
    cld_tensor_free(g->empty);
}

cld_tensor *cld__find_groups(cld_groups *out, const char *op, cld_tensor *x, int64_t k, int64_t iterations,
                             int blocks) {
    CLD_TRY_NULL(cld__check_rows(op, "x", x));
    CLD_TRY_NULL(cld__check_kmeans(op, x, k, iterations));
    const cld_backend *device = cld_device(x);
    if (!cld_slot(device, loss, kmeans)) return (void)cld_unsupported(op, device), NULL;
    const cld_parts parts = {.blocks = blocks};
    int64_t groups[2] = {blocks * k, x->a.shape[1]}, counts[2] = {blocks * k, 1}, each[1] = {blocks};
    CLD_AUTO cld_tensor *rows = cld_tensor_contiguous(x);
    CLD_AUTO cld_tensor *centroids = cld_tensor_new(x->a.dtype, 2, groups, device);
    out->labels = cld_tensor_new(CLD_I64, 1, x->a.shape, device);
    out->sizes = cld_tensor_new(x->a.dtype, 2, counts, device);
    out->empty = cld_tensor_new(CLD_F32, 1, each, device);
    bool is_one = blocks == 1;
    if (out->labels)
        out->own = is_one ? cld_tensor_retain(out->labels) : cld_tensor_new(CLD_I64, 1, x->a.shape, device);
    if (!rows || !centroids || !out->own || !out->sizes || !out->empty) return NULL;
    CLD_TRY_NULL(device->loss->kmeans(&out->labels->a, is_one ? NULL : &out->own->a, &centroids->a,
                                      &out->sizes->a, &out->empty->a, &rows->a, &parts, (int)iterations));
    return cld_tensor_steal(&centroids);
}

cld_tensor *cld_kmeans(cld_tensor **labels, cld_tensor **empty, cld_tensor *x, int64_t k, int64_t iterations,
                       int blocks) {
    CLD_GROUPS found = {0};
    CLD_AUTO cld_tensor *centroids = cld__find_groups(&found, "kmeans", x, k, iterations, blocks);
    if (!centroids) return NULL;
    cld_node *n = cld_record(&kmeans_op, &centroids, 1, &x, 1);
    if (n) {
        cld_node_save(n, SAVED_GROUP, found.own);
        cld_node_save(n, SAVED_SIZES, found.sizes);
    }
    *labels = cld_tensor_steal(&found.labels);
    *empty = cld_tensor_steal(&found.empty);
    return cld_tensor_steal(&centroids);
}
