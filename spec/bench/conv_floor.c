/* How long a step's convolutions would take in oneDNN alone: those of ResNet-18 at 32 x 32, as bare primitives.
 *
 * A Lua module, so that it runs in the process of the step that it is compared with. For every distinct convolution and
 * direction it takes the faster of oneDNN's choice (Winograd if possible, with AVX-512) and the direct algorithm, each
 * in the memory layouts that the primitive prefers, and does not count reorders between them. A step with oneDNN's
 * convolutions comes near this. With AVX2, where our own Winograd convolutions are used, a step can be faster.
 *
 *     local forward, data, weights = require("conv_floor").measure(batch, width, repeats)   -- seconds per batch
 */
#include <lauxlib.h>
#include <lua.h>
#include <oneapi/dnnl/dnnl.h>
#include <stdlib.h>
#include <time.h>

#define MAX_ARGS 3

/* in and out are in units of the width; 0: the 3 channels of the image. */
typedef struct conv_shape {
    int count, in, out, size, kernel, stride;
} conv_shape;

/* clang-format off */
static const conv_shape resnet18[] = {
    {1, 0, 1, 32, 3, 1},                                           /* the stem: no gradient of its input */
    {4, 1, 1, 32, 3, 1}, {1, 1, 2, 32, 3, 2}, {1, 1, 2, 32, 1, 2}, /* stage 1; into stage 2 and its shortcut */
    {3, 2, 2, 16, 3, 1}, {1, 2, 4, 16, 3, 2}, {1, 2, 4, 16, 1, 2},
    {3, 4, 4, 8, 3, 1}, {1, 4, 8, 8, 3, 2}, {1, 4, 8, 8, 1, 2},
    {3, 8, 8, 4, 3, 1},
};
/* clang-format on */

typedef enum direction { FORWARD, BACKWARD_DATA, BACKWARD_WEIGHTS } direction;

/* After a failed call nothing is freed, because the benchmark ends. */
#define TRY(call)                                                                                            \
    do {                                                                                                     \
        dnnl_status_t status = (call);                                                                       \
        if (status != dnnl_success) return status;                                                           \
    } while (0)

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

typedef struct bench {
    dnnl_engine_t engine;
    dnnl_stream_t stream;
} bench;

/* The shortest time of the primitive, on memory in the formats that it asks for. */
static dnnl_status_t measure_primitive(double *seconds, const bench *b, const_dnnl_primitive_desc_t pd,
                                       const int args[MAX_ARGS], const dnnl_query_t formats[MAX_ARGS],
                                       int repeats) {
    dnnl_primitive_t primitive;
    TRY(dnnl_primitive_create(&primitive, pd));
    dnnl_exec_arg_t list[MAX_ARGS];
    for (int i = 0; i < MAX_ARGS; i++) {
        const dnnl_memory_desc_t *md = dnnl_primitive_desc_query_md(pd, formats[i], 0);
        list[i].arg = args[i];
        TRY(dnnl_memory_create(&list[i].memory, md, b->engine, DNNL_MEMORY_ALLOCATE));
        void *data;
        TRY(dnnl_memory_get_data_handle(list[i].memory, &data));
        float *values = data;
        for (size_t k = 0; k < dnnl_memory_desc_get_size(md) / sizeof(float); k++)
            values[k] = (float)(k % 13) - 6;
    }
    double best = 1e30;
    for (int r = 0; r <= repeats; r++) { /* the first is warm-up */
        double start = now();
        TRY(dnnl_primitive_execute(primitive, b->stream, MAX_ARGS, list));
        TRY(dnnl_stream_wait(b->stream));
        double t = now() - start;
        if (r > 0 && t < best) best = t;
    }
    for (int i = 0; i < MAX_ARGS; i++) dnnl_memory_destroy(list[i].memory);
    dnnl_primitive_destroy(primitive);
    *seconds = best;
    return dnnl_success;
}

static dnnl_status_t measure(double *seconds, const bench *b, const conv_shape *s, direction dir,
                             dnnl_alg_kind_t algorithm, int batch, int width, int repeats) {
    dnnl_dim_t in = s->in ? s->in * width : 3, out = s->out * width, size = s->size,
               result = size / s->stride;
    dnnl_dims_t x_dims = {batch, in, size, size}, w_dims = {out, in, s->kernel, s->kernel},
                y_dims = {batch, out, result, result}, strides = {s->stride, s->stride},
                padding = {s->kernel / 2, s->kernel / 2};
    dnnl_memory_desc_t x, w, y;
    TRY(dnnl_memory_desc_init_by_tag(&x, 4, x_dims, dnnl_f32, dnnl_format_tag_any));
    TRY(dnnl_memory_desc_init_by_tag(&w, 4, w_dims, dnnl_f32, dnnl_format_tag_any));
    TRY(dnnl_memory_desc_init_by_tag(&y, 4, y_dims, dnnl_f32, dnnl_format_tag_any));

    /* With stride 2 and padding on both sides, the last row of padding is not read. */
    dnnl_dims_t padding_end;
    for (int i = 0; i < 2; i++) padding_end[i] = (result - 1) * s->stride + s->kernel - size - padding[i];

    dnnl_convolution_desc_t desc, hint_desc;
    dnnl_primitive_desc_t pd, hint = NULL;
    TRY(dnnl_convolution_forward_desc_init(&hint_desc, dnnl_forward_training, algorithm, &x, &w, NULL, &y,
                                           strides, padding, padding_end));
    TRY(dnnl_primitive_desc_create(&hint, &hint_desc, NULL, b->engine, NULL));
    switch (dir) {
    case FORWARD:
        TRY(measure_primitive(seconds, b, hint, (int[]){DNNL_ARG_SRC, DNNL_ARG_WEIGHTS, DNNL_ARG_DST},
                              (dnnl_query_t[]){dnnl_query_src_md, dnnl_query_weights_md, dnnl_query_dst_md},
                              repeats));
        break;
    case BACKWARD_DATA:
        TRY(dnnl_convolution_backward_data_desc_init(&desc, algorithm, &x, &w, &y, strides, padding,
                                                     padding_end));
        TRY(dnnl_primitive_desc_create(&pd, &desc, NULL, b->engine, hint));
        TRY(measure_primitive(
            seconds, b, pd, (int[]){DNNL_ARG_DIFF_SRC, DNNL_ARG_WEIGHTS, DNNL_ARG_DIFF_DST},
            (dnnl_query_t[]){dnnl_query_diff_src_md, dnnl_query_weights_md, dnnl_query_diff_dst_md},
            repeats));
        dnnl_primitive_desc_destroy(pd);
        break;
    case BACKWARD_WEIGHTS:
        TRY(dnnl_convolution_backward_weights_desc_init(&desc, algorithm, &x, &w, NULL, &y, strides, padding,
                                                        padding_end));
        TRY(dnnl_primitive_desc_create(&pd, &desc, NULL, b->engine, hint));
        TRY(measure_primitive(
            seconds, b, pd, (int[]){DNNL_ARG_SRC, DNNL_ARG_DIFF_WEIGHTS, DNNL_ARG_DIFF_DST},
            (dnnl_query_t[]){dnnl_query_src_md, dnnl_query_diff_weights_md, dnnl_query_diff_dst_md},
            repeats));
        dnnl_primitive_desc_destroy(pd);
        break;
    }
    dnnl_primitive_desc_destroy(hint);
    return dnnl_success;
}

static int floor_measure(lua_State *L) {
    int batch = (int)luaL_checkinteger(L, 1), width = (int)luaL_checkinteger(L, 2);
    int repeats = (int)luaL_checkinteger(L, 3);
    bench b;
    if (dnnl_engine_create(&b.engine, dnnl_cpu, 0) != dnnl_success ||
        dnnl_stream_create(&b.stream, b.engine, dnnl_stream_default_flags) != dnnl_success)
        return luaL_error(L, "conv_floor: no oneDNN engine");
    double totals[3] = {0};
    for (size_t i = 0; i < sizeof resnet18 / sizeof *resnet18; i++) {
        for (int dir = FORWARD; dir <= BACKWARD_WEIGHTS; dir++) {
            if (dir == BACKWARD_DATA && resnet18[i].in == 0) continue;
            double chosen, direct;
            if (measure(&direct, &b, &resnet18[i], dir, dnnl_convolution_direct, batch, width, repeats) !=
                dnnl_success)
                return luaL_error(L, "conv_floor: oneDNN cannot run convolution %d", (int)i);
            if (measure(&chosen, &b, &resnet18[i], dir, dnnl_convolution_auto, batch, width, repeats) !=
                dnnl_success)
                chosen = direct;
            totals[dir] += resnet18[i].count * (chosen < direct ? chosen : direct);
        }
    }
    dnnl_stream_destroy(b.stream);
    dnnl_engine_destroy(b.engine);
    for (int dir = FORWARD; dir <= BACKWARD_WEIGHTS; dir++) lua_pushnumber(L, totals[dir]);
    return 3;
}

__attribute__((visibility("default"))) int luaopen_conv_floor(lua_State *L) {
    static const luaL_Reg functions[] = {{"measure", floor_measure}, {NULL, NULL}};
    luaL_newlib(L, functions);
    return 1;
}
