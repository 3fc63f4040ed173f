/* The tape: define-by-run automatic differentiation.
 *
 * An op computes its output, then, where some input needs a gradient, records a node: who the inputs were, what
 * backward must know, and the op record whose function inverts it. Forward and backward live side by side in one
 * file under runtime/ops or runtime/losses:
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
 * NULL; the engine sums if a tensor was used twice. dout[i] is NULL if no gradient reached output i. backward
 * runs with recording off, so it may call ops freely. Gradients have the dtype and shape of what they belong to; those of
 * leaves may have another floating-point dtype and any layout: they are cast together when all have come.
 * Saved tensors are dropped as backward passes them; saved outputs make no cycle (they are saved off the tape).
 */
#ifndef CLD_AUTOGRAD_TAPE_H
#define CLD_AUTOGRAD_TAPE_H

#include "runtime/tensor/tensor.h"

#define CLD_NODE_SAVED  10  /* slots for saved tensors */
#define CLD_NODE_PARAMS 256 /* bytes for the op's own plain data */

typedef struct cld_op {
    const char *name; /* as in Lua, for messages */
    cld_status (*backward)(cld_node *n, cld_tensor *const *dout, cld_tensor **din);
    void (*destroy)(cld_node *n); /* (optional) release what params point at */
    /* (optional) output 0 again, from what was saved: for nodes marked rebuildable */
    cld_tensor *(*rebuild)(cld_node *n);
    /* (optional) Does backward take the sum of two gradients as its terms? Then dout has twice as many entries, and
     * dout[outputs + i], if it is not NULL, is to be added to dout[i]: no pass over memory adds them up before. */
    bool (*takes_terms)(const cld_node *n);
} cld_op;

/* Where a gradient goes: to an output of a node, or to a leaf's .grad. Neither: nowhere. */
typedef struct cld_edge {
    cld_node *node;
    int output;
    cld_tensor *leaf;
} cld_edge;

typedef struct cld_saved {
    cld_tensor *tensor;   /* off the tape */
    cld_node *rebuild;    /* or: the node that can compute it again, */
    cld_storage *watched; /* and where it lay */
    unsigned version;     /* of its storage, when saved */
} cld_saved;

typedef struct cld_hook cld_hook;

struct cld_node {
    const cld_op *op;
    atomic_int refs;
    uint64_t sequence; /* order of recording; backward goes down */
    int inputs, outputs;
    cld_edge *edges;        /* inputs of them */
    cld_array *output_meta; /* outputs of them: shape and dtype, data NULL */
    unsigned version;       /* of output 0's storage, when recorded */
    const cld_backend *device;
    cld_saved saved[CLD_NODE_SAVED];
    cld_hook *hooks;     /* what is called with gradients of the outputs; NULL: nothing */
    cld_node *next_dead; /* in the list of nodes being freed */
    bool released;       /* backward has passed: what it had saved is gone */
    bool incomplete;     /* memory ran out while it was recorded: backward must not pass */
    bool rebuildable;    /* set by the op: op->rebuild can make output 0 again from what this node saved */
    _Alignas(16) unsigned char params[CLD_NODE_PARAMS];
};

/* ---- for ops ---- */

/* True where recording is on and one of the tensors (NULL allowed) needs a gradient. */
bool cld_needs_grad(cld_tensor *const *inputs, int count);

/* Record `op` as what made outputs from inputs (NULL inputs allowed). NULL where nothing needs a gradient, or out of
 * memory: then a backward that comes to the outputs fails. The node is owned by its outputs. */
cld_node *cld_record(const cld_op *op, cld_tensor *const *outputs, int n_outputs, cld_tensor *const *inputs,
                     int n_inputs);

static inline bool cld_node_needs(const cld_node *n, int input) {
    return n->edges[input].node || n->edges[input].leaf;
}

/* Keep t for backward. Where t's producer can rebuild it more cheaply than it can be kept, only that is kept. */
void cld_node_save(cld_node *n, int slot, cld_tensor *t);
/* A new reference (rebuilt if need be); NULL with an error if it was written in place since, or never saved. */
cld_tensor *cld_node_saved(cld_node *n, int slot);
bool cld_node_has(const cld_node *n, int slot);
/* The same, and what had to be rebuilt stays until the node is released: for what will soon be asked for again. */
cld_tensor *cld_node_saved_kept(cld_node *n, int slot);

/* The op's plain data: cld_node_params(n, my_params)->field. */
#define cld_node_params(n, type)                                                                             \
    ((type *)(void *)((n)->params + 0 * sizeof(char[sizeof(type) <= CLD_NODE_PARAMS ? 1 : -1])))

/* Run fn(context) once the whole of the running backward is done, in the order asked for, or when whoever called
 * cld_backward_deferring says so; destroy(context) always. This is how a memory bank is updated after the gradient has
 * used the old rows. */
cld_status cld_after_backward(cld_status (*fn)(void *context), void (*destroy)(void *context), void *context);
/* What cld_deferred_run was given, borrowed; fn changes nothing if it is 0. NULL: no condition. */
cld_tensor *cld_backward_condition(void);

/* ---- for users of the tape ---- */

/* Whether ops are recorded: what the newest scope says that has not ended, true if there is none. Scopes may end in
 * any order, so one that was forgotten ends without a trace. */
typedef struct cld_grad_scope {
    struct cld_grad_scope *outer;
    bool enabled;
} cld_grad_scope;
bool cld_grad_enabled(void);
void cld_grad_scope_begin(cld_grad_scope *s, bool enabled);
void cld_grad_scope_end(cld_grad_scope *s);

/* Gradients of root (gradient: NULL means 1, root then has one element) into the .grad of every leaf, added to
 * what is there. keep: saved tensors stay, so that backward may run again. An error where root needs no gradient, where
 * a saved tensor was written in place since, or an earlier backward has let go of it. */
cld_status cld_backward(cld_tensor *root, cld_tensor *gradient, bool keep);
/* The gradients of the roots together with regard to the inputs, leaves or tensors on the tape: out[i] is of input i's
 * dtype, dense, in memory of its own, or NULL if the roots do not depend on it. No .grad changes; of the graph only what
 * leads to the inputs is walked. gradients[i]: as in cld_backward, for root i. */
cld_status cld_gradients(cld_tensor **out, cld_tensor *const *inputs, int count, cld_tensor *const *roots,
                         cld_tensor *const *gradients, int root_count, bool keep);

/* hooks.c. fn(context, gradient) is called in each backward when the gradient of t is complete: of what is on the tape
 * before the op behind it is passed; of a leaf at the end, before it is added to .grad, dense and of its dtype. It returns
 * a reference: what takes the gradient's place (of the same dtype and shape), the gradient itself retained, or NULL with
 * an error. A hook of what is on the tape goes when backward has passed for good, or with the graph; a leaf's with the
 * leaf. destroy(context) always, here too if it fails. The caller owns the reference that it gets. */
cld_hook *cld_add_hook(cld_tensor *t, cld_tensor *(*fn)(void *context, cld_tensor *gradient),
                       void (*destroy)(void *context), void *context);
/* It is called no more, and its context is gone. */
void cld_hook_remove(cld_hook *h);
void cld_hook_free(cld_hook *h); /* the caller's reference; NULL is fine */
/* For backward: is there a hook for this output, and those of it, in the order in which they were added. */
bool cld__has_hooks(const cld_hook *list, int output);
cld_status cld__run_hooks(cld_hook **list, int output, cld_tensor **gradient);
void cld__drop_hooks(cld_hook **list);

/* What backwards have asked for (cld_after_backward) and is still to be done: {0} is nothing. */
typedef struct cld_deferred {
    struct cld_callback *first, *last;
} cld_deferred;
/* Who is told how a backward goes on, as it does. */
typedef struct cld_follower {
    void *context;
    /* Before it begins: each node that it will come to, in that order; then that these were all. */
    void (*foresee)(void *context, const cld_node *n);
    cld_status (*start)(void *context);
    /* No other edge leads to this leaf. Its gradient is *came, of any floating-point dtype and layout, which the follower
     * may take over, and then sets to NULL. If that is NULL already it is .grad, if it has any. Of leaves with hooks
     * nobody is told: their gradients are complete when backward is. */
    cld_status (*complete)(void *context, cld_tensor *leaf, cld_tensor **came);
} cld_follower;

/* As cld_backward for an optimizer's step: what is to happen after it is added to `later`, and gradients of weights may
 * stay as they came (cld_dense_gradients). follower: or NULL. */
cld_status cld_backward_deferring(cld_tensor *root, cld_tensor *gradient, const cld_follower *follower,
                                  cld_deferred *later);
/* Do it now, in order, up to the first error; the rest is dropped. It depends on the one element of condition (u8, or
 * NULL), which is known on the device alone. */
cld_status cld_deferred_run(cld_deferred *later, cld_tensor *condition);
void cld_deferred_drop(cld_deferred *later);

/* The gradient of a weight may be kept as its convolution left it, in 16 bits and the device's layout, for an optimizer
 * that can read it so. This makes those of `count` leaves, as far as they have any, dense and of their leaf's
 * dtype, in few launches for each device; of a captured step it brings in what the last replay left. */
cld_status cld_dense_gradients(cld_tensor *const *leaves, int count);
/* In place of the leaf's gradient. Takes over the reference; NULL: none. */
void cld_set_gradient(cld_tensor *leaf, cld_tensor *gradient);

/* On the tape, or a leaf that asks for a gradient. */
static inline bool cld_wants_grad(const cld_tensor *t) { return t && (t->node || t->requires_grad); }

cld_node *cld_node_retain(cld_node *n);
void cld_node_free(cld_node *n);
/* Drop what n has saved. A node that had saved nothing can be run again. */
void cld_node_release(cld_node *n);

#endif
