/* An optimizer's state as a table of tensors, for checkpoints. */
#include "bindings/optim.h"

#include <stdio.h>
#include <string.h>

static const char *const others[] = {"skipped", "loss_scale", "good_steps", "groups"};

/* The slots of a parameter are empty tensors before its first step. */
static void set_parameter(lua_State *L, const cld_optimizer *s, int i) {
    static const int64_t none[] = {0};
    const cld_tensor *p = s->params[i];
    for (int k = 0; k < s->rule->slots; k++) {
        const cld_tensor *slot = s->slots[k][i];
        lua_pushfstring(L, "%s.%d", s->rule->slot_names[k], i + 1);
        cldL_push_tensor(L,
                         slot ? cld_tensor_detach(slot) : cld_tensor_new(p->a.dtype, 1, none, cld_device(p)));
        lua_rawset(L, -3);
    }
    if (cld_optimizer_counting(s, i) == CLD_COUNT_NONE) return;
    lua_pushfstring(L, "step.%d", i + 1);
    cldL_push_tensor(L, cld_optimizer_steps(s, i));
    lua_rawset(L, -3);
}

static void set_tensor(lua_State *L, const char *name, const cld_tensor *t) {
    cldL_push_tensor(L, cld_tensor_detach(t));
    lua_setfield(L, -2, name);
}

static void set_groups(lua_State *L, const cld_optimizer *s) {
    const int64_t count = s->group_count;
    cld_tensor **out = cldL_new_tensor(L);
    *out = cld_tensor_new(CLD_I64, 1, &count, cld_cpu_backend());
    cldL_result(L, *out);
    for (int g = 0; g < s->group_count; g++) ((int64_t *)(*out)->a.data)[g] = s->groups[g].count;
    lua_setfield(L, -2, "groups");
}

/* --- optimizer:state_dict() -> {name = tensor}: for parameter i, counted through all groups, "momentum.<i>"
 * (sgd, lars), or "exp_avg.<i>" and "exp_avg_sq.<i>" (adam, adamw), empty tensors before its first step;
 * "step.<i>", if the rule counts the steps made with it (adam, adamw, and sgd with dampening; i64); "groups"
 * (i64), the number of parameters in each; "skipped"; and after the first step in fp16 "loss_scale" and
 * "good_steps". */
int cldL_optimizer_state_dict(lua_State *L) {
    cld_optimizer *s = cldL_check_optimizer(L);
    lua_newtable(L);
    for (int i = 0; i < s->count; i++) set_parameter(L, s, i);
    set_groups(L, s);
    set_tensor(L, "skipped", s->skipped);
    if (!s->loss_scale.scale) return 1;
    set_tensor(L, "loss_scale", s->loss_scale.scale);
    set_tensor(L, "good_steps", s->loss_scale.good);
    return 1;
}

/* ---- load_state_dict --------------------------------------------------------------------------------------- */

/* The tensor `name` of the state at arg 2, borrowed: the state keeps it. NULL if there is none. */
static cld_tensor *opt_entry(lua_State *L, const cld_optimizer *s, const char *name) {
    bool is_nil = lua_getfield(L, 2, name) == LUA_TNIL;
    cld_tensor *t = cldL_test_tensor(L, -1);
    if (!t && !is_nil)
        luaL_error(L, "%s:load_state_dict: '%s' is a %s, not a tensor", s->rule->name, name,
                   luaL_typename(L, -1));
    lua_pop(L, 1);
    return t;
}

static cld_tensor *check_entry(lua_State *L, const cld_optimizer *s, const char *name) {
    cld_tensor *t = opt_entry(L, s, name);
    if (!t) luaL_error(L, "%s:load_state_dict: '%s' is missing in the state", s->rule->name, name);
    return t;
}

/* "momentum.3", of at most `count` parameters. */
static bool is_numbered(const char *key, const char *name, int count) {
    size_t length = strlen(name);
    int position, end = 0;
    if (strncmp(key, name, length) != 0 || sscanf(key + length, ".%d%n", &position, &end) != 1) return false;
    return key[length + (size_t)end] == '\0' && position >= 1 && position <= count;
}

static bool is_entry(const cld_optimizer *s, const char *key) {
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++)
        if (strcmp(key, others[i]) == 0) return true;
    for (int k = 0; k < s->rule->slots; k++)
        if (is_numbered(key, s->rule->slot_names[k], s->count)) return true;
    return is_numbered(key, "step", s->count);
}

static void check_keys(lua_State *L, const cld_optimizer *s) {
    const char *slot = s->rule->slot_names[0];
    for (lua_pushnil(L); lua_next(L, 2); lua_pop(L, 1)) {
        const char *key = lua_type(L, -2) == LUA_TSTRING ? lua_tostring(L, -2) : luaL_typename(L, -2);
        if (!is_entry(s, key))
            cldL_check_status(L, cld_fail(CLD_INVALID,
                                          "%s:load_state_dict: unexpected entry '%s'; expected %s.1 to "
                                          "%s.%d and skipped",
                                          s->rule->name, key, slot, slot, s->count));
    }
}

/* One entry for each parameter, borrowed; the list is left on the stack. */
static cld_tensor **check_list(lua_State *L, const cld_optimizer *s, const char *name, bool needed) {
    cld_tensor **list = lua_newuserdatauv(L, sizeof *list * (size_t)s->count, 0);
    for (int i = 0; i < s->count; i++) {
        const char *key = lua_pushfstring(L, "%s.%d", name, i + 1);
        list[i] = needed ? check_entry(L, s, key) : opt_entry(L, s, key);
        lua_pop(L, 1);
    }
    return list;
}

/* --- optimizer:load_state_dict(state): copies in what state_dict returned. Missing, unexpected and mis-shaped
 * entries are an error that names them, and then nothing is copied. */
int cldL_optimizer_load_state_dict(lua_State *L) {
    cld_optimizer *s = cldL_check_optimizer(L);
    luaL_checktype(L, 2, LUA_TTABLE);
    check_keys(L, s);
    cld_optimizer_state state = {.steps = check_list(L, s, "step", false)};
    for (int k = 0; k < s->rule->slots; k++) state.slots[k] = check_list(L, s, s->rule->slot_names[k], true);
    state.skipped = check_entry(L, s, "skipped");
    state.scale = opt_entry(L, s, "loss_scale");
    state.good = opt_entry(L, s, "good_steps");
    state.groups = opt_entry(L, s, "groups");
    cldL_check_status(L, cld_optimizer_load(s, &state));
    return 0;
}
