/* cld.nn.functional without state: activations, norms of each image, losses, resizing, padding, dropout. */
#include "bindings/bindings.h"

#include <limits.h>
#include <string.h>

/* The index of the field's string in a list that ends with NULL; 0 if the field is absent. */
static int field_choice(lua_State *L, int arg, const char *name, const char *const *choices) {
    const char *value = cldL_field_string(L, arg, name, choices[0]);
    luaL_Buffer text;
    for (int i = 0; choices[i]; i++)
        if (strcmp(value, choices[i]) == 0) return i;
    luaL_buffinit(L, &text);
    for (int i = 0; choices[i]; i++) {
        if (i > 0) luaL_addstring(&text, choices[i + 1] ? ", " : " or ");
        lua_pushfstring(L, "'%s'", choices[i]);
        luaL_addvalue(&text);
    }
    luaL_pushresult(&text);
    return luaL_error(L, "%s: %s must be %s, got '%s'", cldL_name(L), name, lua_tostring(L, -1), value);
}

/* ---- activations --------------------------------------------------------------------------------------- */

/* --- cld.nn.functional.gelu(x[, {approximate = "none"|"tanh"}]) -> tensor: x times the standard normal
 * distribution function of x. */
static int nn_gelu(lua_State *L) {
    static const char *const fields[] = {"approximate", NULL}, *const kinds[] = {"none", "tanh", NULL};
    cldL_check_count(L, 2);
    cld_tensor *x = cldL_check_tensor(L, 1);
    cldL_check_fields(L, 2, "gelu", fields);
    cld_unary kind = field_choice(L, 2, "approximate", kinds) ? CLD_GELU_TANH : CLD_GELU;
    cld_tensor **out = cldL_new_tensor(L);
    *out = cld_unary_op(kind, x, 0, 0);
    return cldL_result(L, *out);
}

/* --- cld.nn.functional.silu(x) -> tensor: x times its sigmoid. */
static int nn_silu(lua_State *L) {
    cldL_check_count(L, 1);
    cld_tensor *x = cldL_check_tensor(L, 1), **out = cldL_new_tensor(L);
    *out = cld_unary_op(CLD_SILU, x, 0, 0);
    return cldL_result(L, *out);
}

/* --- cld.nn.functional.leaky_relu(x[, negative_slope = 0.01]) -> tensor: x, times the slope where it is
 * below 0. */
static int nn_leaky_relu(lua_State *L) {
    cldL_check_count(L, 2);
    cld_tensor *x = cldL_check_tensor(L, 1);
    double slope = luaL_optnumber(L, 2, 0.01);
    cld_tensor **out = cldL_new_tensor(L);
    *out = cld_unary_op(CLD_LEAKY_RELU, x, slope, 0);
    return cldL_result(L, *out);
}

/* Which images the rows are of, from the parts at arg, which are as nn.parts() returns them, or nil. */
static cld_dropout_rows check_rows(lua_State *L, int arg) {
    cld_dropout_rows of = {.views = 1};
    if (lua_isnoneornil(L, arg)) return of;
    luaL_checktype(L, arg, LUA_TTABLE);
    int64_t views = cldL_field_integer(L, arg, "views", 1);
    of.done = cldL_field_integer(L, arg, "done", 0);
    of.images = cldL_field_integer(L, arg, "rows", 0);
    luaL_argcheck(L, views >= 1 && views <= INT_MAX && of.done >= 0 && of.images >= 0, arg,
                  "expected parts of a batch, as nn.parts() returns them");
    of.views = (int)views;
    return of;
}

/* dropout(x, p = 0.5, training = true, parts = nil): x itself if not training */
static int nn_dropout(lua_State *L) {
    cldL_check_count(L, 4);
    cld_tensor *x = cldL_check_tensor(L, 1);
    double p = luaL_optnumber(L, 2, 0.5);
    cld_dropout_rows of = check_rows(L, 4);
    if (!cldL_check_flag(L, 3, true)) {
        lua_settop(L, 1);
        return 1;
    }
    cld_tensor **out = cldL_new_tensor(L);
    *out = cld_dropout(x, p, &of);
    return cldL_result(L, *out);
}

/* ---- norms --------------------------------------------------------------------------------------------- */

static double check_eps(lua_State *L, int arg) {
    static const char *const fields[] = {"eps", NULL};
    cldL_check_count(L, arg);
    cldL_check_fields(L, arg, cldL_name(L), fields);
    return cldL_field_number(L, arg, "eps", 1e-5);
}

/* --- cld.nn.functional.layer_norm(x, shape[, weight[, bias[, {eps = 1e-5}]]]) -> tensor: normalizes over x's
 * last dimensions, which have this shape (an integer or a table); weight and bias have that shape too. */
static int nn_layer_norm(lua_State *L) {
    cld_tensor *x = cldL_check_tensor(L, 1), *weight = cldL_opt_tensor(L, 3), *bias = cldL_opt_tensor(L, 4);
    double eps = check_eps(L, 5);
    int64_t shape[CLD_MAX_DIMS];
    int ndim = 1;
    if (lua_istable(L, 2))
        ndim = cldL_check_shape(L, 2, shape);
    else
        shape[0] = luaL_checkinteger(L, 2);
    cld_tensor **out = cldL_new_tensor(L);
    *out = cld_layer_norm(x, ndim, shape, weight, bias, eps);
    return cldL_result(L, *out);
}

/* --- cld.nn.functional.group_norm(x, groups[, weight[, bias[, {eps = 1e-5}]]]) -> tensor: normalizes each
 * image of x (N, C, ...) over each group of channels; weight and bias are (C). */
static int nn_group_norm(lua_State *L) {
    cld_tensor *x = cldL_check_tensor(L, 1), *weight = cldL_opt_tensor(L, 3), *bias = cldL_opt_tensor(L, 4);
    lua_Integer groups = luaL_checkinteger(L, 2);
    double eps = check_eps(L, 5);
    cld_tensor **out = cldL_new_tensor(L);
    *out = cld_group_norm(x, groups, weight, bias, eps);
    return cldL_result(L, *out);
}

/* ---- losses -------------------------------------------------------------------------------------------- */

static const char *const reductions[] = {
    [CLD_LOSS_MEAN] = "mean", [CLD_LOSS_SUM] = "sum", [CLD_LOSS_NONE] = "none", NULL};
static const char *const batch_reductions[] = {[CLD_LOSS_MEAN] = "mean",
                                               [CLD_LOSS_SUM] = "sum",
                                               [CLD_LOSS_NONE] = "none",
                                               [CLD_LOSS_BATCH_MEAN] = "batchmean",
                                               NULL};

/* --- cld.nn.functional.mse_loss(x, target[, {reduction = "mean"|"sum"|"none"}]) -> tensor: the squared
 * difference. */
static int nn_mse_loss(lua_State *L) {
    static const char *const fields[] = {"reduction", NULL};
    cldL_check_count(L, 3);
    cld_tensor *x = cldL_check_tensor(L, 1), *target = cldL_check_tensor(L, 2);
    cldL_check_fields(L, 3, "mse_loss", fields);
    cld_loss_reduction reduction = (cld_loss_reduction)field_choice(L, 3, "reduction", reductions);
    cld_tensor **out = cldL_new_tensor(L);
    *out = cld_mse_loss(x, target, reduction);
    return cldL_result(L, *out);
}

/* --- cld.nn.functional.bce_with_logits(x, target[, {weight, pos_weight, reduction = "mean"|"sum"|"none"}])
 * -> tensor: the binary cross entropy of sigmoid(x) and targets from 0 to 1, without overflow: torch's
 * binary_cross_entropy_with_logits. */
static int nn_bce_with_logits(lua_State *L) {
    static const char *const fields[] = {"weight", "pos_weight", "reduction", NULL};
    cldL_check_count(L, 3);
    cld_tensor *x = cldL_check_tensor(L, 1), *target = cldL_check_tensor(L, 2);
    cldL_check_fields(L, 3, "bce_with_logits", fields);
    cld_loss_reduction reduction = (cld_loss_reduction)field_choice(L, 3, "reduction", reductions);
    cld_tensor *weight = cldL_field_tensor(L, 3, "weight"), *positive = cldL_field_tensor(L, 3, "pos_weight");
    cld_tensor **out = cldL_new_tensor(L);
    *out = cld_bce_with_logits(x, target, weight, positive, reduction);
    return cldL_result(L, *out);
}

/* --- cld.nn.functional.kl_div(x, target[, {reduction = "mean"|"batchmean"|"sum"|"none", log_target =
 * false}]) -> tensor: x are log probabilities, target probabilities (or their logs); "mean" divides by all
 * elements, "batchmean" by the rows, as the divergence's definition does. */
static int nn_kl_div(lua_State *L) {
    static const char *const fields[] = {"reduction", "log_target", NULL};
    cldL_check_count(L, 3);
    cld_tensor *x = cldL_check_tensor(L, 1), *target = cldL_check_tensor(L, 2);
    cldL_check_fields(L, 3, "kl_div", fields);
    bool log_target = cldL_field_boolean(L, 3, "log_target", false);
    cld_loss_reduction reduction = (cld_loss_reduction)field_choice(L, 3, "reduction", batch_reductions);
    cld_tensor **out = cldL_new_tensor(L);
    *out = cld_kl_div(x, target, log_target, reduction);
    return cldL_result(L, *out);
}

/* --- cld.nn.functional.cosine_similarity(a, b[, dim = 2[, eps = 1e-8]]) -> tensor: of a and b, broadcast,
 * along dim.
 *
 *     local a, b = cld.tensor { { 1, 0 } }, cld.tensor { { 1, 1 } }
 *     print(cld.nn.functional.cosine_similarity(a, b):square():item() < 0.51)  --> true */
static int nn_cosine_similarity(lua_State *L) {
    cldL_check_count(L, 4);
    cld_tensor *a = cldL_check_tensor(L, 1), *b = cldL_check_tensor(L, 2);
    cld_tensor *larger = a->a.ndim >= b->a.ndim ? a : b;
    if (lua_isnoneornil(L, 3)) {
        lua_settop(L, 4);
        lua_pushinteger(L, 2);
        lua_replace(L, 3);
    }
    int dim = cldL_check_dim(L, 3, larger);
    double eps = luaL_optnumber(L, 4, 1e-8);
    cld_tensor **out = cldL_new_tensor(L);
    *out = cld_cosine_similarity(a, b, dim, eps);
    return cldL_result(L, *out);
}

/* ---- sizes --------------------------------------------------------------------------------------------- */

/* --- cld.nn.functional.pad(x, {left, right, top, bottom, ...}[, {mode =
 * "constant"|"reflect"|"replicate"|"circular", value = 0}]) -> tensor: pairs for the last dimension, the one
 * before it, and so on. Negative numbers crop.
 *
 *     print(cld.nn.functional.pad(cld.ones(1, 1, 2, 2), { 1, 1 }).shape[4])  --> 4 */
static int nn_pad(lua_State *L) {
    static const char *const fields[] = {"mode", "value", NULL};
    static const char *const modes[] = {[CLD_PAD_CONSTANT] = "constant",
                                        [CLD_PAD_REFLECT] = "reflect",
                                        [CLD_PAD_REPLICATE] = "replicate",
                                        [CLD_PAD_CIRCULAR] = "circular",
                                        NULL};
    cldL_check_count(L, 3);
    cld_tensor *x = cldL_check_tensor(L, 1);
    luaL_checktype(L, 2, LUA_TTABLE);
    int64_t pads[2 * CLD_MAX_DIMS];
    lua_Integer count = luaL_len(L, 2);
    if (count % 2 != 0 || count > 2 * CLD_MAX_DIMS)
        return luaL_error(L, "pad: expected pairs of integers, at most %d of them, got a table of %I",
                          CLD_MAX_DIMS, (LUAI_UACINT)count);
    for (lua_Integer i = 0; i < count; i++) {
        int is_integer;
        lua_geti(L, 2, i + 1);
        pads[i] = lua_tointegerx(L, -1, &is_integer);
        if (!is_integer)
            return luaL_error(L, "pad: expected pairs of integers, got %s", luaL_tolstring(L, -1, NULL));
        if (pads[i] > INT32_MAX || pads[i] < -INT32_MAX)
            return luaL_error(L, "pad: %I is too large", (LUAI_UACINT)pads[i]);
        lua_pop(L, 1);
    }
    cldL_check_fields(L, 3, "pad", fields);
    double value = cldL_field_number(L, 3, "value", 0);
    cld_pad_mode mode = (cld_pad_mode)field_choice(L, 3, "mode", modes);
    if (mode != CLD_PAD_CONSTANT && value != 0)
        return luaL_error(L, "pad: value goes with mode 'constant', not with '%s'", modes[mode]);
    cld_tensor **out = cldL_new_tensor(L);
    *out = cld_pad(x, (int)(count / 2), pads, mode, value);
    return cldL_result(L, *out);
}

static double check_factor(lua_State *L) {
    if (lua_type(L, -1) != LUA_TNUMBER)
        luaL_error(L, "interpolate: scale_factor must be a number or a pair of numbers, got %s",
                   luaL_tolstring(L, -1, NULL));
    return lua_tonumber(L, -1);
}

/* The field scale_factor, a number or a pair of them; if absent, out stays. */
static void field_factor(lua_State *L, int arg, double out[2]) {
    int type = lua_getfield(L, arg, "scale_factor"), table = lua_gettop(L);
    if (type == LUA_TTABLE) {
        if (luaL_len(L, table) != 2)
            luaL_error(L,
                       "interpolate: scale_factor must be a number or a pair of numbers, got a table of %d",
                       (int)luaL_len(L, table));
        for (int i = 0; i < 2; i++) {
            lua_geti(L, table, i + 1);
            out[i] = check_factor(L);
        }
    } else if (type != LUA_TNIL) {
        out[0] = out[1] = check_factor(L);
    }
    lua_settop(L, table - 1);
}

/* --- cld.nn.functional.interpolate(x, {size =, scale_factor =, mode = "nearest"|"bilinear", align_corners =
 * false, antialias = false}) -> tensor: x (N, C, H, W) at another size: either size or scale_factor, a
 * number or a pair.
 *
 *     print(cld.nn.functional.interpolate(cld.ones(1, 1, 2, 2), { scale_factor = 2 }).shape[3])  --> 4 */
static int nn_interpolate(lua_State *L) {
    static const char *const fields[] = {"size", "scale_factor", "mode", "align_corners", "antialias", NULL};
    static const char *const modes[] = {[CLD_NEAREST] = "nearest", [CLD_BILINEAR] = "bilinear", NULL};
    cldL_check_count(L, 2);
    cld_tensor *x = cldL_check_tensor(L, 1);
    luaL_checktype(L, 2, LUA_TTABLE);
    cldL_check_fields(L, 2, "interpolate", fields);
    int size[2] = {0, 0};
    cld_resize_params p = {.align_corners = cldL_field_boolean(L, 2, "align_corners", false),
                           .antialias = cldL_field_boolean(L, 2, "antialias", false)};
    bool has_size = lua_getfield(L, 2, "size") != LUA_TNIL,
         has_factor = lua_getfield(L, 2, "scale_factor") != LUA_TNIL;
    lua_pop(L, 2);
    if (has_size == has_factor)
        return luaL_error(L, "interpolate: expected either size or scale_factor, got %s",
                          has_size ? "both" : "neither");
    cldL_field_pair(L, 2, "interpolate", "size", size);
    if (has_size && (size[0] < 1 || size[1] < 1))
        return luaL_error(L, "interpolate: size must be at least 1, got %d and %d", size[0], size[1]);
    field_factor(L, 2, p.factor);
    p.size[0] = size[0];
    p.size[1] = size[1];
    if (field_choice(L, 2, "mode", modes) == CLD_BILINEAR) p.mode = CLD_BILINEAR;
    cld_tensor **out = cldL_new_tensor(L);
    *out = cld_interpolate(x, &p);
    return cldL_result(L, *out);
}

const luaL_Reg cldL_nn_functions[] = {
    {"gelu", nn_gelu},
    {"silu", nn_silu},
    {"leaky_relu", nn_leaky_relu},
    {"dropout", nn_dropout},
    {"layer_norm", nn_layer_norm},
    {"group_norm", nn_group_norm},
    {"mse_loss", nn_mse_loss},
    {"bce_with_logits", nn_bce_with_logits},
    {"kl_div", nn_kl_div},
    {"cosine_similarity", nn_cosine_similarity},
    {"pad", nn_pad},
    {"interpolate", nn_interpolate},
    {NULL, NULL},
};
