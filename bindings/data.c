/* cld.core.data: the CIFAR readers, and an epoch of the loader. lua/cld/data.lua puts data sets and loaders on top. */
#include "bindings/bindings.h"
#include "runtime/data/cifar.h"

/* ---- CIFAR --------------------------------------------------------------------------------------------- */

#define CLDL_CIFAR "cld.cifar" /* holds what was read until Lua has all of it */

static int cifar_gc(lua_State *L) {
    cld_cifar_free(luaL_checkudata(L, 1, CLDL_CIFAR));
    return 0;
}

/* Moves the tensor into the field of the table on top. */
static void give_tensor(lua_State *L, const char *field, cld_tensor **from) {
    cld_tensor **box = cldL_new_tensor(L); /* may raise: its owner still has *from */
    *box = cld_tensor_steal(from);
    lua_setfield(L, -2, field);
}

/* read_cifar(root, "cifar10"|"fine"|"coarse", "auto"|"python"|"binary", "train"|"test") ->
 * {images = u8 (N, 32, 32, 3), labels = i64 (N), classes =, class_names = nil or a list} */
static int data_read_cifar(lua_State *L) {
    static const char *const kinds[] = {"cifar10", "fine", "coarse", NULL};
    static const char *const layouts[] = {"auto", "python", "binary", NULL};
    static const char *const splits[] = {"train", "test", NULL};
    const char *root = luaL_checkstring(L, 1);
    cld_cifar_kind kind = (cld_cifar_kind)luaL_checkoption(L, 2, NULL, kinds);
    cld_cifar_layout layout = (cld_cifar_layout)luaL_checkoption(L, 3, NULL, layouts);
    bool test = luaL_checkoption(L, 4, NULL, splits) == 1;

    cld_cifar *c = lua_newuserdatauv(L, sizeof *c, 0);
    *c = (cld_cifar){0};
    luaL_setmetatable(L, CLDL_CIFAR);
    cldL_check_status(L, cld_cifar_read(c, root, kind, layout, test));

    lua_createtable(L, 0, 4);
    give_tensor(L, "images", &c->images);
    give_tensor(L, "labels", &c->labels);
    lua_pushinteger(L, c->classes);
    lua_setfield(L, -2, "classes");
    if (c->names[0]) {
        lua_createtable(L, c->classes, 0);
        for (int i = 0; i < c->classes && c->names[i]; i++) {
            lua_pushstring(L, c->names[i]);
            lua_rawseti(L, -2, i + 1);
        }
        lua_setfield(L, -2, "class_names");
    }
    return 1;
}

static const luaL_Reg cifar_metamethods[] = {{"__gc", cifar_gc}, {NULL, NULL}};

static const luaL_Reg functions[] = {
    {"read_cifar", data_read_cifar},
    {NULL, NULL},
};

int cldL_open_data(lua_State *L) {
    luaL_newmetatable(L, CLDL_CIFAR);
    luaL_setfuncs(L, cifar_metamethods, 0);
    lua_pop(L, 1);
    luaL_newlib(L, functions);
    return 1;
}
