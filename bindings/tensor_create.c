/* New tensors: cld.zeros(2, 3), cld.zeros({2, 3}, "f64"), cld.zeros{2, 3, dtype = "f64"}.
 *
 * One rule for all: the shape is numbers or one table; after it may come options, a dtype string or a table
 * {dtype =, device =, requires_grad =}; options may also be named fields of the shape's table. */
#include "bindings/tensor.h"

#include "runtime/tensor/create.h"

/* ---- shape and options --------------------------------------------------------------------------------- */

void cldL_check_options(lua_State *L, int arg, cldL_options *o) {
    static const char *const names[] = {"dtype", "device", "requires_grad", NULL};
    if (lua_isnoneornil(L, arg)) return;
    if (lua_type(L, arg) == LUA_TSTRING) {
        o->dtype = cldL_check_dtype(L, arg);
        return;
    }
    luaL_argcheck(L, lua_istable(L, arg), arg, "expected options: a dtype string or a table");
    const char *name = cldL_name(L);
    cldL_check_fields(L, arg, name ? name : "to", names);
    if (lua_getfield(L, arg, "dtype") != LUA_TNIL) o->dtype = cldL_check_dtype(L, lua_gettop(L));
    if (lua_getfield(L, arg, "device") != LUA_TNIL) o->device = cldL_check_device(L, lua_gettop(L));
    lua_pop(L, 2);
    o->requires_grad = cldL_field_boolean(L, arg, "requires_grad", o->requires_grad);
}

int cldL_check_shape_and_options(lua_State *L, int arg, int64_t shape[CLD_MAX_DIMS], cldL_options *o) {
    int ndim;
    if (lua_istable(L, arg)) {
        cldL_check_count(L, arg + 1);
        ndim = cldL_check_shape(L, arg, shape);
        cldL_check_options(L, arg, o);
        cldL_check_options(L, arg + 1, o);
    } else {
        int last = lua_gettop(L);
        if (last >= arg && !lua_isnumber(L, last)) {
            cldL_check_options(L, last, o);
            lua_settop(L, last - 1);
        }
        ndim = cldL_check_shape(L, arg, shape);
    }
    for (int i = 0; i < ndim; i++)
        if (shape[i] < 0)
            luaL_argerror(
                L, arg,
                lua_pushfstring(L, "extent %d is %I; expected at least 0", i + 1, (LUAI_UACINT)shape[i]));
    return ndim;
}

int cldL_finish(lua_State *L, cld_tensor **box, const cldL_options *o) {
    if (!*box) return cldL_raise(L);
    if (o->requires_grad && !cld_dtype_is_float((*box)->a.dtype))
        return luaL_error(L, "requires_grad: only floating-point tensors have gradients, not %s",
                          cld_dtype_name((*box)->a.dtype));
    (*box)->requires_grad = o->requires_grad;
    return 1;
}

static cldL_options defaults(cld_dtype dtype) {
    return (cldL_options){.dtype = dtype, .device = cld_cpu_backend()};
}

static cldL_options options_of(const cld_tensor *x) {
    return (cldL_options){.dtype = x->a.dtype, .device = cld_device(x)};
}

/* ---- one value everywhere ------------------------------------------------------------------------------ */

static int filled(lua_State *L, int arg, double value) {
    int64_t shape[CLD_MAX_DIMS];
    cldL_options o = defaults(CLD_F32);
    int ndim = cldL_check_shape_and_options(L, arg, shape, &o);
    cld_tensor **out = cldL_new_tensor(L);
    *out = cld_tensor_full(o.dtype, ndim, shape, o.device, value);
    return cldL_finish(L, out, &o);
}

/* --- cld.zeros(n, m, ...[, options]) -> tensor, cld.zeros({n, m, ...}[, options]) -> tensor: 0 everywhere.
 * The options, here and in all functions that make tensors: a dtype ("f32") or {dtype = "f32", device = "cpu",
 * requires_grad = false}.
 *
 *     local x = cld.zeros({ 2, 3 }, { dtype = "f64", requires_grad = true })
 *     print(x.dtype, #x)                        --> f64 2 */
static int create_zeros(lua_State *L) { return filled(L, 1, 0.0); }
/* --- cld.ones(n, m, ...[, options]) -> tensor: 1 everywhere; shape and options as cld.zeros. */
static int create_ones(lua_State *L) { return filled(L, 1, 1.0); }

/* --- cld.empty(n, m, ...[, options]) -> tensor: with undefined elements; shape and options as cld.zeros. */
static int create_empty(lua_State *L) {
    int64_t shape[CLD_MAX_DIMS];
    cldL_options o = defaults(CLD_F32);
    int ndim = cldL_check_shape_and_options(L, 1, shape, &o);
    cld_tensor **out = cldL_new_tensor(L);
    *out = cld_tensor_new(o.dtype, ndim, shape, o.device);
    return cldL_finish(L, out, &o);
}

/* Fills the tensor on top of the stack with the number at arg. */
static int full_of(lua_State *L, int arg, cld_tensor **out, const cldL_options *o) {
    if (!*out) return cldL_raise(L);
    cldL_fill(L, cldL_name(L), *out, arg);
    return cldL_finish(L, out, o);
}

/* --- cld.full({n, m, ...}, value[, options]) -> tensor: the number everywhere, in f32 unless the options say
 * otherwise. */
static int create_full(lua_State *L) {
    int64_t shape[CLD_MAX_DIMS];
    cldL_options o = defaults(CLD_F32);
    luaL_checktype(L, 1, LUA_TTABLE);
    cldL_check_count(L, 3);
    int ndim = cldL_check_shape(L, 1, shape);
    cldL_check_options(L, 1, &o);
    cldL_check_options(L, 3, &o);
    cld_tensor **out = cldL_new_tensor(L);
    *out = cld_tensor_new(o.dtype, ndim, shape, o.device);
    return full_of(L, 2, out, &o);
}

/* ---- as another tensor --------------------------------------------------------------------------------- */

/* Push a tensor of x's shape, contents undefined. The options at arg, the last argument, override x's own. */
static cld_tensor **push_like(lua_State *L, int arg, cldL_options *o) {
    cldL_check_count(L, arg);
    cld_tensor *x = cldL_check_tensor(L, 1);
    *o = options_of(x);
    cldL_check_options(L, arg, o);
    cld_tensor **out = cldL_new_tensor(L);
    *out = cld_tensor_new(o->dtype, x->a.ndim, x->a.shape, o->device);
    if (!*out) cldL_raise(L);
    return out;
}

static int filled_like(lua_State *L, double value) {
    cldL_options o;
    cld_tensor **out = push_like(L, 2, &o);
    cldL_check_status(L, cld_tensor_fill(*out, cld_real(value)));
    return cldL_finish(L, out, &o);
}

/* --- cld.zeros_like(x[, options]) -> tensor: 0 everywhere, with x's shape, and with its dtype and device unless
 * the options say otherwise. */
static int create_zeros_like(lua_State *L) { return filled_like(L, 0.0); }
/* --- cld.ones_like(x[, options]) -> tensor: 1 everywhere, as zeros_like. */
static int create_ones_like(lua_State *L) { return filled_like(L, 1.0); }

/* --- cld.full_like(x, value[, options]) -> tensor: the number everywhere, as zeros_like. */
static int create_full_like(lua_State *L) {
    cldL_options o;
    cld_tensor **out = push_like(L, 3, &o);
    return full_of(L, 2, out, &o);
}

/* --- cld.empty_like(x[, options]) -> tensor: with undefined elements, as zeros_like. */
static int create_empty_like(lua_State *L) {
    cldL_options o;
    cld_tensor **out = push_like(L, 2, &o);
    return cldL_finish(L, out, &o);
}

/* ---- sequences ----------------------------------------------------------------------------------------- */

/* --- cld.arange([start = 0, ]stop[, step = 1][, options]) -> tensor: start, start + step, ... below stop,
 * which is left out as in PyTorch; i64 if all are integers, else f32.
 *
 *     print(cld.arange(1, 6, 2):numel())        --> 3 */
static int create_arange(lua_State *L) {
    int numbers = lua_gettop(L);
    if (numbers > 0 && !lua_isnumber(L, numbers)) numbers--;
    luaL_argcheck(L, numbers >= 1 && numbers <= 3, 1, "expected stop; start, stop; or start, stop, step");
    bool integers = true;
    for (int i = 1; i <= numbers; i++) integers = integers && lua_isinteger(L, i);
    cldL_options o = defaults(integers ? CLD_I64 : CLD_F32);
    cldL_check_count(L, numbers + 1);
    cldL_check_options(L, numbers + 1, &o);
    cld_scalar start = numbers > 1 ? cldL_scalar(L, 1) : cld_integer(0);
    cld_scalar stop = cldL_scalar(L, numbers > 1 ? 2 : 1);
    cld_scalar step = numbers > 2 ? cldL_scalar(L, 3) : cld_integer(1);
    cld_tensor **out = cldL_new_tensor(L);
    *out = cld_tensor_arange(o.dtype, start, stop, step, o.device);
    return cldL_finish(L, out, &o);
}

/* --- cld.linspace(first, last, count[, options]) -> tensor: count numbers in equal steps, both ends
 * included. */
static int create_linspace(lua_State *L) {
    cldL_check_count(L, 4);
    cld_scalar first = cldL_scalar(L, 1), last = cldL_scalar(L, 2);
    lua_Integer count = luaL_checkinteger(L, 3);
    cldL_options o = defaults(CLD_F32);
    cldL_check_options(L, 4, &o);
    cld_tensor **out = cldL_new_tensor(L);
    *out = cld_tensor_linspace(o.dtype, first, last, count, o.device);
    return cldL_finish(L, out, &o);
}

/* --- cld.eye(rows[, columns][, options]) -> tensor: 1 on the diagonal, else 0. */
static int create_eye(lua_State *L) {
    lua_Integer rows = luaL_checkinteger(L, 1), columns = lua_isnumber(L, 2) ? luaL_checkinteger(L, 2) : rows;
    cldL_options o = defaults(CLD_F32);
    cldL_check_count(L, lua_isnumber(L, 2) ? 3 : 2);
    cldL_check_options(L, lua_isnumber(L, 2) ? 3 : 2, &o);
    cld_tensor **out = cldL_new_tensor(L);
    *out = cld_tensor_eye(o.dtype, rows, columns, o.device);
    return cldL_finish(L, out, &o);
}

const luaL_Reg cldL_creation_functions[] = {
    {"zeros", create_zeros},
    {"ones", create_ones},
    {"empty", create_empty},
    {"full", create_full},
    {"zeros_like", create_zeros_like},
    {"ones_like", create_ones_like},
    {"full_like", create_full_like},
    {"empty_like", create_empty_like},
    {"arange", create_arange},
    {"linspace", create_linspace},
    {"eye", create_eye},
    {NULL, NULL},
};
