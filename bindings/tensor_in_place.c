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
    cld_tensor *x = check_target(L, name);
    if (lua_type(L, 2) == LUA_TNUMBER)
        return return_self(L, cld_binary_scalar_(name, kind, x, cldL_scalar(L, 2)));
    return return_self(L, cld_binary_(name, kind, x, cldL_check_tensor(L, 2)));
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
    cld_tensor *x = check_target(L, "clamp_"), **clamped = cldL_clamp(L);
    cld_status status = cld_store_("clamp_", x, *clamped);
    cldL_close(clamped);
    return return_self(L, status);
}

static int in_place_fill(lua_State *L) {
    cldL_check_count(L, 2);
    cldL_fill(L, "fill_", check_target(L, "fill_"), 2);
    return return_self(L, CLD_OK);
}

static int in_place_zero(lua_State *L) {
    cldL_check_count(L, 1);
    return return_self(L, cld_tensor_fill(check_target(L, "zero_"), cld_integer(0)));
}

/* x:copy_(y): y broadcasts and is cast, and may lie on another device. */
static int in_place_copy(lua_State *L) {
    cldL_check_count(L, 2);
    cld_tensor *x = check_target(L, "copy_"), *y = cldL_check_tensor(L, 2);
    return return_self(L, cld_copy_("copy_", x, y));
}

/* x:masked_fill_(mask, value) */
static int in_place_masked_fill(lua_State *L) {
    cldL_check_count(L, 3);
    cld_tensor *x = check_target(L, "masked_fill_"), *mask = cldL_check_tensor(L, 2);
    cld_tensor *value = cldL_check_operand(L, 3, "masked_fill_", x);
    return return_self(L, cld_masked_fill_(x, mask, value));
}

const luaL_Reg cldL_in_place_methods[] = {
    {"add_", in_place_add},
    {"sub_", in_place_sub},
    {"mul_", in_place_mul},
    {"div_", in_place_div},
    {"clamp_", in_place_clamp},
    {"fill_", in_place_fill},
    {"zero_", in_place_zero},
    {"copy_", in_place_copy},
    {"masked_fill_", in_place_masked_fill},
    {NULL, NULL},
};
