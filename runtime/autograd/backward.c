/* The backward pass. Every node that root depends on is visited in reverse order of recording, so all gradients of its
 * outputs have arrived by then. Nothing here is recursive, so a graph may be as deep as memory allows. */
#include <stdlib.h>

#include "runtime/autograd/deferred.h"
#include "runtime/autograd/plan.h"
#include "runtime/dist/dist.h"
#include "runtime/ops/ops.h"

/* ---- backward ------------------------------------------------------------------------------------------ */

/* *sum += g, taking over the reference g. A gradient may be shared with another edge, or with the user; then the sum
 * needs its own memory. */
static cld_status accumulate(cld_tensor **sum, cld_tensor *g) {
    if (!*sum) {
        *sum = g;
        return CLD_OK;
    }
    if (cld__is_exclusive(*sum) || cld__is_exclusive(g)) {
        bool into_sum = cld__is_exclusive(*sum);
        cld_tensor *into = into_sum ? *sum : g, *from = into_sum ? g : *sum;
        cld_status status = cld_add_(into, from);
        cld_tensor_free(from);
        *sum = into;
        return status;
    }
    cld_tensor *added = cld_add(*sum, g);
    cld_tensor_free(g);
    if (!added) return cld_error_code();
    cld_tensor_free(*sum);
    *sum = added;
    return CLD_OK;
}

/* Can it be a leaf's .grad: row-major, and not part of something larger? */
static bool can_be_kept(const cld_tensor *g) {
    return cld__is_exclusive(g) && g->a.layout == CLD_STRIDED && cld__is_whole(g);
}

/* A leaf's .grad has its own row-major memory, so that optimizers and users may write to it. */
static cld_status accumulate_leaf(cld_tensor *leaf, cld_tensor *g) {
    cld_status status = CLD_OK;
    if (leaf->grad && leaf->grad->summed) {
        status =
            cld_fail(CLD_INVALID,
                     "backward: the gradient of %s is already the sum over the ranks; call zero_grad() first",
                     cld_describe(&leaf->a));
    } else if (leaf->grad) {
        status = cld_dense_gradients(&leaf, 1);
        if (status == CLD_OK) status = cld_add_(leaf->grad, g);
    } else if (can_be_kept(g)) {
        leaf->grad = cld_tensor_retain(g);
    } else {
        leaf->grad = cld_tensor_cast(g, leaf->a.dtype);
        if (!leaf->grad) status = cld_error_code();
    }
    cld_tensor_free(g);
    return status;
}

/* Casts *g to the leaf's dtype, in strided layout. */
static cld_status cast_for_leaf(const cld_tensor *leaf, cld_tensor **g) {
    if ((*g)->a.dtype == leaf->a.dtype && (*g)->a.layout == CLD_STRIDED) return CLD_OK;
    cld_tensor *cast = cld_tensor_cast(*g, leaf->a.dtype);
    if (!cast) return cld_error_code();
    cld_tensor_free(*g);
    *g = cast;
    return CLD_OK;
}

/* Adds to a separate sum, taking over the reference. */
static cld_status add_to_sum(cld_tensor **sum, const cld_tensor *leaf, cld_tensor *g) {
    cld_status status = leaf ? cast_for_leaf(leaf, &g) : CLD_OK;
    if (status == CLD_OK) return accumulate(sum, g);
    cld_tensor_free(g);
    return status;
}

/* The separate sum for this leaf's gradient, if there is one; *nowhere: nobody has asked for the gradient. */
static cld_status sum_apart(cld_plan *p, cld_tensor *leaf, cld_tensor ***sum, bool *nowhere) {
    *nowhere = false;
    if (p->asked.count > 0) {
        *sum = cld__collected_leaf(&p->asked, leaf);
        *nowhere = !*sum;
        return CLD_OK;
    }
    *sum = NULL;
    if (!cld__has_hooks(leaf->hooks, 0)) return CLD_OK;
    if (!cld__collected_leaf(&p->hooked, leaf)) CLD_TRY(cld__collect(&p->hooked, leaf));
    *sum = cld__collected_leaf(&p->hooked, leaf);
    return CLD_OK;
}

/* A gradient that does not have the form of a .grad waits; a second one for the same leaf is added at once. */
static cld_status send_to_leaf(cld_plan *p, cld_tensor *leaf, cld_tensor *g) {
    bool fits = g->a.dtype == leaf->a.dtype, nowhere;
    cld_tensor **sum;
    cld_status found = sum_apart(p, leaf, &sum, &nowhere);
    if (found == CLD_OK && sum) return add_to_sum(sum, leaf, g);
    if (found != CLD_OK || nowhere) {
        cld_tensor_free(g);
        return found;
    }
    if (cld__waiting_for(&p->waiting, leaf)) {
        cld_status status = cld__end_waiting(&p->waiting);
        if (status != CLD_OK) {
            cld_tensor_free(g);
            return status;
        }
    }
    if (!leaf->grad && (!fits || g->a.layout != CLD_STRIDED)) return cld__wait(&p->waiting, leaf, g);
    cld_status status = cast_for_leaf(leaf, &g);
    if (status == CLD_OK) return accumulate_leaf(leaf, g);
    cld_tensor_free(g);
    return status;
}

/* If an op returns a gradient with another shape or dtype than its input, the op is at fault: name it. */
static cld_status check_gradient(const cld_node *n, int input, const cld_tensor *g) {
    const cld_edge *e = &n->edges[input];
    const cld_array *wanted = e->leaf ? &e->leaf->a : &e->node->output_meta[e->output];
    bool fits = g->a.dtype == wanted->dtype || (e->leaf && cld_dtype_is_float(g->a.dtype));
    if (cld_same_shape(&g->a, wanted) && fits) return CLD_OK;
    return cld_fail(CLD_INVALID, "in the gradient of %s: input %d is %s, but its gradient came out as %s",
                    n->op->name, input + 1, cld_describe(wanted), cld_describe(&g->a));
}

static cld_status send(cld_plan *p, const cld_edge *e, cld_tensor *g) {
    if (e->leaf) return send_to_leaf(p, e->leaf, g);
    cld_entry *to = cld__entry_of(p, e->node);
    if (!to->gradients) to->gradients = calloc((size_t)cld__gradient_slots(e->node), sizeof *to->gradients);
    if (!to->gradients) {
        cld_tensor_free(g);
        return cld_fail(CLD_NOMEM, "backward: out of memory");
    }
    cld_tensor **second = &to->gradients[e->node->outputs + e->output];
    bool whole = cld__has_hooks(e->node->hooks, e->output); /* a hook sees the sum */
    if (to->gradients[e->output] && !*second && !whole && cld__takes_terms(e->node)) {
        *second = g;
        return CLD_OK;
    }
    return accumulate(&to->gradients[e->output], g);
}

/* All gradients of the outputs have arrived: calls hooks, and records those that were asked for. */
static cld_status complete_outputs(cld_plan *p, cld_entry *e) {
    cld_node *n = e->node;
    for (int i = 0; i < n->outputs; i++) {
        if (!e->gradients[i]) continue;
        cld_tensor **sum = p->asked.count > 0 ? cld__collected_output(&p->asked, n, i) : NULL;
        if ((e->leads || sum) && cld__has_hooks(n->hooks, i))
            CLD_TRY(cld__run_hooks(&n->hooks, i, &e->gradients[i]));
        if (!sum) continue;
        *sum = cld_tensor_retain(e->gradients[i]);
        cld_tensor *second = e->gradients[n->outputs + i];
        if (second) CLD_TRY(accumulate(sum, cld_tensor_retain(second)));
    }
    return CLD_OK;
}

static cld_status run_node(cld_plan *p, cld_entry *e, bool keep) {
    cld_node *n = e->node;
    if (!e->gradients) return CLD_OK; /* no gradient reached any of its outputs */
    CLD_TRY(complete_outputs(p, e));
    if (!e->leads) {
        cld__drop_gradients(e);
        return CLD_OK;
    }
    if (n->released)
        return cld_fail(CLD_INVALID,
                        "backward: the graph through %s was released by an earlier backward; call "
                        "backward{retain_graph = true} the first time to run it twice",
                        n->op->name);
    cld_tensor **din = calloc((size_t)n->inputs, sizeof *din);
    if (!din) return cld_fail(CLD_NOMEM, "backward: out of memory");
    cld_status status = n->op->backward(n, e->gradients, din);
    if (status != CLD_OK) status = cld_fail_in("in the gradient of %s", n->op->name);
    cld__drop_gradients(e);
    if (!keep) cld_node_release(n);
    if (!keep) cld__drop_hooks(&n->hooks);
    for (int i = 0; i < n->inputs; i++) {
        bool wanted = status == CLD_OK && din[i] && cld_node_needs(n, i);
        if (wanted) status = check_gradient(n, i, din[i]);
        if (wanted && status == CLD_OK)
            status = send(p, &n->edges[i], din[i]);
        else
            cld_tensor_free(din[i]);
    }
    free(din);
    return status;
}

/* Runs the hooks of leaves, and delivers their gradients. */
static cld_status end_hooked(cld_plan *p) {
    for (int i = 0; i < p->hooked.count; i++) {
        cld_tensor *leaf = p->hooked.sums[i].of, **sum = &p->hooked.sums[i].sum;
        CLD_TRY(cld__run_hooks(&leaf->hooks, 0, sum));
        CLD_TRY(accumulate_leaf(leaf, cld_tensor_steal(sum)));
    }
    return CLD_OK;
}

typedef struct start_points {
    cld_tensor *const *roots;
    cld_tensor **seeds;
    int count;
} start_points;

static cld_status run_plan(cld_plan *p, const start_points *from, bool keep, bool as_they_come) {
    CLD_TRY(cld__make_plan(p, from->roots, from->count));
    CLD_TRY(cld__foresee(p));
    for (int i = 0; i < from->count; i++) {
        cld_tensor *root = from->roots[i];
        cld_edge start = {.node = root->node, .output = root->output, .leaf = root->node ? NULL : root};
        CLD_TRY(send(p, &start, cld_tensor_retain(from->seeds[i])));
    }
    for (size_t i = 0; i < p->count; i++) {
        CLD_TRY(run_node(p, &p->entries[i], keep));
        CLD_TRY(cld__passed(p, p->entries[i].node));
    }
    CLD_TRY(end_hooked(p));
    if (as_they_come) cld__keep_as_they_came(&p->waiting);
    return cld__end_waiting(&p->waiting);
}

/* The gradient that backward starts with. */
static cld_tensor *seed_of(const char *op, const cld_tensor *root, cld_tensor *gradient) {
    if (gradient && (!cld_same_shape(&gradient->a, &root->a) || gradient->a.dtype != root->a.dtype))
        return cld_fail_null(CLD_INVALID, "%s: the gradient is %s, the tensor %s", op,
                             cld_describe(&gradient->a), cld_describe(&root->a));
    if (gradient) CLD_TRY_NULL(cld_check_same_device(op, gradient, root));
    if (gradient) return cld_tensor_retain(gradient);
    if (cld_numel(&root->a) != 1)
        return cld_fail_null(CLD_INVALID,
                             "%s: a gradient must be given for %s; only one-element tensors have a default",
                             op, cld_describe(&root->a));
    return cld_tensor_full(root->a.dtype, root->a.ndim, root->a.shape, cld_device(root), 1.0);
}

static cld_status check_root(const char *op, const cld_tensor *root) {
    if (cld_wants_grad(root)) return CLD_OK;
    return cld_fail(CLD_INVALID, "%s: the tensor does not depend on anything that requires a gradient", op);
}

static cld_status go_back(cld_plan *p, const start_points *from, bool keep, bool as_they_come) {
    cld_grad_scope off;
    cld_grad_scope_begin(&off, false);
    cld_status status = run_plan(p, from, keep, as_they_come);
    cld_grad_scope_end(&off);
    return status;
}

/* With several ranks each has its share of the job's loss (runtime/dist). */
static cld_tensor *weighted_seed(const cld_tensor *root, cld_tensor *gradient) {
    CLD_AUTO cld_tensor *seed = seed_of("backward", root, gradient);
    if (!seed || cld_dist_alone()) return cld_tensor_steal(&seed);
    return cld_mul_scalar(seed, cld_batch_weight());
}

static cld_status backward_of(cld_plan *p, cld_tensor *root, cld_tensor *gradient, bool keep,
                              bool as_they_come, cld_deferred *later) {
    CLD_TRY(check_root("backward", root));
    CLD_AUTO cld_tensor *seed = weighted_seed(root, gradient);
    if (!seed) return cld_error_code();
    start_points from = {&root, &seed, 1};
    CLD_TRY(cld__begin_deferring("backward", later));
    cld_status status = go_back(p, &from, keep, as_they_come);
    cld__end_deferring();
    cld__free_plan(p);
    return status;
}

cld_status cld_backward_deferring(cld_tensor *root, cld_tensor *gradient, const cld_follower *follower,
                                  cld_deferred *later) {
    cld_plan p = {.follower = follower};
    return backward_of(&p, root, gradient, false, true, later);
}

cld_status cld_backward(cld_tensor *root, cld_tensor *gradient, bool keep) {
    cld_deferred later = {0};
    cld_plan p = {0};
    cld_status status = backward_of(&p, root, gradient, keep, false, &later);
    if (status == CLD_OK) status = cld_pending_settle();
    if (status == CLD_OK) return cld_deferred_run(&later, NULL);
    cld_deferred_drop(&later);
    return status;
}

/* ---- gradients that are returned ------------------------------------------------------------------------- */

static cld_status collect_inputs(cld_plan *p, cld_tensor *const *inputs, int count) {
    for (int i = 0; i < count; i++) {
        const cld_tensor *x = inputs[i];
        if (!cld_wants_grad(x))
            return cld_fail(CLD_INVALID,
                            "grad: input %d, %s, does not require a gradient; call requires_grad_() on it",
                            i + 1, cld_describe(&x->a));
        CLD_TRY(cld__collect(&p->asked, inputs[i]));
    }
    return CLD_OK;
}

/* The sums, as tensors that share memory with nothing else. An input that is listed twice gets its gradient in both
 * places. */
static cld_status take_asked(cld_plan *p, cld_tensor **out) {
    for (int i = 0; i < p->asked.count; i++) {
        cld_tensor *x = p->asked.sums[i].of, **sum = &p->asked.sums[i].sum;
        if (*sum && !x->node && cld__has_hooks(x->hooks, 0)) CLD_TRY(cld__run_hooks(&x->hooks, 0, sum));
    }
    for (int i = 0; i < p->asked.count; i++) {
        const cld_tensor *x = p->asked.sums[i].of;
        cld_tensor **sum = x->node ? cld__collected_output(&p->asked, x->node, x->output)
                                   : cld__collected_leaf(&p->asked, x);
        if (!*sum) continue;
        out[i] = can_be_kept(*sum) ? cld_tensor_retain(*sum) : cld_tensor_cast(*sum, x->a.dtype);
        if (!out[i]) return cld_error_code();
    }
    return CLD_OK;
}

static cld_status seeds_of(start_points *from, cld_tensor *const *gradients) {
    for (int i = 0; i < from->count; i++) {
        CLD_TRY(check_root("grad", from->roots[i]));
        from->seeds[i] = seed_of("grad", from->roots[i], gradients[i]);
        if (!from->seeds[i]) return cld_error_code();
    }
    return CLD_OK;
}

cld_status cld_gradients(cld_tensor **out, cld_tensor *const *inputs, int count, cld_tensor *const *roots,
                         cld_tensor *const *gradients, int root_count, bool keep) {
    cld_plan p = {0};
    cld_deferred later = {0};
    start_points from = {roots, calloc((size_t)root_count, sizeof *from.seeds), root_count};
    cld_status status = from.seeds ? seeds_of(&from, gradients) : cld_fail(CLD_NOMEM, "grad: out of memory");
    if (status == CLD_OK) status = collect_inputs(&p, inputs, count);
    if (status == CLD_OK) status = cld__begin_deferring("grad", &later);
    if (status == CLD_OK) {
        status = go_back(&p, &from, keep, false);
        if (status == CLD_OK) status = take_asked(&p, out);
        cld__end_deferring();
    }
    for (int i = 0; from.seeds && i < root_count; i++) cld_tensor_free(from.seeds[i]);
    free(from.seeds);
    cld__free_plan(&p);
    if (status == CLD_OK) return cld_deferred_run(&later, NULL);
    cld_deferred_drop(&later);
    for (int i = 0; i < count; i++) {
        cld_tensor_free(out[i]);
        out[i] = NULL;
    }
    return status;
}
