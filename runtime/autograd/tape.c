/* The tape's records: what ops save for backward, and for how long. The backward pass is in backward.c. */
#include "runtime/autograd/tape.h"

#include <stdlib.h>

/* ---- recording ----------------------------------------------------------------------------------------- */

static _Thread_local cld_grad_scope *newest_scope;
static atomic_ullong next_sequence;

bool cld_grad_enabled(void) { return !newest_scope || newest_scope->enabled; }

void cld_grad_scope_begin(cld_grad_scope *s, bool enabled) {
    *s = (cld_grad_scope){.outer = newest_scope, .enabled = enabled};
    newest_scope = s;
}

void cld_grad_scope_end(cld_grad_scope *s) {
    cld_grad_scope **at = &newest_scope;
    while (*at && *at != s) at = &(*at)->outer;
    if (*at) *at = s->outer;
}

bool cld_needs_grad(cld_tensor *const *inputs, int count) {
    if (!cld_grad_enabled()) return false;
    for (int i = 0; i < count; i++)
        if (cld_wants_grad(inputs[i])) return true;
    return false;
}

static bool any_float(cld_tensor *const *ts, int count) {
    for (int i = 0; i < count; i++)
        if (cld_dtype_is_float(ts[i]->a.dtype)) return true;
    return false;
}

/* Takes the place of a node for which there was no memory. */
static const cld_op unrecorded_op = {.name = "an op for which there was no memory"};
static cld_node unrecorded = {.op = &unrecorded_op, .refs = 1, .incomplete = true};

static void set_outputs(cld_node *n, cld_tensor *const *outputs, int count) {
    for (int i = 0; i < count; i++) {
        if (!cld_dtype_is_float(outputs[i]->a.dtype)) continue; /* indices carry no gradient */
        outputs[i]->node = cld_node_retain(n);
        outputs[i]->output = i;
    }
}

static cld_node *allocate_node(int inputs, int outputs) {
    cld_node *n = calloc(1, sizeof *n);
    if (!n) return NULL;
    n->inputs = inputs;
    n->outputs = outputs;
    n->edges = calloc((size_t)inputs, sizeof *n->edges);
    n->output_meta = calloc((size_t)outputs, sizeof *n->output_meta);
    if (n->edges && n->output_meta) return n;
    free(n->edges);
    free(n->output_meta);
    free(n);
    return NULL;
}

cld_node *cld_record(const cld_op *op, cld_tensor *const *outputs, int n_outputs, cld_tensor *const *inputs,
                     int n_inputs) {
    if (!cld_needs_grad(inputs, n_inputs) || !any_float(outputs, n_outputs)) return NULL;
    cld_node *n = allocate_node(n_inputs, n_outputs);
    if (!n) {
        set_outputs(&unrecorded, outputs, n_outputs);
        return NULL;
    }
    n->op = op;
    n->sequence = atomic_fetch_add(&next_sequence, 1);
    n->device = cld_device(outputs[0]);
    for (int i = 0; i < n_inputs; i++) {
        cld_tensor *t = inputs[i];
        if (!cld_wants_grad(t)) continue;
        n->edges[i] = (cld_edge){.node = cld_node_retain(t->node), .output = t->output};
        if (!t->node) n->edges[i].leaf = cld_tensor_retain(t);
    }
    for (int i = 0; i < n_outputs; i++) {
        n->output_meta[i] = outputs[i]->a;
        n->output_meta[i].data = NULL;
    }
    n->version = atomic_load(&outputs[0]->storage->version);
    set_outputs(n, outputs, n_outputs);
    return n;
}

/* ---- saved tensors ------------------------------------------------------------------------------------- */

/* What t's producer would recompute equals t only if nobody has written to t since. */
static bool can_rebuild(const cld_node *n, const cld_tensor *t, unsigned version) {
    const cld_node *producer = t->node;
    return producer && producer != n && producer->rebuildable && t->output == 0 &&
           producer->version == version;
}

void cld_node_save(cld_node *n, int slot, cld_tensor *t) {
    if (!t) return;
    cld_saved *s = &n->saved[slot];
    s->version = atomic_load(&t->storage->version);
    if (can_rebuild(n, t, s->version)) {
        s->rebuild = cld_node_retain(t->node);
        s->watched = cld_storage_watch(t->storage);
        return;
    }
    s->tensor = cld_tensor_detach(t);
    if (!s->tensor) n->incomplete = true;
}

bool cld_node_has(const cld_node *n, int slot) { return n->saved[slot].tensor || n->saved[slot].rebuild; }

cld_tensor *cld_node_saved(cld_node *n, int slot) {
    cld_saved *s = &n->saved[slot];
    if (!cld_node_has(n, slot))
        return cld_fail_null(CLD_INVALID, "what %s saved for backward was released by an earlier backward",
                             n->op->name);
    const cld_storage *storage = s->rebuild ? s->watched : s->tensor->storage;
    const cld_array *a = s->rebuild ? &s->rebuild->output_meta[0] : &s->tensor->a;
    if (atomic_load(&storage->version) != s->version)
        return cld_fail_null(CLD_INVALID, "%s, which %s saved for backward, was changed in place since",
                             cld_describe(a), n->op->name);
    return s->rebuild ? s->rebuild->op->rebuild(s->rebuild) : cld_tensor_retain(s->tensor);
}

cld_tensor *cld_node_saved_kept(cld_node *n, int slot) {
    cld_saved *s = &n->saved[slot];
    CLD_AUTO cld_tensor *t = cld_node_saved(n, slot);
    if (!t || !s->rebuild) return cld_tensor_steal(&t);
    cld_node_free(s->rebuild);
    cld_storage_unwatch(s->watched);
    *s = (cld_saved){.tensor = cld_tensor_retain(t), .version = atomic_load(&t->storage->version)};
    return cld_tensor_steal(&t);
}

void cld_node_release(cld_node *n) {
    for (int i = 0; i < CLD_NODE_SAVED; i++) {
        n->released = n->released || cld_node_has(n, i);
        cld_tensor_free(n->saved[i].tensor);
        cld_node_free(n->saved[i].rebuild);
        cld_storage_unwatch(n->saved[i].watched);
        n->saved[i] = (cld_saved){0};
    }
}

/* ---- nodes --------------------------------------------------------------------------------------------- */

cld_node *cld_node_retain(cld_node *n) {
    if (n) atomic_fetch_add(&n->refs, 1);
    return n;
}

/* A chain of nodes is as deep as the network, or as long as a user's loop. So it is freed with a list linked through
 * the nodes themselves, which needs neither the C stack nor new memory. */
void cld_node_free(cld_node *n) {
    static _Thread_local cld_node *pending;
    static _Thread_local bool draining;
    if (!n || atomic_fetch_sub(&n->refs, 1) != 1) return;
    n->next_dead = pending;
    pending = n;
    if (draining) return;
    draining = true;
    while (pending) {
        cld_node *dead = pending;
        pending = dead->next_dead;
        cld_node_release(dead);
        cld__drop_hooks(&dead->hooks);
        if (dead->op->destroy) dead->op->destroy(dead);
        for (int i = 0; i < dead->inputs; i++) {
            cld_node_free(dead->edges[i].node);
            cld_tensor_free(dead->edges[i].leaf);
        }
        free(dead->edges);
        free(dead->output_meta);
        free(dead);
    }
    draining = false;
}
