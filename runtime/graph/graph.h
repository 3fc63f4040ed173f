/* Work that is captured once and replayed: a captured training step costs the host one call.
 *
 * Between begin and end, work that a device queues is recorded instead of run, and nothing can be waited for. A replay
 * runs it all, with the same memory: new inputs are written into the tensors that it read (cld_graph_set), and results
 * are in the same tensors as before. Memory that it uses but did not allocate itself must live as long as the graph.
 * Its own memory is separate, and a tensor in it may be kept beyond the graph's end.
 *
 * The 16-bit copies that weights keep (runtime/tensor/kept.h) are used from before the capture, if they were valid
 * then, and held. Before its work, a replay renews those that have become stale because something else wrote to the
 * weights.
 *
 * Random numbers continue: a replay draws the numbers that running the work again would have drawn. The generator's
 * seed is that of the capture.
 */
#ifndef CLD_GRAPH_H
#define CLD_GRAPH_H

#include "runtime/tensor/tensor.h"

typedef struct cld_graph cld_graph;

bool cld_graph_available(const cld_backend *device);

cld_status cld_graph_begin(const cld_backend *device); /* one at a time in the process */
bool cld_graph_capturing(void);
/* What was recorded since begin; it has not been run yet. The capture ends on failure, too. */
cld_graph *cld_graph_end(void);
void cld_graph_abandon(void); /* ends a capture that failed; does nothing if there is none */

cld_status cld_graph_replay(cld_graph *g);
void cld_graph_free(cld_graph *g);

/* Input tensors of a graph: out[i] has xs[i]'s shape, dtype and layout, on that device. Consecutive ones of one shape
 * (the views of a batch) are parts of one tensor: see cld_join_rows. */
cld_status cld_graph_inputs(cld_tensor **out, cld_tensor *const *xs, int count, const cld_backend *device);
/* *input = x, which may be on the host; does not wait. */
cld_status cld_graph_set(cld_tensor *input, cld_tensor *x);

#endif
