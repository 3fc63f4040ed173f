/* Capture and replay on top of the device's graphs: what the host must know about a step besides the recorded work. */
#include "runtime/graph/graph.h"

#include <stdlib.h>
#include <string.h>

#include "runtime/ops/ops.h"
#include "runtime/tensor/device.h"
#include "runtime/tensor/kept.h"

struct cld_graph {
    const cld_backend *device;
    void *recorded;   /* the device's */
    cld_tensor *base; /* i64: the generator's position when a replay begins */
    uint64_t drawn;   /* random numbers per replay */
    cld_recording *recording;
    cld_kept_uses kept;
};

static cld_graph *current; /* being captured */

bool cld_graph_available(const cld_backend *device) { return device->graph != NULL; }
bool cld_graph_capturing(void) { return current != NULL; }

cld_status cld_graph_begin(const cld_backend *device) {
    if (current) return cld_fail(CLD_INVALID, "graph: another graph is being captured");
    if (!device->graph) return cld_unsupported("graph", device);
    cld_graph *g = calloc(1, sizeof *g);
    if (!g) return cld_fail(CLD_NOMEM, "graph: out of memory");
    g->device = device;
    g->base = cld_tensor_full(CLD_I64, 0, NULL, device, 0);
    g->recording = g->base ? cld_recording_new() : NULL;
    if (!g->recording || device->graph->begin() != CLD_OK) {
        cld_graph_free(g);
        return cld_error_code();
    }
    current = g;
    cld_begin_recorded_draws(&g->base->a);
    cld_capture_begin(g->recording);
    cld_kept_begin_capture(device, &g->kept);
    return CLD_OK;
}

cld_graph *cld_graph_end(void) {
    cld_graph *g = current;
    if (!g) return cld_fail_null(CLD_INVALID, "graph: no graph is being captured");
    current = NULL;
    g->drawn = cld_end_recorded_draws();
    cld_capture_end();
    cld_kept_end_capture();
    if (g->device->graph->end(&g->recorded) == CLD_OK) return g;
    cld_graph_free(g);
    return NULL;
}

void cld_graph_abandon(void) {
    cld_error_record failure = cld_error_export(); /* keep the error that made the capture fail */
    if (current) cld_graph_free(cld_graph_end());
    cld_error_import(&failure);
}

cld_status cld_graph_replay(cld_graph *g) {
    cld_generator generator = cld_get_generator();
    if (g->drawn) CLD_TRY(cld_tensor_from_host(g->base, &generator.position, sizeof generator.position));
    CLD_TRY(cld_kept_before_replay(g->device, &g->kept));
    CLD_TRY(g->device->graph->replay(g->recorded));
    generator.position += g->drawn;
    cld_set_generator(generator);
    cld_recording_replayed(g->recording);
    cld_kept_after_replay(&g->kept);
    return cld_device_end_step(g->device);
}

void cld_graph_free(cld_graph *g) {
    if (!g) return;
    if (g->recorded) g->device->graph->free(g->recorded);
    cld_kept_drop_uses(&g->kept);
    cld_tensor_free(g->base);
    cld_recording_free(g->recording);
    free(g);
}

/* ---- inputs -------------------------------------------------------------------------------------------- */

/* Can b's values come right after a's, as further rows? */
static bool may_follow(const cld_tensor *a, const cld_tensor *b) {
    return a->a.ndim >= 2 && cld_same_shape(&a->a, &b->a) && a->a.dtype == b->a.dtype &&
           a->a.layout == b->a.layout && cld_device(a) == cld_device(b);
}

/* `count` tensors like x, one below the other. */
static cld_tensor *new_inputs(const cld_tensor *x, int count, const cld_backend *device) {
    int64_t shape[CLD_MAX_DIMS];
    memcpy(shape, x->a.shape, sizeof shape);
    if (x->a.ndim) shape[0] *= count;
    cld_tensor *all = cld_tensor_new(x->a.dtype, x->a.ndim, shape, device);
    if (all && cld_device(x) == device) all->a.layout = x->a.layout;
    return all;
}

cld_status cld_graph_inputs(cld_tensor **out, cld_tensor *const *xs, int count, const cld_backend *device) {
    memset(out, 0, (size_t)count * sizeof *out);
    for (int first = 0, end; first < count; first = end) {
        for (end = first + 1; end < count && may_follow(xs[first], xs[end]);) end++;
        CLD_AUTO cld_tensor *all = new_inputs(xs[first], end - first, device);
        for (int i = first; all && i < end; i++) {
            int64_t rows = xs[i]->a.ndim ? xs[i]->a.shape[0] : 1;
            out[i] =
                end - first > 1 ? cld_tensor_rows(all, (i - first) * rows, rows) : cld_tensor_retain(all);
        }
        if (all && out[end - 1]) continue;
        for (int i = 0; i < end; i++) {
            cld_tensor_free(out[i]);
            out[i] = NULL;
        }
        return cld_error_code();
    }
    return CLD_OK;
}

cld_status cld_graph_set(cld_tensor *input, cld_tensor *x) {
    if (cld_device(x) == cld_device(input)) return cld_tensor_copy(input, x);
    CLD_AUTO cld_tensor *host = cld_tensor_on_host(x);
    if (!host) return cld_error_code();
    if (!cld_same_shape(&host->a, &input->a) || host->a.dtype != input->a.dtype)
        return cld_fail(CLD_INVALID, "graph: got %s for an input that is %s", cld_describe(&host->a),
                        cld_describe(&input->a));
    return cld_tensor_from_host(input, host->a.data,
                                (size_t)cld_numel(&host->a) * cld_dtype_size(host->a.dtype));
}
