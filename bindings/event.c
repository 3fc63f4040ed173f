/* cld.io.read_events and cld.core.io.event_writer: TensorBoard's event files (runtime/io/event.h). Recipes write them
 * with lua/cld/tensorboard.lua. */
#include "bindings/bindings.h"

#include <string.h>

#include "runtime/io/event.h"

#define WRITER "cld.io.event_writer"
#define READER "cld.io.event_reader"

static const char *check_text(lua_State *L, int arg) {
    size_t length;
    const char *text = luaL_checklstring(L, arg, &length);
    luaL_argcheck(L, strlen(text) == length, arg, "the string holds a zero byte");
    return text;
}

/* ---- writing ------------------------------------------------------------------------------------------- */

static cld_event_writer *check_writer(lua_State *L) {
    cld_event_writer *w = luaL_checkudata(L, 1, WRITER);
    luaL_argcheck(L, w->fd >= 0, 1, "the event file is closed");
    return w;
}

static int writer_close(lua_State *L) {
    cld_event_writer_close(luaL_checkudata(L, 1, WRITER));
    return 0;
}

/* --- w:path() -> the file's path */
static int writer_path(lua_State *L) {
    lua_pushstring(L, check_writer(L)->path);
    return 1;
}

/* --- w:start(step, wall_time): a session begins at this step */
static int writer_start(lua_State *L) {
    cld_event_writer *w = check_writer(L);
    lua_Integer step = luaL_checkinteger(L, 2);
    cldL_check_status(L, cld_event_session_start(w, luaL_checknumber(L, 3), step));
    return 0;
}

/* --- w:scalar(tag, value, step, wall_time) */
static int writer_scalar(lua_State *L) {
    cld_event_writer *w = check_writer(L);
    const char *tag = check_text(L, 2);
    float value = (float)luaL_checknumber(L, 3);
    lua_Integer step = luaL_checkinteger(L, 4);
    cldL_check_status(L, cld_event_scalar(w, luaL_checknumber(L, 5), step, tag, value));
    return 0;
}

/* --- w:image(tag, bytes of a PNG or JPEG file (u8 (n)), height, width, step, wall_time) */
static int writer_image(lua_State *L) {
    cld_event_writer *w = check_writer(L);
    const char *tag = check_text(L, 2);
    cld_tensor *bytes = cldL_check_tensor(L, 3);
    int height = (int)luaL_checkinteger(L, 4), width = (int)luaL_checkinteger(L, 5);
    lua_Integer step = luaL_checkinteger(L, 6);
    double wall_time = luaL_checknumber(L, 7);
    luaL_argcheck(L, bytes->a.dtype == CLD_U8 && bytes->a.ndim == 1, 3, "expected u8[n]");
    cld_tensor **near = cldL_new_tensor(L);
    *near = cld_tensor_on_host(bytes);
    if (!*near) return cldL_raise(L);
    cldL_check_status(L, cld_event_image(w, wall_time, step, tag, height, width, (*near)->a.data,
                                         (size_t)cld_numel(&(*near)->a)));
    return 0;
}

/* --- event_writer(folder) -> a new event file in the folder, which is made if it does not exist */
static int event_writer(lua_State *L) {
    static const luaL_Reg metamethods[] = {{"__close", writer_close}, {"__gc", writer_close}, {NULL, NULL}};
    static const luaL_Reg methods[] = {{"close", writer_close}, {"image", writer_image},
                                       {"path", writer_path},   {"scalar", writer_scalar},
                                       {"start", writer_start}, {NULL, NULL}};
    const char *folder = check_text(L, 1);
    cld_event_writer *w = lua_newuserdatauv(L, sizeof *w, 0);
    *w = (cld_event_writer){.fd = -1};
    if (luaL_newmetatable(L, WRITER)) {
        luaL_setfuncs(L, metamethods, 0);
        luaL_newlib(L, methods);
        lua_setfield(L, -2, "__index");
    }
    lua_setmetatable(L, -2);
    cldL_check_status(L, cld_event_writer_open(w, folder));
    return 1;
}

/* --- has_events() -> true if this build writes and reads TensorBoard's files, else nil and the reason */
static int has_events(lua_State *L) {
    if (cld_event_is_supported()) {
        lua_pushboolean(L, true);
        return 1;
    }
    lua_pushnil(L);
    lua_pushstring(L, cld_error_message());
    return 2;
}

/* ---- reading ------------------------------------------------------------------------------------------- */

static int reader_close(lua_State *L) {
    cld_event_reader **r = luaL_checkudata(L, 1, READER);
    cld_event_reader_close(*r);
    *r = NULL;
    return 0;
}

/* Pushes one value as a table. */
static void push_value(lua_State *L, const cld_event_reader *r, size_t i) {
    cld_event_value v;
    cld_event_value_at(r, i, &v);
    lua_createtable(L, 0, 4);
    lua_pushstring(L, v.tag);
    lua_setfield(L, -2, "tag");
    if (*v.plugin) {
        lua_pushstring(L, v.plugin);
        lua_setfield(L, -2, "plugin");
    }
    if (v.kind == CLD_VALUE_SCALAR) {
        lua_pushnumber(L, v.scalar);
        lua_setfield(L, -2, "scalar");
    } else if (v.kind == CLD_VALUE_IMAGE) {
        lua_createtable(L, 0, 4);
        lua_pushinteger(L, v.height);
        lua_setfield(L, -2, "height");
        lua_pushinteger(L, v.width);
        lua_setfield(L, -2, "width");
        lua_pushinteger(L, v.channels);
        lua_setfield(L, -2, "channels");
        lua_pushlstring(L, v.bytes ? v.bytes : "", v.length);
        lua_setfield(L, -2, "bytes");
        lua_setfield(L, -2, "image");
    } else if (v.kind == CLD_VALUE_STRINGS) {
        lua_newtable(L);
        for (size_t j = 0; j < v.strings; j++) {
            size_t length;
            const char *string = cld_event_string(r, i, j, &length);
            lua_pushlstring(L, length ? string : "", length);
            lua_rawseti(L, -2, (lua_Integer)j + 1);
        }
        lua_setfield(L, -2, "strings");
    }
}

static void push_event(lua_State *L, const cld_event_reader *r, const cld_event *e) {
    static const char *const sessions[] = {"unspecified", "start", "stop", "checkpoint"};
    lua_createtable(L, 0, 3);
    lua_pushnumber(L, e->wall_time);
    lua_setfield(L, -2, "wall_time");
    lua_pushinteger(L, e->step);
    lua_setfield(L, -2, "step");
    if (e->kind == CLD_EVENT_VERSION) {
        lua_pushstring(L, e->text);
        lua_setfield(L, -2, "file_version");
    } else if (e->kind == CLD_EVENT_SESSION) {
        lua_pushstring(L, e->session >= 0 && e->session <= 3 ? sessions[e->session] : "unknown");
        lua_setfield(L, -2, "session");
    } else if (e->kind == CLD_EVENT_SUMMARY) {
        lua_newtable(L);
        for (size_t i = 0; i < e->values; i++) {
            push_value(L, r, i);
            lua_rawseti(L, -2, (lua_Integer)i + 1);
        }
        lua_setfield(L, -2, "values");
    }
}

/* --- read_events(path) -> the events of a TensorBoard file (events.out.tfevents.*), a list of {wall_time (seconds
 * since 1970), step, and one of file_version = "brain.Event:2", session = "start", values = {{tag, and scalar =
 * number, image = {height, width, channels, bytes = a PNG or JPEG file}, or strings = {bytes, ...}}, ...}}. Also
 * returns the number of bytes at the end that are not a whole event yet, in a file that is being written. What this
 * module does not know is left out. A damaged file is an error that names the place. */
static int read_events(lua_State *L) {
    const char *path = check_text(L, 1);
    cld_event_reader **r = lua_newuserdatauv(L, sizeof *r, 0);
    *r = NULL;
    if (luaL_newmetatable(L, READER)) {
        lua_pushcfunction(L, reader_close);
        lua_setfield(L, -2, "__gc");
    }
    lua_setmetatable(L, -2);
    *r = cld_event_reader_open(path);
    if (!*r) return cldL_raise(L);
    lua_newtable(L);
    cld_event event;
    uint64_t torn = 0;
    bool found = true;
    for (lua_Integer i = 1; found; i++) {
        cldL_check_status(L, cld_event_next(*r, &event, &found, &torn));
        if (!found) break;
        push_event(L, *r, &event);
        lua_rawseti(L, -2, i);
    }
    cld_event_reader_close(*r);
    *r = NULL;
    lua_pushinteger(L, (lua_Integer)torn);
    return 2;
}

void cldL_add_events(lua_State *L) {
    static const luaL_Reg functions[] = {{"event_writer", event_writer},
                                         {"has_events", has_events},
                                         {"read_events", read_events},
                                         {NULL, NULL}};
    luaL_setfuncs(L, functions, 0);
}
