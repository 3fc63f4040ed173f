/* The tape in Lua: backward, no_grad, the precision, and Functions with a backward of their own.
 *
 * A Function's Lua backward runs inside the C engine, which a Lua error must not jump out of: it is called
 * protected, and its error is passed on as a status until t:backward() raises it. */
#include "bindings/tensor.h"

#include <string.h>

/* ---- grad mode ----------------------------------------------------------------------------------------- */

#define GRAD_MODE "cld.grad_mode" /* a guard: its scope ends when it is closed or collected */

/* The user value is the scope of temporaries to enter again at the end, if any. */
typedef struct grad_mode {
    cld_grad_scope scope;
    bool open;
} grad_mode;

static int grad_mode_close(lua_State *L) {
    grad_mode *g = luaL_checkudata(L, 1, GRAD_MODE);
    if (g->open) cld_grad_scope_end(&g->scope);
    g->open = false;
    if (lua_getiuservalue(L, 1, 1) == LUA_TTABLE) {
        cldL_enter_scope(L);
        lua_pushnil(L);
        lua_setiuservalue(L, 1, 1);
    }
    return 0;
}

static void push_grad_mode(lua_State *L, bool enabled) {
    grad_mode *g = lua_newuserdatauv(L, sizeof *g, 1);
    g->open = false;
    luaL_setmetatable(L, GRAD_MODE);
    cld_grad_scope_begin(&g->scope, enabled);
    g->open = true;
}

/* cld.no_grad() is a guard for `local _ <close> =` (without <close> it lasts until it is collected, which may be at any
 * time); cld.no_grad(f, ...) calls f(...) and returns its results. */
static int with_grad_mode(lua_State *L, bool enabled) {
    int arguments = lua_gettop(L);
    if (arguments > 0) luaL_checktype(L, 1, LUA_TFUNCTION);
    push_grad_mode(L, enabled);
    if (arguments == 0) return 1;
    lua_insert(L, 1);
    lua_toclose(L, 1);
    lua_call(L, arguments - 1, LUA_MULTRET);
    int results = lua_gettop(L) - 1;
    lua_closeslot(L, 1);
    return results;
}

/* --- cld.no_grad(f, ...) -> f's results, cld.no_grad() -> guard: calls f(...) with recording off;
 * `local _ <close> = cld.no_grad()` keeps it off until the end of the block.
 *
 *     local w = cld.ones(2):requires_grad_()
 *     print(cld.no_grad(function() return w * 2 end).requires_grad)  --> false */
static int no_grad(lua_State *L) { return with_grad_mode(L, false); }
/* --- cld.enable_grad(f, ...) -> f's results, cld.enable_grad() -> guard: turns recording on again inside
 * no_grad. */
static int enable_grad(lua_State *L) { return with_grad_mode(L, true); }

/* --- cld.is_grad_enabled() -> boolean: whether operations are recorded. */
static int is_grad_enabled(lua_State *L) {
    lua_pushboolean(L, cld_grad_enabled());
    return 1;
}

/* ---- precision ----------------------------------------------------------------------------------------- */

/* --- cld.precision() -> "fp32", "tf32", "bf16" or "fp16": the format that convolutions round their operands to. */
static int precision(lua_State *L) {
    cldL_check_count(L, 0);
    lua_pushstring(L, cld_precision_name(cld_get_precision()));
    return 1;
}

/* --- cld.set_precision(name) -> text: sets the format that convolutions and the layers between them round
 * to: "fp32", "tf32" (on CUDA), "bf16" or "fp16". Returns the previous one. Weights, losses and optimizers
 * stay in f32; fp16 needs the optimizer's loss scale, which :step(loss) applies. */
static int set_precision(lua_State *L) {
    cld_precision p;
    cldL_check_status(L, cld_precision_parse(luaL_checkstring(L, 1), &p));
    lua_pushstring(L, cld_precision_name(cld_get_precision()));
    cld_set_precision(p);
    return 1;
}

/* ---- backward ------------------------------------------------------------------------------------------ */

/* The coroutine in which a Function's backward runs: the one that called t:backward() or sgd:step(loss). */
static _Thread_local lua_State *backward_caller;

lua_State *cldL_begin_backward(lua_State *L) {
    lua_State *outer = backward_caller;
    backward_caller = L;
    return outer;
}

void cldL_end_backward(lua_State *outer) { backward_caller = outer; }

lua_State *cldL_backward_state(lua_State *main) { return backward_caller ? backward_caller : main; }

/* --- x:backward([gradient]), x:backward{gradient =, retain_graph = false}: follows the tape from x and adds
 * to the .grad of every leaf that requires a gradient. x must have one element unless its gradient is given.
 * The graph is freed afterwards unless retain_graph is true. There is no create_graph: gradients cannot be
 * differentiated again. */
int cldL_backward_method(lua_State *L) {
    static const char *const names[] = {"gradient", "retain_graph", "create_graph", NULL};
    cld_tensor *x = cldL_check_tensor(L, 1), *gradient = NULL;
    bool keep = false;
    if (lua_istable(L, 2)) {
        cldL_check_fields(L, 2, "backward", names);
        cldL_check_no_create_graph(L, 2, "backward");
        gradient = cldL_field_tensor(L, 2, "gradient");
        keep = cldL_field_boolean(L, 2, "retain_graph", false);
    } else {
        gradient = cldL_opt_tensor(L, 2);
    }
    lua_State *outer = cldL_begin_backward(L);
    cld_status status = cld_backward(x, gradient, keep);
    cldL_end_backward(outer);
    cldL_check_status(L, status);
    return 0;
}

/* ---- cld.Function -------------------------------------------------------------------------------------- */

#define FUNCTION_CONTEXT "cld.function_context"

/* A userdata with two user values: forward and backward. */
enum { FORWARD = 1, BACKWARD = 2 };
typedef struct lua_op {
    cld_op op; /* its name follows */
} lua_op;

/* In the node: a registry reference to {context, the lua_op's userdata}. */
typedef struct call_params {
    lua_State *main;
    int reference;
} call_params;

/* ctx:save(a, b, ...): keeps tensors for backward, where ctx.saved is {a, b, ...}. */
static int context_save(lua_State *L) {
    int count = lua_gettop(L) - 1;
    luaL_checktype(L, 1, LUA_TTABLE);
    luaL_argcheck(L, count <= CLD_NODE_SAVED, CLD_NODE_SAVED + 2, "at most 10 tensors can be saved");
    lua_createtable(L, count, 0);
    for (int i = 1; i <= count; i++) {
        cldL_check_tensor(L, i + 1);
        lua_pushvalue(L, i + 1);
        lua_rawseti(L, -2, i);
    }
    lua_setfield(L, 1, "saved");
    return 0;
}

typedef struct backward_call {
    cld_node *node;
    cld_tensor *const *dout;
    cld_tensor **din;
} backward_call;

/* Push the gradient of output i: zeros if none arrived. */
static void push_output_gradient(lua_State *L, const backward_call *c, int i) {
    const cld_array *meta = &c->node->output_meta[i];
    cld_tensor **out = cldL_new_tensor(L);
    *out = c->dout[i] ? cld_tensor_retain(c->dout[i])
                      : cld_tensor_full(meta->dtype, meta->ndim, meta->shape, c->node->device, 0.0);
    cldL_result(L, *out);
}

/* The protected part of a Function's backward; may raise. */
static int call_backward(lua_State *L) {
    const backward_call *c = lua_touserdata(L, 1);
    cld_node *n = c->node;
    lua_rawgeti(L, LUA_REGISTRYINDEX, cld_node_params(n, call_params)->reference);
    lua_rawgeti(L, 2, 1); /* 3: the context */
    lua_newtable(L);
    for (int i = 0; i < CLD_NODE_SAVED && cld_node_has(n, i); i++) {
        cld_tensor **saved = cldL_new_tensor(L);
        *saved = cld_node_saved(n, i);
        cldL_result(L, *saved);
        lua_rawseti(L, -2, i + 1);
    }
    lua_setfield(L, 3, "saved");
    lua_rawgeti(L, 2, 2);
    lua_getiuservalue(L, -1, BACKWARD);
    lua_pushvalue(L, 3);
    luaL_checkstack(L, n->outputs + n->inputs + LUA_MINSTACK, "gradients");
    for (int i = 0; i < n->outputs; i++) push_output_gradient(L, c, i);
    int base = lua_gettop(L) - n->outputs - 1; /* below the function: the results begin there */
    lua_call(L, n->outputs + 1, n->inputs);
    lua_pushnil(L);
    lua_setfield(L, 3, "saved");
    for (int i = 0; i < n->inputs; i++) {
        if (!cld_node_needs(n, i)) continue;
        cld_tensor *gradient = cldL_test_tensor(L, base + i);
        if (!gradient && !lua_isnil(L, base + i))
            return luaL_error(L, "backward: result %d is a %s; expected the gradient of argument %d", i + 1,
                              luaL_typename(L, base + i), i + 1);
        c->din[i] = cld_tensor_retain(gradient);
    }
    return 0;
}

static cld_status function_backward(cld_node *n, cld_tensor *const *dout, cld_tensor **din) {
    lua_State *L = cldL_backward_state(cld_node_params(n, call_params)->main);
    backward_call c = {n, dout, din};
    int top = lua_gettop(L);
    if (!lua_checkstack(L, 4)) return cld_fail(CLD_NOMEM, "Lua stack overflow");
    lua_pushcfunction(L, call_backward);
    lua_pushlightuserdata(L, &c);
    cld_status status = CLD_OK;
    if (lua_pcall(L, 1, 0, 0) != LUA_OK) {
        const char *message = lua_type(L, -1) == LUA_TSTRING ? lua_tostring(L, -1) : luaL_typename(L, -1);
        status = cld_fail(CLD_INVALID, "%s", message);
    }
    lua_settop(L, top);
    return status;
}

static void function_destroy(cld_node *n) {
    const call_params *p = cld_node_params(n, call_params);
    luaL_unref(p->main, LUA_REGISTRYINDEX, p->reference);
}

/* Record the call: the context is at 2, the arguments start at 3, the results (views of their own) at first. */
static void record_call(lua_State *L, int arguments, int first, int results) {
    int count = arguments > results ? arguments : results;
    cld_tensor **inputs = lua_newuserdatauv(L, 2 * (size_t)count * sizeof *inputs, 0),
               **outputs = inputs + count;
    for (int i = 0; i < arguments; i++) inputs[i] = cldL_test_tensor(L, 3 + i);
    for (int i = 0; i < results; i++) outputs[i] = cldL_check_tensor(L, first + i);
    if (!cld_needs_grad(inputs, arguments)) return;
    lua_createtable(L, 2, 0);
    lua_pushvalue(L, 2);
    lua_rawseti(L, -2, 1);
    lua_pushvalue(L, lua_upvalueindex(1));
    lua_rawseti(L, -2, 2);
    int reference = luaL_ref(L, LUA_REGISTRYINDEX);
    lua_op *op = lua_touserdata(L, lua_upvalueindex(1));
    cld_node *n = cld_record(&op->op, outputs, results, inputs, arguments);
    if (!n) { /* integer results, or out of memory: backward will report that */
        luaL_unref(L, LUA_REGISTRYINDEX, reference);
        return;
    }
    lua_rawgeti(L, LUA_REGISTRYINDEX, LUA_RIDX_MAINTHREAD);
    *cld_node_params(n, call_params) = (call_params){lua_tothread(L, -1), reference};
    lua_pop(L, 1);
    if (lua_getfield(L, 2, "saved") == LUA_TTABLE) {
        for (int i = 0; i < CLD_NODE_SAVED; i++) {
            lua_rawgeti(L, -1, i + 1);
            cld_node_save(n, i, cldL_test_tensor(L, -1));
            lua_pop(L, 1);
        }
    }
    lua_pop(L, 1);
}

/* f(...): upvalue 1 is the lua_op's userdata. */
static int function_call(lua_State *L) {
    int arguments = lua_gettop(L);
    const lua_op *op = lua_touserdata(L, lua_upvalueindex(1));
    luaL_checkstack(L, 2 * arguments + LUA_MINSTACK, "arguments");
    for (int i = 1; i <= arguments; i++) /* the context may keep any of them, and what forward makes */
        if (cldL_test_tensor(L, i)) cldL_forget_tensor(L, i);
    push_grad_mode(L, false);
    lua_insert(L, 1);
    lua_toclose(L, 1);
    cldL_leave_scope(L);
    lua_setiuservalue(L, 1, 1);
    lua_newtable(L);
    luaL_setmetatable(L, FUNCTION_CONTEXT);
    lua_insert(L, 2);
    lua_getiuservalue(L, lua_upvalueindex(1), FORWARD);
    for (int i = 2; i < arguments + 3; i++) lua_pushvalue(L, i);
    lua_call(L, arguments + 1, LUA_MULTRET);
    int first = arguments + 3, results = lua_gettop(L) - first + 1;
    if (results == 0)
        return luaL_error(L, "%s: forward returned nothing; expected one or more tensors", op->op.name);
    for (int i = 0; i < results; i++) { /* views of their own: forward may have returned an argument */
        cld_tensor *result = cldL_test_tensor(L, first + i), **view;
        if (!result)
            return luaL_error(L, "%s: result %d of forward is a %s; expected a tensor", op->op.name, i + 1,
                              luaL_typename(L, first + i));
        view = cldL_new_tensor(L);
        *view = cld_tensor_detach(result);
        cldL_result(L, *view);
        lua_replace(L, first + i);
    }
    lua_closeslot(L, 1);
    for (int i = 0; i < results; i++) {
        lua_pushvalue(L, first + i);
        cldL_note_tensor(L);
        lua_pop(L, 1);
    }
    record_call(L, arguments, first, results);
    lua_settop(L, first + results - 1);
    return results;
}

/* --- cld.Function{name =, forward =, backward =} -> function: a function of tensors with its own gradient.
 * forward(ctx, ...) returns its results; backward(ctx, gradient of each result...) returns the gradient of
 * each argument, nil for those without one. Both run with recording off. Keep tensors for backward with
 * ctx:save: a result kept as a field of ctx would keep the whole graph alive.
 *
 *     local double = cld.Function {
 *       forward = function(ctx, x) return x * 2 end,
 *       backward = function(ctx, gradient) return gradient * 2 end,
 *     }
 *     local x = cld.ones(3):requires_grad_()
 *     double(x):sum():backward()
 *     print(x.grad[1]:item())                   --> 2.0 */
static int function_new(lua_State *L) {
    static const char *const names[] = {"name", "forward", "backward", NULL};
    luaL_checktype(L, 1, LUA_TTABLE);
    cldL_check_fields(L, 1, "Function", names);
    const char *name = cldL_field_string(L, 1, "name", "Function");
    size_t length = strlen(name) + 1;
    lua_op *op = lua_newuserdatauv(L, sizeof *op + length, 2);
    op->op = (cld_op){
        .name = memcpy(op + 1, name, length), .backward = function_backward, .destroy = function_destroy};
    for (int i = FORWARD; i <= BACKWARD; i++) {
        if (lua_getfield(L, 1, names[i]) != LUA_TFUNCTION)
            return luaL_error(L, "Function: field '%s' must be a function", names[i]);
        lua_setiuservalue(L, -2, i);
    }
    lua_pushcclosure(L, function_call, 1);
    return 1;
}

/* ---- opener -------------------------------------------------------------------------------------------- */

int cldL_open_autograd(lua_State *L) {
    static const luaL_Reg functions[] = {
        {"no_grad", no_grad},
        {"enable_grad", enable_grad},
        {"is_grad_enabled", is_grad_enabled},
        {"precision", precision},
        {"set_precision", set_precision},
        {"Function", function_new},
        {"grad", cldL_grad},
        {NULL, NULL},
    };
    static const luaL_Reg context_methods[] = {{"save", context_save}, {NULL, NULL}};
    luaL_newmetatable(L, GRAD_MODE);
    lua_pushcfunction(L, grad_mode_close);
    lua_setfield(L, -2, "__close");
    lua_pushcfunction(L, grad_mode_close);
    lua_setfield(L, -2, "__gc");
    luaL_newmetatable(L, FUNCTION_CONTEXT);
    luaL_newlib(L, context_methods);
    lua_setfield(L, -2, "__index");
    luaL_newlib(L, functions);
    return 1;
}
