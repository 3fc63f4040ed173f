/* Padding. A constant goes around everything in one step; the other modes take one dimension after the other, each from
 * the result so far. */
#include "runtime/ops/ops.h"

/* ---- constant ------------------------------------------------------------------------------------------ */

typedef struct constant_node {
    cld_shape x;
    int64_t before[CLD_MAX_DIMS];
} constant_node;

/* The part of y that holds x; y is off the tape, or recording is off. */
static cld_tensor *inner_part(cld_tensor *y, const constant_node *p) {
    CLD_AUTO cld_tensor *part = cld_tensor_retain(y);
    for (int d = 0; part && d < p->x.ndim; d++) {
        cld_tensor *next = cld_narrow(part, d, p->before[d], p->x.extents[d]);
        cld_tensor_free(part);
        part = next;
    }
    return cld_tensor_steal(&part);
}

static cld_status constant_backward(cld_node *n, cld_tensor *const *dout, cld_tensor **din) {
    CLD_AUTO cld_tensor *part = inner_part(dout[0], cld_node_params(n, constant_node));
    din[0] = part ? cld_contiguous(part) : NULL;
    return din[0] ? CLD_OK : cld_error_code();
}
static const cld_op constant_op = {.name = "pad", .backward = constant_backward};

/* x in a larger tensor, filled with the value; before and after are not negative. */
static cld_tensor *surround(cld_tensor *x, const int64_t *before, const int64_t *after, double value) {
    constant_node node = {.x = cld_shape_of(&x->a)};
    cld_shape shape = node.x;
    for (int d = 0; d < shape.ndim; d++) {
        node.before[d] = before[d];
        if (__builtin_add_overflow(shape.extents[d], before[d], &shape.extents[d]) ||
            __builtin_add_overflow(shape.extents[d], after[d], &shape.extents[d]))
            return cld_fail_null(CLD_INVALID, "pad: dimension %d of %s would become too large", d + 1,
                                 cld_describe(&x->a));
    }
    CLD_AUTO cld_tensor *y = cld_tensor_full(x->a.dtype, shape.ndim, shape.extents, cld_device(x), value);
    CLD_AUTO cld_tensor *part = y ? inner_part(y, &node) : NULL;
    if (!part) return NULL;
    CLD_TRY_NULL(cld_tensor_copy(part, x));
    cld_node *n = cld_record(&constant_op, &y, 1, &x, 1);
    if (n) *cld_node_params(n, constant_node) = node;
    return cld_tensor_steal(&y);
}

/* Cuts off what negative pads remove. */
static cld_tensor *cropped(cld_tensor *given, const int64_t *before, const int64_t *after) {
    CLD_AUTO cld_tensor *x = cld_tensor_retain(given);
    for (int d = 0; x && d < given->a.ndim; d++) {
        int64_t front = before[d] < 0 ? -before[d] : 0, back = after[d] < 0 ? -after[d] : 0;
        if (front + back == 0) continue;
        if (front + back > given->a.shape[d])
            return cld_fail_null(CLD_INVALID, "pad: %lld elements cannot be cut off dimension %d of %s",
                                 (long long)(front + back), d + 1, cld_describe(&given->a));
        cld_tensor *next = cld_narrow(x, d, front, given->a.shape[d] - front - back);
        cld_tensor_free(x);
        x = next;
    }
    return cld_tensor_steal(&x);
}

/* ---- from x itself: one dimension ---------------------------------------------------------------------- */

typedef struct edge_node {
    cld_pad_mode mode;
    int dim;
    int64_t extent, before, after;
} edge_node;

/* The elements of x that make one side of y: `length` of them from `start`, in this order or reversed. Replicate: one
 * element, repeated. */
typedef struct edge {
    int64_t start, length, to, count; /* count elements of y from `to` on */
    bool reversed;
} edge;

static edge edge_of(const edge_node *p, bool behind) {
    int64_t count = behind ? p->after : p->before;
    edge e = {.length = count, .count = count, .to = behind ? p->before + p->extent : 0};
    switch (p->mode) {
    case CLD_PAD_REFLECT:
        e.start = behind ? p->extent - 1 - count : 1;
        e.reversed = true;
        break;
    case CLD_PAD_REPLICATE:
        e.start = behind ? p->extent - 1 : 0;
        e.length = 1;
        break;
    default: e.start = behind ? 0 : p->extent - count; break; /* circular */
    }
    return e;
}

static cld_tensor *in_order(cld_tensor *part, const edge *e, int dim) {
    return e->reversed ? cld_flip(part, &dim, 1) : cld_tensor_retain(part);
}

static cld_status write_edge(cld_tensor *y, cld_tensor *x, const edge *e, int dim) {
    if (e->count == 0) return CLD_OK;
    CLD_AUTO cld_tensor *part = cld_narrow(x, dim, e->start, e->length);
    CLD_AUTO cld_tensor *values = part ? in_order(part, e, dim) : NULL;
    CLD_AUTO cld_tensor *to = values ? cld_narrow(y, dim, e->to, e->count) : NULL;
    return to ? cld_tensor_copy(to, values) : cld_error_code();
}

static cld_status add_edge(cld_tensor *dx, cld_tensor *dy, const edge *e, int dim) {
    if (e->count == 0) return CLD_OK;
    CLD_AUTO cld_tensor *part = cld_narrow(dy, dim, e->to, e->count), *values = NULL;
    if (part) values = e->length < e->count ? cld_sum(part, &dim, 1, true) : in_order(part, e, dim);
    CLD_AUTO cld_tensor *to = values ? cld_narrow(dx, dim, e->start, e->length) : NULL;
    return to ? cld_add_(to, values) : cld_error_code();
}

static cld_status edge_backward(cld_node *n, cld_tensor *const *dout, cld_tensor **din) {
    const edge_node *p = cld_node_params(n, edge_node);
    CLD_AUTO cld_tensor *part = cld_narrow(dout[0], p->dim, p->before, p->extent);
    CLD_AUTO cld_tensor *dx = part ? cld_clone(part) : NULL;
    if (!dx) return cld_error_code();
    for (int behind = 0; behind < 2; behind++) {
        edge e = edge_of(p, behind);
        CLD_TRY(add_edge(dx, dout[0], &e, p->dim));
    }
    din[0] = cld_tensor_steal(&dx);
    return CLD_OK;
}
static const cld_op edge_op = {.name = "pad", .backward = edge_backward};

static cld_status check_edge(const cld_tensor *x, const edge_node *p, const char *name) {
    int64_t most = p->mode == CLD_PAD_REFLECT    ? p->extent - 1
                   : p->mode == CLD_PAD_CIRCULAR ? p->extent
                                                 : INT32_MAX;
    int64_t larger = p->before > p->after ? p->before : p->after, less = p->before + p->after - larger;
    if (less < 0)
        return cld_fail(CLD_INVALID, "pad: mode '%s' takes no negative number, got %lld", name,
                        (long long)less);
    if (larger > most)
        return cld_fail(CLD_INVALID,
                        "pad: mode '%s' adds at most %lld to each end of dimension %d of %s, not %lld", name,
                        (long long)most, p->dim + 1, cld_describe(&x->a), (long long)larger);
    if (p->extent == 0)
        return cld_fail(CLD_INVALID, "pad: dimension %d of %s is empty, so there is nothing to pad it with",
                        p->dim + 1, cld_describe(&x->a));
    return CLD_OK;
}

static cld_tensor *pad_dim(cld_tensor *x, const edge_node *p) {
    cld_shape shape = cld_shape_of(&x->a);
    shape.extents[p->dim] += p->before + p->after;
    CLD_AUTO cld_tensor *plain = cld_tensor_strided(x);
    CLD_AUTO cld_tensor *from = plain ? cld_tensor_detach(plain) : NULL;
    CLD_AUTO cld_tensor *y =
        from ? cld_tensor_new(x->a.dtype, shape.ndim, shape.extents, cld_device(x)) : NULL;
    CLD_AUTO cld_tensor *middle = y ? cld_narrow(y, p->dim, p->before, p->extent) : NULL;
    if (!middle) return NULL;
    CLD_TRY_NULL(cld_tensor_copy(middle, from));
    for (int behind = 0; behind < 2; behind++) {
        edge e = edge_of(p, behind);
        CLD_TRY_NULL(write_edge(y, from, &e, p->dim));
    }
    cld_node *n = cld_record(&edge_op, &y, 1, &x, 1);
    if (n) *cld_node_params(n, edge_node) = *p;
    return cld_tensor_steal(&y);
}

/* ---- all dimensions ------------------------------------------------------------------------------------ */

cld_tensor *cld_pad(cld_tensor *x, int count, const int64_t *pads, cld_pad_mode mode, double value) {
    static const char *const names[] = {"constant", "reflect", "replicate", "circular"};
    int ndim = x->a.ndim;
    if (count > ndim)
        return cld_fail_null(CLD_INVALID,
                             "pad: %d pairs of numbers are too many for %s, which has %d dimensions", count,
                             cld_describe(&x->a), ndim);
    if (mode == CLD_PAD_CONSTANT) {
        int64_t before[CLD_MAX_DIMS] = {0}, after[CLD_MAX_DIMS] = {0};
        for (int i = 0; i < count; i++) {
            before[ndim - 1 - i] = pads[2 * i];
            after[ndim - 1 - i] = pads[2 * i + 1];
        }
        CLD_AUTO cld_tensor *part = cropped(x, before, after);
        for (int d = 0; d < ndim; d++) {
            before[d] = before[d] < 0 ? 0 : before[d];
            after[d] = after[d] < 0 ? 0 : after[d];
        }
        return part ? surround(part, before, after, value) : NULL;
    }
    CLD_AUTO cld_tensor *y = cld_tensor_retain(x);
    for (int i = 0; y && i < count; i++) {
        int dim = ndim - 1 - i;
        edge_node p = {mode, dim, x->a.shape[dim], pads[2 * i], pads[2 * i + 1]};
        if (p.before == 0 && p.after == 0) continue;
        CLD_TRY_NULL(check_edge(x, &p, names[mode]));
        cld_tensor *next = pad_dim(y, &p);
        cld_tensor_free(y);
        y = next;
    }
    return cld_tensor_steal(&y);
}
