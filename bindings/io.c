/* cld.io: safetensors (also cld.load and cld.save), .npy, whole files, folders. */
#include "bindings/bindings.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "runtime/io/npy.h"
#include "runtime/io/safetensors.h"

/* C memory that a Lua error must not leak: a userdata that knows how to free what it holds. */
typedef struct guard {
    void *held;
    size_t count;
    void (*release)(struct guard *g);
} guard;

#define GUARD "cld.io.guard"

static void release(guard *g) {
    if (g->held) g->release(g);
    g->held = NULL;
}

static int guard_gc(lua_State *L) {
    release(luaL_checkudata(L, 1, GUARD));
    return 0;
}

static guard *new_guard(lua_State *L, void (*how)(guard *g)) {
    guard *g = lua_newuserdatauv(L, sizeof *g, 0);
    *g = (guard){.release = how};
    luaL_setmetatable(L, GUARD);
    return g;
}

static void release_file(guard *g) { cld_safetensors_close(g->held); }
static void release_memory(guard *g) { free(g->held); }
static void release_names(guard *g) { cld_free_names(g->held, g->count); }

static void release_lock(guard *g) { close((int)g->count); }

/* A string without embedded zeros, which C would cut short. */
static const char *check_text(lua_State *L, int arg) {
    size_t length;
    const char *text = luaL_checklstring(L, arg, &length);
    luaL_argcheck(L, strlen(text) == length, arg, "the string holds a zero byte");
    return text;
}

/* What every save ends with: an error is raised; what else the writer has to say goes to stderr. */
static void check_saved(lua_State *L, cld_status status) {
    cldL_check_status(L, status);
    const char *warning = cld_writer_warning();
    if (warning) fprintf(stderr, "cldlua: warning: %s\n", warning);
}

/* ---- safetensors --------------------------------------------------------------------------------------- */

/* load(path) -> {name = tensor}, {key = string}, {name = why that tensor could not be read} */
static int io_load(lua_State *L) {
    const char *path = check_text(L, 1);
    guard *g = new_guard(L, release_file);
    cld_safetensors *file = g->held = cld_safetensors_open(path);
    if (!file) return cldL_raise(L);
    lua_createtable(L, 0, (int)file->count);
    lua_createtable(L, 0, (int)file->metadata_count);
    lua_newtable(L);
    int tensors = lua_gettop(L) - 2, metadata = tensors + 1, unread = tensors + 2;
    for (size_t i = 0; i < file->count; i++) {
        lua_pushlstring(L, file->entries[i].name.data, file->entries[i].name.length);
        cld_tensor **t = cldL_new_tensor(L);
        *t = cld_safetensors_read(file, i);
        if (!*t && cld_error_code() != CLD_UNSUPPORTED) return cldL_raise(L);
        bool is_read = *t != NULL;
        if (!is_read) {
            lua_pop(L, 1);
            lua_pushstring(L, cld_error_message());
        }
        lua_rawset(L, is_read ? tensors : unread);
    }
    for (size_t i = 0; i < file->metadata_count; i++) {
        const cld_safetensors_fact *fact = &file->metadata[i];
        lua_pushlstring(L, fact->key.data, fact->key.length);
        lua_pushlstring(L, fact->value.data, fact->value.length);
        lua_rawset(L, metadata);
    }
    release(g);
    return 3;
}

/* The key below the value on the top of the stack (lua_next's), which must be a string. */
static const char *check_key(lua_State *L, int arg) {
    if (lua_type(L, -2) != LUA_TSTRING)
        luaL_argerror(L, arg, lua_pushfstring(L, "its keys must be names, found a %s", luaL_typename(L, -2)));
    size_t length;
    const char *key = lua_tolstring(L, -2, &length);
    if (strlen(key) != length) luaL_argerror(L, arg, "a name holds a zero byte");
    return key;
}

static size_t count_pairs(lua_State *L, int arg) {
    size_t count = 0;
    for (lua_pushnil(L); lua_next(L, arg); lua_pop(L, 1)) count++;
    return count;
}

/* `count` zeroed elements that live until the binding returns. */
static void *new_list(lua_State *L, size_t count, size_t size) {
    guard *g = new_guard(L, release_memory);
    g->held = calloc(count + 1, size);
    if (!g->held) luaL_error(L, "out of memory for a list of %d entries", (int)count);
    return g->held;
}

/* save(path, {name = tensor}[, {key = string or number or boolean}]) */
static int io_save(lua_State *L) {
    const char *path = check_text(L, 1);
    luaL_checktype(L, 2, LUA_TTABLE);
    if (lua_isnoneornil(L, 3)) {
        lua_settop(L, 2);
        lua_newtable(L);
    }
    luaL_checktype(L, 3, LUA_TTABLE);
    lua_settop(L, 3);
    lua_newtable(L); /* 4: keeps the metadata's values, numbers turned into strings, alive */
    size_t count = count_pairs(L, 2), metadata_count = count_pairs(L, 3), i = 0;
    cld_named_tensor *tensors = new_list(L, count, sizeof *tensors);
    cld_metadata *metadata = new_list(L, metadata_count, sizeof *metadata);
    for (lua_pushnil(L); lua_next(L, 2); lua_pop(L, 1)) {
        tensors[i].name = check_key(L, 2);
        tensors[i].tensor = cldL_test_tensor(L, -1);
        if (!tensors[i].tensor)
            return luaL_argerror(L, 2,
                                 lua_pushfstring(L, "'%s' is not an open tensor but a %s", tensors[i].name,
                                                 luaL_typename(L, -1)));
        i++;
    }
    i = 0;
    for (lua_pushnil(L); lua_next(L, 3); lua_pop(L, 1)) {
        size_t length;
        metadata[i].key = (char *)check_key(L, 3);
        if (lua_istable(L, -1) || lua_isfunction(L, -1))
            return luaL_argerror(L, 3,
                                 lua_pushfstring(L,
                                                 "'%s' is a %s; metadata are strings (see cld.json.encode)",
                                                 metadata[i].key, luaL_typename(L, -1)));
        metadata[i].value = (char *)luaL_tolstring(L, -1, &length);
        if (strlen(metadata[i].value) != length)
            return luaL_argerror(L, 3, lua_pushfstring(L, "'%s' holds a zero byte", metadata[i].key));
        lua_setfield(L, 4, metadata[i].key);
        i++;
    }
    check_saved(L, cld_safetensors_save(path, tensors, count, metadata, metadata_count));
    return 0;
}

/* ---- .npy ---------------------------------------------------------------------------------------------- */

static int io_load_npy(lua_State *L) {
    const char *path = check_text(L, 1);
    cld_tensor **t = cldL_new_tensor(L);
    *t = cld_npy_load(path);
    return cldL_result(L, *t);
}

static int io_save_npy(lua_State *L) {
    check_saved(L, cld_npy_save(check_text(L, 1), cldL_check_tensor(L, 2)));
    return 0;
}

/* ---- files and folders --------------------------------------------------------------------------------- */

/* write_atomic(path, string): the old file stays until the new one is on the disk. */
static int io_write_atomic(lua_State *L) {
    const char *path = check_text(L, 1);
    size_t bytes;
    const char *data = luaL_checklstring(L, 2, &bytes);
    cld_writer w;
    cldL_check_status(L, cld_writer_open(&w, path));
    cld_writer_put(&w, data, bytes);
    check_saved(L, cld_writer_commit(&w));
    return 0;
}

/* mkdir(path) -> true where the folder is new; missing parents are made too. */
static int io_mkdir(lua_State *L) {
    bool created;
    cldL_check_status(L, cld_make_folder(check_text(L, 1), 0777, &created));
    lua_pushboolean(L, created);
    return 1;
}

/* exists(path) -> "file", "folder", "other" or nil */
static int io_exists(lua_State *L) {
    static const char *const names[] = {[CLD_PATH_NONE] = NULL,
                                        [CLD_PATH_FILE] = "file",
                                        [CLD_PATH_FOLDER] = "folder",
                                        [CLD_PATH_OTHER] = "other"};
    lua_pushstring(L, names[cld_path(check_text(L, 1))]); /* NULL pushes nil */
    return 1;
}

/* list(path) -> the names in the folder, sorted */
static int io_list(lua_State *L) {
    const char *path = check_text(L, 1);
    guard *g = new_guard(L, release_names);
    char **names = NULL;
    cldL_check_status(L, cld_list_folder(path, &names, &g->count));
    g->held = names;
    lua_createtable(L, (int)g->count, 0);
    for (size_t i = 0; i < g->count; i++) {
        lua_pushstring(L, names[i]);
        lua_rawseti(L, -2, (lua_Integer)i + 1);
    }
    release(g);
    return 1;
}

/* lock(folder) -> a value that keeps the folder marked as in use until it is closed or collected; nil where it is
 * marked already. */
static int io_lock(lua_State *L) {
    const char *path = check_text(L, 1);
    guard *g = new_guard(L, release_lock);
    int lock;
    cldL_check_status(L, cld_lock_folder(path, &lock));
    if (lock < 0) return 0;
    g->count = (size_t)lock;
    g->held = g;
    return 1;
}

int cldL_open_io(lua_State *L) {
    static const luaL_Reg functions[] = {
        {"load", io_load},
        {"save", io_save},
        {"load_npy", io_load_npy},
        {"save_npy", io_save_npy},
        {"write_atomic", io_write_atomic},
        {"mkdir", io_mkdir},
        {"exists", io_exists},
        {"list", io_list},
        {"lock", io_lock},
        {NULL, NULL},
    };
    if (luaL_newmetatable(L, GUARD)) {
        lua_pushcfunction(L, guard_gc);
        lua_setfield(L, -2, "__gc");
        lua_pushcfunction(L, guard_gc);
        lua_setfield(L, -2, "__close");
    }
    lua_pop(L, 1);
    luaL_newlib(L, functions);
    return 1;
}
