/* Unwrapping arguments and wrapping results: the functions of bindings.h. */
#include "bindings/bindings.h"
#include "runtime/tensor/device.h"

#include <string.h>

/* ---- errors -------------------------------------------------------------------------------------------------- */

/* These wait for the device, which may report an earlier op's error, or run many ops. Errors keep that op's name. */
static bool reports_others(const char *name) {
    static const char *const names[] = {"backward", "item",    "totable", "to",
                                        "cpu",      "nonzero", "one_hot", "masked_select"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strcmp(name, names[i]) == 0) return true;
    return false;
}

void cldL_set_named(lua_State *L, const luaL_Reg *functions) {
    for (const luaL_Reg *f = functions; f->name; f++) {
        bool named = !reports_others(f->name);
        if (named) lua_pushstring(L, f->name);
        lua_pushcclosure(L, f->func, named);
        lua_setfield(L, -2, f->name);
    }
}

const char *cldL_name(lua_State *L) {
    bool named = lua_type(L, lua_upvalueindex(1)) == LUA_TSTRING;
    return named ? lua_tostring(L, lua_upvalueindex(1)) : NULL;
}

/* The message after "op: " if it begins so and op is a tensor's method; else the whole message. */
static const char *after_op(lua_State *L, const char *message) {
    size_t length = strspn(message, "abcdefghijklmnopqrstuvwxyz0123456789_");
    if (length == 0 || message[length] != ':' || message[length + 1] != ' ') return message;
    int top = lua_gettop(L);
    luaL_getmetatable(L, CLDL_TENSOR);
    lua_getfield(L, -1, "methods");
    lua_pushlstring(L, message, length);
    bool is_op = lua_rawget(L, -2) != LUA_TNIL;
    lua_settop(L, top);
    return is_op ? message + length + 2 : message;
}

int cldL_raise(lua_State *L) {
    const char *message = cld_error_message(), *name = cldL_name(L);
    if (!name) return luaL_error(L, "%s", message);
    size_t length = strlen(name);
    if (strncmp(message, name, length) == 0 && message[length] == ':') return luaL_error(L, "%s", message);
    return luaL_error(L, "%s: %s", name, after_op(L, message));
}

int cldL_result(lua_State *L, const void *result) { return result ? 1 : cldL_raise(L); }

void cldL_check_status(lua_State *L, cld_status status) {
    if (status != CLD_OK) cldL_raise(L);
}

/* ---- tensors ------------------------------------------------------------------------------------------------- */

cld_tensor *cldL_test_tensor(lua_State *L, int arg) {
    cld_tensor **box = luaL_testudata(L, arg, CLDL_TENSOR);
    return box ? *box : NULL;
}

cld_tensor *cldL_check_tensor(lua_State *L, int arg) {
    cld_tensor **box = luaL_checkudata(L, arg, CLDL_TENSOR);
    luaL_argcheck(L, *box, arg, "the tensor was closed");
    return *box;
}

cld_tensor *cldL_opt_tensor(lua_State *L, int arg) {
    return lua_isnoneornil(L, arg) ? NULL : cldL_check_tensor(L, arg);
}

/* To Lua a tensor is a few bytes. So collect once the bytes allocated since the last collection exceed a quarter of
 * those that were alive after it, or COLLECT_BYTES if that is more: dead tensors then cost at most that. */
#define COLLECT_BYTES ((size_t)64 << 20)

/* Of the host and of a GPU together. */
static size_t bytes_in_use(void) {
    const cld_backend *cuda = cld_device_cuda();
    return cld_cpu_backend()->memory->info().in_use + (cuda ? cuda->memory->info().in_use : 0);
}

static void collect_if_due(lua_State *L) {
    static size_t alive_after_collection;
    size_t in_use = bytes_in_use();
    size_t allowed = alive_after_collection / 4 > COLLECT_BYTES ? alive_after_collection / 4 : COLLECT_BYTES;
    if (in_use < alive_after_collection) alive_after_collection = in_use;
    if (in_use - alive_after_collection < allowed) return;
    lua_gc(L, LUA_GCCOLLECT);
    alive_after_collection = bytes_in_use();
}

cld_tensor **cldL_new_tensor(lua_State *L) {
    collect_if_due(L);
    cld_tensor **box = lua_newuserdatauv(L, sizeof *box, 0);
    *box = NULL;
    luaL_setmetatable(L, CLDL_TENSOR);
    cldL_note_tensor(L);
    return box;
}

int cldL_push_tensor(lua_State *L, cld_tensor *t) {
    if (!t) return cldL_raise(L);
    cld_tensor **box = lua_newuserdatauv(L, sizeof *box, 0);
    *box = t;
    luaL_setmetatable(L, CLDL_TENSOR);
    cldL_note_tensor(L);
    return 1;
}

void cldL_check_count(lua_State *L, int most) {
    int top = lua_gettop(L);
    while (top > most && lua_isnil(L, top)) top--;
    if (top > most) luaL_argerror(L, most + 1, "surplus argument");
}

bool cldL_check_flag(lua_State *L, int arg, bool fallback) {
    if (lua_isnoneornil(L, arg)) return fallback;
    luaL_checktype(L, arg, LUA_TBOOLEAN);
    return lua_toboolean(L, arg);
}

int cldL_check_line(lua_State *L, int arg, const cld_tensor *x) {
    return cldL_line(L, arg, luaL_checkinteger(L, arg), x);
}

int cldL_line(lua_State *L, int arg, lua_Integer dim, const cld_tensor *x) {
    int room = x->a.ndim > 0 ? x->a.ndim : 1;
    if (dim < -room || dim > room || dim == 0)
        return luaL_argerror(L, arg,
                             lua_pushfstring(L, "dimension %I of %s; expected 1 to %d, or -%d to -1", dim,
                                             cld_describe(&x->a), room, room));
    return (int)(dim > 0 ? dim - 1 : dim + room);
}

int cldL_check_dim(lua_State *L, int arg, const cld_tensor *x) {
    lua_Integer dim = luaL_checkinteger(L, arg);
    if (x->a.ndim == 0)
        return luaL_argerror(
            L, arg, lua_pushfstring(L, "%s has no dimension %I; it is one number", cld_describe(&x->a), dim));
    return cldL_check_line(L, arg, x);
}

cld_dtype cldL_check_dtype(lua_State *L, int arg) {
    cld_dtype dtype = CLD_F32;
    const char *name = luaL_checkstring(L, arg);
    if (!cld_dtype_parse(name, &dtype))
        luaL_argerror(L, arg, lua_pushfstring(L, "unknown dtype '%s'; expected one of " CLDL_DTYPES, name));
    return dtype;
}

const cld_backend *cldL_check_device(lua_State *L, int arg) {
    const cld_backend *device = cld_device_find(luaL_checkstring(L, arg));
    /* Names no argument: the caller may have passed the name on. */
    if (!device) luaL_error(L, "%s", cld_error_message());
    return device;
}

void cldL_push_memory(lua_State *L, cld_memory_info info) {
    const struct {
        const char *name;
        size_t bytes;
    } fields[] = {
        {"in_use", info.in_use}, {"peak", info.peak}, {"reserved", info.reserved}, {"limit", info.limit}};
    lua_newtable(L);
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++) {
        lua_pushinteger(L, (lua_Integer)fields[i].bytes);
        lua_setfield(L, -2, fields[i].name);
    }
}

int cldL_check_shape(lua_State *L, int arg, int64_t shape[CLD_MAX_DIMS]) {
    bool table = lua_istable(L, arg);
    lua_Integer ndim = table ? luaL_len(L, arg) : lua_gettop(L) - arg + 1;
    luaL_argcheck(L, ndim >= 0, arg, "the shape's length is negative");
    luaL_argcheck(L, ndim <= CLD_MAX_DIMS, arg, "a tensor has at most 8 dimensions");
    for (int i = 0; i < (int)ndim; i++) {
        if (!table) {
            shape[i] = luaL_checkinteger(L, arg + i);
            continue;
        }
        int is_integer;
        lua_geti(L, arg, i + 1);
        shape[i] = lua_tointegerx(L, -1, &is_integer);
        if (!is_integer)
            return luaL_argerror(L, arg,
                                 lua_pushfstring(L, "entry %d of the shape is a %s, not an integer", i + 1,
                                                 luaL_typename(L, -1)));
        lua_pop(L, 1);
    }
    return (int)ndim;
}

/* ---- fields of option tables --------------------------------------------------------------------------------- */

/* Pushes the field; false (and nothing pushed) if it is absent. */
static bool push_field(lua_State *L, int arg, const char *name) {
    if (lua_isnoneornil(L, arg)) return false;
    luaL_checktype(L, arg, LUA_TTABLE);
    if (lua_getfield(L, arg, name) != LUA_TNIL) return true;
    lua_pop(L, 1);
    return false;
}

/* Raises an error about the field whose value is on top: it shows a number, or else the value's type. */
static int field_error(lua_State *L, const char *name, const char *expected) {
    const char *function = cldL_name(L);
    const char *found = lua_type(L, -1) == LUA_TNUMBER ? luaL_tolstring(L, -1, NULL) : luaL_typename(L, -1);
    if (!function) return luaL_error(L, "field '%s': expected %s, got %s", name, expected, found);
    return luaL_error(L, "%s: field '%s': expected %s, got %s", function, name, expected, found);
}

double cldL_field_number(lua_State *L, int arg, const char *name, double fallback) {
    if (!push_field(L, arg, name)) return fallback;
    if (!lua_isnumber(L, -1)) field_error(L, name, "a number");
    double value = lua_tonumber(L, -1);
    lua_pop(L, 1);
    return value;
}

lua_Integer cldL_field_integer(lua_State *L, int arg, const char *name, lua_Integer fallback) {
    if (!push_field(L, arg, name)) return fallback;
    int is_integer;
    lua_Integer value = lua_tointegerx(L, -1, &is_integer);
    if (!is_integer) field_error(L, name, "an integer");
    lua_pop(L, 1);
    return value;
}

bool cldL_field_boolean(lua_State *L, int arg, const char *name, bool fallback) {
    if (!push_field(L, arg, name)) return fallback;
    if (!lua_isboolean(L, -1)) field_error(L, name, "true or false");
    bool value = lua_toboolean(L, -1);
    lua_pop(L, 1);
    return value;
}

const char *cldL_field_string(lua_State *L, int arg, const char *name, const char *fallback) {
    if (!push_field(L, arg, name)) return fallback;
    if (lua_type(L, -1) != LUA_TSTRING) field_error(L, name, "a string");
    return lua_tostring(L, -1);
}

cld_tensor *cldL_field_tensor(lua_State *L, int arg, const char *name) {
    if (!push_field(L, arg, name)) return NULL;
    cld_tensor *value = cldL_test_tensor(L, -1);
    if (!value) field_error(L, name, "a tensor");
    return value;
}

cld_tensor **cldL_check_list(lua_State *L, int arg, int *count) {
    luaL_checktype(L, arg, LUA_TTABLE);
    lua_Integer n = luaL_len(L, arg);
    luaL_argcheck(L, n >= 1, arg, "expected a list of at least one tensor");
    luaL_argcheck(L, n <= INT32_MAX && lua_checkstack(L, (int)n + LUA_MINSTACK), arg, "too many tensors");
    cld_tensor **list = lua_newuserdatauv(L, (size_t)n * sizeof *list, 0);
    for (lua_Integer i = 0; i < n; i++) {
        lua_geti(L, arg, i + 1);
        list[i] = cldL_test_tensor(L, -1);
        if (!list[i])
            luaL_argerror(L, arg,
                          lua_pushfstring(L, "entry %I is a %s, not an open tensor", (LUAI_UACINT)i + 1,
                                          luaL_typename(L, -1)));
    }
    *count = (int)n;
    return list;
}

int cldL_edit_distance(const char *a, const char *b) {
    int row[64], n = (int)strlen(b);
    if (n >= 64 || strlen(a) >= 64) return 64;
    for (int j = 0; j <= n; j++) row[j] = j;
    for (int i = 1; a[i - 1]; i++) {
        int diagonal = row[0];
        row[0] = i;
        for (int j = 1; j <= n; j++) {
            int best = diagonal + (a[i - 1] != b[j - 1]);
            diagonal = row[j];
            if (row[j] + 1 < best) best = row[j] + 1;
            if (row[j - 1] + 1 < best) best = row[j - 1] + 1;
            row[j] = best;
        }
    }
    return row[n];
}

bool cldL_is_near(const char *word, const char *name) {
    size_t length = strlen(word);
    if (length >= 4 && strlen(name) >= 4 && (strstr(name, word) || strstr(word, name))) return true;
    int far = (int)(length / 2);
    return cldL_edit_distance(word, name) <= (far > 2 ? far : 2);
}

/* The name most like `key` in the table at `index`, if it is nearer than *distance; of equally near names, the first
 * in the alphabet. */
static const char *nearer(lua_State *L, int index, const char *key, const char *nearest, int *distance) {
    lua_pushnil(L);
    while (lua_next(L, index)) {
        lua_pop(L, 1);
        const char *name = lua_tostring(L, -1);
        int d = cldL_edit_distance(key, name);
        if (d > *distance || (d == *distance && nearest && strcmp(name, nearest) >= 0)) continue;
        *distance = d;
        nearest = name;
    }
    return nearest;
}

/* Pushes what a PyTorch name adds to the error (lua/cld/help/pytorch.lua), or "". */
static void push_pytorch_hint(lua_State *L, const char *key) {
    lua_getglobal(L, "require");
    lua_pushliteral(L, "cld.help.pytorch");
    if (lua_pcall(L, 1, 1, 0) == LUA_OK && lua_istable(L, -1) &&
        lua_getfield(L, -1, "hint") == LUA_TFUNCTION) {
        lua_pushstring(L, key);
        lua_pushliteral(L, "Tensor");
        if (lua_pcall(L, 2, 1, 0) == LUA_OK && lua_isstring(L, -1)) return;
    }
    lua_pushliteral(L, "");
}

int cldL_no_such_field(lua_State *L, const char *what, bool may_ask) {
    const char *key = lua_tostring(L, 2);
    int distance = 1 + (int)strlen(key) / 4;
    if (strncmp(key, "__", 2) == 0) return 0;
    const char *method = nearer(L, lua_upvalueindex(1), key, NULL, &distance);
    const char *nearest = nearer(L, lua_upvalueindex(2), key, method, &distance);
    if (!nearest && may_ask) return 0;
    push_pytorch_hint(L, key);
    const char *hint = lua_tostring(L, -1);
    if (!nearest || *hint) return luaL_error(L, "%s has no field '%s'%s", what, key, hint);
    return luaL_error(L, "%s has no %s '%s'; did you mean '%s'?", what,
                      nearest == method ? "method" : "field", key, nearest);
}

/* Raises; the message names the field that was probably meant, or else all fields. */
static void unknown_field(lua_State *L, const char *function, const char *key, const char *const *names,
                          const char *nearest) {
    if (cldL_is_near(key, nearest))
        luaL_error(L, "%s: unknown field '%s'; did you mean '%s'?", function, key, nearest);
    luaL_Buffer b;
    luaL_buffinit(L, &b);
    for (const char *const *name = names; *name; name++) {
        if (name != names) luaL_addstring(&b, ", ");
        luaL_addstring(&b, *name);
    }
    luaL_pushresult(&b);
    luaL_error(L, "%s: unknown field '%s'; known fields: %s", function, key, lua_tostring(L, -1));
}

void cldL_check_fields(lua_State *L, int arg, const char *function, const char *const *names) {
    if (lua_isnoneornil(L, arg)) return;
    luaL_checktype(L, arg, LUA_TTABLE);
    lua_pushnil(L);
    while (lua_next(L, arg)) {
        lua_pop(L, 1);
        if (lua_type(L, -1) != LUA_TSTRING) continue; /* the function itself checks positional entries */
        const char *key = lua_tostring(L, -1), *nearest = names[0];
        bool known = false;
        for (const char *const *name = names; *name && !known; name++) {
            known = strcmp(*name, key) == 0;
            if (cldL_edit_distance(key, *name) < cldL_edit_distance(key, nearest)) nearest = *name;
        }
        if (!known) unknown_field(L, function, key, names, nearest);
    }
}
