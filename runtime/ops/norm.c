/* batch_norm, alone or fused with the relu and the residual addition that follow it: shape rule, forward, gradient. In
 * training the parts of a batch (kernels/parts.h) have their own statistics. If ranks share a batch, the sums of the
 * local rows are added up over the ranks before they are used, in forward and backward ("SyncBN").
 *
 * For backward, x and the batch's mean and invstd are saved; the normalized value is recomputed from them. Without a
 * residual the output itself can be recomputed as cheaply (one pass), so the node is marked rebuildable: a following
 * convolution keeps no copy of its input, except on a device with memory to spare. With a residual relu's mask is kept:
 * as bits on a device that masks, else as the output, whose memory the next convolution keeps anyway. */
#include "runtime/dist/dist.h"
#include "runtime/ops/ops.h"

enum { INPUT_X, INPUT_RESIDUAL, INPUT_WEIGHT, INPUT_BIAS, INPUTS };
enum { SAVED_X, SAVED_GATE, SAVED_WEIGHT, SAVED_BIAS, SAVED_MEAN, SAVED_INVSTD };

/* ---- shape rule ---------------------------------------------------------------------------------------- */

static cld_status check_vector(const cld_tensor *x, const cld_tensor *v, const char *what) {
    cld_dtype dtype = cld_vector_dtype(x->a.dtype);
    if (!v) return CLD_OK;
    CLD_TRY(cld_check_same_device("batch_norm", x, v));
    if (v->a.ndim == 1 && v->a.shape[0] == x->a.shape[1] && v->a.dtype == dtype) return CLD_OK;
    if (v->a.ndim == 1 && v->a.dtype == dtype)
        return cld_fail(CLD_INVALID, "batch_norm: x has %lld channels, the %s %lld (x is %s)",
                        (long long)x->a.shape[1], what, (long long)v->a.shape[0], cld_describe(&x->a));
    return cld_fail(CLD_INVALID, "batch_norm: input %s needs a %s of %s[%lld], got %s", cld_describe(&x->a),
                    what, cld_dtype_name(dtype), (long long)x->a.shape[1], cld_describe(&v->a));
}

static cld_status check_running(const cld_tensor *x, const cld_tensor *v, const char *what) {
    CLD_TRY(check_vector(x, v, what));
    if (v && !cld_is_contiguous(&v->a))
        return cld_fail(CLD_INVALID, "batch_norm: %s is updated in place and must be contiguous", what);
    return CLD_OK;
}

static cld_status check_counter(const cld_tensor *x, const cld_tensor *batches) {
    if (!batches) return CLD_OK;
    CLD_TRY(cld_check_same_device("batch_norm", x, batches));
    if (batches->a.dtype == CLD_I64 && cld_numel(&batches->a) == 1) return CLD_OK;
    return cld_fail(CLD_INVALID, "batch_norm: num_batches_tracked must be one i64 element, got %s",
                    cld_describe(&batches->a));
}

/* For a batch that ranks share: the images and blocks on this rank. */
static cld_status check_here(const cld_parts *parts, int64_t images) {
    if (parts->begin < 0 || parts->begin + images > parts->total)
        return cld_fail(CLD_INVALID, "batch_norm: %lld images from %lld on are not all of a batch of %lld",
                        (long long)images, (long long)parts->begin, (long long)parts->total);
    if (parts->of < 1 || parts->of > parts->total)
        return cld_fail(CLD_INVALID, "batch_norm: %lld images cannot make %d blocks of at least one each",
                        (long long)parts->total, parts->of);
    cld_parts right =
        cld_parts_here(parts->views, parts->unit, parts->of, parts->total, parts->begin, images);
    if (parts->first == right.first && cld_parts_blocks(parts) == right.blocks) return CLD_OK;
    return cld_fail(
        CLD_INVALID,
        "batch_norm: images %lld to %lld of %lld, in %d blocks, lie in %d from block %d on, not in "
        "%d from %d on",
        (long long)parts->begin, (long long)(parts->begin + images - 1), (long long)parts->total, parts->of,
        right.blocks, right.first, cld_parts_blocks(parts), parts->first);
}

/* x's rows are whole views of whole images, and each block has some of them. */
static cld_status check_cut(const cld_tensor *x, const cld_parts *parts) {
    int views = cld_parts_views(parts), blocks = cld_parts_blocks(parts), unit = cld_parts_unit(parts);
    int64_t rows = x->a.shape[0], of_view = (int64_t)views * unit;
    bool cut = (int64_t)views * blocks > 1 || parts->total != 0; /* otherwise x may also have no rows */
    if (parts->views < 0 || parts->blocks < 0 || parts->unit < 0 || (int64_t)views * blocks > INT32_MAX ||
        (int64_t)views * parts->of > INT32_MAX || rows % of_view != 0 || (cut && rows / of_view < blocks))
        return cld_fail(
            CLD_INVALID,
            "batch_norm: %lld rows are not %d views of images of %d rows, in %d blocks of at least "
            "one image each",
            (long long)rows, parts->views, parts->unit, parts->blocks);
    return parts->total != 0 ? check_here(parts, rows / of_view) : CLD_OK;
}

static cld_status check_share(const cld_share *share) {
    if (share->total != 0 &&
        !(share->done >= 0 && share->rows > 0 && share->done + share->rows <= share->total))
        return cld_fail(CLD_INVALID,
                        "batch_norm: %lld of a view's images after %lld others are not a part of %lld",
                        (long long)share->rows, (long long)share->done, (long long)share->total);
    if (share->before < 0 || share->after < 0)
        return cld_fail(CLD_INVALID, "batch_norm: %d views before and %d after; expected at least 0",
                        share->before, share->after);
    return CLD_OK;
}

/* The parts of a batch in training. If ranks share it, whole blocks are counted, so that all ranks get the same
 * result. */
static cld_status check_parts(const cld_tensor *x, const cld_norm_params *p) {
    CLD_TRY(check_cut(x, &p->parts));
    CLD_TRY(check_share(&p->share));
    cld_parts whole = cld_parts_whole(&p->parts);
    int views = cld_parts_views(&whole), blocks = cld_parts_blocks(&whole);
    int64_t rows = cld_parts_whole_rows(&p->parts, x->a.shape[0]), count = cld_part_count(&whole);
    int64_t least = count > 1 ? cld_part_rows(&whole, rows, blocks - 1) : rows;
    if (least * x->a.shape[2] * x->a.shape[3] >= 2) return CLD_OK;
    if (count == 1)
        return cld_fail(CLD_INVALID,
                        "batch_norm: training needs more than one value per channel, got input %s",
                        cld_describe(&x->a));
    return cld_fail(
        CLD_INVALID,
        "batch_norm: training needs more than one value per channel, and block %d of %d of %lld images "
        "has one, input %s",
        blocks, blocks, (long long)(rows / ((int64_t)views * cld_parts_unit(&whole))), cld_describe(&x->a));
}

static cld_status check(const cld_tensor *x, const cld_tensor *residual, const cld_tensor *weight,
                        const cld_tensor *bias, const cld_tensor *running_mean, const cld_tensor *running_var,
                        const cld_tensor *batches, const cld_norm_params *p) {
    const char *input = cld_describe(&x->a);
    if (x->a.ndim != 4)
        return cld_fail(CLD_INVALID, "batch_norm: expected a 4-d input (N, C, H, W), got %s", input);
    if (!cld_dtype_is_float(x->a.dtype))
        return cld_fail(CLD_INVALID, "batch_norm: expected a floating-point input, got %s", input);
    CLD_TRY(check_vector(x, weight, "weight"));
    CLD_TRY(check_vector(x, bias, "bias"));
    CLD_TRY(check_running(x, running_mean, "running_mean"));
    CLD_TRY(check_running(x, running_var, "running_var"));
    CLD_TRY(check_counter(x, batches));
    if (residual) {
        CLD_TRY(cld_check_same_device("batch_norm", x, residual));
        if (!cld_same_shape(&residual->a, &x->a) || residual->a.dtype != x->a.dtype)
            return cld_fail(CLD_INVALID, "batch_norm: the residual is %s, the input %s; they must match",
                            cld_describe(&residual->a), input);
    }
    if (!p->training && (!running_mean || !running_var))
        return cld_fail(CLD_INVALID, "batch_norm: evaluation needs running_mean and running_var");
    if (!(p->eps > 0)) return cld_fail(CLD_INVALID, "batch_norm: eps must be positive, got %g", p->eps);
    if (!(p->momentum >= 0 && p->momentum <= 1))
        return cld_fail(CLD_INVALID, "batch_norm: momentum must be from 0 to 1, got %g", p->momentum);
    return p->training ? check_parts(x, p) : CLD_OK;
}

/* ---- sums over the ranks ------------------------------------------------------------------------------- */

static const cld_array *array(const cld_tensor *t) { return t ? &t->a : NULL; }

/* Room for the sums of the whole batch's parts. */
static cld_tensor *new_sums(const cld_tensor *x, const cld_parts *parts) {
    cld_parts whole = cld_parts_whole(parts);
    int64_t shape[3] = {cld_part_count(&whole), 2, x->a.shape[1]};
    return cld_tensor_new(CLD_F64, 3, shape, cld_device(x));
}

static cld_status add_up(cld_tensor *sums) { return cld_all_reduce(&sums, 1, CLD_COMM_SUM, 1); }

/* ---- gradient ------------------------------------------------------------------------------------------ */

/* What the node saved; weight and bias stay NULL if there were none. */
typedef struct saved {
    cld_tensor *x, *gate, *weight, *bias, *mean, *invstd;
} saved;

static void drop_saved(saved *s) {
    cld_tensor_free(s->x);
    cld_tensor_free(s->gate);
    cld_tensor_free(s->weight);
    cld_tensor_free(s->bias);
    cld_tensor_free(s->mean);
    cld_tensor_free(s->invstd);
}

static cld_status take_saved(cld_node *n, saved *s) {
    cld_tensor **slots[] = {[SAVED_X] = &s->x,       [SAVED_GATE] = &s->gate, [SAVED_WEIGHT] = &s->weight,
                            [SAVED_BIAS] = &s->bias, [SAVED_MEAN] = &s->mean, [SAVED_INVSTD] = &s->invstd};
    for (int i = 0; i <= SAVED_INVSTD; i++) {
        bool optional = i == SAVED_GATE || i == SAVED_WEIGHT || i == SAVED_BIAS;
        if (optional && !cld_node_has(n, i)) continue;
        *slots[i] = cld_node_saved(n, i);
        if (!*slots[i]) return cld_error_code();
    }
    return CLD_OK;
}

/* dx or dresidual may use dy's memory if nobody else holds it: one array less to store and to read. `given` is the
 * gradient as passed, dy the same tensor or our copy of it in another layout. */
static bool is_ours(const cld_tensor *dy, const cld_tensor *given) {
    return dy->refs == (dy == given ? 2 : 1) && dy->storage->refs == 1;
}

/* From the two terms of dy, the second of which may be NULL, computes the gradients that din asks for. Only dx depends
 * on the other ranks' rows; the gradients of weight and bias are from this rank's rows, as for all parameters. */
static cld_status compute_gradients(cld_node *n, const saved *s, const cld_tensor *dy, const cld_tensor *more,
                                    cld_tensor *const *din) {
    const cld_norm_params *p = cld_node_params(n, cld_norm_params);
    const cld_array *dx = array(din[INPUT_X]), *dresidual = array(din[INPUT_RESIDUAL]);
    const cld_array *dweight = array(din[INPUT_WEIGHT]), *dbias = array(din[INPUT_BIAS]);
    CLD_AUTO cld_tensor *sums = NULL;
    if (p->parts.total != 0 && dx) {
        sums = new_sums(s->x, &p->parts);
        if (!sums) return cld_error_code();
        CLD_TRY(cld_kernel(n->device, conv, norm_backward_sums, &sums->a, dresidual, dweight, dbias, &dy->a,
                           array(more), &s->x->a, array(s->gate), array(s->weight), array(s->bias),
                           &s->mean->a, &s->invstd->a, p));
        CLD_TRY(add_up(sums));
        dweight = dbias = NULL;
    }
    return cld_kernel(n->device, conv, norm_backward, dx, dresidual, dweight, dbias, &dy->a, array(more),
                      &s->x->a, array(s->gate), array(s->weight), array(s->bias), &s->mean->a, &s->invstd->a,
                      array(sums), p);
}

static cld_status norm_backward(cld_node *n, cld_tensor *const *dout, cld_tensor **din) {
    __attribute__((cleanup(drop_saved))) saved s = {0};
    CLD_TRY(take_saved(n, &s));
    CLD_AUTO cld_tensor *dy = cld_to_activation(dout[0]);
    if (!dy) return cld_error_code();
    CLD_AUTO cld_tensor *more = dout[1] ? cld_to_activation(dout[1]) : NULL; /* the second term */
    if (dout[1] && !more) return cld_error_code();
    bool reuse = is_ours(dy, dout[0]);
    if (cld_node_needs(n, INPUT_RESIDUAL)) {
        din[INPUT_RESIDUAL] = reuse ? cld_tensor_retain(dy) : cld_tensor_new_like(dy);
        if (!din[INPUT_RESIDUAL]) return cld_error_code();
        reuse = false;
    }
    if (cld_node_needs(n, INPUT_X)) {
        din[INPUT_X] = reuse ? cld_tensor_retain(dy) : cld_tensor_new_like(dy);
        if (!din[INPUT_X]) return cld_error_code();
    }
    for (int i = INPUT_WEIGHT; i <= INPUT_BIAS; i++) {
        if (!cld_node_needs(n, i)) continue;
        din[i] = cld_tensor_new(s.mean->a.dtype, 1, &s.x->a.shape[1], n->device);
        if (!din[i]) return cld_error_code();
    }
    return compute_gradients(n, &s, dy, more, din);
}

static cld_tensor *norm_rebuild(cld_node *n) {
    __attribute__((cleanup(drop_saved))) saved s = {0};
    CLD_TRY_NULL(take_saved(n, &s));
    CLD_AUTO cld_tensor *y = cld_tensor_new_like(s.x);
    if (!y) return NULL;
    CLD_TRY_NULL(cld_kernel(n->device, conv, norm_apply, &y->a, &s.x->a, array(s.weight), array(s.bias),
                            &s.mean->a, &s.invstd->a, cld_node_params(n, cld_norm_params)));
    return cld_tensor_steal(&y);
}

static bool takes_terms(const cld_node *n) { return n->device->conv->adds_dy; }

static const cld_op norm_op = {
    .name = "batch_norm", .backward = norm_backward, .rebuild = norm_rebuild, .takes_terms = takes_terms};

/* ---- forward ------------------------------------------------------------------------------------------- */

/* From this rank's rows alone, if the batch is split: the ranks' statistics are averaged later. */
static cld_status was_moved(cld_tensor *running, const cld_norm_params *p) {
    atomic_fetch_add(&running->storage->version, 1);
    return cld_batch_at_hand().split && p->parts.total == 0 ? cld_pending_add(running) : CLD_OK;
}

/* For 16 bits, if the device has no kernels for them. */
static cld_tensor *in_f32(cld_tensor *x, cld_tensor *residual, cld_tensor *weight, cld_tensor *bias,
                          cld_tensor *running_mean, cld_tensor *running_var, cld_tensor *batches,
                          const cld_norm_params *p) {
    CLD_AUTO cld_tensor *wide = cld_cast(x, CLD_F32), *wide_residual = NULL;
    if (residual) wide_residual = cld_cast(residual, CLD_F32);
    if (!wide || (residual && !wide_residual)) return NULL;
    CLD_AUTO cld_tensor *y =
        cld_batch_norm(wide, wide_residual, weight, bias, running_mean, running_var, batches, p);
    return y ? cld_cast(y, x->a.dtype) : NULL;
}

/* Whether to keep an output: is the time saved worth the memory? */
static bool has_room(const cld_backend *device) {
    if (!(device->conv->keeps_below > 0)) return false;
    cld_memory_info memory = device->memory->info();
    return (double)memory.in_use < device->conv->keeps_below * (double)memory.limit;
}

static cld_status sum_input(cld_tensor **sums, const cld_tensor *x, const cld_norm_params *p) {
    *sums = new_sums(x, &p->parts);
    if (!*sums) return cld_error_code();
    CLD_TRY(cld_kernel(cld_device(x), conv, norm_sums, &(*sums)->a, &x->a, p));
    return add_up(*sums);
}

static cld_tensor *optional_contiguous(cld_tensor *t) { return t ? cld_tensor_contiguous(t) : NULL; }

cld_tensor *cld_batch_norm(cld_tensor *x, cld_tensor *residual, cld_tensor *weight, cld_tensor *bias,
                           cld_tensor *running_mean, cld_tensor *running_var, cld_tensor *batches,
                           const cld_norm_params *given) {
    const cld_backend *device = cld_device(x);
    cld_norm_params settings = *given, *p = &settings;
    if (!p->training) p->parts = (cld_parts){0};
    CLD_TRY_NULL(check(x, residual, weight, bias, running_mean, running_var, batches, p));
    if (cld_dtype_is_half(x->a.dtype) && !cld_device_accepts_half(device))
        return in_f32(x, residual, weight, bias, running_mean, running_var, batches, p);

    CLD_AUTO cld_tensor *input = cld_to_activation(x), *added = NULL, *w = NULL, *b = NULL;
    if (residual) added = cld_to_activation(residual);
    w = optional_contiguous(weight);
    b = optional_contiguous(bias);
    int64_t statistics[2] = {cld_part_count(&p->parts), x->a.shape[1]};
    CLD_AUTO cld_tensor *mean = cld_tensor_new(cld_vector_dtype(x->a.dtype), 2, statistics, device);
    CLD_AUTO cld_tensor *invstd = cld_tensor_new(cld_vector_dtype(x->a.dtype), 2, statistics, device);
    CLD_AUTO cld_tensor *y = cld_tensor_new_activation(x->a.dtype, x->a.shape, device);
    if (!input || (residual && !added) || (weight && !w) || (bias && !b) || !mean || !invstd || !y)
        return NULL;
    cld_tensor *inputs[] = {x, residual, weight, bias};
    CLD_AUTO cld_tensor *mask = NULL;
    if (device->conv->masks && residual && p->relu && cld_needs_grad(inputs, INPUTS)) {
        int64_t bytes = cld_norm_mask_bytes(&y->a);
        mask = cld_tensor_new(CLD_U8, 1, &bytes, device);
        if (!mask) return NULL;
    }
    CLD_AUTO cld_tensor *sums = NULL;
    if (p->parts.total != 0) CLD_TRY_NULL(sum_input(&sums, input, p));
    CLD_TRY_NULL(cld_kernel(device, conv, norm, &y->a, array(mask), &mean->a, &invstd->a, &input->a,
                            array(added), array(w), array(b), array(running_mean), array(running_var),
                            array(batches), array(sums), p));
    if (p->training && running_mean) CLD_TRY_NULL(was_moved(running_mean, p));
    if (p->training && running_var) CLD_TRY_NULL(was_moved(running_var, p));
    if (p->training && batches) atomic_fetch_add(&batches->storage->version, 1);

    cld_node *n = cld_record(&norm_op, &y, 1, inputs, INPUTS);
    if (n) {
        *cld_node_params(n, cld_norm_params) = *p;
        cld_node_save(n, SAVED_X, input);
        if (residual && p->relu) cld_node_save(n, SAVED_GATE, mask ? mask : y);
        cld_node_save(n, SAVED_WEIGHT, w);
        cld_node_save(n, SAVED_BIAS, b);
        cld_node_save(n, SAVED_MEAN, mean);
        cld_node_save(n, SAVED_INVSTD, invstd);
        n->rebuildable = !residual && !has_room(device);
    }
    return cld_tensor_steal(&y);
}
