/* Writes into an existing tensor: x:add_(y), x:fill_(v), x:copy_(y). They return x.
 *
 * Nothing here is recorded: a tensor on the tape, and a source that needs a gradient, are errors while
 * recording is on (inside cld.no_grad both are fine). Each write raises the storage's version, by which
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

/* --- x:add_(y[, alpha = 1]) -> x: writes x + alpha y into x, which keeps its shape and dtype; y broadcasts. As
 * all writes in place it is not recorded: while recording is on, an x on the tape or a y that needs a gradient
 * is an error. */
static int in_place_add(lua_State *L) {
    cldL_scale_operand(L);
    return update(L, "add_", CLD_ADD);
}

/* --- x:sub_(y[, alpha = 1]) -> x: x - alpha y in place, as add_. */
static int in_place_sub(lua_State *L) {
    cldL_scale_operand(L);
    return update(L, "sub_", CLD_SUB);
}

/* --- x:mul_(y) -> x: x times y in place, as add_. */
static int in_place_mul(lua_State *L) { return update(L, "mul_", CLD_MUL); }
/* --- x:div_(y) -> x: x / y in place, as add_. */
static int in_place_div(lua_State *L) { return update(L, "div_", CLD_DIV); }

/* --- x:pow_(y) -> x: x to the power y in place, as add_. */
static int in_place_pow(lua_State *L) { return update(L, "pow_", CLD_POW); }

/* x = f(x) */
static int update_itself(lua_State *L, const char *name, cld_unary kind) {
    cldL_check_count(L, 1);
    return return_self(L, cld_unary_(name, kind, check_target(L, name)));
}

#define ITSELF(name, kind)                                                                                   \
    static int in_place_##name(lua_State *L) { return update_itself(L, #name "_", CLD_##kind); }
/* --- x:neg_() -> x: -x in place. */
ITSELF(neg, NEG)
/* --- x:abs_() -> x: the absolute value in place. */
ITSELF(abs, ABS)
/* --- x:sign_() -> x: -1, 0 or 1 in place. */
ITSELF(sign, SIGN)
/* --- x:exp_() -> x: e to the power x in place. */
ITSELF(exp, EXP)
/* --- x:log_() -> x: the natural logarithm in place. */
ITSELF(log, LOG)
/* --- x:sqrt_() -> x: the square root in place. */
ITSELF(sqrt, SQRT)
/* --- x:rsqrt_() -> x: 1 / sqrt(x) in place. */
ITSELF(rsqrt, RSQRT)
/* --- x:square_() -> x: x times x in place. */
ITSELF(square, SQUARE)
/* --- x:reciprocal_() -> x: 1 / x in place. */
ITSELF(reciprocal, RECIPROCAL)
/* --- x:sin_() -> x: the sine of x in radians, in place. */
ITSELF(sin, SIN)
/* --- x:cos_() -> x: the cosine of x in radians, in place. */
ITSELF(cos, COS)
/* --- x:tanh_() -> x: the hyperbolic tangent in place. */
ITSELF(tanh, TANH)
/* --- x:sigmoid_() -> x: 1 / (1 + exp(-x)) in place. */
ITSELF(sigmoid, SIGMOID)
/* --- x:relu_() -> x: 0 where x is below 0, in place. */
ITSELF(relu, RELU)
/* --- x:floor_() -> x: rounded down in place. */
ITSELF(floor, FLOOR)
/* --- x:ceil_() -> x: rounded up in place. */
ITSELF(ceil, CEIL)
/* --- x:round_() -> x: rounded to the nearest integer, a half to the even one, in place. */
ITSELF(round, ROUND)

/* The number or the tensor of one element at arg; 1 if absent. */
static cld_factor check_factor(lua_State *L, int arg) {
    cld_factor f = {.number = cld_integer(1)};
    if (lua_isnoneornil(L, arg)) return f;
    if (lua_type(L, arg) == LUA_TNUMBER)
        f.number = cldL_scalar(L, arg);
    else
        f.tensor = cldL_check_tensor(L, arg);
    return f;
}

static cld_tensor *check_source(lua_State *L, const char *name, int arg) {
    cld_tensor *y = cldL_check_tensor(L, arg);
    if (cld_needs_grad(&y, 1))
        luaL_error(L,
                   "%s: a write in place carries no gradient, and argument %d needs one; use detach() or "
                   "cld.no_grad",
                   name, arg - 1);
    return y;
}

/* --- x:lerp_(y, weight) -> x: x + weight (y - x) in place; the weight is a number or a tensor of one
 * element. A moving average: average:lerp_(value, 1 - momentum). */
static int in_place_lerp(lua_State *L) {
    cldL_check_count(L, 3);
    cld_tensor *x = check_target(L, "lerp_"), *y = check_source(L, "lerp_", 2);
    int weight = lua_type(L, 3);
    if (weight != LUA_TNUMBER && !cldL_test_tensor(L, 3)) return luaL_typeerror(L, 3, "number or cld.tensor");
    return return_self(L, cld_lerp_(x, y, check_factor(L, 3)));
}

/* x:addcmul_(a, b[, value = 1]), x:addcdiv_(a, b[, value = 1]): x = x + value a b, x + value a / b; the value is a
 * number or a tensor of one element */
static int add_scaled(lua_State *L, const char *name, cld_binary kind) {
    cldL_check_count(L, 4);
    cld_tensor *x = check_target(L, name), *a = check_source(L, name, 2), *b = check_source(L, name, 3);
    return return_self(L, cld_add_scaled_(name, kind, x, a, b, check_factor(L, 4)));
}

/* --- x:addcmul_(a, b[, value = 1]) -> x: x + value a b in place; the value is a number or a tensor of one
 * element. */
static int in_place_addcmul(lua_State *L) { return add_scaled(L, "addcmul_", CLD_MUL); }
/* --- x:addcdiv_(a, b[, value = 1]) -> x: x + value a / b in place, as addcmul_. */
static int in_place_addcdiv(lua_State *L) { return add_scaled(L, "addcdiv_", CLD_DIV); }

/* --- x:clamp_([low[, high]]) -> x, x:clamp_{min =, max =} -> x: limits the elements to low and high, in
 * place. */
static int in_place_clamp(lua_State *L) {
    cld_tensor *x = check_target(L, "clamp_"), **clamped = cldL_clamp(L);
    cld_status status = cld_store_("clamp_", x, *clamped);
    cldL_close(clamped);
    return return_self(L, status);
}

/* --- x:fill_(value) -> x: the number everywhere; true and false are 1 and 0. A number that the dtype cannot
 * hold is an error. */
static int in_place_fill(lua_State *L) {
    cldL_check_count(L, 2);
    cldL_fill(L, "fill_", check_target(L, "fill_"), 2);
    return return_self(L, CLD_OK);
}

/* --- x:zero_() -> x: 0 everywhere. */
static int in_place_zero(lua_State *L) {
    cldL_check_count(L, 1);
    return return_self(L, cld_tensor_fill(check_target(L, "zero_"), cld_integer(0)));
}

/* --- x:copy_(y) -> x: y's values, which broadcast, are cast to x's dtype and may come from another device. */
static int in_place_copy(lua_State *L) {
    cldL_check_count(L, 2);
    cld_tensor *x = check_target(L, "copy_"), *y = cldL_check_tensor(L, 2);
    return return_self(L, cld_copy_("copy_", x, y));
}

/* --- x:masked_fill_(mask, value) -> x: the value wherever the mask (u8, broadcast) is not 0, in place. */
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
    {"pow_", in_place_pow},
    {"neg_", in_place_neg},
    {"abs_", in_place_abs},
    {"sign_", in_place_sign},
    {"exp_", in_place_exp},
    {"log_", in_place_log},
    {"sqrt_", in_place_sqrt},
    {"rsqrt_", in_place_rsqrt},
    {"square_", in_place_square},
    {"reciprocal_", in_place_reciprocal},
    {"sin_", in_place_sin},
    {"cos_", in_place_cos},
    {"tanh_", in_place_tanh},
    {"sigmoid_", in_place_sigmoid},
    {"relu_", in_place_relu},
    {"floor_", in_place_floor},
    {"ceil_", in_place_ceil},
    {"round_", in_place_round},
    {"lerp_", in_place_lerp},
    {"addcmul_", in_place_addcmul},
    {"addcdiv_", in_place_addcdiv},
    {"clamp_", in_place_clamp},
    {"fill_", in_place_fill},
    {"zero_", in_place_zero},
    {"copy_", in_place_copy},
    {"masked_fill_", in_place_masked_fill},
    {NULL, NULL},
};
