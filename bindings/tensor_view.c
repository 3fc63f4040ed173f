/* x:reshape(...), x:permute(...) and the other views; cat and stack; casts. Dimensions are 1-based here. */
#include "bindings/tensor.h"

/* ---- shapes -------------------------------------------------------------------------------------------- */

static int view_reshape(lua_State *L) {
    cld_tensor *x = cldL_check_tensor(L, 1);
    int64_t shape[CLD_MAX_DIMS];
    int ndim = cldL_check_shape(L, 2, shape);
    cld_tensor **out = cldL_new_tensor(L);
    *out = cld_reshape(x, ndim, shape);
    return cldL_result(L, *out);
}

static int view_expand(lua_State *L) {
    cld_tensor *x = cldL_check_tensor(L, 1);
    int64_t shape[CLD_MAX_DIMS];
    int ndim = cldL_check_shape(L, 2, shape);
    cld_tensor **out = cldL_new_tensor(L);
    *out = cld_expand(x, ndim, shape);
    return cldL_result(L, *out);
}

static int view_expand_as(lua_State *L) {
    cld_tensor *x = cldL_check_tensor(L, 1), *like = cldL_check_tensor(L, 2), **out = cldL_new_tensor(L);
    *out = cld_expand(x, like->a.ndim, like->a.shape);
    return cldL_result(L, *out);
}

static int view_permute(lua_State *L) {
    cld_tensor *x = cldL_check_tensor(L, 1);
    int64_t listed[CLD_MAX_DIMS];
    int dims[CLD_MAX_DIMS], count = cldL_check_shape(L, 2, listed);
    if (count != x->a.ndim)
        return luaL_error(L, "permute: %s needs %d dimensions listed, got %d", cld_describe(&x->a), x->a.ndim,
                          count);
    lua_settop(L, 1);
    for (int i = 0; i < count; i++) {
        lua_pushinteger(L, listed[i]);
        dims[i] = cldL_check_dim(L, 2, x);
        lua_settop(L, 1);
    }
    cld_tensor **out = cldL_new_tensor(L);
    *out = cld_permute(x, dims);
    return cldL_result(L, *out);
}

static int view_transpose(lua_State *L) {
    cld_tensor *x = cldL_check_tensor(L, 1);
    int dim0 = cldL_check_dim(L, 2, x), dim1 = cldL_check_dim(L, 3, x);
    cld_tensor **out = cldL_new_tensor(L);
    *out = cld_transpose(x, dim0, dim1);
    return cldL_result(L, *out);
}

/* x:t(): the transpose of a matrix. */
static int view_t(lua_State *L) {
    cld_tensor *x = cldL_check_tensor(L, 1), **out = cldL_new_tensor(L);
    if (x->a.ndim != 2) return luaL_error(L, "t: expected two dimensions, got %s", cld_describe(&x->a));
    *out = cld_transpose(x, 0, 1);
    return cldL_result(L, *out);
}

/* x:narrow(dim, start, length): start is 1-based. */
static int view_narrow(lua_State *L) {
    cld_tensor *x = cldL_check_tensor(L, 1);
    int dim = cldL_check_dim(L, 2, x);
    lua_Integer start = luaL_checkinteger(L, 3), length = luaL_checkinteger(L, 4);
    cld_tensor **out = cldL_new_tensor(L);
    *out = cld_narrow(x, dim, start - 1, length);
    return cldL_result(L, *out);
}

/* x:select(dim, position): position is 1-based. */
static int view_select(lua_State *L) {
    cld_tensor *x = cldL_check_tensor(L, 1);
    int dim = cldL_check_dim(L, 2, x);
    lua_Integer position = luaL_checkinteger(L, 3);
    cld_tensor **out = cldL_new_tensor(L);
    *out = cld_select(x, dim, position - 1);
    return cldL_result(L, *out);
}

/* x:squeeze([dim]): without dim all extents of 1 go. */
static int view_squeeze(lua_State *L) {
    cld_tensor *x = cldL_check_tensor(L, 1);
    int64_t shape[CLD_MAX_DIMS];
    int ndim = 0, dim = lua_isnoneornil(L, 2) ? -1 : cldL_check_dim(L, 2, x);
    for (int i = 0; i < x->a.ndim; i++)
        if (x->a.shape[i] != 1) shape[ndim++] = x->a.shape[i];
    cld_tensor **out = cldL_new_tensor(L);
    *out = dim < 0 ? cld_reshape(x, ndim, shape) : cld_squeeze(x, dim);
    return cldL_result(L, *out);
}

/* x:unsqueeze(dim): the new dimension has number dim in the result; -1 is the last. */
static int view_unsqueeze(lua_State *L) {
    cld_tensor *x = cldL_check_tensor(L, 1);
    lua_Integer dim = luaL_checkinteger(L, 2), ndim = x->a.ndim + 1;
    luaL_argcheck(L, dim != 0 && dim >= -ndim && dim <= ndim, 2, "no such place for a new dimension");
    cld_tensor **out = cldL_new_tensor(L);
    *out = cld_unsqueeze(x, (int)(dim > 0 ? dim - 1 : dim));
    return cldL_result(L, *out);
}

/* x:flatten([first[, last]]) */
static int view_flatten(lua_State *L) {
    cld_tensor *x = cldL_check_tensor(L, 1);
    int first = lua_isnoneornil(L, 2) ? 0 : cldL_check_dim(L, 2, x);
    int last = lua_isnoneornil(L, 3) ? -1 : cldL_check_dim(L, 3, x);
    cld_tensor **out = cldL_new_tensor(L);
    *out = cld_flatten(x, first, last);
    return cldL_result(L, *out);
}

static int view_contiguous(lua_State *L) {
    cld_tensor *x = cldL_check_tensor(L, 1), **out = cldL_new_tensor(L);
    *out = cld_contiguous(x);
    return cldL_result(L, *out);
}

static int view_clone(lua_State *L) {
    cld_tensor *x = cldL_check_tensor(L, 1), **out = cldL_new_tensor(L);
    *out = cld_clone(x);
    return cldL_result(L, *out);
}

/* ---- joining ------------------------------------------------------------------------------------------- */

cld_tensor **cldL_check_list(lua_State *L, int arg, int *count) {
    luaL_checktype(L, arg, LUA_TTABLE);
    lua_Integer n = luaL_len(L, arg);
    luaL_argcheck(L, n >= 1 && n <= INT32_MAX, arg, "expected a list of at least one tensor");
    cld_tensor **list = lua_newuserdatauv(L, (size_t)n * sizeof *list, 0);
    for (lua_Integer i = 0; i < n; i++) {
        lua_geti(L, arg, i + 1);
        list[i] = cldL_test_tensor(L, -1);
        if (!list[i])
            luaL_argerror(L, arg,
                          lua_pushfstring(L, "entry %I is a %s, not an open tensor", (LUAI_UACINT)i + 1,
                                          luaL_typename(L, -1)));
        lua_pop(L, 1); /* the list itself keeps it alive */
    }
    *count = (int)n;
    return list;
}

/* cld.cat({a, b, ...}[, dim]) */
static int view_cat(lua_State *L) {
    int count;
    lua_settop(L, 2);
    cld_tensor **list = cldL_check_list(L, 1, &count);
    int dim = lua_isnil(L, 2) ? 0 : cldL_check_dim(L, 2, list[0]);
    cld_tensor **out = cldL_new_tensor(L);
    *out = cld_cat(list, count, dim);
    return cldL_result(L, *out);
}

/* cld.stack({a, b, ...}[, dim]): dim is that of the new dimension. */
static int view_stack(lua_State *L) {
    int count;
    lua_settop(L, 2);
    lua_Integer dim = luaL_optinteger(L, 2, 1);
    cld_tensor **list = cldL_check_list(L, 1, &count);
    luaL_argcheck(L, dim != 0 && dim >= -list[0]->a.ndim - 1 && dim <= list[0]->a.ndim + 1, 2,
                  "no such place for a new dimension");
    cld_tensor **out = cldL_new_tensor(L);
    *out = cld_stack(list, count, (int)(dim > 0 ? dim - 1 : dim));
    return cldL_result(L, *out);
}

const luaL_Reg cldL_view_ops[] = {
    {"reshape", view_reshape},
    {"view", view_reshape},
    {"expand", view_expand},
    {"expand_as", view_expand_as},
    {"permute", view_permute},
    {"transpose", view_transpose},
    {"t", view_t},
    {"narrow", view_narrow},
    {"select", view_select},
    {"squeeze", view_squeeze},
    {"unsqueeze", view_unsqueeze},
    {"flatten", view_flatten},
    {"contiguous", view_contiguous},
    {"clone", view_clone},
    {"cat", view_cat},
    {"stack", view_stack},
    {NULL, NULL},
};
