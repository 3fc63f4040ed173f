/* Captured graphs: what the stream recorded, and the pool of memory that it uses. */
#include "kernels/cuda/cuda.h"

#include <stdlib.h>

#include "kernels/cuda/pool.h"

typedef struct graph {
    void *recorded;
    cld_pool *pool;
} graph;

static graph *current; /* being captured */

static void free_graph(void *of) {
    graph *g = of;
    if (!g) return;
    cld_cuda_free_graph(g->recorded);
    cld_cuda_free_pool(g->pool);
    free(g);
}

/* A graph can be ordered with the lane only if the lane is forked and joined within it. */
static cld_status must_be_joined(const char *done) {
    if (!cld_cuda_lane_is_open()) return CLD_OK;
    return cld_fail(CLD_INVALID, "a graph cannot be %s while a collective is under way: join the lane first",
                    done);
}

static cld_status begin(void) {
    if (current) return cld_fail(CLD_INVALID, "a graph is already being captured");
    CLD_TRY(must_be_joined("captured"));
    graph *g = calloc(1, sizeof *g);
    if (!g) return cld_fail(CLD_NOMEM, "out of memory for a graph");
    g->pool = cld_cuda_begin_pool();
    cld_status status = g->pool ? cld_cuda_begin_capture() : cld_fail(CLD_NOMEM, "out of memory for a graph");
    if (status == CLD_OK) {
        current = g;
        return CLD_OK;
    }
    if (g->pool) {
        cld_cuda_end_pool();
        cld_cuda_free_pool(g->pool);
    }
    free(g);
    return status;
}

static cld_status end(void **out) {
    graph *g = current;
    *out = NULL;
    if (!g) return cld_fail(CLD_INVALID, "no graph is being captured");
    current = NULL;
    cld_status status = cld_cuda_end_capture(&g->recorded);
    cld_cuda_end_pool();
    if (cld_cuda_lane_is_open())
        status = cld_fail(CLD_INVALID,
                          "the graph's capture ends while a collective is under way: the lane was forked "
                          "within it, and must be joined before its end");
    cld_cuda_close_lane();
    if (status == CLD_OK)
        *out = g;
    else
        free_graph(g);
    return status;
}

static cld_status replay(void *of) {
    if (current) return cld_fail(CLD_INVALID, "a graph cannot be replayed while another is captured");
    CLD_TRY(must_be_joined("replayed"));
    return cld_cuda_launch_graph(((graph *)of)->recorded);
}

const cld_graph_ops cld_cuda_graph = {.begin = begin, .end = end, .replay = replay, .free = free_graph};
