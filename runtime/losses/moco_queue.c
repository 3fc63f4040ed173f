/* MoCo's queue: its loss, and the ring buffer. As in memory_bank.c, forward computes the query's gradient along with
 * the loss. */
#include <stdlib.h>

#include "runtime/dist/dist.h"
#include "runtime/losses/losses.h"
#include "runtime/ops/ops.h"

static cld_status queue_backward(cld_node *n, cld_tensor *const *dout, cld_tensor **din) {
    CLD_AUTO cld_tensor *df = cld_node_saved(n, 0);
    if (!df) return cld_error_code();
    din[0] = cld_mul(df, dout[0]);
    return din[0] ? CLD_OK : cld_error_code();
}

static const cld_op queue_op = {.name = "moco_queue", .backward = queue_backward};

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

static cld_status check_ring(cld_tensor *queue, cld_tensor *pointer, cld_tensor *keys) {
    CLD_TRY(cld__check_alike("moco_queue", "keys", keys, "queue", queue));
    CLD_TRY(cld__check_counter("moco_queue", "the pointer", pointer, "queue", queue));
    if (!cld_is_contiguous(&queue->a))
        return cld_fail(CLD_INVALID, "moco_queue: the queue must be dense and row-major");
    return CLD_OK;
}

cld_status cld_enqueue(cld_tensor *queue, cld_tensor *pointer, cld_tensor *given, cld_tensor *condition) {
    const cld_backend *device = cld_device(queue);
    CLD_TRY(check_ring(queue, pointer, given));
    CLD_TRY(cld_check_condition("moco_queue", condition, device));
    CLD_AUTO cld_tensor *keys = cld_gather_rows("moco_queue", given); /* in the batch's order */
    if (!keys) return cld_error_code();
    bool own = keys->storage == queue->storage; /* else rows would be read after they were replaced */
    CLD_AUTO cld_tensor *rows = own ? cld_tensor_cast(keys, keys->a.dtype) : cld_tensor_contiguous(keys);
    if (!rows) return cld_error_code();
    CLD_TRY(cld_kernel(device, loss, enqueue, &queue->a, &pointer->a, &rows->a, cld_array_of(condition)));
    atomic_fetch_add(&queue->storage->version, 1);
    atomic_fetch_add(&pointer->storage->version, 1);
    return CLD_OK;
}

/* ---- after a backward ---------------------------------------------------------------------------------- */

typedef struct ring {
    cld_tensor *queue, *pointer, *keys; /* owned */
} ring;

static cld_status run_enqueue(void *context) {
    ring *r = context;
    return cld_enqueue(r->queue, r->pointer, r->keys, cld_backward_condition());
}

static void free_ring(void *context) {
    ring *r = context;
    cld_tensor_free(r->queue);
    cld_tensor_free(r->pointer);
    cld_tensor_free(r->keys);
    free(r);
}

typedef struct after_node {
    cld_tensor *queue, *pointer; /* owned; they may change after forward */
} after_node;

static cld_status after_backward(cld_node *n, cld_tensor *const *dout, cld_tensor **din) {
    din[0] = cld_tensor_retain(dout[0]);
    ring *r = calloc(1, sizeof *r);
    if (!r) return cld_fail(CLD_NOMEM, "moco_queue: out of memory");
    after_node *params = cld_node_params(n, after_node);
    *r = (ring){cld_tensor_retain(params->queue), cld_tensor_retain(params->pointer), cld_node_saved(n, 0)};
    if (!r->keys) {
        free_ring(r);
        return cld_error_code();
    }
    return cld_after_backward(run_enqueue, free_ring, r);
}

static void after_destroy(cld_node *n) {
    cld_tensor_free(cld_node_params(n, after_node)->queue);
    cld_tensor_free(cld_node_params(n, after_node)->pointer);
}

static const cld_op after_op = {
    .name = "enqueue_after", .backward = after_backward, .destroy = after_destroy};

cld_tensor *cld_enqueue_after(cld_tensor *loss, cld_tensor *queue, cld_tensor *pointer, cld_tensor *keys) {
    CLD_TRY_NULL(check_ring(queue, pointer, keys));
    CLD_AUTO cld_tensor *out = cld_tensor_cast(loss, loss->a.dtype);
    CLD_AUTO cld_tensor *rows = cld_tensor_detach(keys);
    if (!out || !rows) return NULL;
    cld_node *n = cld_record(&after_op, &out, 1, &loss, 1);
    if (n) {
        *cld_node_params(n, after_node) = (after_node){cld_tensor_retain(queue), cld_tensor_retain(pointer)};
        cld_node_save(n, 0, rows);
    }
    return cld_tensor_steal(&out);
}
