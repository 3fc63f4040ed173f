/* The ranks' rows as one tensor, on the tape. */
#include <stdlib.h>
#include <string.h>

#include "runtime/dist/dist.h"
#include "runtime/ops/ops.h"

/* Where each rank's rows begin among all of them: world + 1 entries, from malloc. */
typedef struct rows_of_ranks {
    int64_t *begin, most; /* most: rows of the largest rank */
    int world;
} rows_of_ranks;

static int64_t rows_of(const rows_of_ranks *r, int rank) { return r->begin[rank + 1] - r->begin[rank]; }

static cld_status start(rows_of_ranks *r) {
    r->world = cld_dist_ranks().world;
    r->begin = calloc((size_t)r->world + 1, sizeof *r->begin);
    return r->begin ? CLD_OK : cld_fail(CLD_NOMEM, "all_gather: out of memory");
}

static void measure(rows_of_ranks *r) {
    for (int i = 0; i < r->world; i++)
        if (rows_of(r, i) > r->most) r->most = rows_of(r, i);
}

static void drop(rows_of_ranks *r) { free(r->begin); }

/* ---- off the tape ------------------------------------------------------------------------------------------ */

static cld_tensor *with_rows(const cld_tensor *x, int64_t rows) {
    int64_t shape[CLD_MAX_DIMS];
    memcpy(shape, x->a.shape, sizeof shape);
    shape[0] = rows;
    return cld_tensor_new(x->a.dtype, x->a.ndim, shape, cld_device(x));
}

/* x padded with zeros to as many rows as the largest rank has. */
static cld_tensor *padded(cld_tensor *x, int64_t most) {
    if (x->a.shape[0] == most) return cld_tensor_contiguous(x);
    CLD_AUTO cld_tensor *out = with_rows(x, most);
    if (!out) return NULL;
    CLD_TRY_NULL(cld_tensor_fill(out, cld_integer(0)));
    if (x->a.shape[0] == 0) return cld_tensor_steal(&out);
    CLD_AUTO cld_tensor *place = cld_tensor_rows(out, 0, x->a.shape[0]);
    if (!place) return NULL;
    CLD_TRY_NULL(cld_tensor_copy(place, x));
    return cld_tensor_steal(&out);
}

/* (world, most, ...) as rows, without the padding. */
static cld_tensor *joined(const cld_tensor *all, const cld_tensor *x, const rows_of_ranks *r) {
    int64_t shape[CLD_MAX_DIMS], total = r->begin[r->world];
    memcpy(shape, x->a.shape, sizeof shape);
    shape[0] = r->world * r->most;
    CLD_AUTO cld_tensor *flat = cld_tensor_view(all, x->a.ndim, shape, all->a.strides + 1, all->a.data);
    if (!flat || shape[0] == total) return cld_tensor_steal(&flat);
    CLD_AUTO cld_tensor *out = with_rows(x, total);
    for (int i = 0; out && i < r->world; i++) {
        if (rows_of(r, i) == 0) continue;
        CLD_AUTO cld_tensor *from = cld_tensor_rows(flat, i * r->most, rows_of(r, i));
        CLD_AUTO cld_tensor *to = from ? cld_tensor_rows(out, r->begin[i], rows_of(r, i)) : NULL;
        if (!to) return NULL;
        CLD_TRY_NULL(cld_tensor_copy(to, from));
    }
    return cld_tensor_steal(&out);
}

/* ---- on the tape ------------------------------------------------------------------------------------------- */

typedef struct gather_node {
    int64_t begin, rows; /* of this rank, among the gathered rows */
    bool even;           /* every rank has the same number */
} gather_node;

/* This rank's rows of the sum over the ranks. */
static cld_tensor *sum_of_own(cld_tensor *gradient, const gather_node *own) {
    if (own->even) return cld_reduce_scatter(gradient);
    CLD_AUTO cld_tensor *sum = cld_tensor_cast(gradient, gradient->a.dtype);
    if (!sum) return NULL;
    CLD_TRY_NULL(cld_all_reduce(&sum, 1, CLD_COMM_SUM, 1));
    CLD_AUTO cld_tensor *part = cld_tensor_rows(sum, own->begin, own->rows);
    return part ? cld_tensor_cast(part, part->a.dtype) : NULL;
}

static cld_status gather_backward(cld_node *n, cld_tensor *const *dout, cld_tensor **din) {
    din[0] = sum_of_own(dout[0], cld_node_params(n, gather_node));
    return din[0] ? CLD_OK : cld_error_code();
}

static const cld_op gather_op = {.name = "all_gather", .backward = gather_backward};

static cld_tensor *gather(cld_tensor *x, const rows_of_ranks *r) {
    CLD_AUTO cld_tensor *in = padded(x, r->most);
    CLD_AUTO cld_tensor *all = in ? cld_all_gather(in) : NULL;
    CLD_AUTO cld_tensor *out = all ? joined(all, x, r) : NULL;
    if (!out) return NULL;
    cld_node *n = cld_record(&gather_op, &out, 1, &x, 1);
    if (n)
        *cld_node_params(n, gather_node) = (gather_node){r->begin[cld_dist_ranks().rank], x->a.shape[0],
                                                         r->most * r->world == r->begin[r->world]};
    return cld_tensor_steal(&out);
}

/* ---- which rows -------------------------------------------------------------------------------------------- */

/* Each rank's rows of the batch; `unit` adjacent rows belong to one image. */
static cld_status rows_of_batch(rows_of_ranks *r, const char *op, const cld_tensor *x, bool *split) {
    cld_batch_share batch = cld_batch_at_hand(), share;
    if (x->a.ndim == 0) return cld_fail(CLD_INVALID, "%s: expected rows, got one number", op);
    int64_t rows = x->a.shape[0];
    bool whole = batch.split && rows % batch.rows == 0;
    CLD_TRY(cld_images_of_batch(&share, op, whole ? batch.rows : rows));
    int64_t unit = whole ? rows / batch.rows : 1;
    *split = share.split;
    for (int i = 0; i <= r->world && share.split; i++)
        r->begin[i] = unit * cld_batch_begin(share.total, share.block, r->world, i);
    return CLD_OK;
}

cld_tensor *cld_gather_rows(const char *op, cld_tensor *x) {
    bool split = false;
    if (cld_dist_alone()) return cld_tensor_retain(x);
    __attribute__((cleanup(drop))) rows_of_ranks r = {0};
    CLD_TRY_NULL(start(&r));
    CLD_TRY_NULL(rows_of_batch(&r, op, x, &split));
    if (!split) return cld_tensor_retain(x);
    measure(&r);
    return gather(x, &r);
}

/* Each rank tells the others how many rows it has. */
static cld_status exchange_rows(rows_of_ranks *r, int64_t rows) {
    CLD_AUTO cld_tensor *own = cld_tensor_scalar(CLD_I64, cld_integer(rows), cld_cpu_backend());
    CLD_AUTO cld_tensor *all = own ? cld_all_gather(own) : NULL;
    if (!all) return cld_error_code();
    for (int i = 0; i < r->world; i++) r->begin[i + 1] = r->begin[i] + ((const int64_t *)all->a.data)[i];
    return CLD_OK;
}

cld_tensor *cld_all_gather_rows(cld_tensor *x) {
    __attribute__((cleanup(drop))) rows_of_ranks r = {0};
    if (x->a.ndim == 0)
        return cld_fail_null(CLD_INVALID, "all_gather: expected rows, got one number: reshape it to {1}");
    if (cld_dist_alone()) return cld_tensor_retain(x);
    CLD_TRY_NULL(start(&r));
    CLD_TRY_NULL(exchange_rows(&r, x->a.shape[0]));
    measure(&r);
    return gather(x, &r);
}
