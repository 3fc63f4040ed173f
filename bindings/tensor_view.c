/* x:reshape(...), x:permute(...) and the other views; cat, stack and split; tile, flip and roll. Dimensions are 1-based
 * here. */
#include "bindings/tensor.h"

/* A shape at 2: numbers, or one table. */
static int check_shape(lua_State *L, int64_t shape[CLD_MAX_DIMS]) {
    if (lua_istable(L, 2)) cldL_check_count(L, 2);
    return cldL_check_shape(L, 2, shape);
}

/* ---- shapes -------------------------------------------------------------------------------------------- */

typedef cld_tensor *to_shape(const char *op, cld_tensor *x, int ndim, const int64_t *shape);

static int with_shape(lua_State *L, const char *op, to_shape *f) {
    cld_tensor *x = cldL_check_tensor(L, 1);
    int64_t shape[CLD_MAX_DIMS];
    int ndim = check_shape(L, shape);
    cld_tensor **out = cldL_new_tensor(L);
    *out = f(op, x, ndim, shape);
    return cldL_result(L, *out);
}

/* --- x:reshape(n, m, ...) -> tensor, x:reshape{n, m, ...} -> tensor: the same elements in another shape;
 * one extent may be -1. It shares x's memory if it can, else it copies.
 *
 *     print(#cld.arange(6):reshape(2, -1).shape)      --> 2 */
static int view_reshape(lua_State *L) { return with_shape(L, "reshape", cld_reshape_for); }
/* --- x:view(n, m, ...) -> tensor: reshape under PyTorch's other name. If x is not contiguous it copies;
 * PyTorch raises an error. */
static int view_view(lua_State *L) { return with_shape(L, "view", cld_reshape_for); }
/* --- x:expand(n, m, ...) -> tensor: a view in which extents of 1 are as large as asked for; -1 keeps an
 * extent, and there may be new dimensions in front. */
static int view_expand(lua_State *L) { return with_shape(L, "expand", cld_expand_for); }

/* --- x:expand_as(y) -> tensor: expand to y's shape. */
static int view_expand_as(lua_State *L) {
    cldL_check_count(L, 2);
    cld_tensor *x = cldL_check_tensor(L, 1), *like = cldL_check_tensor(L, 2), **out = cldL_new_tensor(L);
    *out = cld_expand_for("expand_as", x, like->a.ndim, like->a.shape);
    return cldL_result(L, *out);
}

/* --- x:permute(d1, d2, ...) -> tensor: a view whose k-th dimension is x's dimension dk, from 1; each must be
 * listed once.
 *
 *     print(cld.zeros(2, 3, 4):permute(3, 1, 2).shape[1])  --> 4 */
static int view_permute(lua_State *L) {
    cld_tensor *x = cldL_check_tensor(L, 1);
    int64_t listed[CLD_MAX_DIMS];
    int dims[CLD_MAX_DIMS], count = check_shape(L, listed);
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

/* --- x:transpose(dim, dim) -> tensor, x:swapaxes(dim, dim) -> tensor: a view with the two dimensions
 * exchanged. */
static int view_transpose(lua_State *L) {
    cldL_check_count(L, 3);
    cld_tensor *x = cldL_check_tensor(L, 1);
    int dim0 = cldL_check_line(L, 2, x), dim1 = cldL_check_line(L, 3, x);
    cld_tensor **out = cldL_new_tensor(L);
    *out = cld_transpose(x, dim0, dim1);
    return cldL_result(L, *out);
}

/* --- x:t() -> tensor: the transpose of a matrix; a vector stays as it is. More dimensions are an error. */
static int view_t(lua_State *L) {
    cldL_check_count(L, 1);
    cld_tensor *x = cldL_check_tensor(L, 1), **out = cldL_new_tensor(L);
    *out = cld_t(x);
    return cldL_result(L, *out);
}

/* --- x:movedim(from, to) -> tensor, x:movedim({from, ...}, {to, ...}) -> tensor: a view with those
 * dimensions moved; the others keep their order. */
static int view_movedim(lua_State *L) {
    cldL_check_count(L, 3);
    cld_tensor *x = cldL_check_tensor(L, 1);
    int from[CLD_MAX_DIMS], to[CLD_MAX_DIMS], count = cldL_check_lines(L, 2, x, from);
    luaL_argcheck(L, cldL_check_lines(L, 3, x, to) == count, 3, "expected as many dimensions as are moved");
    cld_tensor **out = cldL_new_tensor(L);
    *out = cld_movedim(x, from, to, count);
    return cldL_result(L, *out);
}

/* --- x:diagonal([offset = 0[, dim1 = 1[, dim2 = 2]]]) -> tensor: a view of the elements (i, i + offset), as
 * the last dimension. */
static int view_diagonal(lua_State *L) {
    cldL_check_count(L, 4);
    cld_tensor *x = cldL_check_tensor(L, 1);
    lua_Integer offset = luaL_optinteger(L, 2, 0);
    int rows = lua_isnoneornil(L, 3) ? 0 : cldL_check_dim(L, 3, x);
    int columns = lua_isnoneornil(L, 4) ? 1 : cldL_check_dim(L, 4, x);
    cld_tensor **out = cldL_new_tensor(L);
    *out = cld_diagonal(x, offset, rows, columns);
    return cldL_result(L, *out);
}

/* --- x:diag([offset = 0]) -> tensor: a copy of a matrix's diagonal; for a vector, a matrix of zeros with the
 * vector on that diagonal. */
static int view_diag(lua_State *L) {
    cldL_check_count(L, 2);
    cld_tensor *x = cldL_check_tensor(L, 1);
    lua_Integer offset = luaL_optinteger(L, 2, 0);
    cld_tensor **out = cldL_new_tensor(L);
    *out = cld_diag(x, offset);
    return cldL_result(L, *out);
}

/* --- x:narrow(dim, start, length) -> tensor: a view of that many positions from start on, which counts from
 * 1 or, negative, from the end. Going past the end is an error. */
static int view_narrow(lua_State *L) {
    cldL_check_count(L, 4);
    cld_tensor *x = cldL_check_tensor(L, 1);
    int dim = cldL_check_dim(L, 2, x);
    lua_Integer start = luaL_checkinteger(L, 3), length = luaL_checkinteger(L, 4);
    cld_tensor **out = cldL_new_tensor(L);
    *out = cld_narrow(x, dim, cldL_position(start), length);
    return cldL_result(L, *out);
}

/* --- x:select(dim, position) -> tensor: a view of one position, from 1 or, negative, from the end, without that
 * dimension. x[i] is x:select(1, i). */
static int view_select(lua_State *L) {
    cldL_check_count(L, 3);
    cld_tensor *x = cldL_check_tensor(L, 1);
    int dim = cldL_check_dim(L, 2, x);
    lua_Integer position = luaL_checkinteger(L, 3);
    cld_tensor **out = cldL_new_tensor(L);
    *out = cld_select(x, dim, cldL_position(position));
    return cldL_result(L, *out);
}

/* Integers at arg: one, or a table of them. Returns how many. */
static int check_integers(lua_State *L, int arg, int64_t values[CLD_MAX_DIMS]) {
    if (!lua_istable(L, arg)) {
        values[0] = luaL_checkinteger(L, arg);
        return 1;
    }
    lua_Integer count = luaL_len(L, arg);
    luaL_argcheck(L, count >= 1 && count <= CLD_MAX_DIMS, arg, "expected an integer, or a table of them");
    for (int i = 0; i < (int)count; i++) {
        int is_integer;
        lua_geti(L, arg, i + 1);
        values[i] = lua_tointegerx(L, -1, &is_integer);
        if (!is_integer) luaL_argerror(L, arg, "expected an integer, or a table of them");
        lua_pop(L, 1);
    }
    return (int)count;
}

int cldL_check_lines(lua_State *L, int arg, const cld_tensor *x, int dims[CLD_MAX_DIMS]) {
    int64_t listed[CLD_MAX_DIMS];
    int count = check_integers(L, arg, listed);
    for (int i = 0; i < count; i++) dims[i] = cldL_line(L, arg, listed[i], x);
    return count;
}

/* --- x:squeeze([dim or {dims}]) -> tensor: a view without the dimensions of extent 1, or without these if
 * their extent is 1.
 *
 *     print(cld.zeros(2, 1, 3, 1):squeeze().ndim)     --> 2 */
static int view_squeeze(lua_State *L) {
    cldL_check_count(L, 2);
    cld_tensor *x = cldL_check_tensor(L, 1);
    int dims[CLD_MAX_DIMS], count = 0;
    if (!lua_isnoneornil(L, 2)) {
        count = cldL_check_lines(L, 2, x, dims);
    } else {
        while (count < x->a.ndim) dims[count] = count, count++;
    }
    cld_tensor **out = cldL_new_tensor(L);
    *out = cld_squeeze_all(x, dims, count);
    return cldL_result(L, *out);
}

/* --- x:unsqueeze(dim) -> tensor: a view with a new dimension of extent 1, which is number dim in the result;
 * -1 is the last. */
static int view_unsqueeze(lua_State *L) {
    cldL_check_count(L, 2);
    cld_tensor *x = cldL_check_tensor(L, 1);
    lua_Integer dim = luaL_checkinteger(L, 2), ndim = x->a.ndim + 1;
    luaL_argcheck(L, dim != 0 && dim >= -ndim && dim <= ndim, 2, "a new dimension cannot be there");
    cld_tensor **out = cldL_new_tensor(L);
    *out = cld_unsqueeze(x, (int)(dim > 0 ? dim - 1 : dim));
    return cldL_result(L, *out);
}

/* --- x:flatten([first = 1[, last = -1]]) -> tensor: those dimensions merged into one; shares memory if it can.
 *
 *     print(cld.zeros(2, 3, 4):flatten(2).shape[2])   --> 12 */
static int view_flatten(lua_State *L) {
    cldL_check_count(L, 3);
    cld_tensor *x = cldL_check_tensor(L, 1);
    int first = lua_isnoneornil(L, 2) ? 0 : cldL_check_line(L, 2, x);
    int last = lua_isnoneornil(L, 3) ? -1 : cldL_check_line(L, 3, x);
    cld_tensor **out = cldL_new_tensor(L);
    *out = cld_flatten(x, first, last);
    return cldL_result(L, *out);
}

/* --- x:contiguous() -> tensor: x itself if it lies in memory row by row, else a copy that does. */
static int view_contiguous(lua_State *L) {
    cldL_check_count(L, 1);
    cld_tensor *x = cldL_check_tensor(L, 1), **out = cldL_new_tensor(L);
    *out = cld_contiguous(x);
    return cldL_result(L, *out);
}

/* --- x:clone() -> tensor: a copy; the gradient flows back to x. */
static int view_clone(lua_State *L) {
    cldL_check_count(L, 1);
    cld_tensor *x = cldL_check_tensor(L, 1), **out = cldL_new_tensor(L);
    *out = cld_clone(x);
    return cldL_result(L, *out);
}

/* ---- repeating, reversing ------------------------------------------------------------------------------ */

/* --- x:tile(n, m, ...) -> tensor: x repeated that many times along each dimension: PyTorch's x.repeat; in Lua
 * repeat is a keyword.
 *
 *     print(cld.zeros(2, 3):tile(1, 2).shape[2])      --> 6 */
static int view_tile(lua_State *L) {
    cld_tensor *x = cldL_check_tensor(L, 1);
    int64_t times[CLD_MAX_DIMS];
    int count = check_shape(L, times);
    cld_tensor **out = cldL_new_tensor(L);
    *out = cld_tile(x, count, times);
    return cldL_result(L, *out);
}

/* --- x:flip(dim) -> tensor, x:flip{dim, ...} -> tensor: a copy in reverse order along those dimensions. */
static int view_flip(lua_State *L) {
    cldL_check_count(L, 2);
    cld_tensor *x = cldL_check_tensor(L, 1);
    int dims[CLD_MAX_DIMS], count = cldL_check_lines(L, 2, x, dims);
    cld_tensor **out = cldL_new_tensor(L);
    *out = cld_flip(x, dims, count);
    return cldL_result(L, *out);
}

/* --- x:roll(shift[, dim]) -> tensor, x:roll({shift, ...}, {dim, ...}) -> tensor: what falls off one end
 * comes in at the other; without dim, over all elements in row-major order. */
static int view_roll(lua_State *L) {
    cldL_check_count(L, 3);
    cld_tensor *x = cldL_check_tensor(L, 1);
    int64_t shifts[CLD_MAX_DIMS];
    int dims[CLD_MAX_DIMS], count = check_integers(L, 2, shifts);
    int ndims = lua_isnoneornil(L, 3) ? 0 : cldL_check_lines(L, 3, x, dims);
    luaL_argcheck(L, count == (ndims ? ndims : 1), 3, "expected a dimension for each shift");
    cld_tensor **out = cldL_new_tensor(L);
    *out = cld_roll(x, shifts, dims, ndims);
    return cldL_result(L, *out);
}

/* ---- cutting ------------------------------------------------------------------------------------------- */

/* Append x's part of that length from *start on along dim to the table at stack position `list`. */
static void append_part(lua_State *L, int list, cld_tensor *x, int dim, int64_t *start, int64_t length) {
    cld_tensor **part = cldL_new_tensor(L);
    *part = cld_narrow(x, dim, *start, length);
    cldL_result(L, *part);
    *start += length;
    lua_rawseti(L, list, (lua_Integer)lua_rawlen(L, list) + 1);
}

/* --- x:split(size[, dim = 1]) -> {tensor, ...}, x:split({n, m, ...}[, dim = 1]) -> {tensor, ...}: views of
 * parts of that length, the last of which may be shorter, or of these lengths, which must add up to the extent.
 *
 *     print(#cld.arange(5):split(2))                  --> 3 */
static int view_split(lua_State *L) {
    cldL_check_count(L, 3);
    cld_tensor *x = cldL_check_tensor(L, 1);
    int dim = lua_isnoneornil(L, 3) ? 0 : cldL_check_dim(L, 3, x);
    luaL_argcheck(L, x->a.ndim > 0, 1, "a tensor without dimensions cannot be split");
    int64_t extent = x->a.shape[dim], start = 0;
    lua_settop(L, 3);
    lua_newtable(L);
    if (lua_istable(L, 2)) {
        lua_Integer count = luaL_len(L, 2);
        for (lua_Integer i = 1; i <= count; i++) {
            lua_geti(L, 2, i);
            int64_t length = luaL_checkinteger(L, -1);
            lua_pop(L, 1);
            append_part(L, 4, x, dim, &start, length);
        }
        if (start != extent)
            return luaL_error(L, "split: the lengths add up to %I, dimension %d of %s has %I",
                              (LUAI_UACINT)start, dim + 1, cld_describe(&x->a), (LUAI_UACINT)extent);
        return 1;
    }
    int64_t size = luaL_checkinteger(L, 2);
    luaL_argcheck(L, size > 0, 2, "expected a length above 0");
    while (start < extent) append_part(L, 4, x, dim, &start, extent - start < size ? extent - start : size);
    return 1;
}

/* --- x:chunk(count[, dim = 1]) -> {tensor, ...}: views of at most that many parts of equal length; the last
 * may be shorter. */
static int view_chunk(lua_State *L) {
    cldL_check_count(L, 3);
    cld_tensor *x = cldL_check_tensor(L, 1);
    lua_Integer count = luaL_checkinteger(L, 2);
    int dim = lua_isnoneornil(L, 3) ? 0 : cldL_check_dim(L, 3, x);
    luaL_argcheck(L, count > 0, 2, "expected at least one part");
    luaL_argcheck(L, x->a.ndim > 0, 1, "a tensor without dimensions cannot be split");
    int64_t size = (x->a.shape[dim] + count - 1) / count;
    lua_pushinteger(L, size > 0 ? size : 1);
    lua_replace(L, 2);
    return view_split(L);
}

/* --- x:unbind([dim = 1]) -> {tensor, ...}: a view of each position of that dimension, without the dimension. */
static int view_unbind(lua_State *L) {
    cldL_check_count(L, 2);
    cld_tensor *x = cldL_check_tensor(L, 1);
    int dim = lua_isnoneornil(L, 2) ? 0 : cldL_check_dim(L, 2, x);
    luaL_argcheck(L, x->a.ndim > 0, 1, "a tensor without dimensions cannot be taken apart");
    lua_settop(L, 2);
    lua_newtable(L);
    for (int64_t i = 0; i < x->a.shape[dim]; i++) {
        cld_tensor **part = cldL_new_tensor(L);
        *part = cld_select(x, dim, i);
        cldL_result(L, *part);
        lua_rawseti(L, 3, i + 1);
    }
    return 1;
}

/* ---- joining ------------------------------------------------------------------------------------------- */

/* --- cld.cat({a, b, ...}[, dim = 1]) -> tensor: one after the other along an existing dimension; all other
 * extents must agree.
 *
 *     print(#cld.cat({ cld.zeros(2, 3), cld.ones(1, 3) }))  --> 3 */
static int view_cat(lua_State *L) {
    cldL_check_count(L, 2);
    int count;
    lua_settop(L, 2);
    cld_tensor **list = cldL_check_list(L, 1, &count);
    lua_Integer dim = luaL_optinteger(L, 2, 1);
    luaL_argcheck(L, dim != 0 && dim >= -CLD_MAX_DIMS && dim <= CLD_MAX_DIMS, 2,
                  "expected a dimension, from 1, or from -1 backwards");
    cld_tensor **out = cldL_new_tensor(L);
    *out = cld_cat(list, count, (int)(dim > 0 ? dim - 1 : dim));
    return cldL_result(L, *out);
}

/* --- cld.stack({a, b, ...}[, dim = 1]) -> tensor: along a new dimension; all shapes must be the same. */
static int view_stack(lua_State *L) {
    cldL_check_count(L, 2);
    int count;
    lua_settop(L, 2);
    lua_Integer dim = luaL_optinteger(L, 2, 1);
    cld_tensor **list = cldL_check_list(L, 1, &count);
    luaL_argcheck(L, dim != 0 && dim >= -list[0]->a.ndim - 1 && dim <= list[0]->a.ndim + 1, 2,
                  "a new dimension cannot be there");
    cld_tensor **out = cldL_new_tensor(L);
    *out = cld_stack(list, count, (int)(dim > 0 ? dim - 1 : dim));
    return cldL_result(L, *out);
}

const luaL_Reg cldL_view_ops[] = {
    {"reshape", view_reshape},    {"view", view_view},
    {"expand", view_expand},      {"expand_as", view_expand_as},
    {"permute", view_permute},    {"transpose", view_transpose},
    {"swapaxes", view_transpose}, /* as NumPy calls it */
    {"movedim", view_movedim},    {"t", view_t},
    {"diagonal", view_diagonal},  {"diag", view_diag},
    {"narrow", view_narrow},      {"select", view_select},
    {"squeeze", view_squeeze},    {"unsqueeze", view_unsqueeze},
    {"flatten", view_flatten},    {"contiguous", view_contiguous},
    {"clone", view_clone},        {"tile", view_tile},
    {"flip", view_flip},          {"roll", view_roll},
    {"split", view_split},        {"chunk", view_chunk},
    {"unbind", view_unbind},      {"cat", view_cat},
    {"stack", view_stack},        {NULL, NULL},
};
