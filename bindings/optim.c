/* cld.optim in C: the sgd object, and the moving average of lists of tensors. */
#include "bindings/bindings.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "runtime/optim/optim.h"

#define SGD "cld.sgd"

/* The tensors of the list at arg, borrowed: they are left on the stack, as is the userdata that is their array. */
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
    if (!lua_isnumber(L, 3))
        return luaL_error(L, "ema: decay is a %s; expected a number from 0 to 1", luaL_typename(L, 3));
    cld_tensor *condition = cldL_opt_tensor(L, 4);
    cld_tensor **targets = check_tensors(L, 1, "ema", &count);
    cld_tensor **sources = check_tensors(L, 2, "ema", &sources_count);
    if (count != sources_count)
        return luaL_error(L, "ema: %d tensors in the target, %d in the source", count, sources_count);
    cldL_check_status(L, cld_ema(targets, sources, count, lua_tonumber(L, 3), condition));
    return 0;
}

/* ---- sgd ----------------------------------------------------------------------------------------------- */

static cld_sgd *check_sgd(lua_State *L) { return *(cld_sgd **)luaL_checkudata(L, 1, SGD); }

/* The field lr; NaN where there is none, and never the caller's. */
static double check_lr(lua_State *L, int arg) {
    if (isnan(cldL_field_number(L, arg, "lr", 0)))
        luaL_error(L, "sgd: the learning rate is nan; expected at least 0");
    return cldL_field_number(L, arg, "lr", NAN);
}

/* The settings at arg, with those of `base` where it has none; the rate is its own, or NaN. */
static cld_sgd_params check_settings(lua_State *L, int arg, cld_sgd_params base) {
    static const char *const names[] = {"lr", "momentum", "weight_decay", "dampening", "nesterov", NULL};
    cldL_check_fields(L, arg, "sgd", names);
    return (cld_sgd_params){.lr = check_lr(L, arg),
                            .momentum = cldL_field_number(L, arg, "momentum", base.momentum),
                            .weight_decay = cldL_field_number(L, arg, "weight_decay", base.weight_decay),
                            .dampening = cldL_field_number(L, arg, "dampening", base.dampening),
                            .nesterov = cldL_field_boolean(L, arg, "nesterov", base.nesterov)};
}

/* sgd({tensors}, {lr, momentum = 0, weight_decay = 0, dampening = 0, nesterov = false}, groups): each group is
 * {the number of its tensors, which follow those of the one before; its own settings}. */
static int sgd_new(lua_State *L) {
    int count, left;
    lua_settop(L, 3);
    cld_sgd_params base = check_settings(L, 2, (cld_sgd_params){0});
    cld_tensor **params = check_tensors(L, 1, "sgd", &count);
    luaL_checktype(L, 3, LUA_TTABLE);
    int group_count = (int)luaL_len(L, 3);
    cld_sgd_group *groups = lua_newuserdatauv(L, sizeof *groups * ((size_t)group_count + 1), 0);
    left = count;
    for (int i = 0; i < group_count; i++) {
        lua_geti(L, 3, i + 1);
        groups[i].options = check_settings(L, lua_gettop(L), base);
        lua_geti(L, -1, 1);
        groups[i].count = (int)lua_tointeger(L, -1);
        left -= groups[i].count;
        lua_pop(L, 2);
    }
    luaL_argcheck(L, left == 0, 3, "the groups do not add up to the tensors");
    cld_sgd **box = lua_newuserdatauv(L, sizeof *box, 0);
    *box = NULL;
    luaL_setmetatable(L, SGD);
    *box = cld_sgd_new(params, groups, group_count, base.lr);
    return cldL_result(L, *box);
}

static int sgd_gc(lua_State *L) {
    cld_sgd **box = luaL_checkudata(L, 1, SGD);
    cld_sgd_free(*box);
    *box = NULL;
    return 0;
}

/* The tensor in the field lr, which the table keeps; NULL where there is a number or nothing. */
static cld_tensor *lr_tensor(lua_State *L, int arg) {
    if (!lua_istable(L, arg)) return NULL;
    lua_getfield(L, arg, "lr");
    cld_tensor *lr = cldL_test_tensor(L, -1);
    lua_pop(L, 1);
    return lr;
}

/* step([{lr}]); step(loss[, {lr}]) -> was it made, u8 of no dimension. lr: a number, or a tensor of one element. */
static int sgd_step(lua_State *L) {
    static const char *const names[] = {"lr", NULL};
    cld_sgd *s = check_sgd(L);
    cld_tensor *loss = cldL_test_tensor(L, 2);
    int options = loss ? 3 : 2;
    if (!loss && !lua_isnoneornil(L, 2) && !lua_istable(L, 2))
        return luaL_error(L, "sgd:step: expected a loss or a table of options, got a %s",
                          luaL_typename(L, 2));
    cldL_check_fields(L, options, "sgd:step", names);
    cld_sgd_step_params p = {.lr = NAN, .lr_tensor = lr_tensor(L, options)};
    if (!p.lr_tensor) p.lr = check_lr(L, options);
    if (!loss) {
        cldL_check_status(L, cld_sgd_step(s, &p));
        return 0;
    }
    cld_tensor **made = cldL_new_tensor(L);
    lua_State *outer = cldL_begin_backward(L);
    *made = cld_sgd_minimize(s, loss, &p);
    cldL_end_backward(outer);
    return cldL_result(L, *made);
}

static int sgd_zero_grad(lua_State *L) {
    cld_sgd_zero_grad(check_sgd(L));
    return 0;
}

/* state_dict() -> {["momentum.<i>"] = tensor, i the parameter's position, empty where it has not been stepped;
 * skipped = i64 of no dimension; once a step was made in fp16: loss_scale = f32, good_steps = i32} */
static int sgd_state_dict(lua_State *L) {
    static const int64_t none[] = {0};
    cld_sgd *s = check_sgd(L);
    lua_newtable(L);
    for (int i = 0; i < s->count; i++) {
        cld_tensor *p = s->params[i], *buffer = s->buffers[i];
        lua_pushfstring(L, "momentum.%d", i + 1);
        cldL_push_tensor(L, buffer ? cld_tensor_detach(buffer)
                                   : cld_tensor_new(p->a.dtype, 1, none, cld_device(p)));
        lua_rawset(L, -3);
    }
    cldL_push_tensor(L, cld_tensor_detach(s->skipped));
    lua_setfield(L, -2, "skipped");
    if (!s->loss_scale.scale) return 1;
    cldL_push_tensor(L, cld_tensor_detach(s->loss_scale.scale));
    lua_setfield(L, -2, "loss_scale");
    cldL_push_tensor(L, cld_tensor_detach(s->loss_scale.good));
    lua_setfield(L, -2, "good_steps");
    return 1;
}

/* The tensor `name` of the state at arg 2, borrowed: the state keeps it. NULL where there is none. */
static cld_tensor *opt_entry(lua_State *L, const char *name) {
    bool is_nil = lua_getfield(L, 2, name) == LUA_TNIL;
    cld_tensor *t = cldL_test_tensor(L, -1);
    if (!t && !is_nil)
        luaL_error(L, "sgd:load_state_dict: '%s' is a %s, not a tensor", name, luaL_typename(L, -1));
    lua_pop(L, 1);
    return t;
}

static cld_tensor *check_entry(lua_State *L, const char *name) {
    cld_tensor *t = opt_entry(L, name);
    if (!t) luaL_error(L, "sgd:load_state_dict: '%s' is missing in the state", name);
    return t;
}

static bool is_entry(const char *key, int count) {
    static const char *const others[] = {"skipped", "loss_scale", "good_steps"};
    int position, length = 0;
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++)
        if (strcmp(key, others[i]) == 0) return true;
    if (sscanf(key, "momentum.%d%n", &position, &length) != 1 || key[length] != '\0') return false;
    return position >= 1 && position <= count;
}

static int sgd_load_state_dict(lua_State *L) {
    cld_sgd *s = check_sgd(L);
    luaL_checktype(L, 2, LUA_TTABLE);
    for (lua_pushnil(L); lua_next(L, 2); lua_pop(L, 1)) {
        const char *key = lua_type(L, -2) == LUA_TSTRING ? lua_tostring(L, -2) : luaL_typename(L, -2);
        if (!is_entry(key, s->count))
            cldL_check_status(L,
                              cld_fail(CLD_INVALID,
                                       "sgd:load_state_dict: unexpected entry '%s'; expected momentum.1 to "
                                       "momentum.%d and skipped",
                                       key, s->count));
    }
    cld_tensor **buffers = lua_newuserdatauv(L, sizeof *buffers * (size_t)s->count, 0);
    for (int i = 0; i < s->count; i++) {
        buffers[i] = check_entry(L, lua_pushfstring(L, "momentum.%d", i + 1));
        lua_pop(L, 1);
    }
    const cld_sgd_state state = {.buffers = buffers,
                                 .skipped = check_entry(L, "skipped"),
                                 .scale = opt_entry(L, "loss_scale"),
                                 .good = opt_entry(L, "good_steps")};
    cldL_check_status(L, cld_sgd_load(s, &state));
    return 0;
}

/* ---- fields, and what a person sees ---------------------------------------------------------------------- */

static int sgd_lr(lua_State *L) {
    cld_sgd *s = check_sgd(L);
    isnan(s->lr) ? lua_pushnil(L) : lua_pushnumber(L, s->lr);
    return 1;
}

/* Waits for the device. */
static lua_Integer skipped_steps(lua_State *L, const cld_sgd *s) {
    double count;
    cldL_check_status(L, cld_tensor_item(s->skipped, &count));
    return (lua_Integer)count;
}

static int sgd_skipped(lua_State *L) {
    lua_pushinteger(L, skipped_steps(L, check_sgd(L)));
    return 1;
}

/* What the loss is multiplied by in fp16; nil before its first step. Waits for the device. */
static int sgd_loss_scale(lua_State *L) {
    const cld_sgd *s = check_sgd(L);
    double scale;
    if (!s->loss_scale.scale) return 0;
    cldL_check_status(L, cld_tensor_item(s->loss_scale.scale, &scale));
    lua_pushnumber(L, scale);
    return 1;
}

/* Upvalues: the methods, the properties. */
static int sgd_index(lua_State *L) {
    check_sgd(L);
    luaL_checkstring(L, 2);
    lua_pushvalue(L, 2);
    if (lua_rawget(L, lua_upvalueindex(1)) != LUA_TNIL) return 1;
    lua_pushvalue(L, 2);
    if (lua_rawget(L, lua_upvalueindex(2)) == LUA_TNIL) return 1;
    return lua_tocfunction(L, -1)(L);
}

static void add_setting(luaL_Buffer *out, const char *name, double value) {
    char text[64];
    cld_format(text, sizeof text, ", %s %g", name, value);
    luaL_addstring(out, text);
}

static void add_settings(luaL_Buffer *out, const cld_sgd_params *p) {
    if (!isnan(p->lr)) add_setting(out, "lr", p->lr);
    add_setting(out, "momentum", p->momentum);
    add_setting(out, "weight decay", p->weight_decay);
    if (p->dampening != 0) add_setting(out, "dampening", p->dampening);
    if (p->nesterov) luaL_addstring(out, ", nesterov");
}

/* "sgd: 62 parameters, lr 0.03, momentum 0.9, weight decay 0.0005"; of several groups a line each. */
static int sgd_tostring(lua_State *L) {
    cld_sgd *s = check_sgd(L);
    lua_Integer skipped = skipped_steps(L, s);
    luaL_Buffer out;
    luaL_buffinit(L, &out);
    lua_pushfstring(L, "sgd: %d parameter%s", s->count, s->count == 1 ? "" : "s");
    luaL_addvalue(&out);
    if (s->group_count == 1) {
        cld_sgd_params settings = s->groups[0].options;
        if (isnan(settings.lr)) settings.lr = s->lr;
        add_settings(&out, &settings);
    } else {
        lua_pushfstring(L, " in %d groups", s->group_count);
        luaL_addvalue(&out);
        if (!isnan(s->lr)) add_setting(&out, "lr", s->lr);
    }
    if (skipped > 0) {
        lua_pushfstring(L, ", %I steps skipped", (LUAI_UACINT)skipped);
        luaL_addvalue(&out);
    }
    for (int i = 0; s->group_count > 1 && i < s->group_count; i++) {
        lua_pushfstring(L, "\n  group %d: %d parameter%s", i + 1, s->groups[i].count,
                        s->groups[i].count == 1 ? "" : "s");
        luaL_addvalue(&out);
        add_settings(&out, &s->groups[i].options);
    }
    luaL_pushresult(&out);
    return 1;
}

/* sgd.lr = rate */
static int sgd_newindex(lua_State *L) {
    cld_sgd *s = check_sgd(L);
    const char *key = luaL_checkstring(L, 2);
    if (strcmp(key, "lr") != 0) return luaL_error(L, "sgd: the field '%s' cannot be set; 'lr' can", key);
    if (!lua_isnumber(L, 3))
        return luaL_error(L, "sgd: the field 'lr': expected a number, got %s", luaL_typename(L, 3));
    cldL_check_status(L, cld_sgd_set_lr(s, lua_tonumber(L, 3)));
    return 0;
}

int cldL_open_optim(lua_State *L) {
    static const luaL_Reg methods[] = {
        {"step", sgd_step},
        {"zero_grad", sgd_zero_grad},
        {"state_dict", sgd_state_dict},
        {"load_state_dict", sgd_load_state_dict},
        {NULL, NULL},
    };
    static const luaL_Reg functions[] = {{"sgd", sgd_new}, {"ema", ema}, {NULL, NULL}};
    static const luaL_Reg properties[] = {
        {"lr", sgd_lr}, {"skipped", sgd_skipped}, {"loss_scale", sgd_loss_scale}, {NULL, NULL}};
    static const luaL_Reg metamethods[] = {{"__gc", sgd_gc}, {"__tostring", sgd_tostring}, {NULL, NULL}};
    luaL_newmetatable(L, SGD);
    luaL_setfuncs(L, metamethods, 0);
    luaL_newlib(L, methods);
    lua_pushvalue(L, -1);
    lua_setfield(L, -3, "methods"); /* getmetatable(sgd).methods, .properties: for the completion of names */
    luaL_newlib(L, properties);
    lua_pushvalue(L, -1);
    lua_setfield(L, -4, "properties");
    lua_pushcclosure(L, sgd_index, 2);
    lua_setfield(L, -2, "__index");
    lua_pushcfunction(L, sgd_newindex);
    lua_setfield(L, -2, "__newindex");
    lua_pop(L, 1);
    luaL_newlib(L, functions);
    return 1;
}
