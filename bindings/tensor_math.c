/* Arithmetic, comparison, elementwise functions and matrix products.
 *
 * Each kind of op has one C function; what is bound is a row of wrappers around it, one line each, since a
 * luaL_Reg carries no data. Lua's own < and <= must return a boolean, so they compare tensors of one element
 * and numbers (loss < best); elementwise comparisons are methods: x:lt(y). */
#include "bindings/tensor.h"

#include <math.h>

#include "runtime/tensor/device.h"

/* ---- two tensors, or a tensor and a number ------------------------------------------------------------- */

cld_scalar cldL_scalar(lua_State *L, int arg) {
    return lua_isinteger(L, arg) ? cld_integer(lua_tointeger(L, arg)) : cld_real(luaL_checknumber(L, arg));
}

static bool is_number(lua_State *L, int arg) { return lua_type(L, arg) == LUA_TNUMBER; }

cld_tensor *cldL_check_operand(lua_State *L, int arg, const char *op, const cld_tensor *like) {
    if (!is_number(L, arg)) return cldL_check_tensor(L, arg);
    cld_tensor **out = cldL_new_tensor(L);
    *out = cld_operand(op, cldL_scalar(L, arg), like);
    if (!*out) cldL_raise(L);
    return *out;
}

int cldL_binary(lua_State *L, cld_binary kind) {
    bool left = is_number(L, 1), right = !left && is_number(L, 2);
    cldL_check_count(L, 2);
    cld_tensor *x = cldL_check_tensor(L, left ? 2 : 1), *y = left || right ? NULL : cldL_check_tensor(L, 2);
    cld_tensor **out = cldL_new_tensor(L);
    *out = y ? cld_binary_op(kind, x, y)
             : cld_binary_scalar(kind, x, cldL_scalar(L, left ? 1 : 2),
                                 left ? CLD_NUMBER_LEFT : CLD_NUMBER_RIGHT);
    return cldL_result(L, *out);
}

/* For x:add(y, alpha), sub, add_ and sub_: y times alpha. */
void cldL_scale_operand(lua_State *L) {
    cldL_check_count(L, 3);
    if (lua_isnoneornil(L, 3)) return;
    luaL_checknumber(L, 3);
    if (is_number(L, 2)) {
        lua_pushvalue(L, 2);
        lua_pushvalue(L, 3);
        lua_arith(L, LUA_OPMUL);
    } else {
        cld_tensor *y = cldL_check_tensor(L, 2), **scaled = cldL_new_tensor(L);
        *scaled = cld_binary_scalar(CLD_MUL, y, cldL_scalar(L, 3), CLD_NUMBER_RIGHT);
        cldL_result(L, *scaled);
    }
    lua_replace(L, 2);
    lua_settop(L, 2);
}

/* --- x:add(y[, alpha = 1]) -> tensor: x + alpha y. The shapes broadcast as in PyTorch. Also x + y. Two tensors
 * give the wider dtype; a number that an integer tensor cannot hold gives f32.
 *
 *     print((cld.tensor { 1, 2 } + 10)[2]:item())     --> 12.0 */
static int math_add(lua_State *L) {
    cldL_scale_operand(L);
    return cldL_binary(L, CLD_ADD);
}

/* --- x:sub(y[, alpha = 1]) -> tensor: x - alpha y, also x - y, as add. */
static int math_sub(lua_State *L) {
    cldL_scale_operand(L);
    return cldL_binary(L, CLD_SUB);
}

/* --- x:mul(y) -> tensor: x times y, element by element, also x * y, as add; x:matmul(y) is the matrix
 * product. */
static int math_mul(lua_State *L) { return cldL_binary(L, CLD_MUL); }
/* --- x:div(y) -> tensor: x divided by y, also x / y; f32 if both are integers. */
static int math_div(lua_State *L) { return cldL_binary(L, CLD_DIV); }
/* --- x:pow(y) -> tensor: x to the power y, also x ^ y. Integers to a negative power are an error. */
static int math_pow(lua_State *L) { return cldL_binary(L, CLD_POW); }
/* --- x:floor_divide(y) -> tensor: x / y rounded down, also x // y; integers stay integers. */
static int math_floor_divide(lua_State *L) { return cldL_binary(L, CLD_FLOOR_DIVIDE); }
/* --- x:remainder(y) -> tensor: the remainder of floor_divide, with y's sign as in Lua and Python, also x %
 * y. */
static int math_remainder(lua_State *L) { return cldL_binary(L, CLD_REMAINDER); }
/* --- x:maximum(y) -> tensor: the larger of each pair; y is a tensor or a number. NaN wins. */
static int math_maximum(lua_State *L) { return cldL_binary(L, CLD_MAXIMUM); }
/* --- x:minimum(y) -> tensor: the smaller of each pair, as maximum. */
static int math_minimum(lua_State *L) { return cldL_binary(L, CLD_MINIMUM); }
/* --- x:eq(y) -> u8 tensor: 1 where both are equal, else 0. x == y asks whether both are the same tensor
 * instead.
 *
 *     print(cld.tensor({ 1, 2, 2 }):eq(2):sum():item())  --> 2 */
static int math_eq(lua_State *L) { return cldL_binary(L, CLD_EQ); }
/* --- x:ne(y) -> u8 tensor: 1 where the two differ; NaN differs from itself. */
static int math_ne(lua_State *L) { return cldL_binary(L, CLD_NE); }
/* --- x:lt(y) -> u8 tensor: 1 where x < y. The operator x < y compares tensors of one element and gives a
 * boolean. */
static int math_lt(lua_State *L) { return cldL_binary(L, CLD_LT); }
/* --- x:le(y) -> u8 tensor: 1 where x <= y, as lt. */
static int math_le(lua_State *L) { return cldL_binary(L, CLD_LE); }
/* --- x:gt(y) -> u8 tensor: 1 where x > y, as lt. */
static int math_gt(lua_State *L) { return cldL_binary(L, CLD_GT); }
/* --- x:ge(y) -> u8 tensor: 1 where x >= y, as lt. */
static int math_ge(lua_State *L) { return cldL_binary(L, CLD_GE); }
/* --- x:logical_and(y) -> u8 tensor: 1 where neither is 0. */
static int math_and(lua_State *L) { return cldL_binary(L, CLD_AND); }
/* --- x:logical_or(y) -> u8 tensor: 1 where at least one is not 0. */
static int math_or(lua_State *L) { return cldL_binary(L, CLD_OR); }

/* ---- one tensor ---------------------------------------------------------------------------------------- */

static int unary(lua_State *L, cld_unary kind) {
    cldL_check_count(L, 1);
    cld_tensor *x = cldL_check_tensor(L, 1), **out = cldL_new_tensor(L);
    *out = cld_unary_op(kind, x, 0, 0);
    return cldL_result(L, *out);
}

/* --- x:neg() -> tensor: -x. */
static int math_neg(lua_State *L) { return unary(L, CLD_NEG); }

static int math_minus(lua_State *L) { /* Lua hands over the operand twice */
    lua_settop(L, 1);
    return unary(L, CLD_NEG);
}

/* --- x:abs() -> tensor: the absolute value; its gradient at 0 is 0. */
static int math_abs(lua_State *L) { return unary(L, CLD_ABS); }
/* --- x:sign() -> tensor: -1, 0 or 1, in x's dtype. */
static int math_sign(lua_State *L) { return unary(L, CLD_SIGN); }
/* --- x:exp() -> tensor: e to the power x; f32 for integers, as all functions that return fractions. */
static int math_exp(lua_State *L) { return unary(L, CLD_EXP); }
/* --- x:log() -> tensor: the natural logarithm; -inf for 0, NaN below 0. */
static int math_log(lua_State *L) { return unary(L, CLD_LOG); }
/* --- x:sqrt() -> tensor: the square root; NaN below 0. */
static int math_sqrt(lua_State *L) { return unary(L, CLD_SQRT); }
/* --- x:rsqrt() -> tensor: 1 / sqrt(x). */
static int math_rsqrt(lua_State *L) { return unary(L, CLD_RSQRT); }
/* --- x:square() -> tensor: x times x. */
static int math_square(lua_State *L) { return unary(L, CLD_SQUARE); }
/* --- x:reciprocal() -> tensor: 1 / x; inf for 0. */
static int math_reciprocal(lua_State *L) { return unary(L, CLD_RECIPROCAL); }
/* --- x:sin() -> tensor: the sine of x in radians. */
static int math_sin(lua_State *L) { return unary(L, CLD_SIN); }
/* --- x:cos() -> tensor: the cosine of x in radians. */
static int math_cos(lua_State *L) { return unary(L, CLD_COS); }
/* --- x:tanh() -> tensor: the hyperbolic tangent. */
static int math_tanh(lua_State *L) { return unary(L, CLD_TANH); }
/* --- x:sigmoid() -> tensor: 1 / (1 + exp(-x)). */
static int math_sigmoid(lua_State *L) { return unary(L, CLD_SIGMOID); }
/* --- x:relu() -> tensor: x, or 0 where x is below 0; its gradient at 0 is 0. */
static int math_relu(lua_State *L) { return unary(L, CLD_RELU); }
/* --- x:floor() -> tensor: rounded down; integers stay as they are. */
static int math_floor(lua_State *L) { return unary(L, CLD_FLOOR); }
/* --- x:ceil() -> tensor: rounded up, as floor. */
static int math_ceil(lua_State *L) { return unary(L, CLD_CEIL); }
/* --- x:round() -> tensor: rounded to the nearest integer, a half to the even one. */
static int math_round(lua_State *L) { return unary(L, CLD_ROUND); }
/* --- x:logical_not() -> u8 tensor: 1 where x is 0. */
static int math_not(lua_State *L) { return unary(L, CLD_NOT); }
/* --- x:isnan() -> u8 tensor: 1 where x is NaN. */
static int math_isnan(lua_State *L) { return unary(L, CLD_ISNAN); }
/* --- x:isfinite() -> u8 tensor: 1 where x is neither infinite nor NaN. */
static int math_isfinite(lua_State *L) { return unary(L, CLD_ISFINITE); }

/* --- x:isinf() -> u8 tensor: 1 where x is infinite, of either sign. */
static int math_isinf(lua_State *L) {
    cldL_check_count(L, 1);
    cld_tensor *x = cldL_check_tensor(L, 1), **out = cldL_new_tensor(L);
    *out = cld_isinf(x);
    return cldL_result(L, *out);
}

/* x:clamp([low[, high]]), x:clamp{min =, max =}: nil leaves that side open. */
cld_tensor **cldL_clamp(lua_State *L) {
    static const char *const names[] = {"min", "max", NULL};
    cldL_check_count(L, 3);
    cld_tensor *x = cldL_check_tensor(L, 1);
    if (lua_istable(L, 2)) {
        cldL_check_count(L, 2);
        cldL_check_fields(L, 2, cldL_name(L), names);
        lua_settop(L, 2);
        lua_getfield(L, 2, "max");
        lua_getfield(L, 2, "min");
        lua_replace(L, 2);
    }
    cld_scalar low = lua_isnoneornil(L, 2) ? cld_real(-INFINITY) : cldL_scalar(L, 2);
    cld_scalar high = lua_isnoneornil(L, 3) ? cld_real(INFINITY) : cldL_scalar(L, 3);
    cld_tensor **out = cldL_new_tensor(L);
    *out = cld_unary_with(CLD_CLAMP, x, low, high);
    cldL_result(L, *out);
    return out;
}

/* --- x:clamp([low[, high]]) -> tensor, x:clip([low[, high]]) -> tensor, x:clamp{min =, max =} -> tensor: x
 * limited to low and high; nil leaves that side open. */
static int math_clamp(lua_State *L) {
    cldL_clamp(L);
    return 1;
}

/* ---- products ------------------------------------------------------------------------------------------ */

/* ndim 0: any that matmul takes. */
static int product(lua_State *L, const char *name, int ndim) {
    cldL_check_count(L, 2);
    cld_tensor *a = cldL_check_tensor(L, 1), *b = cldL_check_tensor(L, 2);
    if (ndim && (a->a.ndim != ndim || b->a.ndim != ndim))
        return luaL_error(L, "%s: expected two tensors of %d dimensions, got %s and %s", name, ndim,
                          cld_describe(&a->a), cld_describe(&b->a));
    cld_tensor **out = cldL_new_tensor(L);
    *out = cld_matmul(a, b);
    return cldL_result(L, *out);
}

/* --- x:matmul(y) -> tensor: the matrix product of (..., n, k) and (..., k, m), as torch.matmul: leading
 * dimensions broadcast, and vectors count as a row or a column. Both need one dtype.
 *
 *     print(cld.ones(2, 3):matmul(cld.ones(3, 4)).shape[2])  --> 4 */
static int math_matmul(lua_State *L) { return product(L, "matmul", 0); }
/* --- x:mm(y) -> tensor: matmul, for two matrices only. */
static int math_mm(lua_State *L) { return product(L, "mm", 2); }
/* --- x:bmm(y) -> tensor: matmul, for two stacks of matrices (b, n, k) and (b, k, m) only. */
static int math_bmm(lua_State *L) { return product(L, "bmm", 3); }
/* --- x:dot(y) -> tensor: the inner product of two vectors, without dimensions. */
static int math_dot(lua_State *L) { return product(L, "dot", 1); }

/* --- x:outer(y) -> tensor (n, m): every product of an element of x (n) with one of y (m). */
static int math_outer(lua_State *L) {
    cldL_check_count(L, 2);
    cld_tensor *a = cldL_check_tensor(L, 1), *b = cldL_check_tensor(L, 2), **out = cldL_new_tensor(L);
    *out = cld_outer(a, b);
    return cldL_result(L, *out);
}

/* --- cld.einsum(equation, a, b, ...) -> tensor, cld.einsum(equation, {a, b, ...}) -> tensor: the sums of
 * products that the letters of the equation describe, as torch.einsum.
 *
 *     print(cld.einsum("ij,kj->ik", cld.ones(2, 3), cld.ones(4, 3))[{ 1, 1 }]:item())  --> 3.0 */
static int math_einsum(lua_State *L) {
    const char *equation = luaL_checkstring(L, 1);
    int count = lua_gettop(L) - 1;
    if (lua_istable(L, 2)) {
        cldL_check_count(L, 2);
    } else {
        lua_createtable(L, count, 0);
        for (int i = 1; i <= count; i++) {
            cldL_check_tensor(L, i + 1);
            lua_pushvalue(L, i + 1);
            lua_rawseti(L, -2, i);
        }
        lua_insert(L, 2);
    }
    cld_tensor **list = cldL_check_list(L, 2, &count), **out = cldL_new_tensor(L);
    *out = cld_einsum(equation, list, count);
    return cldL_result(L, *out);
}

/* --- x:cdist(y[, p = 2]) -> tensor (..., n, m): the Euclidean distances of the rows of x (..., n, d) and y
 * (..., m, d), computed from the differences, so that equal rows have exactly the distance 0, where the
 * gradient is 0. Other norms are an error. */
static int math_cdist(lua_State *L) {
    cldL_check_count(L, 3);
    cld_tensor *a = cldL_check_tensor(L, 1), *b = cldL_check_tensor(L, 2);
    if (luaL_optnumber(L, 3, 2) != 2)
        return luaL_error(L, "cdist: p is %f; the only supported norm is 2", lua_tonumber(L, 3));
    cld_tensor **out = cldL_new_tensor(L);
    *out = cld_cdist(a, b);
    return cldL_result(L, *out);
}

/* --- x:allclose(y[, {rtol = 1e-5, atol = 1e-8, equal_nan = false}]) -> boolean: whether |x - y| <= atol +
 * rtol |y| everywhere. It waits for the device. */
static int math_allclose(lua_State *L) {
    static const char *const names[] = {"rtol", "atol", "equal_nan", NULL};
    double all = 0;
    cldL_check_count(L, 3);
    cld_tensor *a = cldL_check_tensor(L, 1), *b = cldL_check_tensor(L, 2);
    cldL_check_fields(L, 3, "allclose", names);
    double rtol = cldL_field_number(L, 3, "rtol", 1e-5), atol = cldL_field_number(L, 3, "atol", 1e-8);
    bool equal_nan = cldL_field_boolean(L, 3, "equal_nan", false);
    cld_tensor **close = cldL_new_tensor(L), **one = cldL_new_tensor(L);
    *close = cld_isclose(a, b, rtol, atol, equal_nan);
    *one = *close ? cld_all(*close, NULL, 0, false) : NULL;
    cldL_result(L, *one);
    cldL_check_status(L, cld_tensor_item(*one, &all));
    lua_pushboolean(L, all != 0);
    return 1;
}

/* ---- casts and devices --------------------------------------------------------------------------------- */

static int cast_to(lua_State *L, cld_dtype dtype) {
    cldL_check_count(L, 2);
    cld_tensor *x = cldL_check_tensor(L, 1), **out = cldL_new_tensor(L);
    *out = dtype == x->a.dtype ? cld_tensor_retain(x) : cld_cast(x, dtype);
    return cldL_result(L, *out);
}

/* --- x:cast(dtype) -> tensor: x in another dtype ("f32", "f64", "bf16", "f16", "i64", "i32" or "u8"); x
 * itself if it has that dtype. Gradients flow between floats. */
static int math_cast(lua_State *L) { return cast_to(L, cldL_check_dtype(L, 2)); }
/* --- x:float() -> tensor: x in f32. */
static int math_float(lua_State *L) { return cast_to(L, CLD_F32); }
/* --- x:double() -> tensor: x in f64. */
static int math_double(lua_State *L) { return cast_to(L, CLD_F64); }
/* --- x:half() -> tensor: x in f16. */
static int math_half(lua_State *L) { return cast_to(L, CLD_F16); }
/* --- x:bfloat16() -> tensor: x in bf16. */
static int math_bfloat16(lua_State *L) { return cast_to(L, CLD_BF16); }
/* --- x:long() -> tensor: x in i64; fractions are cut off. */
static int math_long(lua_State *L) { return cast_to(L, CLD_I64); }
/* --- x:int() -> tensor: x in i32, as long. */
static int math_int(lua_State *L) { return cast_to(L, CLD_I32); }
/* --- x:byte() -> tensor: x in u8, as long; it is also the dtype of masks. */
static int math_byte(lua_State *L) { return cast_to(L, CLD_U8); }

/* x on the device, itself if it is there already. */
static int move_to(lua_State *L, const cld_backend *device) {
    cld_tensor *x = cldL_check_tensor(L, 1), **out = cldL_new_tensor(L);
    if (cld_device(x) != device && cld_needs_grad(&x, 1))
        return luaL_error(L, "to: moving between devices carries no gradient; use detach()");
    *out = cld_device(x) == device ? cld_tensor_retain(x) : cld_tensor_to(x, device);
    return cldL_result(L, *out);
}

/* --- x:cpu() -> tensor: x on the cpu; x itself if it is there already. */
static int math_cpu(lua_State *L) { return move_to(L, cld_cpu_backend()); }

/* --- x:to(dtype or device) -> tensor, x:to{dtype =, device =} -> tensor: "f64", "cuda:0" and the like; x
 * itself if nothing changes. Moving between devices carries no gradient: detach first. */
static int math_to(lua_State *L) {
    cld_tensor *x = cldL_check_tensor(L, 1);
    cld_dtype dtype;
    cldL_options o = {.dtype = x->a.dtype, .device = cld_device(x)};
    cldL_check_count(L, 2);
    luaL_argcheck(L, lua_istable(L, 2) || lua_type(L, 2) == LUA_TSTRING, 2,
                  "expected a dtype, a device or a table");
    if (lua_istable(L, 2) || cld_dtype_parse(lua_tostring(L, 2), &dtype))
        cldL_check_options(L, 2, &o);
    else if (cld_device_named(lua_tostring(L, 2)))
        o.device = cldL_check_device(L, 2);
    else
        return luaL_error(L, "to: '%s' is neither a dtype (" CLDL_DTYPES ") nor a device (cpu, cuda, cuda:N)",
                          lua_tostring(L, 2));
    lua_settop(L, 1);
    move_to(L, o.device);
    lua_replace(L, 1);
    return cast_to(L, o.dtype);
}

/* ---- lists --------------------------------------------------------------------------------------------- */

const luaL_Reg cldL_math_ops[] = {
    {"add", math_add},
    {"sub", math_sub},
    {"mul", math_mul},
    {"div", math_div},
    {"pow", math_pow},
    {"floor_divide", math_floor_divide},
    {"remainder", math_remainder},
    {"maximum", math_maximum},
    {"minimum", math_minimum},
    {"eq", math_eq},
    {"ne", math_ne},
    {"lt", math_lt},
    {"le", math_le},
    {"gt", math_gt},
    {"ge", math_ge},
    {"logical_and", math_and},
    {"logical_or", math_or},
    {"logical_not", math_not},
    {"neg", math_neg},
    {"abs", math_abs},
    {"sign", math_sign},
    {"exp", math_exp},
    {"log", math_log},
    {"sqrt", math_sqrt},
    {"rsqrt", math_rsqrt},
    {"square", math_square},
    {"reciprocal", math_reciprocal},
    {"sin", math_sin},
    {"cos", math_cos},
    {"tanh", math_tanh},
    {"sigmoid", math_sigmoid},
    {"relu", math_relu},
    {"floor", math_floor},
    {"ceil", math_ceil},
    {"round", math_round},
    {"isnan", math_isnan},
    {"isfinite", math_isfinite},
    {"isinf", math_isinf},
    {"clamp", math_clamp},
    {"clip", math_clamp},
    {"matmul", math_matmul},
    {"mm", math_mm},
    {"bmm", math_bmm},
    {"dot", math_dot},
    {"outer", math_outer},
    {"cdist", math_cdist},
    {"allclose", math_allclose},
    {NULL, NULL},
};

const luaL_Reg cldL_math_functions[] = {{"einsum", math_einsum}, {NULL, NULL}};

const luaL_Reg cldL_cast_methods[] = {
    {"cast", math_cast},         {"to", math_to},     {"cpu", math_cpu},   {"float", math_float},
    {"double", math_double},     {"half", math_half}, {"long", math_long}, {"int", math_int},
    {"bfloat16", math_bfloat16}, {"byte", math_byte}, {NULL, NULL},
};

/* ---- < and <=: booleans ------------------------------------------------------------------------------------ */

/* Push the value to be compared: Lua compares integers and floats exactly. */
static void push_value(lua_State *L, int arg) {
    if (is_number(L, arg)) {
        lua_pushvalue(L, arg);
        return;
    }
    cld_tensor *x = cldL_check_tensor(L, arg);
    if (cld_numel(&x->a) != 1)
        luaL_error(L, "< and <= compare tensors of one element, got %s; elementwise: x:lt(y), x:le(y)",
                   cld_describe(&x->a));
    cldL_push_item(L, x);
}

static int compare(lua_State *L, int op) {
    push_value(L, 1);
    push_value(L, 2);
    lua_pushboolean(L, lua_compare(L, -2, -1, op));
    return 1;
}

static int math_is_less(lua_State *L) { return compare(L, LUA_OPLT); }
static int math_is_at_most(lua_State *L) { return compare(L, LUA_OPLE); }

const luaL_Reg cldL_math_metamethods[] = {
    {"__add", math_add},       {"__sub", math_sub},       {"__mul", math_mul}, {"__idiv", math_floor_divide},
    {"__mod", math_remainder}, {"__div", math_div},       {"__pow", math_pow}, {"__unm", math_minus},
    {"__lt", math_is_less},    {"__le", math_is_at_most}, {NULL, NULL},
};
