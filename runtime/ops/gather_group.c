/* Rows of neighbouring ranks, on the tape: ranks with which this one shares a group of the batch's images. */
#include <stdlib.h>
#include <string.h>

#include "runtime/dist/dist.h"
#include "runtime/ops/ops.h"

typedef struct span {
    int64_t begin, end;
} span;

static span common(span a, span b) {
    span s = {a.begin > b.begin ? a.begin : b.begin, a.end < b.end ? a.end : b.end};
    if (s.end < s.begin) s.end = s.begin;
    return s;
}

/* ---- which rank has which images ----------------------------------------------------------------------- */

typedef struct groups {
    cld_batch_share share; /* this rank's */
    int64_t images, unit;  /* per group; rows per image */
} groups;

static span images_of(const groups *g, int rank) {
    int world = cld_dist_ranks().world;
    return (span){cld_batch_begin(g->share.total, g->share.block, world, rank),
                  cld_batch_begin(g->share.total, g->share.block, world, rank + 1)};
}

/* All images of the groups in which a rank has some images. */
static span near(const groups *g, int rank) {
    span own = images_of(g, rank);
    int64_t end = (own.end + g->images - 1) / g->images * g->images;
    return (span){own.begin / g->images * g->images, end < g->share.total ? end : g->share.total};
}

/* The part of the images on rank `from` that rank `to` needs. */
static span between(const groups *g, int from, int to) { return common(images_of(g, from), near(g, to)); }

/* ---- parcels ----------------------------------------------------------------------------------------------- */

typedef struct parcels {
    cld_parcel *of; /* (count), in the order of the ranks; from malloc */
    int count;
} parcels;

static void drop(parcels *p) {
    for (int i = 0; i < p->count; i++) cld_tensor_free(p->of[i].rows);
    free(p->of);
}

/* Cuts a tensor's rows by rank. keeps: the tensor has this rank's images, which others need; else it has the nearby
 * images, which come from others. */
static cld_status cut(parcels *out, const groups *g, const cld_tensor *rows, bool keeps) {
    cld_ranks r = cld_dist_ranks();
    int64_t first = keeps ? images_of(g, r.rank).begin : near(g, r.rank).begin;
    *out = (parcels){calloc((size_t)r.world, sizeof *out->of), 0};
    if (!out->of) return cld_fail(CLD_NOMEM, "gather_group: out of memory");
    for (int other = 0; other < r.world; other++) {
        span s = keeps ? between(g, r.rank, other) : between(g, other, r.rank);
        if (s.begin == s.end) continue;
        cld_tensor *part = cld_tensor_rows(rows, (s.begin - first) * g->unit, (s.end - s.begin) * g->unit);
        if (!part) return cld_error_code();
        out->of[out->count++] = (cld_parcel){other, part};
    }
    return CLD_OK;
}

static cld_tensor *new_rows(const cld_tensor *like, int64_t rows, cld_dtype dtype) {
    int64_t shape[CLD_MAX_DIMS];
    memcpy(shape, like->a.shape, sizeof shape);
    shape[0] = rows;
    return cld_tensor_new(dtype, like->a.ndim, shape, cld_device(like));
}

/* ---- backward: every rank returns the gradients of the rows that it received ----------------------------------- */

/* New parcels of the same sizes, with their own memory. */
static cld_status replace(parcels *p, cld_dtype dtype) {
    for (int i = 0; i < p->count; i++) {
        cld_tensor *own = new_rows(p->of[i].rows, p->of[i].rows->a.shape[0], dtype);
        if (!own) return cld_error_code();
        cld_tensor_free(p->of[i].rows);
        p->of[i].rows = own;
    }
    return CLD_OK;
}

/* Adds each parcel to the rows that it stands for, in the order of the ranks. */
static cld_status add_up(const parcels *places, const parcels *from) {
    for (int i = 0; i < places->count; i++) CLD_TRY(cld_add_(places->of[i].rows, from->of[i].rows));
    return CLD_OK;
}

static cld_status gather_backward(cld_node *n, cld_tensor *const *dout, cld_tensor **din) {
    const groups *g = cld_node_params(n, groups);
    cld_dtype dtype = dout[0]->a.dtype, wide = cld_dtype_is_half(dtype) ? CLD_F32 : dtype;
    __attribute__((cleanup(drop))) parcels sent = {0}, received = {0}, places = {0};
    CLD_AUTO cld_tensor *near_by = cld_tensor_cast(dout[0], wide);
    CLD_AUTO cld_tensor *sum = near_by ? new_rows(near_by, g->share.rows * g->unit, wide) : NULL;
    if (!sum) return cld_error_code();
    CLD_TRY(cld_tensor_fill(sum, cld_integer(0)));
    CLD_TRY(cut(&sent, g, near_by, false));
    CLD_TRY(cut(&places, g, sum, true));
    CLD_TRY(cut(&received, g, sum, true));
    CLD_TRY(replace(&received, wide));
    CLD_TRY(cld_exchange_begin(sent.of, sent.count, received.of, received.count));
    CLD_TRY(cld_dist_join(cld_device(sum)));
    CLD_TRY(add_up(&places, &received));
    din[0] = cld_tensor_cast(sum, dtype);
    return din[0] ? CLD_OK : cld_error_code();
}

static const cld_op gather_op = {.name = "gather_group", .backward = gather_backward};

/* ---- forward ----------------------------------------------------------------------------------------------- */

static cld_tensor *gather(cld_tensor *x, const groups *g) {
    __attribute__((cleanup(drop))) parcels sent = {0}, received = {0};
    span around = near(g, cld_dist_ranks().rank);
    CLD_AUTO cld_tensor *in = cld_tensor_contiguous(x);
    CLD_AUTO cld_tensor *out = in ? new_rows(x, (around.end - around.begin) * g->unit, x->a.dtype) : NULL;
    if (!out) return NULL;
    CLD_TRY_NULL(cut(&sent, g, in, true));
    CLD_TRY_NULL(cut(&received, g, out, false));
    CLD_TRY_NULL(cld_exchange_begin(sent.of, sent.count, received.of, received.count));
    cld_node *n = cld_record(&gather_op, &out, 1, &x, 1);
    if (n) *cld_node_params(n, groups) = *g;
    return cld_tensor_steal(&out);
}

cld_tensor *cld_gather_group_begin(int64_t *first, const char *op, cld_tensor *x, int64_t here,
                                   int64_t images) {
    groups g = {.images = images, .unit = 1};
    *first = 0;
    if (cld_dist_alone()) return cld_tensor_retain(x);
    if (x->a.ndim == 0) return cld_fail_null(CLD_INVALID, "%s: expected rows, got one number", op);
    if (images < 1)
        return cld_fail_null(CLD_INVALID, "%s: a group of %lld images; expected at least 1", op,
                             (long long)images);
    if (here < 1 || x->a.shape[0] == 0 || x->a.shape[0] % here != 0)
        return cld_fail_null(CLD_INVALID,
                             "%s: %s does not have a whole number of rows for each of %lld images", op,
                             cld_describe(&x->a), (long long)here);
    CLD_TRY_NULL(cld_images_of_batch(&g.share, op, here));
    if (!g.share.split) return cld_tensor_retain(x);
    g.unit = x->a.shape[0] / here;
    *first = near(&g, cld_dist_ranks().rank).begin;
    return gather(x, &g);
}
