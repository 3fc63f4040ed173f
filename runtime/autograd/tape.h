/* The tape: define-by-run automatic differentiation.
 *
 * An op computes its output and then, if some input needs a gradient, records a node: the inputs, what backward must
 * know, and the op record with the backward function. Forward and backward live side by side in one file under
 * runtime/ops or runtime/losses:
 *
 *     static cld_status exp_backward(cld_node *n, cld_tensor *const *dout, cld_tensor **din) {
 *         CLD_AUTO cld_tensor *y = cld_node_saved(n, 0);
 *         if (!y) return cld_error_code();
 *         din[0] = cld_mul(dout[0], y);                  // y = exp(x), so dx = dy * y
 *         return din[0] ? CLD_OK : cld_error_code();
 *     }
 *     static const cld_op exp_op = {.name = "exp", .backward = exp_backward};
 *
 *     cld_tensor *cld_exp(cld_tensor *x) {
 *         CLD_AUTO cld_tensor *y = ...;
 *         cld_node *n = cld_record(&exp_op, &y, 1, &x, 1);   // NULL: nothing to record
 *         if (n) cld_node_save(n, 0, y);
 *         return cld_tensor_steal(&y);
 *     }
 *
 * Conventions. backward ASSIGNS din[i] a new reference for every i with cld_node_needs(n, i), and leaves the others
 * NULL; the engine sums if a tensor was used twice. dout[i] is NULL if no gradient reached output i. backward runs with
 * recording off, so it may call ops freely. A gradient has the dtype and shape of its tensor. Gradients of leaves may
 * have another floating-point dtype and any layout; they are cast together when all have arrived. Saved tensors are
 * released as backward passes them. Saved outputs make no cycle, because they are saved off the tape.
 */
#ifndef CLD_AUTOGRAD_TAPE_H
#define CLD_AUTOGRAD_TAPE_H

#include "runtime/tensor/tensor.h"

#define CLD_NODE_SAVED  10  /* slots for saved tensors */
#define CLD_NODE_PARAMS 256 /* bytes for the op's own plain data */

typedef struct cld_op {
    const char *name; /* as in Lua, for messages */
    cld_status (*backward)(cld_node *n, cld_tensor *const *dout, cld_tensor **din);
    void (*destroy)(cld_node *n); /* (optional) free what params point to */
    /* (optional) recompute output 0 from what was saved, for nodes marked rebuildable */
    cld_tensor *(*rebuild)(cld_node *n);
    /* (optional) Does backward accept a gradient as the sum of two terms? Then dout has twice as many entries, and
     * dout[outputs + i], if it is not NULL, is to be added to dout[i]. This saves the pass over memory that would add
     * them. */
    bool (*takes_terms)(const cld_node *n);
} cld_op;

/* Where a gradient goes: to an output of a node, or to a leaf's .grad; nowhere if both are NULL. */
typedef struct cld_edge {
    cld_node *node;
    int output;
    cld_tensor *leaf;
} cld_edge;

typedef struct cld_saved {
    cld_tensor *tensor;   /* off the tape */
    cld_node *rebuild;    /* or: the node that can recompute it, */
    cld_storage *watched; /* and the storage that it was in */
    unsigned version;     /* of its storage, when it was saved */
} cld_saved;

typedef struct cld_hook cld_hook;

struct cld_node {
    const cld_op *op;
    atomic_int refs;
    uint64_t sequence; /* order of recording; backward visits nodes in descending order */
    int inputs, outputs;
    cld_edge *edges;        /* one per input */
    cld_array *output_meta; /* one per output: shape and dtype, data NULL */
    unsigned version;       /* of output 0's storage, when it was recorded */
    const cld_backend *device;
    cld_saved saved[CLD_NODE_SAVED];
    cld_hook *hooks;     /* called with gradients of the outputs; NULL: none */
    cld_node *next_dead; /* in the list of nodes being freed */
    bool released;       /* backward has passed: its saved tensors are gone */
    bool incomplete;     /* memory ran out while it was recorded: backward must not pass it */
    bool rebuildable;    /* set by the op: op->rebuild can recompute output 0 from what this node saved */
    _Alignas(16) unsigned char params[CLD_NODE_PARAMS];
};

/* ---- for ops ---- */

/* True if recording is on and one of the tensors (NULL allowed) needs a gradient. */
bool cld_needs_grad(cld_tensor *const *inputs, int count);

/* Records that `op` made outputs from inputs (NULL inputs allowed). Returns NULL if nothing needs a gradient, or if
 * memory runs out; in that case a backward that reaches the outputs fails. The outputs own the node. */
cld_node *cld_record(const cld_op *op, cld_tensor *const *outputs, int n_outputs, cld_tensor *const *inputs,
                     int n_inputs);

static inline bool cld_node_needs(const cld_node *n, int input) {
    return n->edges[input].node || n->edges[input].leaf;
}

/* Saves t for backward. If t's producer can recompute it more cheaply than it can be kept, only the producer is
 * kept. */
void cld_node_save(cld_node *n, int slot, cld_tensor *t);
/* A new reference (recomputed if need be); NULL with an error if it has been written in place since, or was never
 * saved. */
cld_tensor *cld_node_saved(cld_node *n, int slot);
bool cld_node_has(const cld_node *n, int slot);
/* The same, but a recomputed tensor stays until the node is released, for use by another op soon. */
cld_tensor *cld_node_saved_kept(cld_node *n, int slot);

/* The op's plain data: cld_node_params(n, my_params)->field. */
#define cld_node_params(n, type)                                                                             \
    ((type *)(void *)((n)->params + 0 * sizeof(char[sizeof(type) <= CLD_NODE_PARAMS ? 1 : -1])))

/* Runs fn(context) after the whole running backward, in the order of these calls, or when the caller of
 * cld_backward_deferring says so. destroy(context) is always called. This is how a memory bank is updated after the
 * gradient has used the old rows. */
cld_status cld_after_backward(cld_status (*fn)(void *context), void (*destroy)(void *context), void *context);
/* The condition that cld_deferred_run was given, borrowed; fn must change nothing if it is 0. NULL: no condition. */
cld_tensor *cld_backward_condition(void);

/* ---- for users of the tape ---- */

/* Whether ops are recorded: the newest scope that has not ended decides; true if there is none. Scopes may end in any
 * order, so a forgotten one does no harm when it ends. */
typedef struct cld_grad_scope {
    struct cld_grad_scope *outer;
    bool enabled;
} cld_grad_scope;
bool cld_grad_enabled(void);
void cld_grad_scope_begin(cld_grad_scope *s, bool enabled);
void cld_grad_scope_end(cld_grad_scope *s);

/* Adds the gradients of root to the .grad of every leaf (gradient: NULL means 1, and root has one element). keep: saved
 * tensors stay, so that backward may run again. An error if root needs no gradient, or if a saved tensor has been
 * written in place since or was released by an earlier backward. */
cld_status cld_backward(cld_tensor *root, cld_tensor *gradient, bool keep);
/* The gradients of the roots together with respect to the inputs, which are leaves or tensors on the tape. out[i] has
 * input i's dtype, is dense and has its own memory, or is NULL if the roots do not depend on the input. No .grad
 * changes; only the part of the graph that leads to the inputs is visited. gradients[i]: as in cld_backward, for root
 * i. */
cld_status cld_gradients(cld_tensor **out, cld_tensor *const *inputs, int count, cld_tensor *const *roots,
                         cld_tensor *const *gradients, int root_count, bool keep);

/* hooks.c. In each backward, fn(context, gradient) is called when the gradient of t is complete: for a tensor on the
 * tape before the op behind it is passed; for a leaf at the end, before it is added to .grad, dense and of its dtype.
 * fn returns a reference: a replacement of the same dtype and shape, the gradient itself retained, or NULL with an
 * error. A hook of a tensor on the tape ends when backward has passed for good, or with the graph; a leaf's hook ends
 * with the leaf. destroy(context) is always called, also if this function fails. The caller owns the returned
 * reference. */
cld_hook *cld_add_hook(cld_tensor *t, cld_tensor *(*fn)(void *context, cld_tensor *gradient),
                       void (*destroy)(void *context), void *context);
/* Stops the calls and destroys the context. */
void cld_hook_remove(cld_hook *h);
void cld_hook_free(cld_hook *h); /* the caller's reference; NULL is fine */
/* For backward: whether this output has hooks, and calls them in the order in which they were added. */
bool cld__has_hooks(const cld_hook *list, int output);
cld_status cld__run_hooks(cld_hook **list, int output, cld_tensor **gradient);
void cld__drop_hooks(cld_hook **list);

/* Actions that backwards have requested (cld_after_backward) and that are still to be run; {0} is empty. */
typedef struct cld_deferred {
    struct cld_callback *first, *last;
} cld_deferred;
/* Is told about the progress of a backward. */
typedef struct cld_follower {
    void *context;
    /* Before backward begins: foresee is called for each node that it will visit, in that order, then start once. */
    void (*foresee)(void *context, const cld_node *n);
    cld_status (*start)(void *context);
    /* No other edge leads to this leaf. Its gradient is *came, of any floating-point dtype and layout; the follower may
     * take it over by setting *came to NULL. If *came is already NULL, the gradient is .grad, if there is one. Not
     * called for leaves with hooks: their gradients are complete at the end of backward. */
    cld_status (*complete)(void *context, cld_tensor *leaf, cld_tensor **came);
} cld_follower;

/* Like cld_backward, for an optimizer's step: actions to run afterwards are added to `later`, and gradients of weights
 * may stay in their original form (cld_dense_gradients). follower: or NULL. */
cld_status cld_backward_deferring(cld_tensor *root, cld_tensor *gradient, const cld_follower *follower,
                                  cld_deferred *later);
/* Runs them now, in order, up to the first error, and drops the rest. They depend on the one element of condition (u8,
 * or NULL), which is only known on the device. */
cld_status cld_deferred_run(cld_deferred *later, cld_tensor *condition);
void cld_deferred_drop(cld_deferred *later);

/* The gradient of a weight may be kept as its convolution left it, in 16 bits and the device's layout, for an optimizer
 * that can read it that way. This makes the gradients of `count` leaves, if they have any, dense and of their leaf's
 * dtype, in few launches per device. For a captured step it fetches what the last replay left. */
cld_status cld_dense_gradients(cld_tensor *const *leaves, int count);
/* Replaces the leaf's gradient. Takes over the reference; NULL: none. */
void cld_set_gradient(cld_tensor *leaf, cld_tensor *gradient);

/* On the tape, or a leaf that requires a gradient. */
static inline bool cld_wants_grad(const cld_tensor *t) { return t && (t->node || t->requires_grad); }

cld_node *cld_node_retain(cld_node *n);
void cld_node_free(cld_node *n);
/* Releases what n has saved. A node that saved nothing can be run again. */
void cld_node_release(cld_node *n);

#endif
