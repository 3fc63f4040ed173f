/* Between nested Lua tables and elements: cld.tensor, t:totable(), t:item().
 *
 * Elements pass through row-major host memory in a dtype that C has (bf16 and f16 go by way of f32). Lua
 * integers go into i64 and come out of it exactly; everything else is a double in between. */
#include "bindings/tensor.h"

#include <stdio.h>
#include <string.h>

static cld_dtype host_dtype(cld_dtype d) { return cld_dtype_is_half(d) ? CLD_F32 : d; }

/* ---- from Lua ------------------------------------------------------------------------------------------ */

typedef struct reader {
    lua_State *L;
    const char *op;
    cld_array *out; /* dense; its shape is what every table must have */
    cld_dtype asked;
    int64_t place[CLD_MAX_DIMS]; /* 1-based, of the table or value being read */
} reader;

/* "[2][3]" for messages; left on the stack. */
static const char *push_place(reader *r, int depth) {
    luaL_Buffer b;
    luaL_buffinit(r->L, &b);
    if (depth == 0) luaL_addstring(&b, r->out->ndim == 0 ? "the value" : "the table");
    for (int i = 0; i < depth; i++) {
        char text[32];
        lua_Integer place = r->place[i];
        snprintf(text, sizeof text, "[" LUA_INTEGER_FMT "]", place);
        luaL_addstring(&b, text);
    }
    luaL_pushresult(&b);
    return lua_tostring(r->L, -1);
}

static void store_integer(reader *r, int64_t at, lua_Integer v, int depth) {
    cld_array *out = r->out;
    bool fits = true;
    switch (out->dtype) {
    case CLD_F64: ((double *)out->data)[at] = (double)v; break;
    case CLD_F32: ((float *)out->data)[at] = (float)v; break;
    case CLD_I64: ((int64_t *)out->data)[at] = v; break;
    case CLD_I32: fits = v >= INT32_MIN && v <= INT32_MAX, ((int32_t *)out->data)[at] = (int32_t)v; break;
    default: fits = v >= 0 && v <= UINT8_MAX, ((uint8_t *)out->data)[at] = (uint8_t)v; break;
    }
    if (!fits)
        luaL_error(r->L, "%s: %s is %I, which %s cannot hold", r->op, push_place(r, depth), (LUAI_UACINT)v,
                   cld_dtype_name(r->asked));
}

static void store_number(reader *r, int64_t at, double v, int depth) {
    if (r->out->dtype == CLD_F64)
        ((double *)r->out->data)[at] = v;
    else if (r->out->dtype == CLD_F32)
        ((float *)r->out->data)[at] = (float)v;
    else
        cldL_check_status(r->L, cld_fail(CLD_INVALID, "%s: %s is %.14g, which is not an integer, as %s needs",
                                         r->op, push_place(r, depth), v, cld_dtype_name(r->asked)));
}

/* The value on top of the stack becomes element `at`. */
static void read_value(reader *r, int64_t at, int depth) {
    lua_State *L = r->L;
    int type = lua_type(L, -1), exact;
    bool is_real = r->out->dtype == CLD_F32 || r->out->dtype == CLD_F64; /* -0.0 is no integer */
    lua_Integer whole = lua_tointegerx(L, -1, &exact);
    if (type == LUA_TBOOLEAN)
        store_integer(r, at, lua_toboolean(L, -1), depth);
    else if (type == LUA_TNUMBER && exact && (lua_isinteger(L, -1) || !is_real))
        store_integer(r, at, whole, depth);
    else if (type == LUA_TNUMBER)
        store_number(r, at, lua_tonumber(L, -1), depth);
    else
        luaL_error(L, "%s: %s is a %s; expected a number", r->op, push_place(r, depth), luaL_typename(L, -1));
}

/* The table on top of the stack fills elements from `at` on; returns the next free element. */
static int64_t read_table(reader *r, int64_t at, int depth) {
    lua_State *L = r->L;
    if (depth == r->out->ndim) {
        read_value(r, at, depth);
        return at + 1;
    }
    if (!lua_istable(L, -1))
        luaL_error(L, "tensor: %s is a %s where its neighbours are tables", push_place(r, depth),
                   luaL_typename(L, -1));
    int64_t extent = r->out->shape[depth], found = luaL_len(L, -1);
    if (found != extent)
        luaL_error(L, "tensor: %s has %I entries where its neighbours have %I", push_place(r, depth),
                   (LUAI_UACINT)found, (LUAI_UACINT)extent);
    for (int64_t i = 1; i <= extent; i++) {
        lua_geti(L, -1, i);
        r->place[depth] = i;
        at = read_table(r, at, depth + 1);
        lua_pop(L, 1);
    }
    return at;
}

/* The shape that the first entries have; read_table checks the others. */
static int shape_of_table(lua_State *L, int arg, int64_t *shape) {
    int ndim = 0;
    lua_pushvalue(L, arg);
    while (lua_istable(L, -1)) {
        if (ndim == CLD_MAX_DIMS) luaL_error(L, "tensor: tables nested more than %d deep", CLD_MAX_DIMS);
        shape[ndim++] = luaL_len(L, -1);
        lua_geti(L, -1, 1);
        lua_replace(L, -2);
    }
    lua_pop(L, 1);
    return ndim;
}

static cld_scalar check_number(lua_State *L, int arg) {
    if (lua_isboolean(L, arg)) return cld_integer(lua_toboolean(L, arg));
    if (lua_type(L, arg) != LUA_TNUMBER) luaL_typeerror(L, arg, "number");
    return cldL_scalar(L, arg);
}

cld_tensor *cldL_push_number(lua_State *L, int arg, const char *op, cld_dtype dtype,
                             const cld_backend *device) {
    cld_scalar s = check_number(L, arg);
    cld_tensor **out = cldL_new_tensor(L);
    *out = cld_number(op, s, dtype, device);
    if (!*out) cldL_raise(L);
    return *out;
}

void cldL_fill(lua_State *L, const char *op, cld_tensor *x, int arg) {
    cldL_check_status(L, cld_fill_(op, x, check_number(L, arg)));
}

/* --- cld.tensor(values[, options]) -> tensor: from nested tables of numbers or booleans, whose lengths must
 * agree, from one number, or as a copy of a tensor; f32 unless the options say otherwise. A value that the
 * dtype cannot hold is an error that tells its place.
 *
 *     local x = cld.tensor({ { 1, 2 }, { 3, 4 } }, "f64")
 *     print(x[2][1]:item())                     --> 3.0 */
int cldL_tensor_from_table(lua_State *L) {
    cldL_options o = {.dtype = CLD_F32, .device = cld_cpu_backend()};
    cld_tensor *from = cldL_test_tensor(L, 1);
    if (from) o.dtype = from->a.dtype;
    luaL_argcheck(L, from || lua_istable(L, 1) || lua_type(L, 1) == LUA_TNUMBER || lua_isboolean(L, 1), 1,
                  "expected a table, a number or a tensor");
    cldL_check_options(L, 2, &o);
    lua_settop(L, 1);
    cld_tensor **host = cldL_new_tensor(L), **out = cldL_new_tensor(L);
    if (from) {
        *out = cld_tensor_cast(from, o.dtype);
        return cldL_finish(L, out, &o);
    }
    int64_t shape[CLD_MAX_DIMS];
    int ndim = shape_of_table(L, 1, shape);
    *host = cld_tensor_new(host_dtype(o.dtype), ndim, shape, cld_cpu_backend());
    if (!*host) return cldL_raise(L);
    reader r = {.L = L, .op = "tensor", .out = &(*host)->a, .asked = o.dtype};
    luaL_checkstack(L, 2 * CLD_MAX_DIMS, "nested tables");
    lua_pushvalue(L, 1);
    read_table(&r, 0, 0);
    lua_pop(L, 1);
    *out = cld_tensor_as(*host, o.dtype, o.device);
    cldL_close(host);
    return cldL_finish(L, out, &o);
}

/* ---- to Lua -------------------------------------------------------------------------------------------- */

cld_tensor **cldL_push_host(lua_State *L, cld_tensor *x) {
    cld_tensor **near = cldL_new_tensor(L), **host = cldL_new_tensor(L);
    *near = cld_tensor_on_host(x);
    if (!*near) cldL_raise(L);
    *host = cld_tensor_as(*near, host_dtype(x->a.dtype), cld_device(*near));
    if (!*host) cldL_raise(L);
    cldL_close(near);
    lua_remove(L, -2);
    return host;
}

void cldL_push_element(lua_State *L, const cld_tensor *host, int64_t i) {
    const void *data = host->a.data;
    switch (host->a.dtype) {
    case CLD_F64: lua_pushnumber(L, ((const double *)data)[i]); break;
    case CLD_F32: lua_pushnumber(L, ((const float *)data)[i]); break;
    case CLD_I64: lua_pushinteger(L, ((const int64_t *)data)[i]); break;
    case CLD_I32: lua_pushinteger(L, ((const int32_t *)data)[i]); break;
    default: lua_pushinteger(L, ((const uint8_t *)data)[i]); break;
    }
}

/* Push elements from `at` on as nested tables; returns the next element. */
static int64_t push_table(lua_State *L, const cld_tensor *host, int dim, int64_t at) {
    if (dim == host->a.ndim) {
        cldL_push_element(L, host, at);
        return at + 1;
    }
    int64_t extent = host->a.shape[dim];
    lua_createtable(L, (int)extent, 0);
    for (int64_t i = 1; i <= extent; i++) {
        at = push_table(L, host, dim + 1, at);
        lua_rawseti(L, -2, i);
    }
    return at;
}

/* --- x:totable() -> nested tables: the elements as Lua numbers (i64 exactly); one number if x has no
 * dimensions. It waits for the device. */
int cldL_totable(lua_State *L) {
    cld_tensor *x = cldL_check_tensor(L, 1);
    if (cld_numel(&x->a) > INT32_MAX) return luaL_error(L, "totable: %s is too large", cld_describe(&x->a));
    luaL_checkstack(L, 2 * CLD_MAX_DIMS, "nested tables");
    cld_tensor **host = cldL_push_host(L, x);
    push_table(L, *host, 0, 0);
    cldL_close(host);
    return 1;
}

void cldL_push_item(lua_State *L, cld_tensor *x) {
    cld_tensor **host = cldL_push_host(L, x);
    cldL_push_element(L, *host, 0);
    cldL_close(host);
    lua_remove(L, -2);
}

/* --- x:item() -> number: x's only element as a Lua integer or float; it is an error if there are more. It
 * waits for the device. */
int cldL_item(lua_State *L) {
    cld_tensor *x = cldL_check_tensor(L, 1);
    if (cld_numel(&x->a) != 1)
        return luaL_error(L, "item: the tensor must have one element, got %s", cld_describe(&x->a));
    cldL_push_item(L, x);
    return 1;
}
