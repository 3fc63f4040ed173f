/* cld.optim in C: the optimizer object, and functions of lists of tensors. */
#include "bindings/optim.h"

#include <math.h>
#include <string.h>

#include "runtime/optim/clip.h"
#include "runtime/optim/ema.h"

/* Each becomes a function of cld.optim under its name. */
static const cld_optim_rule *const rules[] = {&cld_sgd, &cld_lars, &cld_adamw, &cld_adam};

/* The tensors of the list at arg, borrowed: they stay on the stack, and so does their array, a userdata. */
static cld_tensor **check_tensors(lua_State *L, int arg, const char *function, int *count) {
    if (!lua_istable(L, arg))
        luaL_error(L, "%s: expected a list of tensors or a module, got %s", function, luaL_typename(L, arg));
    lua_Integer length = luaL_len(L, arg);
    if (length < 0 || length > INT32_MAX || !lua_checkstack(L, (int)length + LUA_MINSTACK))
        luaL_error(L, "%s: a list of %I tensors is too long", function, (LUAI_UACINT)length);
    *count = (int)length;
    cld_tensor **list = lua_newuserdatauv(L, sizeof *list * ((size_t)*count + 1), 0);
    for (int i = 0; i < *count; i++) {
        lua_geti(L, arg, i + 1);
        list[i] = cldL_test_tensor(L, -1);
        if (!list[i])
            luaL_error(L, "%s: entry %d of the list is a %s, not a tensor", function, i + 1,
                       luaL_typename(L, -1));
    }
    return list;
}

/* ema(targets, sources, decay[, condition]) */
static int ema(lua_State *L) {
    int count, sources_count;
    cld_decay decay = {.tensor = cldL_test_tensor(L, 3)};
    if (!decay.tensor && !lua_isnumber(L, 3))
        return luaL_error(L, "ema: decay is a %s; expected a number from 0 to 1, or a tensor of one element",
                          luaL_typename(L, 3));
    if (!decay.tensor) decay.value = lua_tonumber(L, 3);
    cld_tensor *condition = cldL_opt_tensor(L, 4);
    cld_tensor **targets = check_tensors(L, 1, "ema", &count);
    cld_tensor **sources = check_tensors(L, 2, "ema", &sources_count);
    if (count != sources_count)
        return luaL_error(L, "ema: %d tensors in the target, but %d in the source", count, sources_count);
    cldL_check_status(L, cld_ema(targets, sources, count, decay, condition));
    return 0;
}

/* clip_grad_norm(params, max_norm) -> the norm before */
static int clip_grad_norm(lua_State *L) {
    int count;
    double max_norm = luaL_checknumber(L, 2);
    cld_tensor **params = check_tensors(L, 1, "clip_grad_norm", &count);
    cld_tensor **out = cldL_new_tensor(L);
    *out = cld_clip_grad_norm(params, count, max_norm);
    return cldL_result(L, *out);
}

/* ---- the object ------------------------------------------------------------------------------------------ */

cld_optimizer *cldL_check_optimizer(lua_State *L) {
    return *(cld_optimizer **)luaL_checkudata(L, 1, CLDL_OPTIMIZER);
}

const char *cldL_method_name(lua_State *L, const cld_optimizer *s, const char *method) {
    return lua_pushfstring(L, "%s:%s", s->rule->name, method);
}

/* rule({tensors}, {settings}, groups): each group is {the number of its tensors; its own settings}. Its tensors
 * follow those of the group before. The upvalue is the rule. */
static int optimizer_new(lua_State *L) {
    const cld_optim_rule *rule = lua_touserdata(L, lua_upvalueindex(1));
    int count, left;
    lua_settop(L, 3);
    cld_rule_settings base = cldL_check_settings(L, 2, rule, rule->defaults);
    cld_tensor **params = check_tensors(L, 1, rule->name, &count);
    luaL_checktype(L, 3, LUA_TTABLE);
    int group_count = (int)luaL_len(L, 3);
    cld_optim_group *groups = lua_newuserdatauv(L, sizeof *groups * ((size_t)group_count + 1), 0);
    left = count;
    for (int i = 0; i < group_count; i++) {
        lua_geti(L, 3, i + 1);
        groups[i].settings = cldL_check_settings(L, lua_gettop(L), rule, base);
        lua_geti(L, -1, 1);
        groups[i].count = (int)lua_tointeger(L, -1);
        left -= groups[i].count;
        lua_pop(L, 2);
    }
    luaL_argcheck(L, left == 0, 3, "the groups do not add up to the tensors");
    cld_optimizer **box = lua_newuserdatauv(L, sizeof *box, 0);
    *box = NULL;
    luaL_setmetatable(L, CLDL_OPTIMIZER);
    *box = cld_optimizer_new(rule, params, groups, group_count, base.lr);
    return cldL_result(L, *box);
}

static int optimizer_gc(lua_State *L) {
    cld_optimizer **box = luaL_checkudata(L, 1, CLDL_OPTIMIZER);
    cld_optimizer_free(*box);
    *box = NULL;
    return 0;
}

/* ---- steps ----------------------------------------------------------------------------------------------- */

/* The tensor in the field lr, which the table keeps alive; NULL if it is a number or absent. */
static cld_tensor *lr_tensor(lua_State *L, int arg) {
    if (!lua_istable(L, arg)) return NULL;
    lua_getfield(L, arg, "lr");
    cld_tensor *lr = cldL_test_tensor(L, -1);
    lua_pop(L, 1);
    return lr;
}

/* The options of a step, {lr, clip, grad_norm}; lr is a number, or a tensor of one element. */
static cld_step_params check_step_params(lua_State *L, int arg, const cld_optimizer *s, const char *name) {
    static const char *const names[] = {"lr", "clip", "grad_norm", NULL};
    cldL_check_fields(L, arg, name, names);
    cld_step_params p = {.lr = NAN, .lr_tensor = lr_tensor(L, arg)};
    if (!p.lr_tensor) p.lr = cldL_check_lr(L, arg, s->rule);
    p.clip = cldL_field_number(L, arg, "clip", 0);
    p.grad_norm = cldL_field_boolean(L, arg, "grad_norm", false);
    if (p.clip == 0 && lua_istable(L, arg) && lua_getfield(L, arg, "clip") != LUA_TNIL)
        luaL_error(L, "%s: clip is 0; expected a norm above 0", name);
    return p;
}

/* --- optimizer:step([{lr =, clip =, grad_norm =}]) -> made, optimizer:step(loss[, {lr =, clip =, grad_norm
 * =}]) -> made: applies the current gradients; parameters without a gradient do not change. This form returns
 * nothing. With a loss: zero_grad, backward and step in one. A loss that is not finite changes nothing, no
 * parameter, no momentum, no row of a memory bank, and is counted in .skipped. Nothing waits to learn whether
 * the step was made: made is a u8 tensor, 1 or 0, to be passed to cld.optim.ema and queue:enqueue; as a Lua
 * condition it is always true. lr, a number or a tensor of one element, applies to all groups; without it the
 * group's lr does, or .lr. clip: if the gradients' common norm exceeds it, they are scaled down to it.
 * grad_norm = true measures that norm without clipping. */
static int optimizer_step(lua_State *L) {
    cld_optimizer *s = cldL_check_optimizer(L);
    cld_tensor *loss = cldL_test_tensor(L, 2);
    lua_settop(L, 3);
    const char *name = cldL_method_name(L, s, "step");
    if (!loss && !lua_isnil(L, 2) && !lua_istable(L, 2))
        return luaL_error(L, "%s: expected a loss or a table of options, got a %s", name,
                          luaL_typename(L, 2));
    cld_step_params p = check_step_params(L, loss ? 3 : 2, s, name);
    if (!loss) {
        cldL_check_status(L, cld_optimizer_step(s, &p));
        return 0;
    }
    cld_tensor **made = cldL_new_tensor(L);
    lua_State *outer = cldL_begin_backward(L);
    *made = cld_optimizer_minimize(s, loss, &p);
    cldL_end_backward(outer);
    return cldL_result(L, *made);
}

/* --- optimizer:begin(): begins a step from several losses: zero_grad, then :add(loss) for each, and
 * :finish().
 *
 *     local net = cld.nn.linear(2, 1)
 *     local sgd = cld.optim.sgd(net, { lr = 0.1 })
 *     sgd:begin()
 *     for i = 1, 2 do sgd:add(net(cld.ones(4, 2) * i):square():mean(), 0.5, { last = i == 2 }) end
 *     print(sgd:finish { clip = 1 }:item())     --> 1 */
static int optimizer_begin(lua_State *L) {
    cldL_check_status(L, cld_optimizer_begin(cldL_check_optimizer(L)));
    return 0;
}

/* --- optimizer:add(loss[, weight = 1[, {last = false}]]): runs backward of weight times the loss, and frees
 * its graph. last = true: no other loss follows, so that the gradients of several ranks are summed meanwhile;
 * without it finish sums them, which takes longer. zero_grad, a loss whose backward fails, or a step that fails
 * ends what begin began; nothing but the gradients has changed then. */
static int optimizer_add(lua_State *L) {
    static const char *const names[] = {"last", NULL};
    cld_optimizer *s = cldL_check_optimizer(L);
    lua_settop(L, 4);
    cld_tensor *loss = cldL_test_tensor(L, 2);
    if (!loss)
        return luaL_error(L, "%s: expected a loss, got a %s", cldL_method_name(L, s, "add"),
                          luaL_typename(L, 2));
    if (!lua_isnil(L, 3) && !lua_isnumber(L, 3))
        return luaL_error(L, "%s: the weight of a loss is a %s; expected a number",
                          cldL_method_name(L, s, "add"), luaL_typename(L, 3));
    double weight = luaL_optnumber(L, 3, 1);
    cldL_check_fields(L, 4, cldL_method_name(L, s, "add"), names);
    bool last = cldL_field_boolean(L, 4, "last", false);
    lua_State *outer = cldL_begin_backward(L);
    cld_status status = cld_optimizer_add(s, loss, weight, last);
    cldL_end_backward(outer);
    cldL_check_status(L, status);
    return 0;
}

/* --- optimizer:finish([{lr =, clip =, grad_norm =}]) -> made: makes the step from the sum of the weighted
 * losses. If one of them was not finite, the whole step is skipped. The rows of a memory bank that the losses
 * used change now, in the order of add. */
static int optimizer_finish(lua_State *L) {
    cld_optimizer *s = cldL_check_optimizer(L);
    lua_settop(L, 2);
    cld_step_params p = check_step_params(L, 2, s, cldL_method_name(L, s, "finish"));
    cld_tensor **made = cldL_new_tensor(L);
    *made = cld_optimizer_finish(s, &p);
    return cldL_result(L, *made);
}

/* --- optimizer:zero_grad(): clears the gradients of all its parameters. */
static int optimizer_zero_grad(lua_State *L) {
    cld_optimizer_zero_grad(cldL_check_optimizer(L));
    return 0;
}

/* ---- fields ---------------------------------------------------------------------------------------------- */

/* --- optimizer.lr -> number: the learning rate of all groups; may be assigned. */
static int optimizer_lr(lua_State *L) {
    cld_optimizer *s = cldL_check_optimizer(L);
    isnan(s->lr) ? lua_pushnil(L) : lua_pushnumber(L, s->lr);
    return 1;
}

lua_Integer cldL_skipped_steps(lua_State *L, const cld_optimizer *s) {
    double count;
    cldL_check_status(L, cld_tensor_item(s->skipped, &count));
    return (lua_Integer)count;
}

/* --- optimizer.skipped -> integer: how many steps were skipped because a loss or gradient was not finite. It
 * waits for the device. */
static int optimizer_skipped(lua_State *L) {
    lua_pushinteger(L, cldL_skipped_steps(L, cldL_check_optimizer(L)));
    return 1;
}

/* --- optimizer.loss_scale -> number: the factor that losses are multiplied by in precision fp16, so that
 * small gradients do not vanish: 65536 at first, doubled after 2000 good steps, and halved if a gradient is not
 * finite in the end; that step is not made, and is counted as skipped. Until the next step .grad holds the
 * larger values, which :step() and clip_grad_norm refuse. */
static int optimizer_loss_scale(lua_State *L) {
    const cld_optimizer *s = cldL_check_optimizer(L);
    double scale;
    if (!s->loss_scale.scale) return 0;
    cldL_check_status(L, cld_tensor_item(s->loss_scale.scale, &scale));
    lua_pushnumber(L, scale);
    return 1;
}

/* --- optimizer.grad_norm -> tensor: the gradients' common norm before clipping in the last step with clip
 * or grad_norm = true, f32 without dimensions, always the same tensor; NaN if that step was not made, or if
 * there was none. */
static int optimizer_grad_norm(lua_State *L) {
    return cldL_push_tensor(L, cld_tensor_retain(cldL_check_optimizer(L)->grad_norm));
}

/* --- optimizer.buckets -> {{number, ...}, ...} or nil: the parameters' numbers, in the lists in which several
 * ranks sum their gradients together; nil before the first such step. */
static int optimizer_buckets(lua_State *L) {
    const cld_optimizer *s = cldL_check_optimizer(L);
    int place;
    lua_newtable(L);
    for (int i = 0; i < s->count; i++) {
        int bucket = cld_overlap_bucket(s->overlap, i, &place);
        if (bucket < 0) continue;
        if (lua_geti(L, -1, bucket + 1) == LUA_TNIL) {
            lua_pop(L, 1);
            lua_newtable(L);
            lua_pushvalue(L, -1);
            lua_seti(L, -3, bucket + 1);
        }
        lua_pushinteger(L, i + 1);
        lua_seti(L, -2, place + 1);
        lua_pop(L, 1);
    }
    if (lua_geti(L, -1, 1) == LUA_TNIL) return 1;
    lua_pop(L, 1);
    return 1;
}

/* Upvalues: the methods, the properties. */
static int optimizer_index(lua_State *L) {
    const char *name = cldL_check_optimizer(L)->rule->name;
    luaL_checkstring(L, 2);
    lua_pushvalue(L, 2);
    if (lua_rawget(L, lua_upvalueindex(1)) != LUA_TNIL) return 1;
    lua_pushvalue(L, 2);
    if (lua_rawget(L, lua_upvalueindex(2)) == LUA_TNIL) return cldL_no_such_field(L, name, true);
    return lua_tocfunction(L, -1)(L);
}

/* optimizer.lr = rate */
static int optimizer_newindex(lua_State *L) {
    cld_optimizer *s = cldL_check_optimizer(L);
    const char *key = luaL_checkstring(L, 2), *name = s->rule->name;
    if (strcmp(key, "lr") != 0)
        return luaL_error(L, "%s: the field '%s' cannot be set; only 'lr' can", name, key);
    if (!lua_isnumber(L, 3))
        return luaL_error(L, "%s: the field 'lr': expected a number, got %s", name, luaL_typename(L, 3));
    cldL_check_status(L, cld_optimizer_set_lr(s, lua_tonumber(L, 3)));
    return 0;
}

/* ---- the module ------------------------------------------------------------------------------------------ */

/* {sgd = function, ...} */
static void push_rules(lua_State *L) {
    lua_newtable(L);
    for (size_t i = 0; i < sizeof rules / sizeof rules[0]; i++) {
        lua_pushlightuserdata(L, (void *)rules[i]);
        lua_pushcclosure(L, optimizer_new, 1);
        lua_setfield(L, -2, rules[i]->name);
    }
}

static void make_class(lua_State *L) {
    static const luaL_Reg methods[] = {
        {"step", optimizer_step},
        {"begin", optimizer_begin},
        {"add", optimizer_add},
        {"finish", optimizer_finish},
        {"zero_grad", optimizer_zero_grad},
        {"state_dict", cldL_optimizer_state_dict},
        {"load_state_dict", cldL_optimizer_load_state_dict},
        {NULL, NULL},
    };
    static const luaL_Reg properties[] = {
        {"lr", optimizer_lr},
        {"skipped", optimizer_skipped},
        {"loss_scale", optimizer_loss_scale},
        {"grad_norm", optimizer_grad_norm},
        {"buckets", optimizer_buckets},
        {"groups", cldL_optimizer_groups},
        {NULL, NULL},
    };
    static const luaL_Reg metamethods[] = {
        {"__gc", optimizer_gc}, {"__tostring", cldL_optimizer_tostring}, {NULL, NULL}};
    luaL_newmetatable(L, CLDL_OPTIMIZER);
    luaL_setfuncs(L, metamethods, 0);
    luaL_newlib(L, methods);
    lua_pushvalue(L, -1);
    lua_setfield(L, -3, "methods"); /* getmetatable(sgd).methods, .properties: for the completion of names */
    luaL_newlib(L, properties);
    lua_pushvalue(L, -1);
    lua_setfield(L, -4, "properties");
    lua_pushcclosure(L, optimizer_index, 2);
    lua_setfield(L, -2, "__index");
    lua_pushcfunction(L, optimizer_newindex);
    lua_setfield(L, -2, "__newindex");
    lua_pop(L, 1);
}

int cldL_open_optim(lua_State *L) {
    static const luaL_Reg functions[] = {{"ema", ema}, {"clip_grad_norm", clip_grad_norm}, {NULL, NULL}};
    make_class(L);
    luaL_newlib(L, functions);
    push_rules(L);
    lua_setfield(L, -2, "rules");
    return 1;
}
