/* The nodes that a backward visits, in order, with the gradients that have reached each so far. */
#ifndef CLD_AUTOGRAD_PLAN_H
#define CLD_AUTOGRAD_PLAN_H

#include "runtime/autograd/collected.h"
#include "runtime/autograd/waiting.h"

/* Every node that the roots depend on, with the gradients that have reached its outputs so far. */
typedef struct cld_entry {
    cld_node *node;
    cld_tensor **gradients;
    bool leads; /* leads to an input that gradients were asked for; all nodes do if none were */
} cld_entry;

typedef struct cld_plan {
    cld_entry *entries; /* by sequence, descending: the order in which backward runs */
    size_t count, room;
    size_t *slots; /* hash table from node to 1 + its entry */
    size_t table;  /* number of slots, a power of two */
    cld_waiting waiting;
    cld_collected hooked;         /* gradients of leaves with hooks */
    cld_collected asked;          /* what cld_gradients is to return; if set, no other leaf gets a gradient */
    const cld_follower *follower; /* or NULL */
} cld_plan;

/* Finds all nodes behind the roots, in order, and for p->asked which of them lead there. */
cld_status cld__make_plan(cld_plan *p, cld_tensor *const *roots, int count);
/* Tells the follower which nodes will be visited, and counts the edges to each leaf. */
cld_status cld__foresee(const cld_plan *p);
/* The node was passed: tells the follower about the leaves to which no other edge leads. */
cld_status cld__passed(cld_plan *p, const cld_node *n);
cld_entry *cld__entry_of(const cld_plan *p, const cld_node *n);
void cld__drop_gradients(cld_entry *e);
void cld__free_plan(cld_plan *p);

static inline bool cld__takes_terms(const cld_node *n) { return n->op->takes_terms && n->op->takes_terms(n); }

/* Slots for the gradients of all outputs, then for their second terms, which stay NULL unless backward takes terms. */
static inline int cld__gradient_slots(const cld_node *n) { return 2 * n->outputs; }

#endif
