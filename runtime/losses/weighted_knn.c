/* The weighted nearest-neighbour score, in two steps. Here are checks and allocation; the search and the votes are the
 * backend's. */
#include "runtime/losses/losses.h"
#include "runtime/ops/ops.h"

static const char op[] = "weighted_knn";

cld_tensor *cld_nearest(cld_tensor **index, cld_tensor *memory, cld_tensor *queries, int64_t k) {
    CLD_TRY_NULL(cld__check_alike(op, "memory", memory, "queries", queries));
    if (k < 1 || k > memory->a.shape[0])
        return cld_fail_null(CLD_INVALID, "%s: k is %lld; expected 1 to %lld, the rows of the memory", op,
                             (long long)k, (long long)memory->a.shape[0]);
    const cld_backend *device = cld_device(memory);
    if (!cld_slot(device, loss, nearest)) return (void)cld_unsupported(op, device), NULL;
    const int64_t shape[] = {queries->a.shape[0], k};
    CLD_AUTO cld_tensor *rows = cld_tensor_contiguous(memory), *asked = cld_tensor_contiguous(queries);
    CLD_AUTO cld_tensor *similarities = cld_tensor_new(memory->a.dtype, 2, shape, device);
    CLD_AUTO cld_tensor *found = cld_tensor_new(CLD_I64, 2, shape, device);
    if (!rows || !asked || !similarities || !found) return NULL;
    CLD_TRY_NULL(device->loss->nearest(&similarities->a, &found->a, &rows->a, &asked->a));
    *index = cld_tensor_steal(&found);
    return cld_tensor_steal(&similarities);
}

static cld_status check_vote(const cld_tensor *similarities, const cld_tensor *labels,
                             const cld_vote_params *p) {
    CLD_TRY(cld__check_rows(op, "similarities", similarities));
    if (labels->a.dtype != CLD_I64 || labels->a.ndim != 2 || labels->a.shape[0] != similarities->a.shape[0] ||
        labels->a.shape[1] != similarities->a.shape[1])
        return cld_fail(CLD_INVALID, "%s: expected i64 labels, one for each of similarities %s, got %s", op,
                        cld_describe(&similarities->a), cld_describe(&labels->a));
    CLD_TRY(cld__check_together(op, "similarities", similarities, "labels", labels));
    CLD_TRY(cld__check_temperature(op, p->temperature));
    if (p->k >= 1 && p->k <= similarities->a.shape[1] && p->classes >= 1) return CLD_OK;
    return cld_fail(CLD_INVALID,
                    "%s: k is %lld for %lld similarities, and classes %lld; expected at least 1 of each, and "
                    "k at most the similarities",
                    op, (long long)p->k, (long long)similarities->a.shape[1], (long long)p->classes);
}

cld_tensor *cld_vote(cld_tensor *similarities, cld_tensor *labels, const cld_vote_params *p) {
    CLD_TRY_NULL(check_vote(similarities, labels, p));
    const cld_backend *device = cld_device(similarities);
    if (!cld_slot(device, loss, vote)) return (void)cld_unsupported(op, device), NULL;
    const int64_t shape[] = {similarities->a.shape[0], p->classes};
    CLD_AUTO cld_tensor *values = cld_tensor_contiguous(similarities), *of = cld_tensor_contiguous(labels);
    CLD_AUTO cld_tensor *scores = cld_tensor_new(similarities->a.dtype, 2, shape, device);
    if (!values || !of || !scores) return NULL;
    CLD_TRY_NULL(device->loss->vote(&scores->a, &values->a, &of->a, p->k, p->temperature));
    return cld_tensor_steal(&scores);
}
