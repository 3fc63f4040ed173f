/* x[{key, key, ...}] and its assignment: positions, ranges, index tensors and masks, a key for each dimension.
 *
 * Positions and ranges are views. Index tensors gather as in PyTorch: they broadcast, and their shape replaces the
 * dimensions they index, or comes first if these are not adjacent. Several index tensors are combined into one, for the
 * joined dimensions: that is index_select, which has the gradient and checks on the device. */
#include <stdio.h>

#include "runtime/ops/ops.h"
#include "runtime/tensor/create.h"

/* ---- one key after another ------------------------------------------------------------------------------ */

/* What the positions and ranges leave of x, and the index tensors with the dimension that each one indexes. The view
 * runs forwards; `turned` marks its dimensions whose range runs backwards. */
typedef struct selection {
    cld_tensor *view;
    int count, dims[CLD_MAX_DIMS];
    cld_tensor *index[CLD_MAX_DIMS];
    int turns, turned[CLD_MAX_DIMS];
} selection;

static void drop_selection(selection *s) {
    cld_tensor_free(s->view);
    for (int i = 0; i < s->count; i++) cld_tensor_free(s->index[i]);
}

static cld_status narrow_to(selection *s, cld_tensor *part) {
    if (!part) return cld_error_code();
    cld_tensor_free(s->view);
    s->view = part;
    return CLD_OK;
}

static cld_status add_index(selection *s, int dim, cld_tensor *index) {
    if (!index) return cld_error_code();
    s->dims[s->count] = dim;
    s->index[s->count++] = index;
    return CLD_OK;
}

/* The u8 mask covers the view's dimensions from dim on: adds an index of its nonzero positions for each of them. */
static cld_status add_mask(selection *s, int dim, cld_tensor *mask, int number) {
    const cld_array *m = &mask->a, *x = &s->view->a;
    bool fits = m->ndim > 0 && dim + m->ndim <= x->ndim;
    for (int d = 0; fits && d < m->ndim; d++) fits = m->shape[d] == x->shape[dim + d];
    if (!fits)
        return cld_fail(CLD_INVALID, "index %d: the mask %s does not fit the dimensions from %d on of %s",
                        number, cld_describe(m), dim + 1, cld_describe(x));
    CLD_AUTO cld_tensor *places = cld_nonzero(mask);
    if (!places) return cld_error_code();
    for (int d = 0; d < m->ndim; d++) CLD_TRY(add_index(s, dim + d, cld_select(places, 1, d)));
    return CLD_OK;
}

/* Negative integers count from the end, as in PyTorch; those out of range are kept, so that the error can name them. */
static cld_tensor *from_the_start(cld_tensor *index, int64_t extent) {
    CLD_AUTO cld_tensor *negative = cld_unary_with(CLD_LT_SCALAR, index, cld_integer(0), cld_integer(0));
    CLD_AUTO cld_tensor *reached =
        negative ? cld_unary_with(CLD_GE_SCALAR, index, cld_integer(-extent), cld_integer(0)) : NULL;
    CLD_AUTO cld_tensor *both = reached ? cld_binary_op(CLD_AND, negative, reached) : NULL;
    CLD_AUTO cld_tensor *moved =
        both ? cld_unary_with(CLD_ADD_SCALAR, index, cld_integer(extent), cld_integer(0)) : NULL;
    return moved ? cld_where(both, moved, index) : NULL;
}

static cld_status add_tensor(selection *s, int *dim, cld_tensor *key, int number) {
    CLD_TRY(cld_check_same_device("index", s->view, key));
    if (key->a.dtype == CLD_U8) {
        CLD_TRY(add_mask(s, *dim, key, number));
        *dim += key->a.ndim;
        return CLD_OK;
    }
    if (key->a.dtype != CLD_I64)
        return cld_fail(CLD_INVALID, "index %d: the index must be i64, got %s; a mask is u8", number,
                        cld_describe(&key->a));
    int64_t extent = s->view->a.shape[*dim];
    return add_index(s, (*dim)++, from_the_start(key, extent));
}

cld_status cld_check_position(const cld_tensor *x, int dim, int64_t *position) {
    int64_t extent = x->a.shape[dim], p = *position;
    *position = p < 0 ? p + extent : p;
    if (*position >= 0 && *position < extent) return CLD_OK;
    long long written = p == CLD_NOWHERE ? 0 : p < 0 ? p : p + 1;
    char backwards[64];
    snprintf(backwards, sizeof backwards, ", or -%lld to -1", (long long)extent);
    bool walked_off = dim == 0 && p == extent; /* ipairs stops at nil */
    return cld_fail(CLD_INVALID, "index %lld of dimension %d of %s; expected 1 to %lld%s", written, dim + 1,
                    cld_describe(&x->a), (long long)extent,
                    walked_off ? " (to walk along it: for i, row in t:rows() do)" : backwards);
}

/* original: x's dimension that the key is for; dim: the view's. */
static cld_status add_key(selection *s, const cld_tensor *x, int original, int *dim, const cld_key *key) {
    int64_t first = key->first, last = key->last;
    if (key->kind == CLD_KEY_ALL) {
        ++*dim;
        return CLD_OK;
    }
    CLD_TRY(cld_check_position(x, original, &first));
    if (key->kind == CLD_KEY_POSITION) return narrow_to(s, cld_select(s->view, *dim, first));
    CLD_TRY(cld_check_position(x, original, &last));
    int64_t step = key->step, apart = last - first;
    if (step == 0 || step == INT64_MIN)
        return cld_fail(CLD_INVALID, "index %d: the step is %lld; expected another integer", original + 1,
                        (long long)step);
    if (step > 0 ? apart < 0 : apart > 0)
        return cld_fail(CLD_INVALID, "index %d: the range {%lld, %lld} runs %s, but its step is %lld",
                        original + 1, (long long)first + 1, (long long)last + 1,
                        step > 0 ? "backwards" : "forwards", (long long)step);
    int64_t length = apart / step + 1;
    if (step < 0) {
        s->turned[s->turns++] = *dim;
        first += (length - 1) * step;
        step = -step;
    }
    return narrow_to(s, cld_slice(s->view, (*dim)++, first, length, step));
}

static cld_status select_keys(selection *s, cld_tensor *x, const cld_key *keys, int count) {
    s->view = cld_tensor_retain(x);
    for (int k = 0, original = 0, dim = 0; k < count; k++) {
        bool is_tensor = keys[k].kind == CLD_KEY_TENSOR;
        if (original >= x->a.ndim)
            return cld_fail(CLD_INVALID, "index %d of %s, which has %d dimension%s", k + 1,
                            cld_describe(&x->a), x->a.ndim, x->a.ndim == 1 ? "" : "s");
        int before = dim;
        if (is_tensor)
            CLD_TRY(add_tensor(s, &dim, keys[k].tensor, k + 1));
        else
            CLD_TRY(add_key(s, x, original, &dim, &keys[k]));
        original += is_tensor ? dim - before : 1;
    }
    return CLD_OK;
}

/* ---- several index tensors as one ----------------------------------------------------------------------- */

/* The view's dimensions with the indexed ones first, and the shape of the result. */
typedef struct plan {
    int order[CLD_MAX_DIMS];       /* of the view's dimensions */
    int place;                     /* the position of the index's dimensions among the others */
    int64_t rows;                  /* number of elements of the joined indexed dimensions */
    cld_shape index, flat, result; /* broadcast; (rows, others...); with the index's dimensions in place */
} plan;

static cld_status plan_of(plan *p, const selection *s) {
    const cld_array *view = &s->view->a;
    bool indexed[CLD_MAX_DIMS] = {false}, side_by_side = true;
    *p = (plan){.rows = 1, .index = cld_shape_of(&s->index[0]->a)};
    for (int i = 0; i < s->count; i++) {
        cld_array so_far = {.dtype = CLD_I64, .ndim = p->index.ndim};
        for (int d = 0; d < so_far.ndim; d++) so_far.shape[d] = p->index.extents[d];
        CLD_TRY(cld_broadcast_shapes("index", &so_far, &s->index[i]->a, &p->index));
        p->order[i] = s->dims[i];
        p->rows *= view->shape[s->dims[i]];
        indexed[s->dims[i]] = true;
        side_by_side &= i == 0 || s->dims[i] == s->dims[i - 1] + 1;
    }
    p->place = side_by_side ? s->dims[0] : 0;
    if (view->ndim - s->count + p->index.ndim > CLD_MAX_DIMS)
        return cld_fail(CLD_INVALID,
                        "selection by index: from %s, the result would have more than %d dimensions",
                        cld_describe(view), CLD_MAX_DIMS);
    p->flat.extents[p->flat.ndim++] = p->rows;
    for (int d = 0, at = s->count; d < view->ndim; d++) {
        if (indexed[d]) continue;
        p->order[at++] = d;
        p->flat.extents[p->flat.ndim++] = view->shape[d];
    }
    for (int other = 1; other <= p->flat.ndim; other++) {
        if (other - 1 == p->place)
            for (int d = 0; d < p->index.ndim; d++) p->result.extents[p->result.ndim++] = p->index.extents[d];
        if (other < p->flat.ndim) p->result.extents[p->result.ndim++] = p->flat.extents[other];
    }
    return CLD_OK;
}

/* index times stride, in its own shape; the device checks it against the extent. */
static cld_tensor *scaled_index(cld_tensor *index, int64_t extent, int64_t stride) {
    CLD_AUTO cld_tensor *table = cld_tensor_arange(CLD_I64, cld_integer(0), cld_integer(extent * stride),
                                                   cld_integer(stride), cld_device(index));
    return table ? cld_index_rows(table, index) : NULL;
}

/* An index into the rows of the flat view: (index elements), i64. */
static cld_tensor *joined_index(const selection *s, const plan *p) {
    CLD_AUTO cld_tensor *sum = NULL;
    int64_t stride = 1;
    for (int i = s->count - 1; i >= 0; i--) {
        int64_t extent = s->view->a.shape[s->dims[i]];
        CLD_AUTO cld_tensor *part =
            s->count == 1 ? cld_tensor_retain(s->index[0]) : scaled_index(s->index[i], extent, stride);
        cld_tensor *total = !part ? NULL : sum ? cld_add(sum, part) : cld_tensor_retain(part);
        if (!total) return NULL;
        cld_tensor_free(sum);
        sum = total;
        stride *= extent > 0 ? extent : 1;
    }
    CLD_AUTO cld_tensor *wide = cld_expand(sum, p->index.ndim, p->index.extents);
    return wide ? cld_flatten(wide, 0, -1) : NULL;
}

/* The view with the indexed dimensions joined and first; a copy if necessary. */
static cld_tensor *flat_view(cld_tensor **permuted, const selection *s, const plan *p) {
    *permuted = cld_permute(s->view, p->order);
    return *permuted ? cld_reshape(*permuted, p->flat.ndim, p->flat.extents) : NULL;
}

/* Converts between (index..., others...) and the result's order of dimensions. */
static cld_tensor *move_index(cld_tensor *x, const plan *p, bool home) {
    int dims[CLD_MAX_DIMS], inverse[CLD_MAX_DIMS], at = 0;
    for (int d = 0; d < p->place; d++) dims[at++] = p->index.ndim + d;
    for (int d = 0; d < p->index.ndim; d++) dims[at++] = d;
    while (at < p->result.ndim) dims[at] = at, at++;
    for (int d = 0; d < at; d++) inverse[dims[d]] = d;
    return p->place == 0 ? cld_tensor_retain(x) : cld_permute(x, home ? dims : inverse);
}

/* The shape (index..., others...). */
static cld_shape with_index_first(const plan *p) {
    cld_shape shape = p->index;
    for (int d = 1; d < p->flat.ndim; d++) shape.extents[shape.ndim++] = p->flat.extents[d];
    return shape;
}

/* ---- reading and writing -------------------------------------------------------------------------------- */

static cld_tensor *gathered(const selection *s) {
    plan p;
    CLD_TRY_NULL(plan_of(&p, s));
    CLD_AUTO cld_tensor *line = joined_index(s, &p);
    if (!line) return NULL;
    if (s->count == 1) {
        CLD_AUTO cld_tensor *chosen = cld_index_select(s->view, s->dims[0], line);
        return chosen ? cld_reshape(chosen, p.result.ndim, p.result.extents) : NULL;
    }
    CLD_AUTO cld_tensor *permuted = NULL;
    CLD_AUTO cld_tensor *flat = flat_view(&permuted, s, &p);
    CLD_AUTO cld_tensor *rows = flat ? cld_index_select(flat, 0, line) : NULL;
    cld_shape shape = with_index_first(&p);
    CLD_AUTO cld_tensor *first = rows ? cld_reshape(rows, shape.ndim, shape.extents) : NULL;
    CLD_AUTO cld_tensor *moved = first ? move_index(first, &p, true) : NULL;
    return moved ? cld_contiguous(moved) : NULL;
}

static bool is_lone_mask(const cld_key *keys, int count) {
    return count == 1 && keys[0].kind == CLD_KEY_TENSOR && keys[0].tensor->a.dtype == CLD_U8;
}

cld_tensor *cld_index(cld_tensor *x, const cld_key *keys, int count) {
    if (is_lone_mask(keys, count)) return cld_mask_rows(x, keys[0].tensor);
    __attribute__((cleanup(drop_selection))) selection s = {0};
    CLD_TRY_NULL(select_keys(&s, x, keys, count));
    if (s.turns > 0) CLD_TRY_NULL(narrow_to(&s, cld_flip(s.view, s.turned, s.turns)));
    return s.count == 0 ? cld_tensor_retain(s.view) : gathered(&s);
}

static cld_status scatter(const selection *s, cld_tensor *value) {
    plan p;
    cld_shape fits;
    CLD_TRY(plan_of(&p, s));
    cld_array result = {.dtype = s->view->a.dtype, .ndim = p.result.ndim};
    for (int d = 0; d < result.ndim; d++) result.shape[d] = p.result.extents[d];
    CLD_TRY(cld_broadcast_shapes("assignment by index", &result, &value->a, &fits));
    CLD_AUTO cld_tensor *wide = cld_expand_for("assignment by index", value, p.result.ndim, p.result.extents);
    CLD_AUTO cld_tensor *moved = wide ? move_index(wide, &p, false) : NULL;
    CLD_AUTO cld_tensor *line = moved ? joined_index(s, &p) : NULL;
    if (!line) return cld_error_code();
    p.flat.extents[0] = cld_numel(&line->a);
    CLD_AUTO cld_tensor *source = cld_reshape(moved, p.flat.ndim, p.flat.extents);
    p.flat.extents[0] = p.rows;
    CLD_AUTO cld_tensor *permuted = NULL;
    CLD_AUTO cld_tensor *flat = source ? flat_view(&permuted, s, &p) : NULL;
    if (!flat) return cld_error_code();
    CLD_TRY(cld_index_assign(flat, line, source));
    if (flat->storage == s->view->storage) return CLD_OK;
    CLD_AUTO cld_tensor *back =
        cld_reshape(flat, permuted->a.ndim, permuted->a.shape); /* it had to be a copy */
    return back ? cld_tensor_copy(permuted, back) : cld_error_code();
}

/* Reverses value's dimensions instead of the view's. */
static cld_status put_turned(const selection *s, cld_tensor *value) {
    if (s->count > 0)
        return cld_fail(CLD_INVALID, "assignment: a backward range cannot be combined with an index tensor; "
                                     "assign to a forward range");
    CLD_AUTO cld_tensor *wide = cld_expand_for("assignment", value, s->view->a.ndim, s->view->a.shape);
    CLD_AUTO cld_tensor *turned = wide ? cld_flip(wide, s->turned, s->turns) : NULL;
    return turned ? cld_copy_("assignment", s->view, turned) : cld_error_code();
}

cld_status cld_index_put_(cld_tensor *x, const cld_key *keys, int count, cld_tensor *value) {
    CLD_TRY(cld_check_off_tape("assignment", x));
    if (is_lone_mask(keys, count)) return cld_mask_assign(x, keys[0].tensor, value);
    CLD_TRY(cld_tensor_unblock(x));
    CLD_AUTO cld_tensor *plain = cld_tensor_detach(x); /* off the tape, so that no view is recorded */
    __attribute__((cleanup(drop_selection))) selection s = {0};
    if (!plain) return cld_error_code();
    CLD_TRY(select_keys(&s, plain, keys, count));
    if (s.turns > 0) return put_turned(&s, value);
    if (s.count == 0) return cld_copy_("assignment", s.view, value);
    CLD_TRY(cld_check_in_place("assignment by index", s.view));
    if (cld_device(x) == cld_device(value)) return scatter(&s, value);
    return cld_check_same_device("assignment by index", x, value);
}
