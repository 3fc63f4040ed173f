/* The weighted nearest-neighbour score: checks and allocation; the search is the backend's. */
#include "runtime/losses/losses.h"
#include "runtime/ops/ops.h"

/* *classes = the largest label + 1 */
static cld_status count_classes(int64_t *classes, cld_tensor *labels) {
    double largest;
    CLD_AUTO cld_tensor *last = cld_amax(labels, NULL, 0, false);
    if (!last) return cld_error_code();
    CLD_TRY(cld_tensor_item(last, &largest));
    if (!(largest < INT32_MAX))
        return cld_fail(CLD_INVALID, "weighted_knn: the largest label is %.0f; labels are classes from 0 on",
                        largest);
    *classes = (int64_t)largest + 1;
    return CLD_OK;
}

cld_tensor *cld_weighted_knn(cld_tensor *memory, cld_tensor *labels, cld_tensor *queries,
                             const cld_knn_params *p) {
    CLD_TRY_NULL(cld__check_alike("weighted_knn", "memory", memory, "queries", queries));
    CLD_TRY_NULL(cld__check_entries("weighted_knn", "labels", labels, memory));
    CLD_TRY_NULL(cld__check_temperature("weighted_knn", p->temperature));
    int64_t classes = p->classes;
    if (classes == 0) CLD_TRY_NULL(count_classes(&classes, labels));
    if (p->k < 1 || classes < 1)
        return cld_fail_null(CLD_INVALID, "weighted_knn: k is %lld and classes %lld; expected at least 1",
                             (long long)p->k, (long long)classes);
    const cld_backend *device = cld_device(memory);
    if (!cld_slot(device, loss, weighted_knn)) return (void)cld_unsupported("weighted_knn", device), NULL;
    int64_t k = p->k < memory->a.shape[0] ? p->k : memory->a.shape[0];
    CLD_AUTO cld_tensor *rows = cld_tensor_contiguous(memory), *asked = cld_tensor_contiguous(queries);
    CLD_AUTO cld_tensor *entries = cld_tensor_contiguous(labels);
    CLD_AUTO cld_tensor *scores =
        cld_tensor_new(memory->a.dtype, 2, (int64_t[]){queries->a.shape[0], classes}, device);
    if (!rows || !asked || !entries || !scores) return NULL;
    CLD_TRY_NULL(device->loss->weighted_knn(&scores->a, &rows->a, &entries->a, &asked->a, k, p->temperature));
    return cld_tensor_steal(&scores);
}
