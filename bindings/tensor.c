/* The tensor type as Lua sees it: lifetime, facts and properties. What tensors can do is in tensor_*.c, listed in
 * tensor.h.
 *
 * A userdata is one pointer to a cld_tensor, NULL once closed. Two userdata may stand for one tensor (x.grad
 * makes a new one each time), so == compares what they point to. */
#include "bindings/tensor.h"

#include <pthread.h>
#include <string.h>

#include "runtime/tensor/device.h"
#include "runtime/tensor/print.h"

/* ---- lifetime ------------------------------------------------------------------------------------------ */

static int tensor_gc(lua_State *L) {
    cldL_close(luaL_checkudata(L, 1, CLDL_TENSOR));
    return 0;
}

static bool reclaiming; /* the runtime is inside an op, and waits for a collection */

/* Whether a C function that has not returned holds this userdata. A finalizer or a metamethod may run inside one,
 * whose arguments must stay as they are. The nearest frames are enough, and looking up the n-th takes n steps. */
static bool is_in_use(lua_State *L, const void *box) {
    lua_Debug frame;
    for (int level = 1; level < 64 && lua_getstack(L, level, &frame); level++) {
        lua_getinfo(L, "l", &frame);
        for (int i = 1; frame.currentline < 0 && lua_getlocal(L, &frame, i); i++) {
            bool same = lua_touserdata(L, -1) == box;
            lua_pop(L, 1);
            if (same) return true;
        }
    }
    return reclaiming;
}

/* --- x:close(): frees the memory now, without waiting for the garbage collector; x cannot be used any more.
 * `local x <close> = ...` does so at the end of the block. A tensor that is still in use is left to the
 * collector. */
static int tensor_close(lua_State *L) {
    cld_tensor **box = luaL_checkudata(L, 1, CLDL_TENSOR);
    if (!is_in_use(L, box)) cldL_close(box);
    return 0;
}

static int tensor_eq(lua_State *L) {
    cld_tensor **a = luaL_testudata(L, 1, CLDL_TENSOR), **b = luaL_testudata(L, 2, CLDL_TENSOR);
    lua_pushboolean(L, a && b && *a == *b);
    return 1;
}

/* ---- facts --------------------------------------------------------------------------------------------- */

static int push_integers(lua_State *L, const int64_t *values, int count) {
    lua_createtable(L, count, 0);
    for (int i = 0; i < count; i++) {
        lua_pushinteger(L, values[i]);
        lua_rawseti(L, -2, i + 1);
    }
    return 1;
}

/* --- x:size([dim]) -> table or integer: all extents, or the extent of one dimension, counted from 1. x.shape
 * has all extents too. */
static int tensor_size(lua_State *L) {
    cldL_check_count(L, 2);
    cld_tensor *x = cldL_check_tensor(L, 1);
    if (lua_isnoneornil(L, 2)) return push_integers(L, x->a.shape, x->a.ndim);
    lua_pushinteger(L, x->a.shape[cldL_check_dim(L, 2, x)]);
    return 1;
}

/* --- x:stride([dim]) -> table or integer: how many elements apart the neighbours along a dimension are in
 * memory. */
static int tensor_stride(lua_State *L) {
    cldL_check_count(L, 2);
    cld_tensor *x = cldL_check_tensor(L, 1);
    luaL_argcheck(L, x->a.layout == CLD_STRIDED, 1,
                  "it is in the device's own layout, without strides; use contiguous()");
    if (lua_isnoneornil(L, 2)) return push_integers(L, x->a.strides, x->a.ndim);
    lua_pushinteger(L, x->a.strides[cldL_check_dim(L, 2, x)]);
    return 1;
}

static int tensor_len(lua_State *L) {
    cld_tensor *x = cldL_check_tensor(L, 1);
    if (x->a.ndim == 0) return luaL_error(L, "#: a tensor without dimensions has no length");
    lua_pushinteger(L, x->a.shape[0]);
    return 1;
}

/* --- x:numel() -> integer: how many elements there are. */
static int tensor_numel(lua_State *L) {
    lua_pushinteger(L, cld_numel(&cldL_check_tensor(L, 1)->a));
    return 1;
}

/* --- x:dim() -> integer: how many dimensions there are, as x.ndim. */
static int tensor_dim(lua_State *L) {
    lua_pushinteger(L, cldL_check_tensor(L, 1)->a.ndim);
    return 1;
}

/* --- x:is_contiguous() -> boolean: whether the elements lie in memory row by row. */
static int tensor_is_contiguous(lua_State *L) {
    lua_pushboolean(L, cld_is_contiguous(&cldL_check_tensor(L, 1)->a));
    return 1;
}

static int tensor_tostring(lua_State *L) {
    cld_tensor **box = luaL_checkudata(L, 1, CLDL_TENSOR);
    char text[CLD_PRINT_ROOM];
    if (!*box) {
        lua_pushliteral(L, "tensor (closed)");
        return 1;
    }
    cldL_check_status(L, cld_tensor_print(*box, text, sizeof text));
    lua_pushstring(L, text);
    return 1;
}

/* ---- the tape: what is a property or a method of one tensor -------------------------------------------- */

static void set_requires_grad(lua_State *L, const char *name, cld_tensor *x, bool wanted) {
    if (wanted && !cld_dtype_is_float(x->a.dtype))
        luaL_error(L, "%s: only floating-point tensors have gradients, this is %s", name,
                   cld_describe(&x->a));
    if (x->node && !wanted)
        luaL_error(L, "%s: this tensor is a result of %s; use detach() to take it off the tape", name,
                   x->node->op->name);
    if (!x->node) x->requires_grad = wanted;
}

/* --- x:requires_grad_([wanted = true]) -> x: sets whether backward leaves a gradient in x.grad. Floats only.
 * It cannot be turned off for the result of an op: use detach.
 *
 *     local x = cld.tensor({ 2, 3 }):requires_grad_()
 *     x:square():sum():backward()
 *     print(x.grad[2]:item())                   --> 6.0 */
static int tensor_requires_grad(lua_State *L) {
    cldL_check_count(L, 2);
    cld_tensor *x = cldL_check_tensor(L, 1);
    set_requires_grad(L, "requires_grad_", x, lua_isnoneornil(L, 2) || lua_toboolean(L, 2));
    lua_settop(L, 1);
    return 1;
}

static void set_grad(lua_State *L, cld_tensor *x, int arg) {
    cld_tensor *grad = cldL_opt_tensor(L, arg);
    if (grad && (!cld_same_shape(&grad->a, &x->a) || grad->a.dtype != x->a.dtype))
        luaL_error(L, "grad: %s cannot be the gradient of %s", cld_describe(&grad->a), cld_describe(&x->a));
    if (grad && cld_device(grad) != cld_device(x))
        luaL_error(L, "grad: the tensor is on %s, its gradient on %s", cld_device(x)->name,
                   cld_device(grad)->name);
    if (grad && (grad == x || grad->node || grad->requires_grad))
        luaL_error(L, "grad: the gradient must be a tensor off the tape; use detach()");
    cld_tensor_retain(grad);
    cld_set_gradient(x, grad);
}

/* --- x:detach() -> tensor: the same memory, off the tape: no gradient flows through it. */
static int tensor_detach(lua_State *L) {
    cldL_check_count(L, 1);
    cld_tensor *x = cldL_check_tensor(L, 1), **out = cldL_new_tensor(L);
    cldL_check_status(L, cld_tensor_unblock(x)); /* the two share memory, also through views of either */
    *out = cld_tensor_detach(x);
    return cldL_result(L, *out);
}

static const luaL_Reg own_methods[] = {
    {"size", tensor_size},
    {"stride", tensor_stride},
    {"numel", tensor_numel},
    {"dim", tensor_dim},
    {"is_contiguous", tensor_is_contiguous},
    {"item", cldL_item},
    {"totable", cldL_totable},
    {"rows", cldL_rows},
    {"close", tensor_close},
    {"detach", tensor_detach},
    {"requires_grad_", tensor_requires_grad},
    {"backward", cldL_backward_method},
    {"register_hook", cldL_register_hook},
    {NULL, NULL},
};

/* ---- properties ---------------------------------------------------------------------------------------- */

/* --- x.shape -> table: the extent of each dimension; #x is the first. */
static int property_shape(lua_State *L) {
    cld_tensor *x = cldL_check_tensor(L, 1);
    return push_integers(L, x->a.shape, x->a.ndim);
}

/* --- x.dtype -> string: "f32", "f64", "bf16", "f16", "i64", "i32" or "u8". */
static int property_dtype(lua_State *L) {
    lua_pushstring(L, cld_dtype_name(cldL_check_tensor(L, 1)->a.dtype));
    return 1;
}

/* --- x.device -> string: "cpu", "cuda:0", ... */
static int property_device(lua_State *L) {
    lua_pushstring(L, cld_device(cldL_check_tensor(L, 1))->name);
    return 1;
}

/* --- x.ndim -> integer: how many dimensions there are. */
static int property_ndim(lua_State *L) {
    lua_pushinteger(L, cldL_check_tensor(L, 1)->a.ndim);
    return 1;
}

/* --- x.requires_grad -> boolean: whether a gradient flows to x; a leaf's can be assigned. */
static int property_requires_grad(lua_State *L) {
    cld_tensor *x = cldL_check_tensor(L, 1);
    lua_pushboolean(L, x->node || x->requires_grad);
    return 1;
}

/* --- x.is_leaf -> boolean: whether no op on the tape made it, so that backward leaves its gradient in
 * x.grad. */
static int property_is_leaf(lua_State *L) {
    lua_pushboolean(L, !cldL_check_tensor(L, 1)->node);
    return 1;
}

/* --- x.grad_fn -> string or nil: the op that made it, if it is on the tape. */
static int property_grad_fn(lua_State *L) {
    cld_tensor *x = cldL_check_tensor(L, 1);
    lua_pushstring(L, x->node ? x->node->op->name : NULL);
    return 1;
}

/* --- x.grad -> tensor or nil: the gradient that backward has summed up; assign nil to clear it, or a tensor
 * off the tape, of x's shape, dtype and device. */
static int property_grad(lua_State *L) {
    cld_tensor *x = cldL_check_tensor(L, 1);
    if (!x->grad) {
        lua_pushnil(L);
        return 1;
    }
    cld_tensor **out = cldL_new_tensor(L);
    if (cld_dense_gradients(&x, 1) == CLD_OK) *out = cld_tensor_retain(x->grad);
    return cldL_result(L, *out);
}

/* --- x.T -> tensor: the transpose of a matrix, a view. */
static int property_transposed(lua_State *L) {
    cld_tensor *x = cldL_check_tensor(L, 1), **out = cldL_new_tensor(L);
    if (x->a.ndim != 2) return luaL_error(L, "T: expected two dimensions, got %s", cld_describe(&x->a));
    *out = cld_transpose(x, 0, 1);
    return cldL_result(L, *out);
}

static const luaL_Reg properties[] = {
    {"shape", property_shape},     {"dtype", property_dtype},
    {"device", property_device},   {"ndim", property_ndim},
    {"grad", property_grad},       {"requires_grad", property_requires_grad},
    {"grad_fn", property_grad_fn}, {"is_leaf", property_is_leaf},
    {"T", property_transposed},    {NULL, NULL},
};

/* Upvalues: the methods, the properties. */
static int tensor_index(lua_State *L) {
    if (lua_type(L, 2) != LUA_TSTRING) return cldL_index(L, cldL_check_tensor(L, 1));
    lua_pushvalue(L, 2);
    if (lua_rawget(L, lua_upvalueindex(1)) != LUA_TNIL) return 1;
    lua_pushvalue(L, 2);
    if (lua_rawget(L, lua_upvalueindex(2)) == LUA_TNIL) return cldL_no_such_field(L, "a tensor", false);
    return lua_tocfunction(L, -1)(L);
}

static int tensor_newindex(lua_State *L) {
    cld_tensor *x = cldL_check_tensor(L, 1);
    if (lua_type(L, 2) != LUA_TSTRING) return cldL_set_index(L, x);
    const char *key = lua_tostring(L, 2);
    if (strcmp(key, "grad") == 0) {
        set_grad(L, x, 3);
    } else if (strcmp(key, "requires_grad") == 0) {
        set_requires_grad(L, "requires_grad", x, lua_toboolean(L, 3));
    } else {
        return luaL_error(L, "a tensor's field '%s' cannot be set; 'grad' and 'requires_grad' can", key);
    }
    return 0;
}

/* ---- the type ------------------------------------------------------------------------------------------ */

static const luaL_Reg metamethods[] = {
    {"__gc", tensor_gc},   {"__close", tensor_close},       {"__eq", tensor_eq},
    {"__len", tensor_len}, {"__tostring", tensor_tostring}, {NULL, NULL},
};

/* If an allocation fails, this frees what dead userdata hold, and it is tried again. Only the interpreter's own
 * thread may do that. */
static pthread_t interpreter;

static void collect_garbage(void *context) {
    if (!pthread_equal(pthread_self(), interpreter)) return;
    bool was_reclaiming = reclaiming;
    reclaiming = true;
    lua_gc(context, LUA_GCCOLLECT);
    reclaiming = was_reclaiming;
}

static int forget_interpreter(lua_State *L) {
    (void)L;
    cld_set_reclaim(NULL, NULL);
    return 0;
}

static void reclaim_by_collecting(lua_State *L) {
    lua_rawgeti(L, LUA_REGISTRYINDEX, LUA_RIDX_MAINTHREAD);
    interpreter = pthread_self();
    cld_set_reclaim(collect_garbage, lua_tothread(L, -1));
    lua_pop(L, 1);
    lua_newuserdatauv(L, 0, 0); /* collected with the state */
    lua_newtable(L);
    lua_pushcfunction(L, forget_interpreter);
    lua_setfield(L, -2, "__gc");
    lua_setmetatable(L, -2);
    luaL_ref(L, LUA_REGISTRYINDEX);
}

/* --- cld.tensors_alive() -> integer: how many tensors there are now, including those that wait for the
 * garbage collector. */
static int tensors_alive(lua_State *L) {
    lua_pushinteger(L, cld_tensors_alive());
    return 1;
}

/* --- cld.is_tensor(value) -> boolean: whether value is a tensor, open or closed. */
static int is_tensor(lua_State *L) {
    lua_pushboolean(L, luaL_testudata(L, 1, CLDL_TENSOR) != NULL);
    return 1;
}

static const luaL_Reg own_functions[] = {
    {"tensor", cldL_tensor_from_table},
    {"is_tensor", is_tensor},
    {"tensors_alive", tensors_alive},
    {NULL, NULL},
};

int cldL_open_tensor(lua_State *L) {
    static const luaL_Reg *const as_functions[] = {
        own_functions,         cldL_creation_functions,
        cldL_random_functions, cldL_view_ops,
        cldL_math_ops,         cldL_math_functions,
        cldL_reduce_ops,       cldL_select_ops,
        cldL_select_functions, NULL,
    };
    static const luaL_Reg *const as_methods[] = {
        own_methods,     cldL_random_methods, cldL_view_ops,         cldL_math_ops,     cldL_reduce_ops,
        cldL_select_ops, cldL_select_methods, cldL_in_place_methods, cldL_cast_methods, NULL,
    };
    reclaim_by_collecting(L);
    cldL_open_hooks(L);
    luaL_newmetatable(L, CLDL_TENSOR);
    luaL_setfuncs(L, metamethods, 0);
    luaL_setfuncs(L, cldL_math_metamethods, 0);
    lua_newtable(L);
    for (const luaL_Reg *const *list = as_methods; *list; list++) cldL_set_named(L, *list);
    lua_pushvalue(L, -1);
    lua_setfield(L, -3, "methods"); /* getmetatable(t).methods, .properties: for the completion of names */
    lua_newtable(L);
    luaL_setfuncs(L, properties, 0);
    lua_pushvalue(L, -1);
    lua_setfield(L, -4, "properties");
    lua_pushcclosure(L, tensor_index, 2);
    lua_setfield(L, -2, "__index");
    lua_pushcfunction(L, tensor_newindex);
    lua_setfield(L, -2, "__newindex");
    lua_pop(L, 1);

    lua_newtable(L);
    for (const luaL_Reg *const *list = as_functions; *list; list++) cldL_set_named(L, *list);
    return 1;
}
