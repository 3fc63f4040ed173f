/* t[i], t[{i, j}], t[{ {1, 3}, j, {} }] and their assignment.
 *
 * Positions are 1-based; negative ones count from the end. In the table form, entry k is for the next dimension: an
 * integer takes one position (and drops the dimension), {a, b} the positions a to b, {a, b, step} every step-th of
 * them, {} all. {-1, 1, -1} is all from the last to the first, a copy. An i64 tensor selects by the integers in it,
 * which are 0-based, or negative from the end; several such tensors broadcast. A u8 tensor, such as comparisons
 * return, is a mask of as many dimensions as it has. */
#include "bindings/tensor.h"

int64_t cldL_position(lua_Integer i) { return i > 0 ? i - 1 : i < 0 ? i : CLD_NOWHERE; }

/* The table on top of the stack is {}, {a, b} or {a, b, step}. */
static cld_key check_range(lua_State *L, int number) {
    lua_Integer values[] = {0, 0, 1};
    int count = (int)lua_rawlen(L, -1);
    if (count == 0) return (cld_key){.kind = CLD_KEY_ALL};
    for (int k = 0; k < count; k++) {
        int is_integer = false;
        lua_rawgeti(L, -1, k + 1);
        if (k < 3) values[k] = lua_tointegerx(L, -1, &is_integer);
        if (count < 2 || count > 3 || !is_integer)
            luaL_error(L, "index %d: a range is {first, last} or {first, last, step}, or {} for all", number);
        lua_pop(L, 1);
    }
    return (cld_key){.kind = CLD_KEY_RANGE,
                     .first = cldL_position(values[0]),
                     .last = cldL_position(values[1]),
                     .step = values[2]};
}

/* The key on top of the stack; the table that holds its tensor keeps it alive. */
static bool is_key(lua_State *L, cld_key *key) {
    int is_integer;
    lua_Integer i = lua_tointegerx(L, -1, &is_integer);
    cld_tensor *tensor = cldL_test_tensor(L, -1);
    if (is_integer)
        *key = (cld_key){.kind = CLD_KEY_POSITION, .first = cldL_position(i)};
    else if (tensor)
        *key = (cld_key){.kind = CLD_KEY_TENSOR, .tensor = tensor};
    return is_integer || tensor;
}

/* The keys at stack position 2; returns how many. */
static int check_keys(lua_State *L, const cld_tensor *x, cld_key keys[CLD_MAX_DIMS]) {
    lua_pushvalue(L, 2);
    bool single = is_key(L, &keys[0]);
    lua_pop(L, 1);
    if (single) return 1;
    if (!lua_istable(L, 2))
        luaL_error(L, "a tensor is indexed by an integer, a table, an i64 tensor or a mask, not by a %s",
                   luaL_typename(L, 2));
    int count = (int)lua_rawlen(L, 2);
    if (count > CLD_MAX_DIMS)
        luaL_error(L, "index %d of %s: a tensor has at most %d dimensions", CLD_MAX_DIMS + 1,
                   cld_describe(&x->a), CLD_MAX_DIMS);
    for (int k = 0; k < count; k++) {
        lua_rawgeti(L, 2, k + 1);
        if (!is_key(L, &keys[k])) {
            if (!lua_istable(L, -1))
                luaL_error(L, "index %d is a %s; expected an integer, {first, last}, {} or a tensor", k + 1,
                           luaL_typename(L, -1));
            keys[k] = check_range(L, k + 1);
        }
        lua_pop(L, 1);
    }
    return count;
}

int cldL_index(lua_State *L, cld_tensor *x) {
    cld_key keys[CLD_MAX_DIMS];
    int count = check_keys(L, x, keys);
    cld_tensor **out = cldL_new_tensor(L);
    *out = cld_index(x, keys, count);
    return cldL_result(L, *out);
}

/* t[key] = number or tensor (which broadcasts): written in place, off the tape. */
int cldL_set_index(lua_State *L, cld_tensor *x) {
    cld_key keys[CLD_MAX_DIMS];
    cld_tensor *value = cldL_test_tensor(L, 3);
    cldL_check_status(L, cld_check_off_tape("assignment", x));
    if (value && cld_needs_grad(&value, 1))
        return luaL_error(L, "assignment: a write in place carries no gradient; assign value:detach()");
    if (!value) value = cldL_push_number(L, 3, "assignment", x->a.dtype, cld_device(x));
    int count = check_keys(L, x, keys);
    cldL_check_status(L, cld_index_put_(x, keys, count, value));
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

/* --- x:rows() -> iterator: for i, row in x:rows() do ... end, where row is the view x[i]. */
int cldL_rows(lua_State *L) {
    cld_tensor *x = cldL_check_tensor(L, 1);
    if (x->a.ndim == 0) return luaL_error(L, "rows: a tensor without dimensions has none");
    lua_pushcfunction(L, next_row);
    lua_pushvalue(L, 1);
    lua_pushinteger(L, 0);
    return 3;
}
