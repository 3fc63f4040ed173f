/* Work that is queued once and replayed: a captured training step costs the host one call.
 *
 * Between begin and end whatever a device queues is recorded and not done; nothing can be waited for. A replay does it
 * all again, with the same memory: what the work is to be done with is written into tensors that it read (cld_graph_set),
 * and its results lie where they lay. What it works on and did not allocate itself must live as long as the graph.
 * Its own memory is apart: whoever holds a tensor of it may keep that beyond the graph's end.
 *
 * The 16-bit copies that weights keep (runtime/tensor/kept.h) are taken from before the capture, if they were good then, and
 * held: a replay renews those that others' writes to the weights have left behind, before its work.
 *
 * Random numbers go on: a replay draws those that the work, done once more, would have drawn. The generator's seed is
 * that of the capture.
 */
#ifndef CLD_GRAPH_H
#define CLD_GRAPH_H

#include "runtime/tensor/tensor.h"

typedef struct cld_graph cld_graph;

bool cld_graph_available(const cld_backend *device);

cld_status cld_graph_begin(const cld_backend *device); /* one at a time in the process */
bool cld_graph_capturing(void);
/* What was recorded since begin; it has not been done once. On failure too the capture is over. */
cld_graph *cld_graph_end(void);
void cld_graph_abandon(void); /* the end of a capture that failed; nothing if there is none */

cld_status cld_graph_replay(cld_graph *g);
void cld_graph_free(cld_graph *g);

/* Where a graph is to find such values: out[i] is a tensor of xs[i]'s shape and dtype on that device, as xs[i] is laid out.
 * Those of one shape that follow one another (the views of a batch) are parts of one tensor: see cld_join_rows. */
cld_status cld_graph_inputs(cld_tensor **out, cld_tensor *const *xs, int count, const cld_backend *device);
/* *input = x, which may lie on the host; does not wait. */
cld_status cld_graph_set(cld_tensor *input, cld_tensor *x);

#endif
