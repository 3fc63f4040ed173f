/* cld.optim in C: the sgd object, and the moving average of lists of tensors. */
#include "bindings/bindings.h"

#include <math.h>
#include <string.h>

#include "runtime/optim/optim.h"

#define SGD "cld.sgd"

/* The tensors of the list at arg, borrowed: the list keeps them. The array is a userdata left on the stack.
 */
static cld_tensor **check_tensors(lua_State *L, int arg, int *count) {
    luaL_checktype(L, arg, LUA_TTABLE);
    *count = (int)luaL_len(L, arg);
    cld_tensor **list = lua_newuserdatauv(L, sizeof *list * ((size_t)*count + 1), 0);
    for (int i = 0; i < *count; i++) {
        lua_geti(L, arg, i + 1);
        list[i] = cldL_test_tensor(L, -1);
        if (!list[i])
            luaL_argerror(L, arg,
                          lua_pushfstring(L, "entry %d of the list is a %s, not a tensor", i + 1,
                                          luaL_typename(L, -1)));
        lua_pop(L, 1);
    }
    return list;
}

/* ema(targets, sources, decay) */
static int ema(lua_State *L) {
    int count, sources_count;
    double decay = luaL_checknumber(L, 3);
    cld_tensor **targets = check_tensors(L, 1, &count), **sources = check_tensors(L, 2, &sources_count);
    if (count != sources_count)
        return luaL_error(L, "ema: %d tensors in the target, %d in the source", count, sources_count);
    cldL_check_status(L, cld_ema(targets, sources, count, decay));
    return 0;
}

/* ---- sgd ----------------------------------------------------------------------------------------------- */

static cld_sgd *check_sgd(lua_State *L) { return *(cld_sgd **)luaL_checkudata(L, 1, SGD); }

/* sgd(params, {lr, momentum = 0, weight_decay = 0, dampening = 0, nesterov = false}) */
static int sgd_new(lua_State *L) {
    static const char *const names[] = {"lr", "momentum", "weight_decay", "dampening", "nesterov", NULL};
    int count;
    cldL_check_fields(L, 2, "sgd", names);
    cld_sgd_params options = {.lr = cldL_field_number(L, 2, "lr", NAN),
                              .momentum = cldL_field_number(L, 2, "momentum", 0),
                              .weight_decay = cldL_field_number(L, 2, "weight_decay", 0),
                              .dampening = cldL_field_number(L, 2, "dampening", 0),
                              .nesterov = cldL_field_boolean(L, 2, "nesterov", false)};
    cld_tensor **params = check_tensors(L, 1, &count);
    cld_sgd **box = lua_newuserdatauv(L, sizeof *box, 0);
    *box = NULL;
    luaL_setmetatable(L, SGD);
    *box = cld_sgd_new(params, count, &options);
    return cldL_result(L, *box);
}

static int sgd_gc(lua_State *L) {
    cld_sgd **box = luaL_checkudata(L, 1, SGD);
    cld_sgd_free(*box);
    *box = NULL;
    return 0;
}

/* step([loss][, {lr}]) -> true, or false where the loss was not finite */
static int sgd_step(lua_State *L) {
    static const char *const names[] = {"lr", NULL};
    cld_sgd *s = check_sgd(L);
    cld_tensor *loss = cldL_test_tensor(L, 2);
    int options = loss ? 3 : 2;
    bool made = true;
    cldL_check_fields(L, options, "sgd:step", names);
    double lr = cldL_field_number(L, options, "lr", s->options.lr);
    cldL_check_status(L, loss ? cld_sgd_minimize(s, loss, lr, &made) : cld_sgd_step(s, lr));
    lua_pushboolean(L, made);
    return 1;
}

static int sgd_zero_grad(lua_State *L) {
    cld_sgd_zero_grad(check_sgd(L));
    return 0;
}

/* state_dict() -> {["momentum.<i>"] = tensor}, i the parameter's position, for those that have been stepped
 */
static int sgd_state_dict(lua_State *L) {
    cld_sgd *s = check_sgd(L);
    lua_newtable(L);
    for (int i = 0; i < s->count; i++) {
        if (!s->buffers[i]) continue;
        lua_pushfstring(L, "momentum.%d", i + 1);
        cldL_push_tensor(L, cld_tensor_detach(s->buffers[i]));
        lua_rawset(L, -3);
    }
    return 1;
}

/* The 0-based position in a key of the state, or -1. */
static int position_of(const char *key, int count) {
    int position, length = 0;
    if (sscanf(key, "momentum.%d%n", &position, &length) != 1 || key[length] != '\0') return -1;
    return position >= 1 && position <= count ? position - 1 : -1;
}

static int sgd_load_state_dict(lua_State *L) {
    cld_sgd *s = check_sgd(L);
    luaL_checktype(L, 2, LUA_TTABLE);
    for (lua_pushnil(L); lua_next(L, 2); lua_pop(L, 1)) {
        const char *key = lua_type(L, -2) == LUA_TSTRING ? lua_tostring(L, -2) : "?";
        int position = position_of(key, s->count);
        cld_tensor *buffer = cldL_test_tensor(L, -1);
        if (position < 0 || !buffer)
            return luaL_error(
                L,
                "sgd:load_state_dict: unexpected entry '%s' (a %s); expected tensors momentum.1 to "
                "momentum.%d",
                key, luaL_typename(L, -1), s->count);
        cldL_check_status(L, cld_sgd_load(s, position, buffer));
    }
    return 0;
}

/* Fields lr and skipped; else a method (upvalue 1). */
static int sgd_index(lua_State *L) {
    cld_sgd *s = check_sgd(L);
    const char *key = luaL_checkstring(L, 2);
    if (strcmp(key, "lr") == 0)
        isnan(s->options.lr) ? lua_pushnil(L) : lua_pushnumber(L, s->options.lr);
    else if (strcmp(key, "skipped") == 0)
        lua_pushinteger(L, s->skipped);
    else
        lua_getfield(L, lua_upvalueindex(1), key);
    return 1;
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
    luaL_newmetatable(L, SGD);
    lua_pushcfunction(L, sgd_gc);
    lua_setfield(L, -2, "__gc");
    luaL_newlib(L, methods);
    lua_pushcclosure(L, sgd_index, 1);
    lua_setfield(L, -2, "__index");
    lua_pop(L, 1);
    luaL_newlib(L, functions);
    return 1;
}
