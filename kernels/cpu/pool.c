/* Max and average pooling, f32 and f64, blocked and row-major.
 *
 * A plane is one image's map of one block of channels: `lanes` adjacent values at each position, 16 in the blocked
 * layout, 1 in the row-major one. Planes are independent, so each is one thread's work, forward and backward. A map
 * with one position has the same bytes in both layouts and is row-major, so the output of a global average is ready to
 * be flattened.
 *
 * The bodies take dtype and lanes as constants, so the compiler makes one copy of each body per combination.
 */
#include "kernels/cpu/pool.h"
#include "kernels/cpu/simd.h"

#include <math.h>
#include <string.h>

typedef struct planes {
    int64_t count, height, width; /* of the larger map: x */
    int64_t out_height, out_width;
    int lanes;
} planes;

static planes planes_of(const cld_array *x, const cld_array *y) {
    int lanes = x->layout == CLD_BLOCKED || y->layout == CLD_BLOCKED ? 16 : 1;
    return (planes){.count = x->shape[0] * x->shape[1] / lanes,
                    .height = x->shape[2],
                    .width = x->shape[3],
                    .out_height = y->shape[2],
                    .out_width = y->shape[3],
                    .lanes = lanes};
}

CLD_INLINE double get(const void *data, cld_dtype dtype, int64_t i) {
    return dtype == CLD_F32 ? (double)((const float *)data)[i] : ((const double *)data)[i];
}

CLD_INLINE void put(void *data, cld_dtype dtype, int64_t i, double v) {
    if (dtype == CLD_F32)
        ((float *)data)[i] = (float)v;
    else
        ((double *)data)[i] = v;
}

/* The taps [first, last) of output position i that lie inside the map, along axis. */
typedef struct window {
    int64_t first, last;
} window;

CLD_INLINE window window_at(const cld_pool_params *p, int axis, int64_t i, int64_t extent) {
    int64_t first = i * p->stride[axis] - p->padding[axis], last = first + p->kernel[axis];
    return (window){first < 0 ? 0 : first, last > extent ? extent : last};
}

/* ---- max ----------------------------------------------------------------------------------------------- */

/* NaN wins over everything; the first among equals, as in PyTorch. */
CLD_INLINE void max_plane(void *y, int32_t *argmax, const void *x, const planes *s, const cld_pool_params *p,
                          int64_t plane, cld_dtype dtype, int lanes) {
    int64_t in = plane * s->height * s->width * lanes, out = plane * s->out_height * s->out_width * lanes;
    for (int64_t i = 0; i < s->out_height; i++)
        for (int64_t j = 0; j < s->out_width; j++, out += lanes) {
            window rows = window_at(p, 0, i, s->height), columns = window_at(p, 1, j, s->width);
            double best[16];
            int32_t where[16];
            for (int l = 0; l < lanes; l++) {
                best[l] = -INFINITY;
                where[l] = (int32_t)(rows.first * s->width + columns.first);
            }
            for (int64_t h = rows.first; h < rows.last; h++)
                for (int64_t w = columns.first; w < columns.last; w++)
                    for (int l = 0; l < lanes; l++) {
                        double v = get(x, dtype, in + (h * s->width + w) * lanes + l);
                        bool better = v > best[l] || (isnan(v) && !isnan(best[l]));
                        best[l] = better ? v : best[l];
                        where[l] = better ? (int32_t)(h * s->width + w) : where[l];
                    }
            for (int l = 0; l < lanes; l++) {
                put(y, dtype, out + l, best[l]);
                argmax[out + l] = where[l];
            }
        }
}

CLD_INLINE void max_plane_backward(void *dx, const void *dy, const int32_t *argmax, const planes *s,
                                   int64_t plane, cld_dtype dtype, int lanes) {
    int64_t in = plane * s->height * s->width * lanes, out = plane * s->out_height * s->out_width * lanes;
    for (int64_t i = 0; i < s->height * s->width * lanes; i++) put(dx, dtype, in + i, 0);
    for (int64_t i = 0; i < s->out_height * s->out_width; i++, out += lanes)
        for (int l = 0; l < lanes; l++) {
            int64_t to = in + (int64_t)argmax[out + l] * lanes + l;
            put(dx, dtype, to, get(dx, dtype, to) + get(dy, dtype, out + l));
        }
}

/* The forward pass for blocked f32 maps, which is the case in networks: a block of channels fills vectors. */
CLD_SIMD static void max_plane_blocked(float *y, int32_t *argmax, const float *x, const planes *s,
                                       const cld_pool_params *p, int64_t plane) {
    x += plane * s->height * s->width * 16;
    y += plane * s->out_height * s->out_width * 16;
    argmax += plane * s->out_height * s->out_width * 16;
    for (int64_t i = 0; i < s->out_height; i++)
        for (int64_t j = 0; j < s->out_width; j++, y += 16, argmax += 16) {
            window rows = window_at(p, 0, i, s->height), columns = window_at(p, 1, j, s->width);
            float best[16];
            int32_t where[16];
            for (int l = 0; l < 16; l++) {
                best[l] = -INFINITY;
                where[l] = (int32_t)(rows.first * s->width + columns.first);
            }
            for (int64_t h = rows.first; h < rows.last; h++)
                for (int64_t w = columns.first; w < columns.last; w++) {
                    const float *v = x + (h * s->width + w) * 16;
                    int32_t here = (int32_t)(h * s->width + w);
#pragma omp simd
                    for (int l = 0; l < 16; l++) {
                        bool better = (v[l] > best[l]) | ((v[l] != v[l]) & (best[l] == best[l]));
                        best[l] = better ? v[l] : best[l];
                        where[l] = better ? here : where[l];
                    }
                }
            memcpy(y, best, sizeof best);
            memcpy(argmax, where, sizeof where);
        }
}

/* ---- average ------------------------------------------------------------------------------------------- */

/* Padding counts, but only inside the padded map: so this is nearly always kernel * kernel. */
CLD_INLINE double divisor(const cld_pool_params *p, int64_t i, int64_t j, const planes *s) {
    int64_t extent[2] = {s->height, s->width}, at[2] = {i, j}, taps = 1;
    for (int axis = 0; axis < 2; axis++) {
        int64_t first = at[axis] * p->stride[axis] - p->padding[axis], last = first + p->kernel[axis];
        int64_t end = extent[axis] + p->padding[axis];
        taps *= (last < end ? last : end) - first;
    }
    return (double)taps;
}

CLD_INLINE void avg_plane(void *y, const void *x, const planes *s, const cld_pool_params *p, int64_t plane,
                          cld_dtype dtype, int lanes) {
    int64_t in = plane * s->height * s->width * lanes, out = plane * s->out_height * s->out_width * lanes;
    for (int64_t i = 0; i < s->out_height; i++)
        for (int64_t j = 0; j < s->out_width; j++, out += lanes) {
            window rows = window_at(p, 0, i, s->height), columns = window_at(p, 1, j, s->width);
            double sum[16] = {0};
            for (int64_t h = rows.first; h < rows.last; h++)
                for (int64_t w = columns.first; w < columns.last; w++)
                    for (int l = 0; l < lanes; l++)
                        sum[l] += get(x, dtype, in + (h * s->width + w) * lanes + l);
            for (int l = 0; l < lanes; l++) put(y, dtype, out + l, sum[l] / divisor(p, i, j, s));
        }
}

CLD_INLINE void avg_plane_backward(void *dx, const void *dy, const planes *s, const cld_pool_params *p,
                                   int64_t plane, cld_dtype dtype, int lanes) {
    int64_t in = plane * s->height * s->width * lanes, out = plane * s->out_height * s->out_width * lanes;
    for (int64_t i = 0; i < s->height * s->width * lanes; i++) put(dx, dtype, in + i, 0);
    for (int64_t i = 0; i < s->out_height; i++)
        for (int64_t j = 0; j < s->out_width; j++, out += lanes) {
            window rows = window_at(p, 0, i, s->height), columns = window_at(p, 1, j, s->width);
            double share[16];
            for (int l = 0; l < lanes; l++) share[l] = get(dy, dtype, out + l) / divisor(p, i, j, s);
            for (int64_t h = rows.first; h < rows.last; h++)
                for (int64_t w = columns.first; w < columns.last; w++)
                    for (int l = 0; l < lanes; l++) {
                        int64_t to = in + (h * s->width + w) * lanes + l;
                        put(dx, dtype, to, get(dx, dtype, to) + share[l]);
                    }
        }
}

/* ---- the table's entries ------------------------------------------------------------------------------- */

typedef enum which { MAX, MAX_BACKWARD, AVG, AVG_BACKWARD } which;

typedef struct job {
    which kind;
    const cld_array *x, *y, *argmax; /* in backward: their gradients */
    const cld_pool_params *params;
    planes shape;
} job;

CLD_INLINE void run_plane(const job *j, int64_t plane, cld_dtype dtype, int lanes) {
    void *x = j->x->data, *y = j->y->data, *argmax = j->argmax ? j->argmax->data : NULL;
    switch (j->kind) {
    case MAX: max_plane(y, argmax, x, &j->shape, j->params, plane, dtype, lanes); break;
    case MAX_BACKWARD: max_plane_backward(x, y, argmax, &j->shape, plane, dtype, lanes); break;
    case AVG: avg_plane(y, x, &j->shape, j->params, plane, dtype, lanes); break;
    case AVG_BACKWARD: avg_plane_backward(x, y, &j->shape, j->params, plane, dtype, lanes); break;
    }
}

static cld_status run(job j) {
    cld_dtype dtype = j.x->dtype;
    if (dtype != CLD_F32 && dtype != CLD_F64)
        return cld_fail(CLD_UNSUPPORTED, "pooling: the cpu computes it in f32 and f64");
    j.shape = planes_of(j.x, j.y);
#pragma omp parallel for schedule(static)
    for (int64_t plane = 0; plane < j.shape.count; plane++) {
        if (dtype == CLD_F64)
            run_plane(&j, plane, CLD_F64, 1);
        else if (j.shape.lanes == 16 && j.kind == MAX)
            max_plane_blocked(j.y->data, j.argmax->data, j.x->data, &j.shape, j.params, plane);
        else if (j.shape.lanes == 16)
            run_plane(&j, plane, CLD_F32, 16);
        else
            run_plane(&j, plane, CLD_F32, 1);
    }
    return CLD_OK;
}

cld_status cld_cpu_max_pool(const cld_array *y, const cld_array *argmax, const cld_array *x,
                            const cld_pool_params *p) {
    return run((job){.kind = MAX, .x = x, .y = y, .argmax = argmax, .params = p});
}

cld_status cld_cpu_max_pool_backward(const cld_array *dx, const cld_array *dy, const cld_array *argmax,
                                     const cld_pool_params *p) {
    return run((job){.kind = MAX_BACKWARD, .x = dx, .y = dy, .argmax = argmax, .params = p});
}

cld_status cld_cpu_avg_pool(const cld_array *y, const cld_array *x, const cld_pool_params *p) {
    return run((job){.kind = AVG, .x = x, .y = y, .params = p});
}

cld_status cld_cpu_avg_pool_backward(const cld_array *dx, const cld_array *dy, const cld_pool_params *p) {
    return run((job){.kind = AVG_BACKWARD, .x = dx, .y = dy, .params = p});
}
