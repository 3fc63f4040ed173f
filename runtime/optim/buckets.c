#include "runtime/optim/buckets.h"

#include <stdlib.h>

#include "runtime/autograd/tape.h"
#include "runtime/optim/overlap.h"
#include "runtime/ops/ops.h"

enum { ALIGNED = 16 };         /* bytes: kernels read this many at once */
enum { LAST_BYTES = 1 << 20 }; /* of the last bucket, which nothing hides: backward is over when it is full */

static int64_t bucket_bytes = 25 << 20; /* as in PyTorch's DistributedDataParallel (Li et al., VLDB 2020) */
static cld_bucket_figures figures;

void cld_set_bucket_bytes(int64_t bytes) { bucket_bytes = bytes; }
cld_bucket_figures cld_dist_buckets(void) { return figures; }
void cld__count_early(void) { figures.early++; }

/* ---- cutting --------------------------------------------------------------------------------------------- */

static bool fits(const cld_bucket *b, const cld_tensor *first, const cld_tensor *x) {
    return first->a.dtype == x->a.dtype && cld_device(first) == cld_device(x) &&
           b->elements * (int64_t)cld_dtype_size(x->a.dtype) < bucket_bytes;
}

static int64_t bytes_of(const cld_tensor *x) {
    return cld_numel(&x->a) * (int64_t)cld_dtype_size(x->a.dtype);
}

/* The first leaf of the last bucket; `count` if buckets are small anyway. */
static int begin_of_last(cld_tensor *const *leaves, int count) {
    int64_t bytes = 0;
    int first = count;
    if (bucket_bytes <= LAST_BYTES) return count;
    while (first > 0 && bytes + bytes_of(leaves[first - 1]) <= LAST_BYTES) bytes += bytes_of(leaves[--first]);
    return first;
}

/* Makes room for one more leaf at the end of a bucket; returns its offset. */
static int64_t add_part(cld_bucket *b, const cld_tensor *x) {
    int64_t unit = ALIGNED / (int64_t)cld_dtype_size(x->a.dtype);
    int64_t at = (b->elements + unit - 1) / unit * unit;
    b->gaps = b->gaps || at != b->elements;
    b->elements = at + cld_numel(&x->a);
    b->count++;
    return at;
}

cld_status cld__cut_buckets(cld_buckets *b, cld_tensor *const *leaves, int count) {
    size_t n = (size_t)count + 1; /* not zero, even if count is */
    *b = (cld_buckets){.leaves = calloc(n, sizeof *b->leaves),
                       .at = calloc(n, sizeof *b->at),
                       .came = calloc(n, sizeof *b->came),
                       .had = calloc(n, sizeof *b->had),
                       .count = count,
                       .buckets = calloc(n, sizeof *b->buckets)};
    if (!b->leaves || !b->at || !b->came || !b->had || !b->buckets) {
        cld__free_buckets(b);
        return cld_fail(CLD_NOMEM, "gradients: out of memory");
    }
    int begin = begin_of_last(leaves, count);
    for (int i = 0; i < count; i++) {
        cld_bucket *last = b->bucket_count ? &b->buckets[b->bucket_count - 1] : NULL;
        if (!last || i == begin || !fits(last, leaves[last->first], leaves[i])) {
            last = &b->buckets[b->bucket_count++];
            last->first = i;
        }
        b->leaves[i] = leaves[i];
        b->at[i] = add_part(last, leaves[i]);
    }
    return CLD_OK;
}

/* ---- one bucket ------------------------------------------------------------------------------------------ */

/* A leaf's part of the packed array. */
static cld_tensor *part_of(const cld_buckets *b, int i, const cld_tensor *packed) {
    const cld_array *leaf = &b->leaves[i]->a;
    int64_t strides[CLD_MAX_DIMS], stride = 1;
    for (int d = leaf->ndim - 1; d >= 0; d--) {
        strides[d] = stride;
        stride *= leaf->shape[d];
    }
    char *data = (char *)packed->a.data + (size_t)b->at[i] * cld_dtype_size(leaf->dtype);
    return cld_tensor_view(packed, leaf->ndim, leaf->shape, strides, data);
}

static cld_tensor *gradient_of(const cld_buckets *b, int i) {
    return b->came[i] ? b->came[i] : b->leaves[i]->grad;
}

/* Copies the gradients into their parts; to, from: room for as many arrays. */
static cld_status copy_in(cld_buckets *b, const cld_bucket *own, cld_tensor *packed, cld_tensor **parts,
                          cld_array *to, cld_array *from) {
    int found = 0;
    for (int k = 0; k < own->count; k++) {
        const cld_tensor *g = gradient_of(b, own->first + k);
        if (g) CLD_TRY(cld_check_same_device("gradients", g, packed));
        b->had[own->first + k] = g != NULL;
        if (!g) continue;
        to[found] = parts[k]->a;
        from[found++] = g->a;
    }
    if (own->gaps || found < own->count) CLD_TRY(cld_tensor_fill(packed, cld_integer(0)));
    return cld_copy_many(cld_device(packed), found, to, from);
}

static cld_status pack(cld_buckets *b, const cld_bucket *own, cld_tensor *packed, cld_tensor **parts) {
    for (int k = 0; k < own->count; k++)
        if (!(parts[k] = part_of(b, own->first + k, packed))) return cld_error_code();
    cld_array *arrays = calloc(2 * (size_t)own->count, sizeof *arrays);
    if (!arrays) return cld_fail(CLD_NOMEM, "gradients: out of memory");
    cld_status status = copy_in(b, own, packed, parts, arrays, arrays + own->count);
    free(arrays);
    return status;
}

/* Each part becomes its leaf's .grad. */
static void hand_out(cld_buckets *b, const cld_bucket *own, cld_tensor **parts) {
    for (int k = 0; k < own->count; k++) {
        int i = own->first + k;
        const cld_tensor *before = gradient_of(b, i);
        parts[k]->loss_scaled = before && before->loss_scaled;
        parts[k]->summed = true;
        cld_set_gradient(b->leaves[i], cld_tensor_steal(&parts[k]));
        cld_tensor_free(b->came[i]);
        b->came[i] = NULL;
    }
}

cld_status cld__begin_bucket(cld_buckets *b) {
    const cld_bucket *own = &b->buckets[b->begun];
    const cld_tensor *first = b->leaves[own->first];
    CLD_AUTO cld_tensor *packed = cld_tensor_new(first->a.dtype, 1, &own->elements, cld_device(first));
    cld_tensor **parts = packed ? calloc((size_t)own->count, sizeof *parts) : NULL;
    if (!parts) return packed ? cld_fail(CLD_NOMEM, "gradients: out of memory") : cld_error_code();
    cld_status status = pack(b, own, packed, parts);
    if (status == CLD_OK) status = cld_all_reduce_begin(&packed, 1, CLD_COMM_SUM, 1);
    if (status == CLD_OK) hand_out(b, own, parts);
    for (int k = 0; k < own->count; k++) cld_tensor_free(parts[k]);
    free(parts);
    if (status != CLD_OK) return status;
    b->begun++;
    figures.begun++;
    figures.bytes += own->elements * (int64_t)cld_dtype_size(first->a.dtype);
    return CLD_OK;
}

/* ---- all of them ----------------------------------------------------------------------------------------- */

cld_status cld__begin_buckets(cld_buckets *b) {
    while (b->begun < b->bucket_count) CLD_TRY(cld__begin_bucket(b));
    return CLD_OK;
}

cld_status cld__join_buckets(const cld_buckets *b) {
    const cld_backend *joined = NULL;
    for (int i = 0; i < b->bucket_count; i++) {
        const cld_backend *device = cld_device(b->leaves[b->buckets[i].first]);
        if (device != joined) CLD_TRY(cld_dist_join(device));
        joined = device;
    }
    return CLD_OK;
}

void cld__reset_buckets(cld_buckets *b) {
    for (int i = 0; i < b->count && b->came; i++) {
        cld_tensor_free(b->came[i]);
        b->came[i] = NULL;
    }
    b->begun = 0;
}

void cld__free_buckets(cld_buckets *b) {
    cld__reset_buckets(b);
    free(b->leaves);
    free(b->at);
    free(b->came);
    free(b->had);
    free(b->buckets);
    *b = (cld_buckets){0};
}
