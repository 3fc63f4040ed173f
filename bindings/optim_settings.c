/* An optimizer's settings: from a table of options, as groups that can be read, and as text. */
#include "bindings/optim.h"

#include <math.h>

enum { MOST_SETTINGS = 16 };

static double *number_at(cld_rule_settings *s, const cld_rule_setting *setting) {
    return (double *)(void *)((char *)s + setting->offset);
}

static bool *switch_at(cld_rule_settings *s, const cld_rule_setting *setting) {
    return (bool *)(void *)((char *)s + setting->offset);
}

/* ---- from a table of options ----------------------------------------------------------------------------- */

double cldL_check_lr(lua_State *L, int arg, const cld_optim_rule *rule) {
    if (isnan(cldL_field_number(L, arg, "lr", 0)))
        luaL_error(L, "%s: the learning rate is nan; expected at least 0", rule->name);
    return cldL_field_number(L, arg, "lr", NAN);
}

static void check_pair(lua_State *L, int arg, const cld_optim_rule *rule, const char *name, double *pair) {
    if (lua_isnoneornil(L, arg) || lua_getfield(L, arg, name) == LUA_TNIL) return;
    bool valid = lua_istable(L, -1) && luaL_len(L, -1) == 2;
    for (int i = 0; i < 2 && valid; i++) {
        valid = lua_geti(L, -1, i + 1) == LUA_TNUMBER;
        pair[i] = lua_tonumber(L, -1);
        lua_pop(L, 1);
    }
    if (!valid) luaL_error(L, "%s: field '%s': expected a list of two numbers", rule->name, name);
}

static void check_setting(lua_State *L, int arg, const cld_optim_rule *rule, const cld_rule_setting *setting,
                          cld_rule_settings *out) {
    int top = lua_gettop(L);
    switch (setting->kind) {
    case CLD_RULE_NUMBER:
        *number_at(out, setting) = cldL_field_number(L, arg, setting->name, *number_at(out, setting));
        break;
    case CLD_RULE_PAIR: check_pair(L, arg, rule, setting->name, number_at(out, setting)); break;
    case CLD_RULE_SWITCH:
        *switch_at(out, setting) = cldL_field_boolean(L, arg, setting->name, *switch_at(out, setting));
        break;
    case CLD_RULE_REFUSED:
        if (cldL_field_boolean(L, arg, setting->name, false))
            luaL_error(L, "%s: %s is not supported; leave it out", rule->name, setting->name);
        break;
    }
    lua_settop(L, top);
}

cld_rule_settings cldL_check_settings(lua_State *L, int arg, const cld_optim_rule *rule,
                                      cld_rule_settings base) {
    const char *names[MOST_SETTINGS + 1] = {NULL};
    for (int i = 0; rule->settings[i].name && i < MOST_SETTINGS; i++) names[i] = rule->settings[i].name;
    cldL_check_fields(L, arg, rule->name, names);
    for (const cld_rule_setting *s = rule->settings; s->name; s++) check_setting(L, arg, rule, s, &base);
    base.lr = cldL_check_lr(L, arg, rule);
    return base;
}

/* ---- optimizer.groups -------------------------------------------------------------------------------------- */

static void push_setting(lua_State *L, cld_rule_settings *s, const cld_rule_setting *setting) {
    double *numbers = number_at(s, setting);
    switch (setting->kind) {
    case CLD_RULE_NUMBER: isnan(*numbers) ? lua_pushnil(L) : lua_pushnumber(L, *numbers); break;
    case CLD_RULE_PAIR:
        lua_createtable(L, 2, 0);
        for (int i = 0; i < 2; i++) {
            lua_pushnumber(L, numbers[i]);
            lua_rawseti(L, -2, i + 1);
        }
        break;
    case CLD_RULE_SWITCH: lua_pushboolean(L, *switch_at(s, setting)); break;
    case CLD_RULE_REFUSED: lua_pushboolean(L, 0); break;
    }
}

/* --- optimizer.groups -> {{params =, every setting =}, ...}: its groups, for reading only. */
int cldL_optimizer_groups(lua_State *L) {
    cld_optimizer *s = cldL_check_optimizer(L);
    lua_createtable(L, s->group_count, 0);
    for (int g = 0, i = 0; g < s->group_count; g++) {
        cld_rule_settings settings = s->groups[g].settings;
        settings.lr = cld_optimizer_rate(s, &s->groups[g], NAN);
        lua_newtable(L);
        lua_createtable(L, s->groups[g].count, 0);
        for (int k = 1; k <= s->groups[g].count; k++) {
            cldL_push_tensor(L, cld_tensor_retain(s->params[i++]));
            lua_rawseti(L, -2, k);
        }
        lua_setfield(L, -2, "params");
        for (const cld_rule_setting *setting = s->rule->settings; setting->name; setting++) {
            push_setting(L, &settings, setting);
            lua_setfield(L, -2, setting->name);
        }
        lua_rawseti(L, -2, g + 1);
    }
    return 1;
}

/* ---- tostring ---------------------------------------------------------------------------------------------- */

static void add_number(luaL_Buffer *out, const char *name, double value) {
    char text[64];
    cld_format(text, sizeof text, ", %s %g", name, value);
    luaL_addstring(out, text);
}

static void add_setting(luaL_Buffer *out, const cld_optim_rule *rule, cld_rule_settings *s,
                        const cld_rule_setting *setting) {
    cld_rule_settings defaults = rule->defaults;
    double *numbers = number_at(s, setting), *usual = number_at(&defaults, setting);
    if (!setting->label) return;
    if (setting->kind == CLD_RULE_SWITCH) {
        if (*switch_at(s, setting) == *switch_at(&defaults, setting)) return;
        luaL_addstring(out, ", ");
        luaL_addstring(out, setting->label);
        return;
    }
    if (isnan(*numbers) || (!setting->always && *numbers == *usual)) return;
    add_number(out, setting->label, *numbers);
    if (setting->kind == CLD_RULE_PAIR) {
        char text[64];
        cld_format(text, sizeof text, " %g", numbers[1]);
        luaL_addstring(out, text);
    }
}

static void add_settings(luaL_Buffer *out, const cld_optim_rule *rule, cld_rule_settings s) {
    for (const cld_rule_setting *setting = rule->settings; setting->name; setting++)
        add_setting(out, rule, &s, setting);
}

/* "sgd: 62 parameters, lr 0.03, momentum 0.9, weight decay 0.0005"; if there are several groups, one line for each. */
int cldL_optimizer_tostring(lua_State *L) {
    cld_optimizer *s = cldL_check_optimizer(L);
    lua_Integer skipped = cldL_skipped_steps(L, s);
    luaL_Buffer out;
    luaL_buffinit(L, &out);
    lua_pushfstring(L, "%s: %d parameter%s", s->rule->name, s->count, s->count == 1 ? "" : "s");
    luaL_addvalue(&out);
    if (s->group_count == 1) {
        cld_rule_settings settings = s->groups[0].settings;
        settings.lr = cld_optimizer_rate(s, &s->groups[0], NAN);
        add_settings(&out, s->rule, settings);
    } else {
        lua_pushfstring(L, " in %d groups", s->group_count);
        luaL_addvalue(&out);
        if (!isnan(s->lr)) add_number(&out, "lr", s->lr);
    }
    if (skipped > 0) {
        lua_pushfstring(L, ", %I steps skipped", (LUAI_UACINT)skipped);
        luaL_addvalue(&out);
    }
    for (int i = 0; s->group_count > 1 && i < s->group_count; i++) {
        lua_pushfstring(L, "\n  group %d: %d parameter%s", i + 1, s->groups[i].count,
                        s->groups[i].count == 1 ? "" : "s");
        luaL_addvalue(&out);
        add_settings(&out, s->rule, s->groups[i].settings);
    }
    luaL_pushresult(&out);
    return 1;
}
