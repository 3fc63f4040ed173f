/* --- cld.files: the C functions beneath cld.data that list the images in folders and archives. Programs use
 * cld.data, which makes data sets of these lists. */
#include "bindings/bindings.h"

#include <stdlib.h>
#include <string.h>

#include "runtime/data/devkit.h"
#include "runtime/data/tar_listing.h"
#include "runtime/tensor/tensor.h"

#define CLDL_LISTING "cld.listing"
#define CLDL_TAR     "cld.tar"
#define CLDL_DEVKIT  "cld.devkit"

/* Memory that a Lua error must not leak. */
#define CLDL_BLOCK "cld.files.block"

static int block_gc(lua_State *L) {
    void **block = luaL_checkudata(L, 1, CLDL_BLOCK);
    free(*block);
    *block = NULL;
    return 0;
}

static void **new_block(lua_State *L) {
    void **block = lua_newuserdatauv(L, sizeof *block, 0);
    *block = NULL;
    luaL_setmetatable(L, CLDL_BLOCK);
    return block;
}

/* A string without embedded zeros: C would cut it short there. */
static const char *check_text(lua_State *L, int arg) {
    size_t length;
    const char *text = luaL_checklstring(L, arg, &length);
    luaL_argcheck(L, strlen(text) == length, arg, "the string holds a zero byte");
    return text;
}

/* ---- listings ------------------------------------------------------------------------------------------ */

cld_listing *cldL_check_listing(lua_State *L, int arg) {
    cld_listing **box = luaL_checkudata(L, arg, CLDL_LISTING);
    luaL_argcheck(L, *box, arg, "the listing was closed");
    return *box;
}

static cld_listing *check_listing(lua_State *L) { return cldL_check_listing(L, 1); }

static int listing_close(lua_State *L) {
    cld_listing **box = luaL_checkudata(L, 1, CLDL_LISTING);
    cld_listing_free(*box);
    *box = NULL;
    return 0;
}

static cld_listing **new_listing(lua_State *L) {
    cld_listing **box = lua_newuserdatauv(L, sizeof *box, 0);
    *box = NULL;
    luaL_setmetatable(L, CLDL_LISTING);
    return box;
}

/* The fields layout = "auto"|"classes"|"plain" and classes = {names} of the table at arg, if there is one. The names
 * stay on the stack. */
static cld_listing_options check_options(lua_State *L, int arg, const char *function,
                                         const char *const *names) {
    static const char *const layouts[] = {"auto", "classes", "plain", NULL};
    cld_listing_options o = {0};
    if (lua_isnoneornil(L, arg)) return o;
    luaL_checktype(L, arg, LUA_TTABLE);
    cldL_check_fields(L, arg, function, names);
    const char *layout = cldL_field_string(L, arg, "layout", "auto");
    while (layouts[o.layout] && strcmp(layouts[o.layout], layout) != 0) o.layout++;
    luaL_argcheck(L, layouts[o.layout], arg, "layout must be auto, classes or plain");
    lua_getfield(L, arg, "classes");
    if (lua_isnil(L, -1)) return o;
    int list = lua_gettop(L);
    luaL_argcheck(L, lua_istable(L, list), arg, "classes must be a list of names");
    o.class_count = (size_t)luaL_len(L, list);
    const char **classes = lua_newuserdatauv(L, (o.class_count + 1) * sizeof *classes, 0);
    for (size_t i = 0; i < o.class_count; i++) {
        luaL_argcheck(L, lua_geti(L, list, (lua_Integer)i + 1) == LUA_TSTRING, arg,
                      "classes must be a list of names");
        classes[i] = lua_tostring(L, -1); /* the list keeps it */
        lua_pop(L, 1);
    }
    o.classes = classes;
    return o;
}

/* Pushes the strings as a list. */
static void push_strings(lua_State *L, const cld_strings *s) {
    lua_newtable(L);
    for (size_t at = 0, i = 1; at < s->used; at += strlen(s->bytes + at) + 1, i++) {
        lua_pushstring(L, s->bytes + at);
        lua_rawseti(L, -2, (lua_Integer)i);
    }
}

/* --- cld.files.list(folder[, {layout, classes, bear = false}]) -> listing, {problem, ...}: the image files
 * below a folder and their classes. Problems are errors; with bear those files are left out and the problems
 * listed. Programs use cld.data.folder. */
static int files_list(lua_State *L) {
    const char *folder = check_text(L, 1);
    static const char *const names[] = {"bear", "classes", "layout", NULL};
    cld_strings problems = {0};
    cld_listing_options o = check_options(L, 2, "files.list", names);
    if (lua_istable(L, 2) && cldL_field_boolean(L, 2, "bear", false)) o.problems = &problems;
    void **block = new_block(L);
    cld_listing **box = new_listing(L);
    *box = cld_listing_new(folder, &o);
    *block = problems.bytes;
    if (!*box) return cldL_raise(L);
    push_strings(L, &problems);
    return 2;
}

/* --- cld.files.find_split(root, "train"|"test"|"val") -> folder: the folder below root that holds the split. */
static int files_find_split(lua_State *L) {
    static const char *const splits[] = {"train", "test", "val", NULL};
    const char *root = check_text(L, 1);
    cld_split split = (cld_split)luaL_checkoption(L, 2, "train", splits);
    void **block = new_block(L);
    char *folder = cld_find_split(root, split);
    *block = folder;
    if (!folder) return cldL_raise(L);
    lua_pushstring(L, folder);
    return 1;
}

/* l:check_same_classes(test): an error that names a class which only one of the two has */
static int listing_check_same_classes(lua_State *L) {
    cld_listing *train = check_listing(L), **test = luaL_checkudata(L, 2, CLDL_LISTING);
    luaL_argcheck(L, *test, 2, "the listing was closed");
    cldL_check_status(L, cld_listing_check_same_classes(train, *test));
    return 0;
}

static int listing_length(lua_State *L) {
    lua_pushinteger(L, check_listing(L)->count);
    return 1;
}

/* l:path(i), from 1 */
static int listing_path(lua_State *L) {
    const cld_listing *l = check_listing(L);
    lua_Integer i = luaL_checkinteger(L, 2);
    luaL_argcheck(L, i >= 1 && i <= l->count, 2, "no image has this number");
    char measure[1];
    size_t length = cld_listing_path(l, i - 1, measure, sizeof measure);
    luaL_Buffer b;
    char *path = luaL_buffinitsize(L, &b, length + 1);
    luaL_pushresultsize(&b, cld_listing_path(l, i - 1, path, length + 1));
    return 1;
}

/* l:labels() -> i64 (N) */
static int listing_labels(lua_State *L) {
    const cld_listing *l = check_listing(L);
    cld_tensor **t = cldL_new_tensor(L);
    *t = cld_tensor_new(CLD_I64, 1, &l->count, cld_cpu_backend());
    if (!*t) return cldL_raise(L);
    cldL_check_status(L, cld_tensor_from_host(*t, l->labels, (size_t)l->count * sizeof *l->labels));
    return 1;
}

/* l:class_names() -> a list, sorted; empty without classes */
static int listing_class_names(lua_State *L) {
    const cld_listing *l = check_listing(L);
    lua_createtable(L, (int)l->classes, 0);
    for (int64_t c = 0; c < l->classes; c++) {
        lua_pushstring(L, cld_listing_class_name(l, c));
        lua_rawseti(L, -2, c + 1);
    }
    return 1;
}

/* l:unreadable() -> {BMP = 3, ...}, "3 BMP, ..."; an empty table and "" if no image was left out because of its kind */
static int listing_unreadable(lua_State *L) {
    const cld_listing *l = check_listing(L);
    char text[128];
    lua_newtable(L);
    for (int k = 0; k < CLD_UNREADABLE_KINDS; k++) {
        if (l->unreadable[k] == 0) continue;
        lua_pushinteger(L, l->unreadable[k]);
        lua_setfield(L, -2, cld_unreadable_name((cld_image_kind)k));
    }
    cld_unreadable_text(text, sizeof text, l->unreadable);
    lua_pushstring(L, text);
    return 2;
}

/* l:digest() -> an integer, from the paths below the root and the labels */
static int listing_digest(lua_State *L) {
    lua_pushinteger(L, (lua_Integer)cld_listing_digest(check_listing(L)));
    return 1;
}

/* l:members() -> i64 (N), from 0: which member of the archive each image is; nil for files */
static int listing_members(lua_State *L) {
    const cld_listing *l = check_listing(L);
    if (!l->members) return 0;
    cld_tensor **t = cldL_new_tensor(L);
    *t = cld_tensor_new(CLD_I64, 1, &l->count, cld_cpu_backend());
    if (!*t) return cldL_raise(L);
    cldL_check_status(L, cld_tensor_from_host(*t, l->members, (size_t)l->count * sizeof *l->members));
    return 1;
}

/* ---- archives ------------------------------------------------------------------------------------------ */

cld_tar *cldL_check_tar(lua_State *L, int arg) {
    cld_tar **box = luaL_checkudata(L, arg, CLDL_TAR);
    luaL_argcheck(L, *box, arg, "the archive was closed");
    return *box;
}

static cld_tar *check_tar(lua_State *L) { return cldL_check_tar(L, 1); }

static int tar_close(lua_State *L) {
    cld_tar **box = luaL_checkudata(L, 1, CLDL_TAR);
    cld_tar_free(*box);
    *box = NULL;
    return 0;
}

static int new_tar(lua_State *L, cld_tar *(*how)(const char *path)) {
    const char *path = check_text(L, 1);
    cld_tar **box = lua_newuserdatauv(L, sizeof *box, 0);
    *box = NULL;
    luaL_setmetatable(L, CLDL_TAR);
    *box = how(path);
    return cldL_result(L, *box);
}

/* --- cld.files.tar(path) -> archive: the members of a .tar archive, from the index beside it if there is one. */
static int files_tar(lua_State *L) { return new_tar(L, cld_tar_open); }
/* --- cld.files.scan_tar(path) -> archive: the same, but always reads the whole archive and not its index. */
static int files_scan_tar(lua_State *L) { return new_tar(L, cld_tar_scan); }

static int tar_length(lua_State *L) {
    lua_pushinteger(L, check_tar(L)->count);
    return 1;
}

/* t:member(i), from 1 -> name, offset, size */
static int tar_member(lua_State *L) {
    const cld_tar *t = check_tar(L);
    lua_Integer i = luaL_checkinteger(L, 2);
    luaL_argcheck(L, i >= 1 && i <= t->count, 2, "no member has this number");
    lua_pushstring(L, cld_tar_name(t, i - 1));
    lua_pushinteger(L, t->offsets[i - 1]);
    lua_pushinteger(L, t->sizes[i - 1]);
    return 3;
}

/* t:index() -> the path of the index file, and whether it existed before; or nil and why there is none */
static int tar_index(lua_State *L) {
    const cld_tar *t = check_tar(L);
    lua_pushstring(L, t->index); /* NULL pushes nil */
    if (t->index)
        lua_pushboolean(L, t->was_indexed);
    else
        lua_pushstring(L, t->problem);
    return 2;
}

/* t:list([{inside =, layout =, classes =}]) -> a listing */
static int tar_list(lua_State *L) {
    const cld_tar *t = check_tar(L);
    static const char *const names[] = {"classes", "inside", "layout", NULL};
    cld_listing_options o = check_options(L, 2, "tar:list", names);
    const char *inside = lua_istable(L, 2) ? cldL_field_string(L, 2, "inside", NULL) : NULL;
    cld_listing **box = new_listing(L);
    *box = cld_tar_listing_new(t, inside, &o);
    return cldL_result(L, *box);
}

/* ---- ImageNet's development kit ------------------------------------------------------------------------ */

static int devkit_gc(lua_State *L) {
    cld_devkit **box = luaL_checkudata(L, 1, CLDL_DEVKIT);
    cld_devkit_free(*box);
    *box = NULL;
    return 0;
}

/* --- cld.files.devkit(path) -> {id, ...}: the WordNet id of each validation image, in order, from ImageNet's
 * development kit. */
static int files_devkit(lua_State *L) {
    const char *path = check_text(L, 1);
    cld_devkit **box = lua_newuserdatauv(L, sizeof *box, 0);
    *box = NULL;
    luaL_setmetatable(L, CLDL_DEVKIT);
    const cld_devkit *d = *box = cld_devkit_open(path);
    if (!d) return cldL_raise(L);
    lua_createtable(L, (int)d->count, 0);
    for (int64_t i = 0; i < d->count; i++) {
        lua_pushstring(L, d->wnids[d->numbers[i]]);
        lua_rawseti(L, -2, i + 1);
    }
    return 1;
}

/* ---- the table ----------------------------------------------------------------------------------------- */

static void new_type(lua_State *L, const char *name, lua_CFunction close, const luaL_Reg *methods) {
    luaL_newmetatable(L, name);
    lua_pushcfunction(L, close);
    lua_setfield(L, -2, "__gc");
    lua_pushcfunction(L, close);
    lua_setfield(L, -2, "__close");
    if (methods) {
        lua_newtable(L);
        luaL_setfuncs(L, methods, 0);
        lua_setfield(L, -2, "__index");
    }
}

int cldL_open_files(lua_State *L) {
    static const luaL_Reg of_listings[] = {
        {"check_same_classes", listing_check_same_classes},
        {"class_names", listing_class_names},
        {"close", listing_close},
        {"digest", listing_digest},
        {"labels", listing_labels},
        {"members", listing_members},
        {"path", listing_path},
        {"unreadable", listing_unreadable},
        {NULL, NULL},
    };
    static const luaL_Reg of_archives[] = {
        {"close", tar_close}, {"index", tar_index}, {"list", tar_list}, {"member", tar_member}, {NULL, NULL},
    };
    static const luaL_Reg functions[] = {
        {"devkit", files_devkit}, {"find_split", files_find_split},
        {"list", files_list},     {"scan_tar", files_scan_tar},
        {"tar", files_tar},       {NULL, NULL},
    };
    new_type(L, CLDL_BLOCK, block_gc, NULL);
    new_type(L, CLDL_LISTING, listing_close, of_listings);
    lua_pushcfunction(L, listing_length);
    lua_setfield(L, -2, "__len");
    new_type(L, CLDL_TAR, tar_close, of_archives);
    lua_pushcfunction(L, tar_length);
    lua_setfield(L, -2, "__len");
    new_type(L, CLDL_DEVKIT, devkit_gc, NULL);
    lua_pop(L, 4);
    luaL_newlib(L, functions);
    return 1;
}
