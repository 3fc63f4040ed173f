/* --- cld.io: files: cld.load and cld.save (safetensors; PyTorch's files in torch_file.c), .npy, whole files, folders. */
#include "bindings/bindings.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/io/keep.h"
#include "runtime/io/npy.h"
#include "runtime/io/safetensors.h"
#include "runtime/io/torch_file.h"
#include "runtime/io/tsv.h"

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

/* A string without embedded zeros, which C would cut short. */
static const char *check_text(lua_State *L, int arg) {
    size_t length;
    const char *text = luaL_checklstring(L, arg, &length);
    luaL_argcheck(L, strlen(text) == length, arg, "the string holds a zero byte");
    return text;
}

void cldL_check_saved(lua_State *L, cld_status status) {
    cldL_check_status(L, status);
    char shown[2048]; /* a path may hold anything */
    const char *warning = cld_writer_warning();
    if (!warning) return;
    cld_printable(shown, sizeof shown, warning, strlen(warning), CLD_ONE_LINE);
    fprintf(stderr, "cldlua: warning: %s\n", shown);
}

/* ---- safetensors --------------------------------------------------------------------------------------- */

/* Pushes the file's metadata, {key = string}. */
static void push_metadata(lua_State *L, const cld_safetensors *file) {
    lua_createtable(L, 0, (int)file->metadata_count);
    for (size_t i = 0; i < file->metadata_count; i++) {
        const cld_safetensors_fact *fact = &file->metadata[i];
        lua_pushlstring(L, fact->key.data, fact->key.length);
        lua_pushlstring(L, fact->value.data, fact->value.length);
        lua_rawset(L, -3);
    }
}

/* --- cld.load(path) -> {name = tensor}, {key = string}, {name = why that tensor could not be read},
 * cld.io.load(path) -> {name = tensor}, {key = string}, {name = why that tensor could not be read}: a file,
 * whose content tells what it is: safetensors, or PyTorch's (.pth, .pt, .pth.tar, .t7; help "checkpoint"),
 * of which the first result is the value and the second {format = string}. No code of the file runs.
 *
 *     cld.save("weights.safetensors", { w = cld.ones(2, 2) }, { made = "today" })
 *     local tensors, notes = cld.load "weights.safetensors"
 *     print(tensors.w:sum():item(), notes.made)  --> 4.0 today */
static int io_load(lua_State *L) {
    const char *path = check_text(L, 1);
    bool is_torch;
    cldL_check_status(L, cld_torch_recognise(path, &is_torch));
    if (is_torch) return cldL_load_torch(L, path);
    guard *g = new_guard(L, release_file);
    cld_safetensors *file = g->held = cld_safetensors_open(path);
    if (!file) return cldL_raise(L);
    lua_createtable(L, 0, (int)file->count);
    push_metadata(L, file);
    lua_newtable(L);
    int tensors = lua_gettop(L) - 2, unread = tensors + 2;
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
    release(g);
    return 3;
}

/* --- load_metadata(path) -> {key = string}: of a safetensors file, of which no tensor is read */
static int io_load_metadata(lua_State *L) {
    const char *path = check_text(L, 1);
    guard *g = new_guard(L, release_file);
    cld_safetensors *file = g->held = cld_safetensors_open(path);
    if (!file) return cldL_raise(L);
    push_metadata(L, file);
    release(g);
    return 1;
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

/* What a save writes. */
typedef struct contents {
    cld_named_tensor *tensors;
    cld_metadata *metadata;
    size_t count, metadata_count;
} contents;

/* The tables at `arg`, the tensors, and after it, the metadata, if any. What is pointed to stays on the stack. */
static contents check_contents(lua_State *L, int arg) {
    luaL_checktype(L, arg, LUA_TTABLE);
    if (lua_isnoneornil(L, arg + 1)) {
        lua_settop(L, arg);
        lua_newtable(L);
    }
    luaL_checktype(L, arg + 1, LUA_TTABLE);
    lua_settop(L, arg + 1);
    lua_newtable(L);      /* arg + 2: keeps the metadata's values, numbers turned into strings, alive */
    cldL_use_c_locale(L); /* a number of the metadata is 1.5 in any */
    contents c = {.count = count_pairs(L, arg), .metadata_count = count_pairs(L, arg + 1)};
    c.tensors = new_list(L, c.count, sizeof *c.tensors);
    c.metadata = new_list(L, c.metadata_count, sizeof *c.metadata);
    cld_named_tensor *tensor = c.tensors;
    for (lua_pushnil(L); lua_next(L, arg); lua_pop(L, 1), tensor++) {
        tensor->name = check_key(L, arg);
        tensor->tensor = cldL_test_tensor(L, -1);
        if (!tensor->tensor)
            luaL_argerror(L, arg,
                          lua_pushfstring(L, "'%s' is not an open tensor but a %s", tensor->name,
                                          luaL_typename(L, -1)));
    }
    cld_metadata *entry = c.metadata;
    for (lua_pushnil(L); lua_next(L, arg + 1); lua_pop(L, 1), entry++) {
        size_t length;
        entry->key = (char *)check_key(L, arg + 1);
        if (lua_istable(L, -1) || lua_isfunction(L, -1))
            luaL_argerror(L, arg + 1,
                          lua_pushfstring(L, "'%s' is a %s; metadata are strings (see cld.json.encode)",
                                          entry->key, luaL_typename(L, -1)));
        entry->value = (char *)luaL_tolstring(L, -1, &length);
        if (strlen(entry->value) != length)
            luaL_argerror(L, arg + 1, lua_pushfstring(L, "'%s' holds a zero byte", entry->key));
        lua_setfield(L, arg + 2, entry->key);
    }
    return c;
}

/* --- cld.save(path, {name = tensor}[, {key = string, number or boolean}]), cld.io.save(path, {name =
 * tensor}[, {key = string, number or boolean}]): writes a safetensors file, under a temporary name first, so
 * that the old file stays until the new one is whole. */
static int io_save(lua_State *L) {
    const char *path = check_text(L, 1);
    contents c = check_contents(L, 2);
    cldL_check_saved(L, cld_safetensors_save(path, c.tensors, c.count, c.metadata, c.metadata_count));
    return 0;
}

/* ---- .npy ---------------------------------------------------------------------------------------------- */

/* --- cld.io.load_npy(path) -> tensor: a NumPy file. */
static int io_load_npy(lua_State *L) {
    const char *path = check_text(L, 1);
    cld_tensor **t = cldL_new_tensor(L);
    *t = cld_npy_load(path);
    return cldL_result(L, *t);
}

/* --- cld.io.save_npy(path, tensor): writes a NumPy file of format 1.0; bf16 has no place in it. */
static int io_save_npy(lua_State *L) {
    cldL_check_saved(L, cld_npy_save(check_text(L, 1), cldL_check_tensor(L, 2)));
    return 0;
}

/* --- save_tsv(path, f32 (rows, columns)): a row a line, tabs between the columns */
static int io_save_tsv(lua_State *L) {
    cldL_check_saved(L, cld_tsv_save(check_text(L, 1), cldL_check_tensor(L, 2)));
    return 0;
}

/* ---- files and folders --------------------------------------------------------------------------------- */

/* --- cld.io.write_atomic(path, string): writes a whole file; the old one stays until the new one is on the
 * disk. */
static int io_write_atomic(lua_State *L) {
    const char *path = check_text(L, 1);
    size_t bytes;
    const char *data = luaL_checklstring(L, 2, &bytes);
    cld_writer w;
    cldL_check_status(L, cld_writer_open(&w, path));
    cld_writer_put(&w, data, bytes);
    cldL_check_saved(L, cld_writer_commit(&w));
    return 0;
}

/* --- cld.io.mkdir(path) -> boolean: makes the folder and those above it; true if it is new. */
static int io_mkdir(lua_State *L) {
    bool created;
    cldL_check_status(L, cld_make_folder(check_text(L, 1), 0777, &created));
    lua_pushboolean(L, created);
    return 1;
}

/* NULL for none. */
static const char *kind_name(cld_path_kind kind) {
    static const char *const names[] = {[CLD_PATH_NONE] = NULL,
                                        [CLD_PATH_FILE] = "file",
                                        [CLD_PATH_FOLDER] = "folder",
                                        [CLD_PATH_OTHER] = "other"};
    return names[kind];
}

/* --- cld.io.exists(path) -> "file", "folder", "other" or nil: what is there. */
static int io_exists(lua_State *L) {
    lua_pushstring(L, kind_name(cld_path(check_text(L, 1)))); /* NULL pushes nil */
    return 1;
}

static guard *new_names(lua_State *L) { return new_guard(L, release_names); }

/* Pushes a list of the names, and frees them. */
static int push_names(lua_State *L, guard *g) {
    char **names = g->held;
    lua_createtable(L, (int)g->count, 0);
    for (size_t i = 0; i < g->count; i++) {
        lua_pushstring(L, names[i]);
        lua_rawseti(L, -2, (lua_Integer)i + 1);
    }
    release(g);
    return 1;
}

/* --- cld.io.list(path) -> {name, ...}: the names in the folder, sorted. */
static int io_list(lua_State *L) {
    const char *path = check_text(L, 1);
    guard *g = new_names(L);
    char **names = NULL;
    cldL_check_status(L, cld_list_folder(path, &names, &g->count));
    g->held = names;
    return push_names(L, g);
}

/* ---- held folders -------------------------------------------------------------------------------------- */

#define FOLDER "cld.io.folder"

static cld_folder *check_folder(lua_State *L) {
    cld_folder *f = luaL_checkudata(L, 1, FOLDER);
    luaL_argcheck(L, f->fd >= 0, 1, "the folder is closed");
    return f;
}

static int hold(lua_State *L, cld_status (*how)(cld_folder *f, const char *path)) {
    const char *path = check_text(L, 1);
    cld_folder *f = lua_newuserdatauv(L, sizeof *f, 0);
    *f = (cld_folder){.fd = -1};
    luaL_setmetatable(L, FOLDER);
    cldL_check_status(L, how(f, path));
    return f->fd >= 0;
}

/* --- cld.io.lock(folder) -> folder or nil: held by its descriptor and marked as in use until it is closed
 * or collected; nil if another process holds it. */
static int io_lock(lua_State *L) { return hold(L, cld_folder_open); }

/* --- cld.io.claim(folder) -> folder or nil: as lock, and the folder is made if there is none. One that was
 * made, and is still empty when it is closed, is removed again. */
static int io_claim(lua_State *L) { return hold(L, cld_folder_claim); }

static int folder_close(lua_State *L) {
    cld_folder_close(luaL_checkudata(L, 1, FOLDER));
    return 0;
}

/* f:locked() -> false on a file system that cannot lock folders */
static int folder_locked(lua_State *L) {
    lua_pushboolean(L, check_folder(L)->locked);
    return 1;
}

/* f:where() -> the path at which the folder lies now; nil once it has been removed */
static int folder_where(lua_State *L) {
    cld_folder *f = check_folder(L);
    guard *g = new_guard(L, release_memory);
    g->held = cld_folder_where(f);
    lua_pushstring(L, g->held); /* NULL pushes nil */
    release(g);
    return 1;
}

/* f:exists(name) -> as exists(path) */
static int folder_exists(lua_State *L) {
    lua_pushstring(L, kind_name(cld_folder_has(check_folder(L), check_text(L, 2))));
    return 1;
}

/* f:list() -> as list(path) */
static int folder_list(lua_State *L) {
    cld_folder *f = check_folder(L);
    guard *g = new_names(L);
    char **names = NULL;
    cldL_check_status(L, cld_folder_list(f, &names, &g->count));
    g->held = names;
    return push_names(L, g);
}

/* f:read(name) -> the file's content, or nil when there is none */
static int folder_read(lua_State *L) {
    cld_folder *f = check_folder(L);
    const char *name = check_text(L, 2);
    cld_reader r;
    if (cld_folder_has(f, name) == CLD_PATH_NONE) return 0;
    guard *g = new_guard(L, release_memory);
    cldL_check_status(L, cld_reader_open_in(&r, f, name));
    g->held = malloc(r.bytes + 1);
    cld_status status = g->held ? cld_reader_get(&r, g->held, 0, r.bytes)
                                : cld_fail(CLD_NOMEM, "out of memory for the file '%s'", r.path);
    size_t bytes = r.bytes;
    cld_reader_close(&r);
    cldL_check_status(L, status);
    lua_pushlstring(L, g->held, bytes);
    release(g);
    return 1;
}

/* f:write(name, string): as write_atomic */
static int folder_write(lua_State *L) {
    cld_folder *f = check_folder(L);
    const char *name = check_text(L, 2);
    size_t bytes;
    const char *data = luaL_checklstring(L, 3, &bytes);
    cld_writer w;
    cldL_check_status(L, cld_writer_open_in(&w, f, name));
    cld_writer_put(&w, data, bytes);
    cldL_check_saved(L, cld_writer_commit(&w));
    return 0;
}

/* f:save(name, tensors[, metadata]): as save */
static int folder_save(lua_State *L) {
    cld_folder *f = check_folder(L);
    const char *name = check_text(L, 2);
    contents c = check_contents(L, 3);
    cld_writer w;
    cldL_check_status(L, cld_writer_open_in(&w, f, name));
    cldL_check_saved(L, cld_safetensors_write(&w, c.tensors, c.count, c.metadata, c.metadata_count));
    return 0;
}

/* f:append(name, line): a line more of a text file; "" only makes it */
static int folder_append(lua_State *L) {
    cld_folder *f = check_folder(L);
    const char *name = check_text(L, 2);
    size_t bytes;
    const char *line = luaL_checklstring(L, 3, &bytes);
    cldL_check_status(L, cld_append_line(f, name, line, bytes));
    return 0;
}

/* f:remove_leftover(name): a temporary that no writer has any more */
static int folder_remove_leftover(lua_State *L) {
    cld_folder_remove_leftover(check_folder(L), check_text(L, 2));
    return 0;
}

/* --- folder:keep(name, as): the file gets a further name, in place of what was there, and nothing is written twice
 * (runtime/io/keep.h). */
static int folder_keep(lua_State *L) {
    cldL_check_saved(L, cld_keep_as(check_folder(L), check_text(L, 2), check_text(L, 3)));
    return 0;
}

/* --- folder:remove(name): a file of the folder; none is fine */
static int folder_remove(lua_State *L) {
    cldL_check_status(L, cld_folder_remove(check_folder(L), check_text(L, 2)));
    return 0;
}

static void register_types(lua_State *L) {
    static const luaL_Reg of_folders[] = {
        {"close", folder_close},
        {"locked", folder_locked},
        {"where", folder_where},
        {"exists", folder_exists},
        {"list", folder_list},
        {"read", folder_read},
        {"write", folder_write},
        {"save", folder_save},
        {"append", folder_append},
        {"keep", folder_keep},
        {"remove", folder_remove},
        {"remove_leftover", folder_remove_leftover},
        {NULL, NULL},
    };
    const struct {
        const char *name;
        lua_CFunction close;
    } types[] = {{GUARD, guard_gc}, {FOLDER, folder_close}};
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        luaL_newmetatable(L, types[i].name);
        lua_pushcfunction(L, types[i].close);
        lua_setfield(L, -2, "__gc");
        lua_pushcfunction(L, types[i].close);
        lua_setfield(L, -2, "__close");
        lua_pop(L, 1);
    }
    luaL_getmetatable(L, FOLDER);
    luaL_newlib(L, of_folders);
    lua_setfield(L, -2, "__index");
    lua_pop(L, 1);
}

int cldL_open_io(lua_State *L) {
    static const luaL_Reg functions[] = {
        {"load", io_load},
        {"is_torch", cldL_is_torch},
        {"load_metadata", io_load_metadata},
        {"save", io_save},
        {"load_npy", io_load_npy},
        {"save_npy", io_save_npy},
        {"save_tsv", io_save_tsv},
        {"write_atomic", io_write_atomic},
        {"writer", cldL_writer},
        {"mkdir", io_mkdir},
        {"exists", io_exists},
        {"list", io_list},
        {"lock", io_lock},
        {"claim", io_claim},
        {NULL, NULL},
    };
    register_types(L);
    luaL_newlib(L, functions);
    cldL_add_torch(L);
    cldL_add_events(L);
    return 1;
}
