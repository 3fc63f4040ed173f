/* cld.nn.functional: convolution, batch normalization, pooling, linear; nn_functions.c has the rest.
 * lua/cld/nn/layers.lua makes modules of them. */
#include "bindings/bindings.h"

/* ---- sizes: one number for both axes, or {height, width} ---- */

static int check_size(lua_State *L, const char *function, const char *what) {
    int is_integer;
    lua_Integer v = lua_tointegerx(L, -1, &is_integer);
    if (!is_integer)
        luaL_error(L, "%s: %s must be an integer or a pair of integers, got %s", function, what,
                   luaL_tolstring(L, -1, NULL));
    if (v < 0) luaL_error(L, "%s: %s must not be below 0, got %I", function, what, (LUAI_UACINT)v);
    if (v > INT32_MAX) luaL_error(L, "%s: %s must be less than 2^31, got %I", function, what, (LUAI_UACINT)v);
    return (int)v;
}

/* Reads the value on top of the stack and pops it. */
static void pop_pair(lua_State *L, const char *function, const char *what, int out[2]) {
    if (lua_istable(L, -1)) {
        if (luaL_len(L, -1) != 2)
            luaL_error(L, "%s: %s must be an integer or a pair of integers, got a table of %d", function,
                       what, (int)luaL_len(L, -1));
        for (int i = 0; i < 2; i++) {
            lua_geti(L, -1, i + 1);
            out[i] = check_size(L, function, what);
            lua_pop(L, 1);
        }
    } else {
        out[0] = out[1] = check_size(L, function, what);
    }
    lua_pop(L, 1);
}

void cldL_field_pair(lua_State *L, int arg, const char *function, const char *name, int out[2]) {
    if (lua_isnoneornil(L, arg)) return;
    if (lua_getfield(L, arg, name) == LUA_TNIL)
        lua_pop(L, 1);
    else
        pop_pair(L, function, name, out);
}

/* ---- functions ---- */

/* --- cld.nn.functional.conv2d(x, weight[, bias[, {stride = 1, padding = 0, dilation = 1, groups = 1}]]) ->
 * tensor: x (N, C, H, W), weight (out, C / groups, h, w), bias (out) or nil. Settings are integers or
 * {height, width}. Operands are rounded to cld.precision().
 *
 *     local y = cld.nn.functional.conv2d(cld.ones(1, 1, 4, 4), cld.ones(2, 1, 3, 3), nil, { padding = 1 })
 *     print(y[{ 1, 1, 2, 2 }]:item())           --> 9.0 */
static int nn_conv2d(lua_State *L) {
    static const char *const fields[] = {"stride", "padding", "dilation", "groups", NULL};
    cld_tensor *x = cldL_check_tensor(L, 1), *weight = cldL_check_tensor(L, 2), *bias = cldL_opt_tensor(L, 3);
    cld_conv_params p = {.stride = {1, 1}, .dilation = {1, 1}};
    cldL_check_fields(L, 4, "conv2d", fields);
    cldL_field_pair(L, 4, "conv2d", "stride", p.stride);
    cldL_field_pair(L, 4, "conv2d", "padding", p.padding);
    cldL_field_pair(L, 4, "conv2d", "dilation", p.dilation);
    lua_Integer groups = cldL_field_integer(L, 4, "groups", 1);
    if (groups < 1 || groups > INT32_MAX)
        return luaL_error(L, "conv2d: groups must be at least 1 and less than 2^31, got %I",
                          (LUAI_UACINT)groups);
    p.groups = (int)groups;
    cld_tensor **out = cldL_new_tensor(L);
    *out = cld_conv2d(x, weight, bias, &p);
    return cldL_result(L, *out);
}

/* ---- parts of a batch, as lua/cld/nn/parts.lua defines them ---- */

static int check_count(lua_State *L, int table, const char *name, lua_Integer otherwise, lua_Integer least) {
    lua_Integer v = cldL_field_integer(L, table, name, otherwise);
    if (v < least || v > INT32_MAX)
        luaL_error(L, "parts: %s must be an integer of at least %I, got %I", name, (LUAI_UACINT)least,
                   (LUAI_UACINT)v);
    return (int)v;
}

static const char *const part_fields[] = {"views", "blocks", "unit",  "done", "rows",  "total", "before",
                                          "after", "images", "begin", "of",   "first", NULL};

static cld_parts check_parts(lua_State *L, int table) {
    cldL_check_fields(L, table, "parts", part_fields);
    cld_parts parts = {.views = check_count(L, table, "views", 1, 1),
                       .blocks = check_count(L, table, "blocks", 1, 1),
                       .unit = check_count(L, table, "unit", 1, 1),
                       .total = check_count(L, table, "images", 0, 0),
                       .begin = check_count(L, table, "begin", 0, 0),
                       .of = check_count(L, table, "of", 0, 0),
                       .first = check_count(L, table, "first", 0, 0)};
    if (parts.total == 0 && (parts.begin || parts.of || parts.first))
        luaL_error(L, "parts: begin, of and first need the number of images in the batch; images is missing");
    if (parts.total > 0 && (parts.of < 1 || parts.of > parts.total))
        luaL_error(L, "parts: of must be 1 to %I, the number of images, got %d", (LUAI_UACINT)parts.total,
                   parts.of);
    return parts;
}

/* The field `parts` of the table at arg, or none. */
static void field_parts(lua_State *L, int arg, cld_norm_params *p) {
    if (lua_isnoneornil(L, arg)) return;
    if (lua_getfield(L, arg, "parts") != LUA_TNIL) {
        int table = lua_gettop(L);
        luaL_checktype(L, table, LUA_TTABLE);
        p->parts = check_parts(L, table);
        p->share = (cld_share){.done = check_count(L, table, "done", 0, 0),
                               .rows = check_count(L, table, "rows", 0, 0),
                               .total = check_count(L, table, "total", 0, 0),
                               .before = check_count(L, table, "before", 0, 0),
                               .after = check_count(L, table, "after", 0, 0)};
    }
    lua_pop(L, 1);
}

/* --- cld.nn.functional.part_begin({views = 1, blocks = 1, unit = 1}, rows, part) -> integer: the first row
 * of a part of a batch, both from 0; for part = views * blocks, the number of rows. See cld.nn.parts. */
static int nn_part_begin(lua_State *L) {
    cld_parts parts = check_parts(L, 1);
    lua_Integer rows = luaL_checkinteger(L, 2), part = luaL_checkinteger(L, 3);
    int64_t of_view = (int64_t)parts.views * parts.unit;
    luaL_argcheck(L, rows >= 0 && rows % of_view == 0, 2, "expected a multiple of views * unit");
    luaL_argcheck(L, part >= 0 && part <= (int64_t)parts.views * parts.blocks, 3,
                  "expected 0 to views * blocks");
    lua_pushinteger(L, cld_part_begin(&parts, rows, (int)part));
    return 1;
}

/* --- cld.nn.functional.block_count(images, block) -> integer: the number of blocks of at most `block` images
 * that the images are cut into; block 0 means one block. */
static int nn_block_count(lua_State *L) {
    lua_Integer images = luaL_checkinteger(L, 1), block = luaL_checkinteger(L, 2);
    luaL_argcheck(L, images >= 0, 1, "expected at least 0");
    luaL_argcheck(L, block >= 0 && block <= INT32_MAX, 2, "expected 0 to 2^31 - 1");
    lua_pushinteger(L, cld_block_count(images, block));
    return 1;
}

/* --- cld.nn.functional.join_rows({a, b, ...}) -> tensor: as cld.cat along the rows, without a copy if the
 * tensors are adjacent in one memory and off the tape. */
static int nn_join_rows(lua_State *L) {
    int count;
    lua_settop(L, 1);
    cld_tensor **list = cldL_check_list(L, 1, &count);
    cld_tensor **out = cldL_new_tensor(L);
    *out = cld_join_rows(list, count);
    return cldL_result(L, *out);
}

enum { MOST_SPLIT = 64 };

/* --- cld.nn.functional.split_rows(x, count) -> {tensor, ...}: equal parts of its rows, which share x's
 * memory; the gradients are joined without a copy if possible. */
static int nn_split_rows(lua_State *L) {
    cld_tensor *x = cldL_check_tensor(L, 1), *parts[MOST_SPLIT];
    lua_Integer count = luaL_checkinteger(L, 2);
    luaL_argcheck(L, count >= 1 && count <= MOST_SPLIT, 2, "expected 1 to 64");
    cld_tensor **box[MOST_SPLIT];
    lua_createtable(L, (int)count, 0);
    for (lua_Integer i = 0; i < count; i++) {
        box[i] = cldL_new_tensor(L);
        lua_seti(L, -2, i + 1);
    }
    cldL_check_status(L, cld_split_rows(parts, x, (int)count));
    for (lua_Integer i = 0; i < count; i++) *box[i] = parts[i];
    return 1;
}

/* ---- batch normalization ---- */

/* --- cld.nn.functional.batch_norm(x, weight, bias, running_mean, running_var[, {training = false, momentum
 * = 0.1, eps = 1e-5, relu = false, residual, num_batches_tracked, parts}]) -> tensor: x (N, C) or (N, C, H,
 * W). weight, bias and, in training, the running statistics may be nil. residual is added, and relu applied,
 * in the same pass. num_batches_tracked (one element, i64) is incremented in training. parts, as nn.parts()
 * returns them: the parts of x's rows that have their own statistics in training. */
static int nn_batch_norm(lua_State *L) {
    static const char *const fields[] = {
        "training", "momentum", "eps", "relu", "residual", "num_batches_tracked", "parts", NULL};
    cld_tensor *x = cldL_check_tensor(L, 1), *weight = cldL_opt_tensor(L, 2), *bias = cldL_opt_tensor(L, 3);
    cld_tensor *running_mean = cldL_opt_tensor(L, 4), *running_var = cldL_opt_tensor(L, 5);
    cldL_check_fields(L, 6, "batch_norm", fields);
    cld_tensor *residual = cldL_field_tensor(L, 6, "residual");
    cld_tensor *batches = cldL_field_tensor(L, 6, "num_batches_tracked");
    cld_norm_params p = {.training = cldL_field_boolean(L, 6, "training", false),
                         .relu = cldL_field_boolean(L, 6, "relu", false),
                         .momentum = cldL_field_number(L, 6, "momentum", 0.1),
                         .eps = cldL_field_number(L, 6, "eps", 1e-5)};
    field_parts(L, 6, &p);
    cld_tensor **out = cldL_new_tensor(L);
    *out = cld_batch_norm(x, residual, weight, bias, running_mean, running_var, batches, &p);
    return cldL_result(L, *out);
}

/* The kernel at 2, {stride = kernel, padding = 0} at 3. */
static cld_pool_params check_pool(lua_State *L, const char *function) {
    static const char *const fields[] = {"stride", "padding", NULL};
    cld_pool_params p = {0};
    lua_settop(L, lua_gettop(L) < 2 ? 2 : lua_gettop(L));
    lua_pushvalue(L, 2);
    pop_pair(L, function, "kernel", p.kernel);
    p.stride[0] = p.kernel[0];
    p.stride[1] = p.kernel[1];
    cldL_check_fields(L, 3, function, fields);
    cldL_field_pair(L, 3, function, "stride", p.stride);
    cldL_field_pair(L, 3, function, "padding", p.padding);
    return p;
}

/* --- cld.nn.functional.max_pool2d(x, kernel[, {stride = kernel, padding = 0}]) -> tensor: the largest of
 * each window of x (N, C, H, W); numbers or {height, width}. */
static int nn_max_pool2d(lua_State *L) {
    cld_tensor *x = cldL_check_tensor(L, 1);
    cld_pool_params p = check_pool(L, "max_pool2d");
    cld_tensor **out = cldL_new_tensor(L);
    *out = cld_max_pool2d(x, &p);
    return cldL_result(L, *out);
}

/* --- cld.nn.functional.avg_pool2d(x, kernel[, {stride = kernel, padding = 0}]) -> tensor: the mean of each
 * window; padding counts as zeros, as in PyTorch by default. */
static int nn_avg_pool2d(lua_State *L) {
    cld_tensor *x = cldL_check_tensor(L, 1);
    cld_pool_params p = check_pool(L, "avg_pool2d");
    cld_tensor **out = cldL_new_tensor(L);
    *out = cld_avg_pool2d(x, &p);
    return cldL_result(L, *out);
}

/* --- cld.nn.functional.adaptive_avg_pool2d(x, size) -> tensor: means over windows that divide each map of x
 * (N, C, H, W) evenly; size is a number or {height, width}. */
static int nn_adaptive_avg_pool2d(lua_State *L) {
    int size[2];
    cldL_check_count(L, 2);
    cld_tensor *x = cldL_check_tensor(L, 1);
    lua_settop(L, 2);
    pop_pair(L, "adaptive_avg_pool2d", "the output size", size);
    cld_tensor **out = cldL_new_tensor(L);
    *out = cld_adaptive_avg_pool2d(x, size[0], size[1]);
    return cldL_result(L, *out);
}

/* --- cld.nn.functional.set_winograd(on) -> boolean: whether the cpu computes 3 x 3 convolutions by Winograd's
 * algorithm: faster, and about one decimal digit less precise. Returns the previous setting. */
static int nn_set_winograd(lua_State *L) {
    luaL_checktype(L, 1, LUA_TBOOLEAN);
    lua_pushboolean(L, cld_cpu_backend()->conv->set_winograd(lua_toboolean(L, 1)));
    return 1;
}

/* --- cld.nn.functional.linear(x, weight[, bias]) -> (..., out): x (..., in) times weight (out, in)
 * transposed, plus bias (out). */
static int nn_linear(lua_State *L) {
    cld_tensor *x = cldL_check_tensor(L, 1), *weight = cldL_check_tensor(L, 2), *bias = cldL_opt_tensor(L, 3);
    cld_tensor **out = cldL_new_tensor(L);
    *out = cld_linear(x, weight, bias);
    return cldL_result(L, *out);
}

int cldL_open_nn(lua_State *L) {
    static const luaL_Reg functions[] = {
        {"conv2d", nn_conv2d},
        {"batch_norm", nn_batch_norm},
        {"part_begin", nn_part_begin},
        {"block_count", nn_block_count},
        {"join_rows", nn_join_rows},
        {"split_rows", nn_split_rows},
        {"max_pool2d", nn_max_pool2d},
        {"avg_pool2d", nn_avg_pool2d},
        {"adaptive_avg_pool2d", nn_adaptive_avg_pool2d},
        {"linear", nn_linear},
        {"set_winograd", nn_set_winograd},
        {NULL, NULL},
    };
    lua_newtable(L);
    cldL_set_named(L, functions);
    cldL_set_named(L, cldL_nn_functions);
    return 1;
}
