/* cld.autograd.grad, and hooks: functions that backward calls with a gradient. */
#include <stdlib.h>

#include "bindings/tensor.h"

/* ---- grad ---------------------------------------------------------------------------------------------- */

void cldL_check_no_create_graph(lua_State *L, int arg, const char *function) {
    if (cldL_field_boolean(L, arg, "create_graph", false))
        luaL_error(L,
                   "%s: create_graph: gradients of gradients are not supported, since backward itself is not "
                   "recorded on the tape",
                   function);
}

/* The list of tensors at arg, or a single tensor. What must not be collected is on the stack. */
static cld_tensor **check_tensors(lua_State *L, int arg, int *count) {
    if (cldL_test_tensor(L, arg)) {
        lua_createtable(L, 1, 0);
        lua_pushvalue(L, arg);
        lua_rawseti(L, -2, 1);
        lua_replace(L, arg);
    }
    return cldL_check_list(L, arg, count);
}

/* The gradients in the field grad_outputs: one tensor, or a list with nil or false for the default. */
static cld_tensor **check_grad_outputs(lua_State *L, int arg, int count) {
    cld_tensor **list = lua_newuserdatauv(L, sizeof *list * (size_t)count, 0);
    for (int i = 0; i < count; i++) list[i] = NULL;
    if (lua_isnoneornil(L, arg) || lua_getfield(L, arg, "grad_outputs") == LUA_TNIL) return list;
    int field = lua_gettop(L);
    bool single = cldL_test_tensor(L, field) != NULL;
    if (!single && !lua_istable(L, field))
        luaL_error(L, "grad: field 'grad_outputs': expected a tensor or a list of them, got %s",
                   luaL_typename(L, field));
    if (single ? count != 1 : luaL_len(L, field) > count)
        luaL_error(L, "grad: grad_outputs must have one tensor for each of the %d output%s", count,
                   count == 1 ? "" : "s");
    luaL_checkstack(L, count + LUA_MINSTACK, "gradients");
    for (int i = 0; i < count; i++) {
        if (single)
            lua_pushvalue(L, field);
        else
            lua_geti(L, field, i + 1);
        list[i] = cldL_test_tensor(L, -1);
        if (!list[i] && lua_toboolean(L, -1))
            luaL_error(L, "grad: entry %d of grad_outputs is a %s, not an open tensor", i + 1,
                       luaL_typename(L, -1));
    }
    return list;
}

static int unused_input(lua_State *L, int number, const cld_tensor *x) {
    return luaL_error(L,
                      "grad: the outputs do not depend on input %d, %s; with allow_unused its entry is false",
                      number, cld_describe(&x->a));
}

/* --- cld.autograd.grad(outputs, inputs[, {grad_outputs, retain_graph = false, allow_unused = false}]) ->
 * {gradient, ...}: as torch.autograd.grad: the gradients of the sum of the outputs, each times its entry in
 * grad_outputs, with respect to each input, which is a leaf or a tensor on the tape. No .grad changes. outputs
 * and inputs are a tensor or a list of tensors. An input that the outputs do not depend on is an error; with
 * allow_unused its entry is false.
 *
 *     local x = cld.tensor({ 3 }):requires_grad_()
 *     print(cld.autograd.grad(x:square():sum(), x)[1]:item())  --> 6.0 */
int cldL_grad(lua_State *L) {
    static const char *const names[] = {"grad_outputs", "retain_graph", "allow_unused", "create_graph", NULL};
    int roots_count, count;
    cldL_check_count(L, 3);
    lua_settop(L, 3);
    cldL_check_fields(L, 3, "grad", names);
    cldL_check_no_create_graph(L, 3, "grad");
    bool keep = cldL_field_boolean(L, 3, "retain_graph", false);
    bool unused = cldL_field_boolean(L, 3, "allow_unused", false);
    cld_tensor **roots = check_tensors(L, 1, &roots_count), **inputs = check_tensors(L, 2, &count);
    cld_tensor **gradients = check_grad_outputs(L, 3, roots_count);
    cld_tensor **out = lua_newuserdatauv(L, sizeof *out * (size_t)count, 0);
    luaL_checkstack(L, LUA_MINSTACK, "gradients");
    lua_createtable(L, count, 0);
    int results = lua_gettop(L);
    for (int i = 0; i < count; i++) { /* boxes first, so that an error leaks nothing */
        out[i] = NULL;
        cldL_new_tensor(L);
        lua_rawseti(L, results, i + 1);
    }
    lua_State *outer = cldL_begin_backward(L);
    cld_status status = cld_gradients(out, inputs, count, roots, gradients, roots_count, keep);
    cldL_end_backward(outer);
    int missing = 0;
    for (int i = 0; i < count; i++) {
        lua_rawgeti(L, results, i + 1);
        *(cld_tensor **)lua_touserdata(L, -1) = out[i];
        lua_pop(L, 1);
        if (out[i]) continue;
        if (missing == 0) missing = i + 1;
        lua_pushboolean(L, false);
        lua_rawseti(L, results, i + 1);
    }
    cldL_check_status(L, status);
    if (missing > 0 && !unused) return unused_input(L, missing, inputs[missing - 1]);
    return 1;
}

/* ---- hooks --------------------------------------------------------------------------------------------- */

#define HOOK "cld.hook"

/* What the runtime holds of a hook: the Lua function's reference in the registry. */
typedef struct hook_context {
    lua_State *main;
    int function;
} hook_context;

typedef struct hook_call {
    const hook_context *context;
    cld_tensor *gradient, *replacement;
} hook_call;

/* Protected; may raise. */
static int call_function(lua_State *L) {
    hook_call *c = lua_touserdata(L, 1);
    lua_rawgeti(L, LUA_REGISTRYINDEX, c->context->function);
    cld_tensor **gradient = cldL_new_tensor(L);
    *gradient = cld_tensor_retain(c->gradient);
    lua_call(L, 1, 1);
    cld_tensor *result = cldL_test_tensor(L, -1);
    if (!result && !lua_isnil(L, -1))
        return luaL_error(L, "hook: it returned a %s; expected a replacement for the gradient, or nil",
                          luaL_typename(L, -1));
    if (result && result->node)
        return luaL_error(L, "hook: the replacement for the gradient is on the tape; use detach()");
    c->replacement = cld_tensor_retain(result ? result : c->gradient);
    return 0;
}

static cld_tensor *hook_fn(void *context, cld_tensor *gradient) {
    hook_call c = {.context = context, .gradient = gradient};
    lua_State *L = cldL_backward_state(c.context->main);
    int top = lua_gettop(L);
    if (!lua_checkstack(L, 4)) return cld_fail_null(CLD_NOMEM, "Lua stack overflow");
    lua_pushcfunction(L, call_function);
    lua_pushlightuserdata(L, &c);
    if (lua_pcall(L, 1, 0, 0) != LUA_OK)
        cld_fail(CLD_INVALID, "%s",
                 lua_type(L, -1) == LUA_TSTRING ? lua_tostring(L, -1) : luaL_typename(L, -1));
    lua_settop(L, top);
    return c.replacement;
}

static void hook_destroy(void *context) {
    hook_context *c = context;
    luaL_unref(c->main, LUA_REGISTRYINDEX, c->function);
    free(c);
}

/* --- x:register_hook(f) -> handle: f(gradient) is called in each backward (and cld.autograd.grad) when x's
 * gradient is complete; for a leaf, before it is added to .grad. handle:remove() ends that. f returns nil, or
 * a replacement for the gradient; it must not change the gradient in place. In an accumulated step f is
 * called for each :add(loss), with that part's gradient; in precision fp16 the gradient is multiplied by the
 * loss scale. In a captured step f runs only at the capture, and the device repeats what f did with tensors.
 * net:to(device) makes new leaves: register after it. The hook of a result is freed with its graph, the hook
 * of a leaf with the leaf; but if f itself holds the leaf, the hook keeps it alive until :remove().
 *
 *     local x = cld.ones(2):requires_grad_()
 *     x:register_hook(function(gradient) return gradient * 10 end)
 *     x:sum():backward()
 *     print(x.grad[1]:item())                   --> 10.0 */
int cldL_register_hook(lua_State *L) {
    cldL_check_count(L, 2);
    cld_tensor *t = cldL_check_tensor(L, 1);
    luaL_checktype(L, 2, LUA_TFUNCTION);
    cld_hook **box = lua_newuserdatauv(L, sizeof *box, 0);
    *box = NULL;
    luaL_setmetatable(L, HOOK);
    hook_context *context = malloc(sizeof *context);
    if (!context) return luaL_error(L, "register_hook: out of memory");
    lua_rawgeti(L, LUA_REGISTRYINDEX, LUA_RIDX_MAINTHREAD);
    context->main = lua_tothread(L, -1);
    lua_pop(L, 1);
    lua_pushvalue(L, 2);
    context->function = luaL_ref(L, LUA_REGISTRYINDEX);
    *box = cld_add_hook(t, hook_fn, hook_destroy, context);
    return cldL_result(L, *box);
}

static int hook_remove(lua_State *L) {
    cld_hook **box = luaL_checkudata(L, 1, HOOK);
    if (*box) cld_hook_remove(*box);
    return 0;
}

static int hook_gc(lua_State *L) {
    cld_hook **box = luaL_checkudata(L, 1, HOOK);
    cld_hook_free(*box);
    *box = NULL;
    return 0;
}

void cldL_open_hooks(lua_State *L) {
    static const luaL_Reg methods[] = {{"remove", hook_remove}, {NULL, NULL}};
    luaL_newmetatable(L, HOOK);
    lua_pushcfunction(L, hook_gc);
    lua_setfield(L, -2, "__gc");
    luaL_newlib(L, methods);
    lua_setfield(L, -2, "__index");
    lua_pop(L, 1);
}
