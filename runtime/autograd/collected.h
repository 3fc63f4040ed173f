/* Gradients that are summed separately and delivered at the end of backward: those of leaves with hooks, and those that
 * cld_gradients was asked for.
 */
#ifndef CLD_AUTOGRAD_COLLECTED_H
#define CLD_AUTOGRAD_COLLECTED_H

#include "runtime/autograd/tape.h"

typedef struct cld_collected {
    struct cld_sum {
        cld_tensor *of;  /* owned */
        cld_tensor *sum; /* owned; NULL: none has arrived yet */
    } * sums;
    int count, room;
} cld_collected;

/* The place for this tensor's gradient, NULL if there is none. A tensor on the tape is found by node and output, a leaf
 * by itself. */
cld_tensor **cld__collected_leaf(const cld_collected *c, const cld_tensor *leaf);
cld_tensor **cld__collected_output(const cld_collected *c, const cld_node *node, int output);
/* Appends a place for it. */
cld_status cld__collect(cld_collected *c, cld_tensor *of);
void cld__drop_collected(cld_collected *c);

#endif
