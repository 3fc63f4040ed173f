#include "runtime/autograd/collected.h"

#include <stdlib.h>

cld_tensor **cld__collected_leaf(const cld_collected *c, const cld_tensor *leaf) {
    for (int i = 0; i < c->count; i++)
        if (c->sums[i].of == leaf) return &c->sums[i].sum;
    return NULL;
}

cld_tensor **cld__collected_output(const cld_collected *c, const cld_node *node, int output) {
    for (int i = 0; i < c->count; i++)
        if (c->sums[i].of->node == node && c->sums[i].of->output == output) return &c->sums[i].sum;
    return NULL;
}

cld_status cld__collect(cld_collected *c, cld_tensor *of) {
    if (c->count == c->room) {
        int room = c->room ? 2 * c->room : 16;
        struct cld_sum *grown = realloc(c->sums, (size_t)room * sizeof *grown);
        if (!grown) return cld_fail(CLD_NOMEM, "backward: out of memory");
        c->sums = grown;
        c->room = room;
    }
    c->sums[c->count++] = (struct cld_sum){.of = cld_tensor_retain(of)};
    return CLD_OK;
}

void cld__drop_collected(cld_collected *c) {
    for (int i = 0; i < c->count; i++) {
        cld_tensor_free(c->sums[i].of);
        cld_tensor_free(c->sums[i].sum);
    }
    free(c->sums);
    *c = (cld_collected){0};
}
