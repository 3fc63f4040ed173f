/* Elements chosen by condition, by index or by rank. Index tensors are i64 and hold 0-based integers;
 * dimensions are written in Lua, so they are 1-based. */
#include "bindings/tensor.h"

/* ---- by condition -------------------------------------------------------------------------------------- */

/* The choice at arg: a tensor, or a number in the dtype of the other choice; f32 if both are numbers. */
static cld_tensor *check_choice(lua_State *L, int arg, int other) {
    cld_tensor *like = cldL_test_tensor(L, other);
    if (like || lua_type(L, arg) != LUA_TNUMBER) return cldL_check_operand(L, arg, "where", like);
    return cldL_push_number(L, arg, "where", CLD_F32, cld_device(cldL_check_tensor(L, 1)));
}

/* --- cld.where(condition, a, b) -> tensor: a where the condition is not 0, else b; the three broadcast. a
 * and b may be numbers, which make f32 if both are.
 *
 *     local x = cld.tensor { -1, 2 }
 *     print(cld.where(x:gt(0), x, 0)[1]:item())  --> 0.0 */
static int select_where(lua_State *L) {
    cldL_check_count(L, 3);
    cld_tensor *condition = cldL_check_tensor(L, 1);
    cld_tensor *a = check_choice(L, 2, 3), *b = check_choice(L, 3, 2), **out = cldL_new_tensor(L);
    *out = cld_where(condition, a, b);
    return cldL_result(L, *out);
}

/* --- x:where(condition, y) -> tensor: x where the condition is not 0, else y, a tensor or a number. */
static int select_where_method(lua_State *L) {
    cldL_check_count(L, 3);
    cld_tensor *x = cldL_check_tensor(L, 1), *condition = cldL_check_tensor(L, 2);
    cld_tensor *y = cldL_check_operand(L, 3, "where", x), **out = cldL_new_tensor(L);
    *out = cld_where(condition, x, y);
    return cldL_result(L, *out);
}

/* --- x:masked_fill(mask, value) -> tensor: a copy of x with the value wherever the mask (u8, broadcast) is
 * not 0. */
static int select_masked_fill(lua_State *L) {
    cldL_check_count(L, 3);
    cld_tensor *x = cldL_check_tensor(L, 1), *mask = cldL_check_tensor(L, 2);
    cld_tensor *value = cldL_check_operand(L, 3, "masked_fill", x), **out = cldL_new_tensor(L);
    *out = cld_masked_fill(x, mask, value);
    return cldL_result(L, *out);
}

/* --- x:masked_select(mask) -> tensor: a vector of the elements for which the mask (u8, as comparisons return
 * it) is not 0. It waits for the device. */
static int select_masked_select(lua_State *L) {
    cldL_check_count(L, 2);
    cld_tensor *x = cldL_check_tensor(L, 1), *mask = cldL_check_tensor(L, 2), **out = cldL_new_tensor(L);
    *out = cld_masked_select(x, mask);
    return cldL_result(L, *out);
}

/* --- x:nonzero() -> i64 tensor (count, ndim): the positions, from 0, of all elements that are not 0, one row
 * each. It waits for the device. */
static int select_nonzero(lua_State *L) {
    cldL_check_count(L, 1);
    cld_tensor *x = cldL_check_tensor(L, 1), **out = cldL_new_tensor(L);
    *out = cld_nonzero(x);
    return cldL_result(L, *out);
}

/* ---- by index ------------------------------------------------------------------------------------------ */

typedef cld_tensor *by_index(cld_tensor *x, int dim, cld_tensor *index);

/* x:gather(dim, index), x:index_select(dim, index) */
static int take(lua_State *L, by_index *f) {
    cldL_check_count(L, 3);
    cld_tensor *x = cldL_check_tensor(L, 1);
    int dim = cldL_check_dim(L, 2, x);
    cld_tensor *index = cldL_check_tensor(L, 3), **out = cldL_new_tensor(L);
    *out = f(x, dim, index);
    return cldL_result(L, *out);
}

/* --- x:gather(dim, index) -> tensor: replaces each integer in index (i64, from 0) by the element of x at that
 * position along dim, and at the integer's own place in all other dimensions, as torch.gather.
 *
 *     local logits = cld.tensor { { 1, 2 }, { 3, 4 } }
 *     print(logits:gather(2, cld.tensor({ { 1 }, { 0 } }, "i64"))[1]:item())  --> 2.0 */
static int select_gather(lua_State *L) { return take(L, cld_gather); }
/* --- x:index_select(dim, index) -> tensor: the slices of x along dim at the positions in index (i64 vector,
 * from 0), in that order. */
static int select_index_select(lua_State *L) { return take(L, cld_index_select); }

typedef cld_tensor *with_source(cld_tensor *x, int dim, cld_tensor *index, cld_tensor *source);

/* x:scatter_add(dim, index, source) and the like: a new tensor */
static int put(lua_State *L, with_source *f) {
    cldL_check_count(L, 4);
    cld_tensor *x = cldL_check_tensor(L, 1);
    int dim = cldL_check_dim(L, 2, x);
    cld_tensor *index = cldL_check_tensor(L, 3), *source = cldL_check_tensor(L, 4),
               **out = cldL_new_tensor(L);
    *out = f(x, dim, index, source);
    return cldL_result(L, *out);
}

/* --- x:scatter_add(dim, index, source) -> tensor: a copy of x, with each element of source added at the position
 * along dim that index (i64, from 0) has for it. The gradient reaches x and source. */
static int select_scatter_add(lua_State *L) { return put(L, cld_scatter_add); }
/* --- x:index_add(dim, index, source) -> tensor: a copy of x with the slices of source added at the
 * positions in index (i64 vector, from 0). */
static int select_index_add(lua_State *L) { return put(L, cld_index_add); }
/* --- x:index_copy(dim, index, source) -> tensor: a copy of x whose slices at the positions in index are
 * those of source. */
static int select_index_copy(lua_State *L) { return put(L, cld_index_copy); }

/* --- x:one_hot([classes]) -> i64 tensor: 1 at each label of x (integers from 0), else 0, along a new last
 * dimension of that extent; without classes the largest label plus 1, for which it waits for the device.
 *
 *     print(cld.tensor({ 2 }, "i64"):one_hot(4)[{ 1, 3 }]:item())  --> 1 */
static int select_one_hot(lua_State *L) {
    cldL_check_count(L, 2);
    cld_tensor *labels = cldL_check_tensor(L, 1);
    lua_Integer classes = luaL_optinteger(L, 2, 0);
    luaL_argcheck(L, classes > 0 || lua_isnoneornil(L, 2), 2, "expected at least one class");
    cld_tensor **out = cldL_new_tensor(L);
    *out = cld_one_hot(labels, classes);
    return cldL_result(L, *out);
}

/* ---- by place in the matrix ---------------------------------------------------------------------------- */

typedef cld_tensor *triangle(cld_tensor *x, int64_t diagonal);

/* x:tril([diagonal = 0]), x:triu([diagonal = 0]): the rest is 0. */
static int keep_triangle(lua_State *L, triangle *f) {
    cldL_check_count(L, 2);
    cld_tensor *x = cldL_check_tensor(L, 1);
    lua_Integer diagonal = luaL_optinteger(L, 2, 0);
    cld_tensor **out = cldL_new_tensor(L);
    *out = f(x, diagonal);
    return cldL_result(L, *out);
}

/* --- x:tril([diagonal = 0]) -> tensor: the lower triangle of each matrix, the rest 0; diagonal = 1 keeps one
 * diagonal more above. */
static int select_tril(lua_State *L) { return keep_triangle(L, cld_tril); }
/* --- x:triu([diagonal = 0]) -> tensor: the upper triangle, as tril. */
static int select_triu(lua_State *L) { return keep_triangle(L, cld_triu); }

/* ---- by rank ------------------------------------------------------------------------------------------- */

/* --- x:topk(k[, dim = -1[, largest = true]]) -> values, positions: the k largest (or smallest) along dim,
 * in order, and their i64 positions from 0.
 *
 *     local values, positions = cld.tensor({ 3, 9, 5 }):topk(2)
 *     print(values[1]:item(), positions[1]:item())    --> 9.0 1 */
static int select_topk(lua_State *L) {
    cldL_check_count(L, 4);
    cld_tensor *x = cldL_check_tensor(L, 1);
    lua_Integer k = luaL_checkinteger(L, 2);
    int dim = lua_isnoneornil(L, 3) ? -1 : cldL_check_line(L, 3, x);
    bool largest = cldL_check_flag(L, 4, true);
    cld_tensor **values = cldL_new_tensor(L), **index = cldL_new_tensor(L);
    *values = cld_topk(index, x, k, dim, largest);
    if (!*values) return cldL_raise(L);
    return 2;
}

/* --- x:sort([dim = -1[, descending = false]]) -> values, positions: the elements sorted along dim, and the
 * position that each had, i64 from 0. Equal elements keep their order. */
static int select_sort(lua_State *L) {
    cldL_check_count(L, 3);
    cld_tensor *x = cldL_check_tensor(L, 1);
    int dim = lua_isnoneornil(L, 2) ? -1 : cldL_check_line(L, 2, x);
    bool descending = cldL_check_flag(L, 3, false);
    cld_tensor **values = cldL_new_tensor(L), **index = cldL_new_tensor(L);
    *values = cld_sort(index, x, dim, descending);
    if (!*values) return cldL_raise(L);
    return 2;
}

/* --- x:argsort([dim = -1[, descending = false]]) -> i64 tensor: only the positions that sort returns. */
static int select_argsort(lua_State *L) {
    select_sort(L);
    return 1; /* the positions are on top */
}

const luaL_Reg cldL_select_functions[] = {{"where", select_where}, {NULL, NULL}};
const luaL_Reg cldL_select_methods[] = {{"where", select_where_method}, {NULL, NULL}};

const luaL_Reg cldL_select_ops[] = {
    {"masked_fill", select_masked_fill},
    {"masked_select", select_masked_select},
    {"nonzero", select_nonzero},
    {"gather", select_gather},
    {"index_select", select_index_select},
    {"scatter_add", select_scatter_add},
    {"index_add", select_index_add},
    {"index_copy", select_index_copy},
    {"one_hot", select_one_hot},
    {"tril", select_tril},
    {"triu", select_triu},
    {"topk", select_topk},
    {"sort", select_sort},
    {"argsort", select_argsort},
    {NULL, NULL},
};
