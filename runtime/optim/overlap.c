/* The sum of the ranks' gradients during backward: a bucket is sent as soon as its gradients are complete.
 *
 * All ranks must begin the buckets at the same place among the other collectives of backward (batch norm, gathers). So
 * before the first bucket they compare hashes of the nodes that they are going to visit (foresee). If one rank's hash
 * differs, all buckets wait for the end. The comparison runs while backward starts.
 *
 * The first step only records the order in which gradients are completed. At its end the buckets are formed, in rank
 * 0's order. */
#include <stdlib.h>
#include <string.h>

#include "runtime/autograd/tape.h"
#include "runtime/optim/buckets.h"
#include "runtime/optim/overlap.h"

typedef struct known_leaf {
    const cld_tensor *leaf;
    int param;
} known_leaf;

struct cld_overlap {
    cld_tensor *const *params; /* borrowed */
    int count;
    known_leaf *known; /* (count), by address */
    cld_follower follower;

    int *order, ordered; /* params in the order of their gradients' completion, before buckets are formed */
    bool cut;
    cld_buckets buckets;
    int *place;  /* each param's position among the buckets' leaves, -1: not in a bucket */
    int *bucket; /* of each of these leaves */
    int *left;   /* for each bucket: number of gradients not yet complete */

    uint64_t walk;           /* a hash of the nodes that backward will visit */
    uint8_t *awaited;        /* for each param: backward leads to it */
    cld_tensor *comparison;  /* NULL: not begun */
    bool compared, is_alike; /* it has arrived; all ranks visit the same nodes */
};

/* ---- what backward will visit ---------------------------------------------------------------------------- */

static int by_address(const void *a, const void *b) {
    uintptr_t x = (uintptr_t)((const known_leaf *)a)->leaf, y = (uintptr_t)((const known_leaf *)b)->leaf;
    return (x > y) - (x < y);
}

/* The index of the parameter; -1: none. */
static int param_of(const cld_overlap *o, const cld_tensor *leaf) {
    const known_leaf key = {leaf, 0},
                     *found = bsearch(&key, o->known, (size_t)o->count, sizeof key, by_address);
    return found ? found->param : -1;
}

/* FNV-1a. */
static void mix(cld_overlap *o, const void *data, size_t bytes) {
    for (size_t i = 0; i < bytes; i++) o->walk = (o->walk ^ ((const uint8_t *)data)[i]) * 0x100000001b3u;
}

static void foresee(void *context, const cld_node *n) {
    cld_overlap *o = context;
    mix(o, n->op->name, strlen(n->op->name) + 1);
    for (int k = 0; k < n->inputs; k++) {
        const cld_tensor *leaf = n->edges[k].leaf;
        int param = leaf ? param_of(o, leaf) : -1;
        int edge[] = {n->edges[k].node != NULL, param, leaf && cld__has_hooks(leaf->hooks, 0)};
        mix(o, edge, sizeof edge);
        if (param >= 0) o->awaited[param] = true;
    }
}

/* Sends the largest and, through the complement, the smallest hash of all ranks. */
static cld_status begin_comparison(cld_overlap *o) {
    const int64_t shape = 2;
    o->comparison = cld_tensor_new(CLD_I64, 1, &shape, cld_cpu_backend());
    if (!o->comparison) return cld_error_code();
    int64_t *hashes = o->comparison->a.data;
    hashes[0] = (int64_t)o->walk;
    hashes[1] = ~hashes[0];
    return cld_all_reduce_begin(&o->comparison, 1, CLD_COMM_MAX, 1);
}

static cld_status start(void *context) {
    cld_overlap *o = context;
    if (!o->cut) return CLD_OK;
    for (int i = 0; i < o->count; i++)
        if (o->place[i] >= 0 && !o->awaited[i]) o->left[o->bucket[o->place[i]]]--;
    return begin_comparison(o);
}

/* Waits only if backward gets here before the other ranks have begun theirs. */
static cld_status compare(cld_overlap *o) {
    if (o->compared) return CLD_OK;
    CLD_TRY(cld_dist_join(cld_cpu_backend()));
    const int64_t *hashes = o->comparison->a.data;
    o->is_alike = hashes[0] == ~hashes[1];
    o->compared = true;
    return CLD_OK;
}

/* ---- during backward ------------------------------------------------------------------------------------- */

static bool is_full(const cld_overlap *o) {
    return o->buckets.begun < o->buckets.bucket_count && o->left[o->buckets.begun] == 0;
}

static cld_status complete(void *context, cld_tensor *leaf, cld_tensor **came) {
    cld_overlap *o = context;
    int param = param_of(o, leaf);
    if (param >= 0 && !o->cut) o->order[o->ordered++] = param;
    if (param < 0 || !o->cut || o->place[param] < 0) return CLD_OK;
    int at = o->place[param];
    o->buckets.came[at] = cld_tensor_steal(came);
    o->left[o->bucket[at]]--;
    if (!is_full(o)) return CLD_OK;
    CLD_TRY(compare(o));
    while (o->is_alike && is_full(o)) {
        CLD_TRY(cld__begin_bucket(&o->buckets));
        cld__count_early();
    }
    return CLD_OK;
}

/* ---- the first step -------------------------------------------------------------------------------------- */

/* Takes rank 0's order. Parameters whose gradient was missing there, or late, follow, last first. */
static cld_status agree_on_order(cld_overlap *o) {
    const int64_t shape = o->count;
    CLD_AUTO cld_tensor *order = cld_tensor_new(CLD_I32, 1, &shape, cld_cpu_backend());
    if (!order) return cld_error_code();
    int32_t *params = order->a.data;
    int n = 0;
    memset(o->awaited, 0, (size_t)o->count);
    for (; n < o->ordered; n++) o->awaited[params[n] = o->order[n]] = true;
    for (int i = o->count - 1; i >= 0; i--)
        if (!o->awaited[i]) params[n++] = i;
    CLD_TRY(cld_broadcast(&order, 1, 0));
    for (int i = 0; i < o->count; i++) o->order[i] = params[i];
    return CLD_OK;
}

/* Forms buckets of the parameters that have a gradient on some rank. */
static cld_status cut(cld_overlap *o, const uint8_t *has) {
    cld_tensor **leaves = calloc((size_t)o->count + 1, sizeof *leaves);
    int found = 0;
    if (!leaves) return cld_fail(CLD_NOMEM, "gradients: out of memory");
    for (int i = 0; i < o->count; i++) o->place[i] = -1;
    for (int i = 0; i < o->count; i++) {
        int param = o->order[i];
        if (!has[param]) continue;
        o->place[param] = found;
        leaves[found++] = o->params[param];
    }
    cld__free_buckets(&o->buckets);
    cld_status status = cld__cut_buckets(&o->buckets, leaves, found);
    free(leaves);
    for (int k = 0; k < o->buckets.bucket_count; k++)
        for (int i = 0; i < o->buckets.buckets[k].count; i++) o->bucket[o->buckets.buckets[k].first + i] = k;
    o->cut = status == CLD_OK;
    return status;
}

static cld_status end_first(cld_overlap *o, const uint8_t *has) {
    CLD_AUTO cld_tensor *flags = cld__begin_presence(has, o->count);
    if (!flags) return cld_error_code();
    CLD_TRY(cld_dist_join(cld_cpu_backend()));
    CLD_TRY(agree_on_order(o));
    CLD_TRY(cut(o, cld__presence(flags)));
    CLD_TRY(cld__begin_buckets(&o->buckets));
    return cld__join_buckets(&o->buckets);
}

/* ---- the end --------------------------------------------------------------------------------------------- */

/* A parameter without a gradient on any rank has none again. One with its first gradient is summed now, and the next
 * step records the order anew. */
static cld_status correct(cld_overlap *o, const uint8_t *has) {
    bool more = false;
    for (int i = 0; i < o->count; i++) {
        if (o->place[i] >= 0 && !has[i]) cld_set_gradient(o->params[i], NULL);
        more = more || (o->place[i] < 0 && has[i]);
    }
    if (!more) return CLD_OK;
    o->cut = false;
    return cld__reduce_present(o->params, has, o->count);
}

static cld_status end_later(cld_overlap *o, uint8_t *has) {
    CLD_TRY(compare(o));
    CLD_TRY(cld__begin_buckets(&o->buckets));
    for (int i = 0; i < o->count; i++)
        if (o->place[i] >= 0) has[i] = o->buckets.had[o->place[i]];
    CLD_AUTO cld_tensor *flags = cld__begin_presence(has, o->count);
    if (!flags) return cld_error_code();
    CLD_TRY(cld__join_buckets(&o->buckets));
    CLD_TRY(cld_dist_join(cld_cpu_backend()));
    return correct(o, cld__presence(flags));
}

cld_status cld_overlap_end(cld_overlap *o) {
    uint8_t *has = malloc((size_t)o->count + 1);
    if (!has) return cld_fail(CLD_NOMEM, "gradients: out of memory");
    for (int i = 0; i < o->count; i++) has[i] = o->params[i]->grad != NULL;
    cld_status status = o->cut ? end_later(o, has) : end_first(o, has);
    free(has);
    return status;
}

/* ---- a step ---------------------------------------------------------------------------------------------- */

void cld_overlap_reset(cld_overlap *o) {
    cld__reset_buckets(&o->buckets);
    cld_tensor_free(o->comparison);
    o->comparison = NULL;
}

const cld_follower *cld_overlap_begin(cld_overlap *o) {
    cld_overlap_reset(o);
    o->walk = 0xcbf29ce484222325u;
    o->compared = o->is_alike = false;
    o->ordered = 0;
    memset(o->awaited, 0, (size_t)o->count);
    for (int k = 0; o->cut && k < o->buckets.bucket_count; k++) o->left[k] = o->buckets.buckets[k].count;
    return &o->follower;
}

cld_overlap *cld_overlap_new(cld_tensor *const *params, int count) {
    cld_overlap *o = calloc(1, sizeof *o);
    if (!o) return cld_fail_null(CLD_NOMEM, "gradients: out of memory");
    size_t n = (size_t)count;
    o->params = params;
    o->count = count;
    o->follower = (cld_follower){o, foresee, start, complete};
    o->known = calloc(n, sizeof *o->known);
    o->order = calloc(n, sizeof *o->order);
    o->place = calloc(n, sizeof *o->place);
    o->bucket = calloc(n, sizeof *o->bucket);
    o->left = calloc(n, sizeof *o->left);
    o->awaited = calloc(n, sizeof *o->awaited);
    if (!o->known || !o->order || !o->place || !o->bucket || !o->left || !o->awaited) {
        cld_overlap_free(o);
        return cld_fail_null(CLD_NOMEM, "gradients: out of memory");
    }
    for (int i = 0; i < count; i++) o->known[i] = (known_leaf){params[i], i};
    qsort(o->known, n, sizeof *o->known, by_address);
    return o;
}

void cld_overlap_free(cld_overlap *o) {
    if (!o) return;
    cld_overlap_reset(o);
    cld__free_buckets(&o->buckets);
    free(o->known);
    free(o->order);
    free(o->place);
    free(o->bucket);
    free(o->left);
    free(o->awaited);
    free(o);
}

int cld_overlap_bucket(const cld_overlap *o, int param, int *place) {
    if (!o || !o->cut || o->place[param] < 0) return -1;
    int bucket = o->bucket[o->place[param]];
    *place = o->place[param] - o->buckets.buckets[bucket].first;
    return bucket;
}
