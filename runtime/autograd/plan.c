#include "runtime/autograd/plan.h"

#include <stdlib.h>

/* The middle bits of the product: the low bits of node addresses are all the same. */
static size_t hash_of(const cld_node *n, size_t table) {
    return ((uint64_t)(uintptr_t)n * 0x9E3779B97F4A7C15u >> 32) & (table - 1);
}

static size_t *slot_of(const cld_plan *p, const cld_node *n) {
    size_t i = hash_of(n, p->table);
    while (p->slots[i] && p->entries[p->slots[i] - 1].node != n) i = (i + 1) & (p->table - 1);
    return &p->slots[i];
}

static cld_status index_entries(cld_plan *p, size_t table) {
    size_t *slots = calloc(table, sizeof *slots);
    if (!slots) return cld_fail(CLD_NOMEM, "backward: out of memory");
    free(p->slots);
    p->slots = slots;
    p->table = table;
    for (size_t i = 0; i < p->count; i++) *slot_of(p, p->entries[i].node) = i + 1;
    return CLD_OK;
}

static cld_status add_node(cld_plan *p, cld_node *n) {
    if (p->table && *slot_of(p, n)) return CLD_OK;
    if (p->count == p->room) {
        size_t room = p->room ? 2 * p->room : 256;
        cld_entry *grown = realloc(p->entries, room * sizeof *grown);
        if (!grown) return cld_fail(CLD_NOMEM, "backward: out of memory");
        p->entries = grown;
        p->room = room;
        CLD_TRY(index_entries(p, 4 * room));
    }
    p->entries[p->count] = (cld_entry){.node = cld_node_retain(n)};
    *slot_of(p, n) = ++p->count;
    return CLD_OK;
}

static int later_first(const void *a, const void *b) {
    uint64_t x = ((const cld_entry *)a)->node->sequence, y = ((const cld_entry *)b)->node->sequence;
    return (x < y) - (x > y);
}

/* From the first recorded node to the last: does it lead to an input, or produce one? */
static void mark_leads(cld_plan *p) {
    for (size_t i = p->count; i-- > 0;) {
        cld_entry *e = &p->entries[i];
        e->leads = p->asked.count == 0;
        for (int k = 0; k < e->node->inputs && !e->leads; k++) {
            const cld_edge *edge = &e->node->edges[k];
            e->leads = edge->leaf   ? cld__collected_leaf(&p->asked, edge->leaf) != NULL
                       : edge->node ? p->entries[*slot_of(p, edge->node) - 1].leads ||
                                          cld__collected_output(&p->asked, edge->node, edge->output)
                                    : false;
        }
    }
}

cld_status cld__make_plan(cld_plan *p, cld_tensor *const *roots, int count) {
    for (int i = 0; i < count; i++)
        if (roots[i]->node) CLD_TRY(add_node(p, roots[i]->node));
    for (size_t i = 0; i < p->count; i++) {
        cld_node *n = p->entries[i].node;
        if (n->incomplete)
            return cld_fail(CLD_NOMEM,
                            "backward: the graph is incomplete: memory ran out while it was recorded");
        for (int k = 0; k < n->inputs; k++)
            if (n->edges[k].node) CLD_TRY(add_node(p, n->edges[k].node));
    }
    if (p->count == 0) return CLD_OK;
    qsort(p->entries, p->count, sizeof *p->entries, later_first);
    CLD_TRY(index_entries(p, p->table));
    mark_leads(p);
    return CLD_OK;
}

cld_status cld__foresee(const cld_plan *p) {
    if (!p->follower) return CLD_OK;
    for (size_t i = 0; i < p->count; i++) {
        const cld_node *n = p->entries[i].node;
        for (int k = 0; k < n->inputs; k++)
            if (n->edges[k].leaf) n->edges[k].leaf->edges_left++;
        p->follower->foresee(p->follower->context, n);
    }
    return p->follower->start(p->follower->context);
}

cld_status cld__passed(cld_plan *p, const cld_node *n) {
    for (int k = 0; p->follower && k < n->inputs; k++) {
        cld_tensor *leaf = n->edges[k].leaf, *none = NULL;
        if (!leaf || --leaf->edges_left > 0 || cld__has_hooks(leaf->hooks, 0)) continue;
        cld_tensor **came = cld__waiting_for(&p->waiting, leaf);
        CLD_TRY(p->follower->complete(p->follower->context, leaf, came ? came : &none));
        if (came && !*came) cld__stop_waiting(&p->waiting, leaf);
    }
    return CLD_OK;
}

/* Resets the counts of edges: after an error some edges were not passed. */
static void forget_edges(const cld_node *n) {
    for (int k = 0; k < n->inputs; k++)
        if (n->edges[k].leaf) n->edges[k].leaf->edges_left = 0;
}

void cld__drop_gradients(cld_entry *e) {
    for (int i = 0; e->gradients && i < cld__gradient_slots(e->node); i++) cld_tensor_free(e->gradients[i]);
    free(e->gradients);
    e->gradients = NULL;
}

void cld__free_plan(cld_plan *p) {
    for (size_t i = 0; i < p->count; i++) {
        cld__drop_gradients(&p->entries[i]);
        if (p->follower) forget_edges(p->entries[i].node);
        cld_node_free(p->entries[i].node);
    }
    cld__drop_waiting(&p->waiting);
    cld__drop_collected(&p->hooked);
    cld__drop_collected(&p->asked);
    free(p->entries);
    free(p->slots);
}

cld_entry *cld__entry_of(const cld_plan *p, const cld_node *n) { return &p->entries[*slot_of(p, n) - 1]; }
