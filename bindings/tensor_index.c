/* t[i], t[{i, j}], t[{ {1, 3}, j, {} }] and their assignment.
 *
 * Positions are 1-based; each must be from 1 to the extent, there is no counting from the end. In the table form entry
 * k speaks of dimension k: an integer takes one position (and drops the dimension), {a, b} the positions a to b, {} all
 * of them. An i64 tensor as key selects along dimension 1 by the (0-based) integers that lie in it; a u8 tensor, which
 * comparisons give, is a mask of x's first dimensions. */
#include "bindings/tensor.h"

static int64_t check_position(lua_State *L, const cld_tensor *x, int dim, lua_Integer i) {
    if (dim >= x->a.ndim)
        return luaL_error(L, "index %d of %s, which has %d dimension%s", dim + 1, cld_describe(&x->a),
                          x->a.ndim, x->a.ndim == 1 ? "" : "s");
    bool walked_off = dim == 0 && i == x->a.shape[dim] + 1; /* ipairs stops at nil, which is no element */
    if (i < 1 || i > x->a.shape[dim])
        return luaL_error(L, "index %I of dimension %d of %s; expected 1 to %I%s", (LUAI_UACINT)i, dim + 1,
                          cld_describe(&x->a), (LUAI_UACINT)x->a.shape[dim],
                          walked_off ? " (to walk along it: for i, row in t:rows() do)" : "");
    return i - 1;
}

/* Replace *box by a part of it; original has the dimensions as the user counts them. */
static void take(lua_State *L, cld_tensor **box, cld_tensor *part) {
    if (!part) cldL_raise(L);
    cld_tensor_free(*box);
    *box = part;
}

/* The entry on top of the stack is {}, or {a, b}: narrow *box along dim. */
static void take_range(lua_State *L, cld_tensor **box, const cld_tensor *original, int original_dim,
                       int dim) {
    lua_Integer bounds[2];
    int count = (int)lua_rawlen(L, -1);
    if (count == 0) return;
    for (int k = 0; k < 2; k++) {
        int is_integer;
        lua_rawgeti(L, -1, k + 1);
        bounds[k] = lua_tointegerx(L, -1, &is_integer);
        if (count != 2 || !is_integer)
            luaL_error(L, "index %d: a range is {first, last}, or {} for all", original_dim + 1);
        lua_pop(L, 1);
    }
    int64_t first = check_position(L, original, original_dim, bounds[0]);
    int64_t last = check_position(L, original, original_dim, bounds[1]);
    if (last < first)
        luaL_error(L, "index %d: the range {%I, %I} runs backwards", original_dim + 1, (LUAI_UACINT)bounds[0],
                   (LUAI_UACINT)bounds[1]);
    take(L, box, cld_narrow(*box, dim, first, last - first + 1));
}

/* Push the part of x that the key at stack position 2 names. */
static cld_tensor **push_part(lua_State *L, cld_tensor *x) {
    int is_integer, dim = 0;
    lua_Integer i = lua_tointegerx(L, 2, &is_integer);
    cld_tensor *index = cldL_test_tensor(L, 2), **box = cldL_new_tensor(L);
    if (is_integer) {
        *box = cld_select(x, 0, check_position(L, x, 0, i));
    } else if (index) {
        *box = index->a.dtype == CLD_U8 ? cld_mask_rows(x, index) : cld_index_rows(x, index);
    } else if (lua_istable(L, 2)) {
        int count = (int)lua_rawlen(L, 2);
        *box = cld_tensor_retain(x);
        for (int k = 0; k < count; k++) {
            lua_rawgeti(L, 2, k + 1);
            i = lua_tointegerx(L, -1, &is_integer);
            if (is_integer) {
                take(L, box, cld_select(*box, dim, check_position(L, x, k, i)));
            } else if (lua_istable(L, -1)) {
                if (k >= x->a.ndim) check_position(L, x, k, 1);
                take_range(L, box, x, k, dim++);
            } else {
                luaL_error(L, "index %d is a %s; expected an integer, {first, last} or {}", k + 1,
                           luaL_typename(L, -1));
            }
            lua_pop(L, 1);
        }
    } else {
        luaL_error(L, "a tensor is indexed by an integer, a table or an i64 tensor, not by a %s",
                   luaL_typename(L, 2));
    }
    if (!*box) cldL_raise(L);
    return box;
}

int cldL_index(lua_State *L, cld_tensor *x) {
    push_part(L, x);
    return 1;
}

/* t[i64 tensor] = value, t[mask] = value: a number, or as many rows as are chosen. */
static int assign_chosen(lua_State *L, cld_tensor *x, cld_tensor *key, cld_tensor *value) {
    bool mask = key->a.dtype == CLD_U8;
    cldL_check_status(L, mask ? cld_mask_assign(x, key, value) : cld_index_assign(x, key, value));
    return 0;
}

/* t[key] = number or tensor (which broadcasts): written in place, off the tape. */
int cldL_set_index(lua_State *L, cld_tensor *x) {
    cld_tensor *value = cldL_test_tensor(L, 3), *chosen = cldL_test_tensor(L, 2);
    cldL_check_status(L, cld_check_off_tape("assignment", x));
    if (value && cld_needs_grad(&value, 1))
        return luaL_error(L, "assignment: a write in place carries no gradient; assign value:detach()");
    if (!value) value = cldL_push_number(L, 3, "assignment", x->a.dtype, cld_device(x));
    if (chosen) return assign_chosen(L, x, chosen, value);
    cldL_check_status(L, cld_tensor_unblock(x));
    cld_tensor **plain = cldL_new_tensor(L); /* off the tape, so that no view is recorded */
    *plain = cld_tensor_detach(x);
    if (!*plain) return cldL_raise(L);
    cld_tensor *part = *push_part(L, *plain);
    cldL_check_status(L, cld_copy_("assignment", part, value));
    cldL_close(lua_touserdata(L, -1));
    cldL_close(plain);
    return 0;
}

/* for i, row in t:rows() do ... end */
static int next_row(lua_State *L) {
    cld_tensor *x = cldL_check_tensor(L, 1);
    lua_Integer i = luaL_checkinteger(L, 2);
    if (i >= x->a.shape[0]) return 0;
    lua_pushinteger(L, i + 1);
    cld_tensor **row = cldL_new_tensor(L);
    *row = cld_select(x, 0, i);
    if (!*row) return cldL_raise(L);
    return 2;
}

int cldL_rows(lua_State *L) {
    cld_tensor *x = cldL_check_tensor(L, 1);
    if (x->a.ndim == 0) return luaL_error(L, "rows: a tensor without dimensions has none");
    lua_pushcfunction(L, next_row);
    lua_pushvalue(L, 1);
    lua_pushinteger(L, 0);
    return 3;
}
