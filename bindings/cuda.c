/* cld.cuda: which CUDA devices there are, and the one that this process computes on. */
#include "bindings/bindings.h"

#include <string.h>

#include "runtime/tensor/device.h"

/* devices() -> {{name = "NVIDIA H200", memory = bytes, capability = "9.0", multiprocessors = 132}, ...}; the empty list
 * and the reason where there are none */
static int cuda_devices(lua_State *L) {
    int count;
    cldL_check_count(L, 0);
    lua_newtable(L);
    if (cld_device_count(&count) != CLD_OK) {
        lua_pushstring(L, cld_error_message());
        return 2;
    }
    for (int i = 0; i < count; i++) {
        cld_device_facts facts;
        cldL_check_status(L, cld_device_facts_of(i, &facts));
        lua_createtable(L, 0, 4);
        lua_pushstring(L, facts.name);
        lua_setfield(L, -2, "name");
        lua_pushinteger(L, (lua_Integer)facts.memory);
        lua_setfield(L, -2, "memory");
        lua_pushfstring(L, "%d.%d", facts.major, facts.minor);
        lua_setfield(L, -2, "capability");
        lua_pushinteger(L, facts.multiprocessors);
        lua_setfield(L, -2, "multiprocessors");
        lua_rawseti(L, -2, i + 1);
    }
    return 1;
}

/* is_available() -> true, or false and the reason: whether "auto" means such a device */
static int cuda_is_available(lua_State *L) {
    cldL_check_count(L, 0);
    bool available = cld_device_auto() != cld_cpu_backend();
    lua_pushboolean(L, available);
    if (available) return 1;
    lua_pushstring(L, cld_error_message());
    return 2;
}

/* resolve("auto" | "cpu" | "cuda" | "cuda:N") -> the device's name; for "auto" on the cpu also why it is not CUDA */
static int cuda_resolve(lua_State *L) {
    const char *name = luaL_checkstring(L, 1);
    bool chosen = strcmp(name, "auto") == 0;
    const cld_backend *device = chosen ? cld_device_auto() : cld_device_find(name);
    cldL_result(L, device);
    lua_pushstring(L, device->name);
    if (!chosen || device != cld_cpu_backend()) return 1;
    lua_pushstring(L, cld_error_message());
    return 2;
}

static int cuda_is_name(lua_State *L) {
    lua_pushboolean(L, cld_device_named(luaL_checkstring(L, 1)));
    return 1;
}

static int cuda_is_emulated(lua_State *L) {
    cldL_check_count(L, 0);
    lua_pushboolean(L, cld_device_emulated());
    return 1;
}

/* The opened device; opens cuda:0 where none is. */
static const cld_backend *check_opened(lua_State *L) {
    const cld_backend *device = cld_device_find("cuda");
    cldL_result(L, device);
    return device;
}

/* memory() -> {in_use, peak, reserved, limit} in bytes, of the device */
static int cuda_memory(lua_State *L) {
    cldL_check_count(L, 0);
    cldL_push_memory(L, check_opened(L)->memory->info());
    return 1;
}

/* synchronize(): wait for what is queued */
static int cuda_synchronize(lua_State *L) {
    cldL_check_count(L, 0);
    cldL_check_status(L, check_opened(L)->memory->synchronize());
    return 0;
}

/* forbid_waiting(on) -> what it was. While on, whatever waits for the device (item(), totable(), printing a tensor) is
 * an error: for finding such places in a step. */
static int cuda_forbid_waiting(lua_State *L) {
    bool on = cldL_check_flag(L, 1, true);
    lua_pushboolean(L, check_opened(L)->memory->forbid_waiting(on));
    return 1;
}

/* library() -> "CUDA 13.0, ..." */
static int cuda_library(lua_State *L) {
    lua_pushstring(L, check_opened(L)->library());
    return 1;
}

int cldL_open_cuda(lua_State *L) {
    static const luaL_Reg functions[] = {
        {"devices", cuda_devices},         {"is_available", cuda_is_available},
        {"resolve", cuda_resolve},         {"is_name", cuda_is_name},
        {"is_emulated", cuda_is_emulated}, {"memory", cuda_memory},
        {"synchronize", cuda_synchronize}, {"forbid_waiting", cuda_forbid_waiting},
        {"library", cuda_library},         {NULL, NULL},
    };
    luaL_newlib(L, functions);
    return 1;
}
