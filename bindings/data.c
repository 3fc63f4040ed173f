/* cld.core.data: the CIFAR readers, and an epoch of the loader. lua/cld/data.lua puts data sets and loaders on top. */
#include "bindings/bindings.h"
#include "runtime/data/cifar.h"
#include "runtime/data/loader.h"

/* ---- CIFAR --------------------------------------------------------------------------------------------- */

#define CLDL_CIFAR "cld.cifar" /* holds what was read until Lua has all of it */

static int cifar_gc(lua_State *L) {
    cld_cifar_free(luaL_checkudata(L, 1, CLDL_CIFAR));
    return 0;
}

/* Into the field of the table on the top. */
static void give_tensor(lua_State *L, const char *field, cld_tensor **from) {
    cld_tensor **box = cldL_new_tensor(L); /* may raise: *from is still its owner's */
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

/* ---- the augmentation's settings, a Lua table as lua/cld/augment.lua makes it -------------------------- */

/* A list of numbers in a field; the field must be there. */
static void field_numbers(lua_State *L, int arg, const char *name, int count, double *out) {
    lua_getfield(L, arg, name);
    if (!lua_istable(L, -1) || luaL_len(L, -1) != count)
        luaL_error(L, "augment: %s must be a list of %d numbers", name, count);
    for (int i = 0; i < count; i++) {
        lua_geti(L, -1, i + 1);
        if (!lua_isnumber(L, -1)) luaL_error(L, "augment: %s must be a list of %d numbers", name, count);
        out[i] = lua_tonumber(L, -1);
        lua_pop(L, 1);
    }
    lua_pop(L, 1);
}

static int clamp_int(lua_Integer i) { return i < -1 ? -1 : i > INT32_MAX ? INT32_MAX : (int)i; }

static void field_size(lua_State *L, int arg, int *height, int *width) {
    int *const out[] = {height, width};
    lua_getfield(L, arg, "size");
    bool complete = lua_istable(L, -1) && luaL_len(L, -1) == 2;
    for (int i = 0; i < 2 && complete; i++) {
        int is_integer;
        lua_geti(L, -1, i + 1);
        *out[i] = clamp_int(lua_tointegerx(L, -1, &is_integer));
        complete = is_integer;
        lua_pop(L, 1);
    }
    if (!complete) luaL_error(L, "augment: size must be an integer, or two: { height, width }");
    lua_pop(L, 1);
}

static cld_augment check_augment(lua_State *L, int arg) {
    cld_augment a = {0};
    double numbers[4];
    luaL_checktype(L, arg, LUA_TTABLE);
    field_size(L, arg, &a.height, &a.width);
    a.crop = cldL_field_boolean(L, arg, "crop", false);
    field_numbers(L, arg, "scale", 2, a.scale);
    field_numbers(L, arg, "ratio", 2, a.ratio);
    a.jitter_p = cldL_field_number(L, arg, "jitter_p", 0);
    field_numbers(L, arg, "jitter", 4, numbers);
    a.brightness = numbers[0];
    a.contrast = numbers[1];
    a.saturation = numbers[2];
    a.hue = numbers[3];
    a.grayscale_p = cldL_field_number(L, arg, "grayscale", 0);
    a.blur_p = cldL_field_number(L, arg, "blur", 0);
    field_numbers(L, arg, "sigma", 2, a.sigma);
    a.flip_p = cldL_field_number(L, arg, "flip", 0);
    a.erasing_p = cldL_field_number(L, arg, "erasing", 0);
    field_numbers(L, arg, "erasing_area", 2, a.erasing_area);
    field_numbers(L, arg, "erasing_ratio", 2, a.erasing_ratio);
    field_numbers(L, arg, "mean", 3, numbers);
    for (int c = 0; c < 3; c++) a.normalization.mean[c] = (float)numbers[c];
    field_numbers(L, arg, "std", 3, numbers);
    for (int c = 0; c < 3; c++) a.normalization.std[c] = (float)numbers[c];
    return a;
}

/* ---- the loader ---------------------------------------------------------------------------------------- */

#define CLDL_EPOCH "cld.epoch"

/* The table of settings at arg, complete, as lua/cld/data.lua makes it, but for the views' dtype. Tensors stay anchored
 * in it. */
static cld_loader check_loader(lua_State *L, int arg) {
    cld_loader l = {.dtype = CLD_F32};
    luaL_checktype(L, arg, LUA_TTABLE);
    l.images = cldL_field_tensor(L, arg, "images");
    l.labels = cldL_field_tensor(L, arg, "labels");
    if (!l.images || !l.labels) luaL_error(L, "loader: the data set has no images and labels");
    lua_getfield(L, arg, "device");
    l.device = cldL_check_device(L, lua_gettop(L));
    lua_pop(L, 1);
    l.batch_size = cldL_field_integer(L, arg, "batch_size", 0);
    l.views = clamp_int(cldL_field_integer(L, arg, "views", 0));
    l.workers = clamp_int(cldL_field_integer(L, arg, "workers", 0));
    l.prefetch = clamp_int(cldL_field_integer(L, arg, "prefetch", 0));
    l.seed = (uint64_t)cldL_field_integer(L, arg, "seed", 0);
    l.shuffle = cldL_field_boolean(L, arg, "shuffle", false);
    l.drop_last = cldL_field_boolean(L, arg, "drop_last", false);
    l.drop_single = cldL_field_boolean(L, arg, "drop_single", false);
    l.rank = clamp_int(cldL_field_integer(L, arg, "rank", 0));
    l.world = clamp_int(cldL_field_integer(L, arg, "world", 0));
    lua_getfield(L, arg, "augment");
    l.augment = check_augment(L, lua_gettop(L));
    lua_pop(L, 1);
    return l;
}

/* loader_rest(settings, first_image) -> the steps of an epoch from there on, and the images in them; checks every setting.
 */
static int data_loader_rest(lua_State *L) {
    cld_loader l = check_loader(L, 1);
    cld_epoch_rest rest;
    cldL_check_status(L, cld_loader_rest(&rest, &l, luaL_checkinteger(L, 2)));
    lua_pushinteger(L, rest.steps);
    lua_pushinteger(L, rest.images);
    return 2;
}

/* resident(images, device) -> the images on that device, or nil where the host makes the views. */
static int data_resident(lua_State *L) {
    cld_tensor *images = cldL_check_tensor(L, 1), *there = NULL;
    const cld_backend *device = cldL_check_device(L, 2);
    cld_tensor **out = cldL_new_tensor(L);
    cldL_check_status(L, cld_loader_resident(&there, images, device));
    if (there)
        *out = there;
    else
        lua_pushnil(L);
    return 1;
}

/* epoch(settings, epoch, first_image, dtype): its call gives the next batch or nil; closing it stops the workers. */
static int data_epoch(lua_State *L) {
    cld_loader l = check_loader(L, 1);
    l.dtype = cldL_check_dtype(L, 4);
    cld_epoch **box = lua_newuserdatauv(L, sizeof *box, 0);
    *box = NULL;
    luaL_setmetatable(L, CLDL_EPOCH);
    *box = cld_epoch_new(&l, luaL_checkinteger(L, 2), luaL_checkinteger(L, 3));
    return cldL_result(L, *box);
}

static int epoch_close(lua_State *L) {
    cld_epoch **box = luaL_checkudata(L, 1, CLDL_EPOCH);
    cld_epoch *e = *box;
    *box = NULL;
    cld_epoch_free(e);
    return 0;
}

/* -> {views = {(n, 3, height, width), ...}, index = i64 (n), labels = i64 (n)} on the device, or nil after the last. */
static int epoch_next(lua_State *L) {
    cld_epoch **box = luaL_checkudata(L, 1, CLDL_EPOCH);
    luaL_argcheck(L, *box, 1, "the epoch was closed");
    /* The userdata first: nothing below may leak what the worker made. */
    cld_tensor **views[CLD_MAX_VIEWS], **index, **labels;
    int count = cld_epoch_views(*box);
    lua_createtable(L, 0, 3);
    lua_createtable(L, count, 0);
    for (int v = 0; v < count; v++) {
        views[v] = cldL_new_tensor(L);
        lua_rawseti(L, -2, v + 1);
    }
    lua_setfield(L, -2, "views");
    index = cldL_new_tensor(L);
    lua_setfield(L, -2, "index");
    labels = cldL_new_tensor(L);
    lua_setfield(L, -2, "labels");

    cld_batch batch = {0};
    bool done = false;
    cldL_check_status(L, cld_epoch_next(*box, &batch, &done));
    if (done) {
        lua_pushnil(L);
        return 1;
    }
    for (int v = 0; v < count; v++) *views[v] = batch.view[v];
    *index = batch.index;
    *labels = batch.labels;
    return 1;
}

static const luaL_Reg epoch_metamethods[] = {
    {"__call", epoch_next},
    {"__close", epoch_close},
    {"__gc", epoch_close},
    {NULL, NULL},
};

static const luaL_Reg cifar_metamethods[] = {{"__gc", cifar_gc}, {NULL, NULL}};

static const luaL_Reg functions[] = {
    {"epoch", data_epoch},
    {"loader_rest", data_loader_rest},
    {"read_cifar", data_read_cifar},
    {"resident", data_resident},
    {NULL, NULL},
};

int cldL_open_data(lua_State *L) {
    luaL_newmetatable(L, CLDL_CIFAR);
    luaL_setfuncs(L, cifar_metamethods, 0);
    luaL_newmetatable(L, CLDL_EPOCH);
    luaL_setfuncs(L, epoch_metamethods, 0);
    lua_pop(L, 2);
    luaL_newlib(L, functions);
    return 1;
}
