/* The memory bank's losses and its update.
 *
 * The gradient of the features comes from the same pass over the bank as the loss, so forward computes both (if a
 * gradient is needed) and backward only scales. Backward also requests the update of the rows after the whole backward.
 * The memory is not one of the tape's saved tensors, because it may change after forward.
 */
#include <stdlib.h>

#include "runtime/dist/dist.h"
#include "runtime/losses/losses.h"
#include "runtime/ops/ops.h"

enum { SAVED_DF, SAVED_F, SAVED_INDEX };

typedef struct bank_node {
    cld_tensor *memory; /* owned */
    double momentum;
} bank_node;

/* ---- the update ---------------------------------------------------------------------------------------- */

typedef struct update {
    cld_tensor *memory, *index, *f; /* owned */
    double momentum;
} update;

static cld_status run_update(void *context) {
    update *u = context;
    CLD_AUTO cld_tensor *all_f = cld_gather_rows("memory_bank", u->f), *f = NULL, *index = NULL;
    CLD_AUTO cld_tensor *all_index = all_f ? cld_gather_rows("memory_bank", u->index) : NULL;
    if (!all_index) return cld_error_code();
    f = cld_tensor_contiguous(all_f);
    index = cld_tensor_contiguous(all_index);
    if (!f || !index) return cld_error_code();
    cld_tensor *condition = cld_backward_condition();
    CLD_TRY(cld_check_condition("memory_bank", condition, cld_device(f)));
    CLD_TRY(cld_device(f)->loss->bank_update(&u->memory->a, &index->a, &f->a, u->momentum,
                                             cld_array_of(condition)));
    atomic_fetch_add(&u->memory->storage->version, 1);
    return CLD_OK;
}

static void free_update(void *context) {
    update *u = context;
    cld_tensor_free(u->memory);
    cld_tensor_free(u->index);
    cld_tensor_free(u->f);
    free(u);
}

static cld_status bank_backward(cld_node *n, cld_tensor *const *dout, cld_tensor **din) {
    CLD_AUTO cld_tensor *df = cld_node_saved(n, SAVED_DF);
    if (!df) return cld_error_code();
    din[0] = cld_mul(df, dout[0]);
    if (!din[0]) return cld_error_code();
    update *u = calloc(1, sizeof *u);
    if (!u) return cld_fail(CLD_NOMEM, "memory_bank: out of memory");
    bank_node *params = cld_node_params(n, bank_node);
    *u = (update){cld_tensor_retain(params->memory), cld_node_saved(n, SAVED_INDEX),
                  cld_node_saved(n, SAVED_F), params->momentum};
    if (!u->index || !u->f) {
        free_update(u);
        return cld_error_code();
    }
    return cld_after_backward(run_update, free_update, u);
}

static void bank_destroy(cld_node *n) { cld_tensor_free(cld_node_params(n, bank_node)->memory); }

static const cld_op bank_op = {.name = "memory_bank", .backward = bank_backward, .destroy = bank_destroy};

static void record(cld_tensor *loss, cld_tensor *df, cld_tensor *f, cld_tensor *memory, cld_tensor *index,
                   const cld_bank_params *p) {
    cld_node *n = cld_record(&bank_op, &loss, 1, &f, 1);
    if (!n) return;
    *cld_node_params(n, bank_node) = (bank_node){cld_tensor_retain(memory), p->momentum};
    cld_node_save(n, SAVED_DF, df);
    cld_node_save(n, SAVED_F, f);
    cld_node_save(n, SAVED_INDEX, index);
}

/* ---- forward ------------------------------------------------------------------------------------------- */

static cld_status check(const cld_tensor *f, const cld_tensor *memory, const cld_tensor *index,
                        const cld_bank_params *p) {
    CLD_TRY(cld__check_alike("memory_bank", "features", f, "memory", memory));
    CLD_TRY(cld__check_entries("memory_bank", "index", index, f));
    CLD_TRY(cld__check_temperature("memory_bank", p->temperature));
    if (!cld_is_contiguous(&memory->a))
        return cld_fail(CLD_INVALID, "memory_bank: the memory must be dense and row-major");
    if (!(p->momentum >= 0 && p->momentum <= 1))
        return cld_fail(CLD_INVALID, "memory_bank: the momentum is %g; expected 0 to 1", p->momentum);
    return CLD_OK;
}

cld_tensor *cld_bank_loss(cld_tensor *f, cld_tensor *memory, cld_tensor *index, const cld_bank_params *p) {
    CLD_TRY_NULL(check(f, memory, index, p));
    const cld_backend *device = cld_device(f);
    if (!cld_slot(device, loss, bank_softmax) || !cld_slot(device, loss, bank_update))
        return (void)cld_unsupported("memory_bank", device), NULL;
    CLD_AUTO cld_tensor *rows = cld_tensor_contiguous(f), *entries = cld_tensor_contiguous(index);
    CLD_AUTO cld_tensor *loss = cld_tensor_new(f->a.dtype, 0, NULL, device);
    CLD_AUTO cld_tensor *df =
        cld_needs_grad(&f, 1) ? cld_tensor_new(f->a.dtype, 2, f->a.shape, device) : NULL;
    if (!rows || !entries || !loss || (!df && cld_needs_grad(&f, 1))) return NULL;
    CLD_TRY_NULL(device->loss->bank_softmax(&loss->a, df ? &df->a : NULL, &rows->a, &memory->a, &entries->a,
                                            p->temperature));
    record(loss, df, f, memory, index, p);
    return cld_tensor_steal(&loss);
}

cld_tensor *cld_bank_nce_loss(cld_tensor *f, cld_tensor *memory, cld_tensor *index, cld_tensor *negatives,
                              cld_tensor *z, const cld_bank_params *p) {
    CLD_TRY_NULL(check(f, memory, index, p));
    const cld_backend *device = cld_device(f);
    if (!cld_slot(device, loss, bank_nce) || !cld_slot(device, loss, bank_update))
        return (void)cld_unsupported("memory_bank with negatives", device), NULL;
    if (negatives->a.dtype != CLD_I64 || negatives->a.ndim != 2 || negatives->a.shape[0] != f->a.shape[0])
        return cld_fail_null(CLD_INVALID,
                             "memory_bank: expected negatives as i64[%lld, K] for features %s, got %s",
                             (long long)f->a.shape[0], cld_describe(&f->a), cld_describe(&negatives->a));
    if (cld_numel(&z->a) != 1 || z->a.dtype != f->a.dtype)
        return cld_fail_null(CLD_INVALID, "memory_bank: expected Z as one element of %s, got %s",
                             cld_dtype_name(f->a.dtype), cld_describe(&z->a));
    CLD_TRY_NULL(cld__check_together("memory_bank", "negatives", negatives, "features", f));
    CLD_TRY_NULL(cld__check_together("memory_bank", "Z", z, "features", f));
    CLD_AUTO cld_tensor *rows = cld_tensor_contiguous(f), *entries = cld_tensor_contiguous(index);
    CLD_AUTO cld_tensor *drawn = cld_tensor_contiguous(negatives);
    CLD_AUTO cld_tensor *loss = cld_tensor_new(f->a.dtype, 0, NULL, device);
    CLD_AUTO cld_tensor *df =
        cld_needs_grad(&f, 1) ? cld_tensor_new(f->a.dtype, 2, f->a.shape, device) : NULL;
    if (!rows || !entries || !drawn || !loss || (!df && cld_needs_grad(&f, 1))) return NULL;
    CLD_TRY_NULL(device->loss->bank_nce(&loss->a, df ? &df->a : NULL, &z->a, &rows->a, &memory->a,
                                        &entries->a, &drawn->a, p->temperature));
    atomic_fetch_add(&z->storage->version, 1);
    record(loss, df, f, memory, index, p);
    return cld_tensor_steal(&loss);
}

cld_tensor *cld_sample_negatives(int64_t rows, int64_t count, int64_t size, cld_tensor *draw) {
    const cld_backend *device = cld_device(draw);
    if (!cld_slot(device, loss, sample_negatives))
        return (void)cld_unsupported("memory_bank with negatives", device), NULL;
    if (rows < 1 || rows >= 1 << 22 || count < 1 || size < 1 || size > UINT32_MAX)
        return cld_fail_null(CLD_INVALID, "memory_bank: cannot draw %lld x %lld negatives from %lld rows",
                             (long long)rows, (long long)count, (long long)size);
    CLD_TRY_NULL(cld__check_counter("memory_bank", "draws", draw, "itself", draw));
    CLD_AUTO cld_tensor *out = cld_tensor_new(CLD_I64, 2, (int64_t[]){rows, count}, device);
    if (!out) return NULL;
    CLD_TRY_NULL(device->loss->sample_negatives(&out->a, &draw->a, size, cld_get_generator().seed));
    atomic_fetch_add(&draw->storage->version, 1);
    return cld_tensor_steal(&out);
}
