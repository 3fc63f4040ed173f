/* MoCo's queue: its loss, and the ring. As in memory_bank.c, forward computes the query's gradient with the loss. */
#include "runtime/losses/losses.h"
#include "runtime/ops/ops.h"

static cld_status queue_backward(cld_node *n, cld_tensor *const *dout, cld_tensor **din) {
    CLD_AUTO cld_tensor *df = cld_node_saved(n, 0);
    if (!df) return cld_error_code();
    din[0] = cld_mul(df, dout[0]);
    return din[0] ? CLD_OK : cld_error_code();
}

static const cld_op queue_op = {"moco_queue", queue_backward, NULL, NULL};

cld_tensor *cld_queue_loss(cld_tensor *query, cld_tensor *key, cld_tensor *queue, double temperature) {
    CLD_TRY_NULL(cld__check_alike("moco_queue", "query", query, "queue", queue));
    CLD_TRY_NULL(cld__check_alike("moco_queue", "query", query, "key", key));
    CLD_TRY_NULL(cld__check_temperature("moco_queue", temperature));
    if (!cld_same_shape(&query->a, &key->a))
        return cld_fail_null(CLD_INVALID, "moco_queue: query is %s, key %s; expected the same shape",
                             cld_describe(&query->a), cld_describe(&key->a));
    const cld_backend *device = cld_device(query);
    if (!cld_slot(device, loss, queue_softmax)) return (void)cld_unsupported("moco_queue", device), NULL;
    CLD_AUTO cld_tensor *q = cld_tensor_contiguous(query), *k = cld_tensor_contiguous(key);
    CLD_AUTO cld_tensor *rows = cld_tensor_contiguous(queue);
    CLD_AUTO cld_tensor *loss = cld_tensor_new(query->a.dtype, 0, NULL, device);
    bool wanted = cld_needs_grad(&query, 1);
    CLD_AUTO cld_tensor *df = wanted ? cld_tensor_new(query->a.dtype, 2, query->a.shape, device) : NULL;
    if (!q || !k || !rows || !loss || (wanted && !df)) return NULL;
    CLD_TRY_NULL(
        device->loss->queue_softmax(&loss->a, df ? &df->a : NULL, &q->a, &k->a, &rows->a, temperature));
    cld_node *n = cld_record(&queue_op, &loss, 1, &query, 1);
    if (n) cld_node_save(n, 0, df);
    return cld_tensor_steal(&loss);
}

/* ---- the ring ------------------------------------------------------------------------------------------ */

static cld_tensor *rows_of(const cld_tensor *x, int64_t start, int64_t count) {
    char *data = (char *)x->a.data + (size_t)(start * x->a.strides[0]) * cld_dtype_size(x->a.dtype);
    return cld_tensor_view(x, 2, (int64_t[]){count, x->a.shape[1]}, x->a.strides, data);
}

static cld_status copy_rows(cld_tensor *to, int64_t at, const cld_tensor *from, int64_t start,
                            int64_t count) {
    if (count == 0) return CLD_OK;
    CLD_AUTO cld_tensor *target = rows_of(to, at, count), *source = rows_of(from, start, count);
    return target && source ? cld_tensor_copy(target, source) : cld_error_code();
}

cld_status cld_enqueue(cld_tensor *queue, cld_tensor *keys, int64_t *pointer) {
    CLD_TRY(cld__check_alike("moco_queue", "keys", keys, "queue", queue));
    int64_t size = queue->a.shape[0], count = keys->a.shape[0];
    if (*pointer < 0 || *pointer >= size)
        return cld_fail(CLD_INVALID, "moco_queue: the pointer is %lld; expected 0 to %lld",
                        (long long)*pointer, (long long)size - 1);
    int64_t skipped = count > size ? count - size : 0; /* these would be overwritten at once */
    int64_t at = (*pointer + skipped) % size, kept = count - skipped;
    int64_t before_end = kept < size - at ? kept : size - at;
    CLD_TRY(copy_rows(queue, at, keys, skipped, before_end));
    CLD_TRY(copy_rows(queue, 0, keys, skipped + before_end, kept - before_end));
    *pointer = (*pointer + count) % size;
    return CLD_OK;
}
