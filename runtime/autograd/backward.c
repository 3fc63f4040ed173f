/* The walk back. Every node that root depends on is visited in the reverse of the order of recording: by then all
 * gradients of its outputs have arrived. Nothing here recurses, so a graph may be as deep as memory allows. */
#include <stdlib.h>

#include "runtime/autograd/waiting.h"
#include "runtime/ops/ops.h"

/* ---- callbacks after backward -------------------------------------------------------------------------- */

typedef struct cld_callback {
    struct cld_callback *next;
    cld_status (*fn)(void *context);
    void (*destroy)(void *context);
    void *context;
} cld_callback;

static _Thread_local cld_deferred *asked;           /* where callbacks go; NULL: no backward is running */
static _Thread_local cld_tensor *running_condition; /* borrowed from cld_deferred_run's caller */

cld_tensor *cld_backward_condition(void) { return running_condition; }

cld_status cld_after_backward(cld_status (*fn)(void *context), void (*destroy)(void *context),
                              void *context) {
    cld_callback *c = asked ? malloc(sizeof *c) : NULL;
    if (!c) {
        if (destroy) destroy(context);
        return cld_fail(CLD_NOMEM, "after_backward: %s", asked ? "out of memory" : "no backward is running");
    }
    *c = (cld_callback){.fn = fn, .destroy = destroy, .context = context};
    if (asked->last)
        asked->last->next = c;
    else
        asked->first = c;
    asked->last = c;
    return CLD_OK;
}

/* fn may ask for more. */
static cld_status run_callbacks(cld_deferred *list, cld_status status) {
    while (list->first) {
        cld_callback *c = list->first;
        list->first = c->next;
        if (!c->next) list->last = NULL;
        if (status == CLD_OK) status = c->fn(c->context);
        if (c->destroy) c->destroy(c->context);
        free(c);
    }
    return status;
}

cld_status cld_deferred_run(cld_deferred *later, cld_tensor *condition) {
    if (asked) return cld_fail(CLD_INVALID, "backward: its end is called inside another backward");
    cld_grad_scope off;
    cld_grad_scope_begin(&off, false);
    asked = later;
    running_condition = condition;
    cld_status status = run_callbacks(later, CLD_OK);
    asked = NULL;
    running_condition = NULL;
    cld_grad_scope_end(&off);
    return status;
}

void cld_deferred_drop(cld_deferred *later) { run_callbacks(later, CLD_INVALID); }

/* ---- backward ------------------------------------------------------------------------------------------ */

/* Every node that root depends on, with the gradients that have reached its outputs so far. */
typedef struct entry {
    cld_node *node;
    cld_tensor **gradients;
} entry;

typedef struct plan {
    entry *entries; /* by sequence, descending: the order in which backward runs */
    size_t count, room;
    size_t *slots; /* hash table from node to 1 + its entry */
    size_t table;  /* size of slots, a power of two */
    cld_waiting waiting;
} plan;

/* The middle bits of the product: addresses of nodes have their low bits in common. */
static size_t hash_of(const cld_node *n, size_t table) {
    return ((uint64_t)(uintptr_t)n * 0x9E3779B97F4A7C15u >> 32) & (table - 1);
}

static size_t *slot_of(const plan *p, const cld_node *n) {
    size_t i = hash_of(n, p->table);
    while (p->slots[i] && p->entries[p->slots[i] - 1].node != n) i = (i + 1) & (p->table - 1);
    return &p->slots[i];
}

static cld_status index_entries(plan *p, size_t table) {
    size_t *slots = calloc(table, sizeof *slots);
    if (!slots) return cld_fail(CLD_NOMEM, "backward: out of memory");
    free(p->slots);
    p->slots = slots;
    p->table = table;
    for (size_t i = 0; i < p->count; i++) *slot_of(p, p->entries[i].node) = i + 1;
    return CLD_OK;
}

static cld_status add_node(plan *p, cld_node *n) {
    if (p->table && *slot_of(p, n)) return CLD_OK;
    if (p->count == p->room) {
        size_t room = p->room ? 2 * p->room : 256;
        entry *grown = realloc(p->entries, room * sizeof *grown);
        if (!grown) return cld_fail(CLD_NOMEM, "backward: out of memory");
        p->entries = grown;
        p->room = room;
        CLD_TRY(index_entries(p, 4 * room));
    }
    p->entries[p->count] = (entry){.node = cld_node_retain(n)};
    *slot_of(p, n) = ++p->count;
    return CLD_OK;
}

static int later_first(const void *a, const void *b) {
    uint64_t x = ((const entry *)a)->node->sequence, y = ((const entry *)b)->node->sequence;
    return (x < y) - (x > y);
}

static cld_status make_plan(plan *p, cld_node *root) {
    CLD_TRY(add_node(p, root));
    for (size_t i = 0; i < p->count; i++) {
        cld_node *n = p->entries[i].node;
        if (n->incomplete)
            return cld_fail(CLD_NOMEM,
                            "backward: the graph is incomplete: memory ran out while it was recorded");
        for (int k = 0; k < n->inputs; k++)
            if (n->edges[k].node) CLD_TRY(add_node(p, n->edges[k].node));
    }
    qsort(p->entries, p->count, sizeof *p->entries, later_first);
    return index_entries(p, p->table);
}

static bool takes_terms(const cld_node *n) { return n->op->takes_terms && n->op->takes_terms(n); }

/* Of the outputs, and behind them the second terms, which stay NULL where backward takes none. */
static int gradient_slots(const cld_node *n) { return 2 * n->outputs; }

static void drop_gradients(entry *e) {
    for (int i = 0; e->gradients && i < gradient_slots(e->node); i++) cld_tensor_free(e->gradients[i]);
    free(e->gradients);
    e->gradients = NULL;
}

static void free_plan(plan *p) {
    for (size_t i = 0; i < p->count; i++) {
        drop_gradients(&p->entries[i]);
        cld_node_free(p->entries[i].node);
    }
    cld__drop_waiting(&p->waiting);
    free(p->entries);
    free(p->slots);
}

/* *sum += g, taking over the reference g. A gradient may be shared with another edge, or with the user: then
 * the sum needs memory of its own. */
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

/* As a leaf's .grad: row-major, and no part of something larger. */
static bool can_be_kept(const cld_tensor *g) {
    return cld__is_exclusive(g) && g->a.layout == CLD_STRIDED && cld__is_whole(g);
}

/* A leaf's .grad is its own row-major memory, so that optimizers and users may write to it. */
static cld_status accumulate_leaf(cld_tensor *leaf, cld_tensor *g) {
    cld_status status = CLD_OK;
    if (leaf->grad) {
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

/* What is not as a .grad must be waits; a second one for the same leaf waits for nothing. */
static cld_status send_to_leaf(plan *p, cld_tensor *leaf, cld_tensor *g) {
    bool fits = g->a.dtype == leaf->a.dtype;
    if (cld__is_waiting(&p->waiting, leaf)) {
        cld_status status = cld__end_waiting(&p->waiting);
        if (status != CLD_OK) {
            cld_tensor_free(g);
            return status;
        }
    }
    if (!leaf->grad && (!fits || g->a.layout != CLD_STRIDED)) return cld__wait(&p->waiting, leaf, g);
    if (!fits) {
        cld_tensor *cast = cld_tensor_cast(g, leaf->a.dtype);
        cld_tensor_free(g);
        if (!cast) return cld_error_code();
        g = cast;
    }
    return accumulate_leaf(leaf, g);
}

/* An op that returned a gradient of another shape or dtype than its input's is at fault: say which. */
static cld_status check_gradient(const cld_node *n, int input, const cld_tensor *g) {
    const cld_edge *e = &n->edges[input];
    const cld_array *wanted = e->leaf ? &e->leaf->a : &e->node->output_meta[e->output];
    bool fits = g->a.dtype == wanted->dtype || (e->leaf && cld_dtype_is_float(g->a.dtype));
    if (cld_same_shape(&g->a, wanted) && fits) return CLD_OK;
    return cld_fail(CLD_INVALID, "in the gradient of %s: input %d is %s, its gradient came out as %s",
                    n->op->name, input + 1, cld_describe(wanted), cld_describe(&g->a));
}

static cld_status send(plan *p, const cld_edge *e, cld_tensor *g) {
    if (e->leaf) return send_to_leaf(p, e->leaf, g);
    entry *to = &p->entries[*slot_of(p, e->node) - 1];
    if (!to->gradients) to->gradients = calloc((size_t)gradient_slots(e->node), sizeof *to->gradients);
    if (!to->gradients) {
        cld_tensor_free(g);
        return cld_fail(CLD_NOMEM, "backward: out of memory");
    }
    cld_tensor **second = &to->gradients[e->node->outputs + e->output];
    if (to->gradients[e->output] && !*second && takes_terms(e->node)) {
        *second = g;
        return CLD_OK;
    }
    return accumulate(&to->gradients[e->output], g);
}

static cld_status run_node(plan *p, entry *e, bool keep) {
    cld_node *n = e->node;
    if (!e->gradients) return CLD_OK; /* none of its outputs mattered */
    if (n->released)
        return cld_fail(CLD_INVALID,
                        "backward: the graph through %s was released by an earlier backward; call "
                        "backward{retain_graph = true} the first time to run it twice",
                        n->op->name);
    cld_tensor **din = calloc((size_t)n->inputs, sizeof *din);
    if (!din) return cld_fail(CLD_NOMEM, "backward: out of memory");
    cld_status status = n->op->backward(n, e->gradients, din);
    if (status != CLD_OK) status = cld_fail_in("in the gradient of %s", n->op->name);
    drop_gradients(e);
    if (!keep) cld_node_release(n);
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

static cld_status run_plan(plan *p, cld_tensor *root, cld_tensor *gradient, bool keep, bool as_they_come) {
    CLD_TRY(make_plan(p, root->node));
    cld_edge start = {.node = root->node, .output = root->output};
    CLD_TRY(send(p, &start, cld_tensor_retain(gradient)));
    for (size_t i = 0; i < p->count; i++) CLD_TRY(run_node(p, &p->entries[i], keep));
    if (as_they_come) cld__keep_as_they_came(&p->waiting);
    return cld__end_waiting(&p->waiting);
}

/* The gradient that backward begins with. */
static cld_tensor *seed_of(const cld_tensor *root, cld_tensor *gradient) {
    if (gradient && (!cld_same_shape(&gradient->a, &root->a) || gradient->a.dtype != root->a.dtype))
        return cld_fail_null(CLD_INVALID, "backward: the gradient is %s, the tensor %s",
                             cld_describe(&gradient->a), cld_describe(&root->a));
    if (gradient) return cld_tensor_retain(gradient);
    if (cld_numel(&root->a) != 1)
        return cld_fail_null(
            CLD_INVALID, "backward: a gradient must be given for %s; only one-element tensors have a default",
            cld_describe(&root->a));
    return cld_tensor_full(root->a.dtype, root->a.ndim, root->a.shape, cld_device(root), 1.0);
}

static cld_status go_back(cld_tensor *root, cld_tensor *gradient, bool keep, bool as_they_come,
                          cld_deferred *later) {
    if (asked) return cld_fail(CLD_INVALID, "backward: called inside another backward");
    if (!cld_wants_grad(root))
        return cld_fail(CLD_INVALID,
                        "backward: the tensor does not depend on anything that requires a gradient");
    CLD_AUTO cld_tensor *seed = seed_of(root, gradient);
    if (!seed) return cld_error_code();
    if (!root->node) return accumulate_leaf(root, cld_tensor_retain(seed));

    cld_grad_scope off;
    cld_grad_scope_begin(&off, false);
    asked = later;
    plan p = {0};
    cld_status status = run_plan(&p, root, seed, keep, as_they_come);
    free_plan(&p);
    asked = NULL;
    cld_grad_scope_end(&off);
    return status;
}

cld_status cld_backward_deferring(cld_tensor *root, cld_tensor *gradient, cld_deferred *later) {
    return go_back(root, gradient, false, true, later);
}

cld_status cld_backward(cld_tensor *root, cld_tensor *gradient, bool keep) {
    cld_deferred later = {0};
    cld_status status = go_back(root, gradient, keep, false, &later);
    if (status == CLD_OK) return cld_deferred_run(&later, NULL);
    cld_deferred_drop(&later);
    return status;
}
