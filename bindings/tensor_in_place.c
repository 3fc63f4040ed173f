/* Writes into an existing tensor: x:add_(y), x:fill_(v), x:copy_(y). They return x.
 *
 * Nothing here is recorded: a tensor on the tape, and a source that needs a gradient, are errors while
 * recording is on (inside cld.no_grad both are fine). The write is counted in the storage's version, by which
 * backward notices that something it had saved was changed. */
#include "bindings/tensor.h"

static cld_tensor *check_target(lua_State *L, const char *name) {
    cld_tensor *x = cldL_check_tensor(L, 1), *y = cldL_test_tensor(L, 2);
    cldL_check_status(L, cld_check_in_place(name, x));
    if (y && cld_needs_grad(&y, 1))
        luaL_error(
            L,
            "%s: a write in place carries no gradient, and the other tensor needs one; use detach() or "
            "cld.no_grad",
            name);
    return x;
}

static int return_self(lua_State *L, cld_status status) {
    cldL_check_status(L, status);
    lua_settop(L, 1);
    return 1;
}

/* x = x op y. The result must have x's shape; it is cast to x's dtype. */
static int update(lua_State *L, const char *name, cld_binary kind) {
    cldL_check_count(L, 2);
    cld_tensor *x = check_target(L, name), *y = cldL_test_tensor(L, 2);
    if (kind == CLD_ADD && y && cld_same_shape(&x->a, &y->a) && x->a.dtype == y->a.dtype)
        return return_self(L, cld_add_(x, y));
    cld_unary scalar_kind;
    double s;
    if (cldL_number_right(L, kind, x->a.dtype, &scalar_kind, &s))
        return return_self(L, cld_unary_(name, scalar_kind, x, s));
    cldL_binary(L, kind);
    cld_tensor *result = cldL_check_tensor(L, -1);
    if (!cld_same_shape(&x->a, &result->a))
        return luaL_error(L, "%s: the result would be %s and does not fit into %s", name,
                          cld_describe(&result->a), cld_describe(&x->a));
    if (cld_dtype_is_float(result->a.dtype) && !cld_dtype_is_float(x->a.dtype))
        return luaL_error(L, "%s: the result is %s, which %s cannot hold", name,
                          cld_dtype_name(result->a.dtype), cld_describe(&x->a));
    cld_status status = cld_tensor_copy(x, result);
    cldL_close(lua_touserdata(L, -1));
    return return_self(L, status);
}

/* x:add_(y[, alpha]), x:sub_(y[, alpha]): x + alpha y */
static int in_place_add(lua_State *L) {
    cldL_scale_operand(L);
    return update(L, "add_", CLD_ADD);
}

static int in_place_sub(lua_State *L) {
    cldL_scale_operand(L);
    return update(L, "sub_", CLD_SUB);
}

static int in_place_mul(lua_State *L) { return update(L, "mul_", CLD_MUL); }
static int in_place_div(lua_State *L) { return update(L, "div_", CLD_DIV); }

/* x:clamp_([low[, high]]) */
static int in_place_clamp(lua_State *L) {
    cldL_check_count(L, 3);
    cld_tensor *x = check_target(L, "clamp_");
    lua_settop(L, 3);
    lua_getfield(L, 1, "clamp");
    for (int i = 1; i <= 3; i++) lua_pushvalue(L, i);
    lua_call(L, 3, 1);
    return return_self(L, cld_tensor_copy(x, cldL_check_tensor(L, -1)));
}

static int in_place_fill(lua_State *L) {
    cldL_check_count(L, 2);
    cldL_fill(L, "fill_", check_target(L, "fill_"), 2);
    return return_self(L, CLD_OK);
}

static int in_place_zero(lua_State *L) {
    cldL_check_count(L, 1);
    return return_self(L, cld_tensor_fill(check_target(L, "zero_"), 0.0));
}

/* x:copy_(y): y broadcasts and is cast, and may lie on another device. */
static int in_place_copy(lua_State *L) {
    cldL_check_count(L, 2);
    cld_tensor *x = check_target(L, "copy_"), *y = cldL_check_tensor(L, 2);
    return return_self(L, cld_copy_("copy_", x, y));
}

const luaL_Reg cldL_in_place_methods[] = {
    {"add_", in_place_add},   {"sub_", in_place_sub},     {"mul_", in_place_mul},
    {"div_", in_place_div},   {"clamp_", in_place_clamp}, {"fill_", in_place_fill},
    {"zero_", in_place_zero}, {"copy_", in_place_copy},   {NULL, NULL},
};
