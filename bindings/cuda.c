/* --- cld.cuda: the CUDA devices, and the one that this process computes on. */
#include "bindings/bindings.h"

#include <string.h>

#include "runtime/tensor/device.h"

/* --- cld.cuda.devices() -> {{name =, memory = bytes, capability = "9.0", multiprocessors = 132}, ...}: the
 * GPUs; if there are none, an empty list and the reason. */
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

/* --- cld.cuda.is_available() -> true, or false and the reason: whether the device "auto" means a GPU. */
static int cuda_is_available(lua_State *L) {
    cldL_check_count(L, 0);
    bool available = cld_device_auto() != cld_cpu_backend();
    lua_pushboolean(L, available);
    if (available) return 1;
    lua_pushstring(L, cld_error_message());
    return 2;
}

/* --- cld.cuda.resolve("auto"|"cpu"|"cuda"|"cuda:N") -> name: the device that the name means; if "auto" means
 * the cpu, also why it is not a GPU. A device that does not exist is an error. */
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

/* --- cld.cuda.is_open() -> boolean: whether this process computes on a CUDA device; does not open one. */
static int cuda_is_open(lua_State *L) {
    cldL_check_count(L, 0);
    lua_pushboolean(L, cld_device_cuda() != NULL);
    return 1;
}

/* --- cld.cuda.is_name(text) -> boolean: whether text is a valid device name: "cpu", "cuda" or "cuda:N". */
static int cuda_is_name(lua_State *L) {
    lua_pushboolean(L, cld_device_named(luaL_checkstring(L, 1)));
    return 1;
}

/* --- cld.cuda.is_emulated() -> boolean: whether the devices are those of the specs, which compute on the host. */
static int cuda_is_emulated(lua_State *L) {
    cldL_check_count(L, 0);
    lua_pushboolean(L, cld_device_emulated());
    return 1;
}

/* The open device; opens cuda:0 if none is open. */
static const cld_backend *check_opened(lua_State *L) {
    const cld_backend *device = cld_device_find("cuda");
    cldL_result(L, device);
    return device;
}

/* --- cld.cuda.memory() -> {in_use =, peak =, reserved =, limit =}: the device's memory in bytes. */
static int cuda_memory(lua_State *L) {
    cldL_check_count(L, 0);
    cldL_push_memory(L, check_opened(L)->memory->info());
    return 1;
}

/* --- cld.cuda.reset_peak(): restarts cld.cuda.memory().peak from the memory now in use. */
static int cuda_reset_peak(lua_State *L) {
    cldL_check_count(L, 0);
    check_opened(L)->memory->reset_peak();
    return 0;
}

/* --- cld.cuda.synchronize(): waits for the work queued on the device; for measuring times. */
static int cuda_synchronize(lua_State *L) {
    cldL_check_count(L, 0);
    cldL_check_status(L, check_opened(L)->memory->synchronize());
    return 0;
}

/* --- cld.cuda.forbid_waiting(on) -> boolean: while on, anything that waits for the device (item(), totable(),
 * printing a tensor) is an error, which finds such places in a step. Returns the previous setting. */
static int cuda_forbid_waiting(lua_State *L) {
    bool on = cldL_check_flag(L, 1, true);
    lua_pushboolean(L, check_opened(L)->memory->forbid_waiting(on));
    return 1;
}

/* --- cld.cuda.library() -> text: the versions of the CUDA libraries in use. */
static int cuda_library(lua_State *L) {
    lua_pushstring(L, check_opened(L)->library());
    return 1;
}

/* ---- plans of convolutions --------------------------------------------------------------------------------------- */

static const char *const plan_kinds[] = {"conv2d", "conv2d_data", "conv2d_weight"};

/* A plan's fields that are lists of whole numbers, and their lengths. */
typedef struct plan_lists {
    int64_t *four[3];
    int *two[3];
} plan_lists;
static const char *const fours[] = {"x", "w", "y"}, *const twos[] = {"stride", "padding", "dilation"};

static plan_lists lists_of(cld_conv_plan *p) {
    return (plan_lists){{p->x, p->w, p->y}, {p->params.stride, p->params.padding, p->params.dilation}};
}

static void push_plan(lua_State *L, cld_conv_plan *p) {
    plan_lists lists = lists_of(p);
    lua_createtable(L, 0, 13);
    lua_pushstring(L, plan_kinds[p->kind]);
    lua_setfield(L, -2, "kind");
    lua_pushstring(L, cld_dtype_name(p->dtype));
    lua_setfield(L, -2, "dtype");
    lua_pushboolean(L, p->tf32);
    lua_setfield(L, -2, "tf32");
    for (int i = 0; i < 3; i++) {
        lua_createtable(L, 4, 0);
        for (int j = 0; j < 4; j++) {
            lua_pushinteger(L, lists.four[i][j]);
            lua_rawseti(L, -2, j + 1);
        }
        lua_setfield(L, -2, fours[i]);
        lua_createtable(L, 2, 0);
        for (int j = 0; j < 2; j++) {
            lua_pushinteger(L, lists.two[i][j]);
            lua_rawseti(L, -2, j + 1);
        }
        lua_setfield(L, -2, twos[i]);
    }
    lua_pushinteger(L, p->params.groups);
    lua_setfield(L, -2, "groups");
    lua_pushinteger(L, p->alignment);
    lua_setfield(L, -2, "alignment");
    lua_pushinteger(L, p->engine);
    lua_setfield(L, -2, "engine");
    lua_createtable(L, p->knob_count, 0);
    for (int i = 0; i < p->knob_count; i++) {
        lua_createtable(L, 2, 0);
        lua_pushinteger(L, p->knobs[i].type);
        lua_rawseti(L, -2, 1);
        lua_pushinteger(L, p->knobs[i].value);
        lua_rawseti(L, -2, 2);
        lua_rawseti(L, -2, i + 1);
    }
    lua_setfield(L, -2, "knobs");
}

/* --- cld.cuda.plans([first = 1]) -> {library =, plans = {...}} or nil: the algorithm of each shape's
 * convolution, to be given to another process: from number first on, in the order in which the shapes came.
 * nil on a device without a choice of algorithms. */
static int cuda_plans(lua_State *L) {
    int first = (int)luaL_optinteger(L, 1, 1) - 1;
    const cld_plan_ops *plans = check_opened(L)->plans;
    luaL_argcheck(L, first >= 0, 1, "expected a number of at least 1");
    if (!plans) return 0;
    int count = plans->count() - first;
    lua_createtable(L, 0, 2);
    lua_pushstring(L, plans->library());
    lua_setfield(L, -2, "library");
    lua_createtable(L, count > 0 ? count : 0, 0);
    for (int i = 0; i < count; i++) {
        cld_conv_plan plan;
        plans->get(first + i, &plan);
        push_plan(L, &plan);
        lua_rawseti(L, -2, i + 1);
    }
    lua_setfield(L, -2, "plans");
    return 1;
}

/* --- cld.cuda.plan_library() -> text or nil: the library that these plans are for; nil on a device without a
 * choice of algorithms. */
static int cuda_plan_library(lua_State *L) {
    cldL_check_count(L, 0);
    const cld_plan_ops *plans = check_opened(L)->plans;
    lua_pushstring(L, plans ? plans->library() : NULL);
    return 1;
}

/* The whole number at `index` of the list on top, or false. */
static bool read_integer(lua_State *L, int index, int64_t *out) {
    int is_integer;
    lua_rawgeti(L, -1, index);
    *out = lua_tointegerx(L, -1, &is_integer);
    lua_pop(L, 1);
    return is_integer;
}

static bool read_list(lua_State *L, const char *name, int count, int64_t least, int64_t most, int64_t *out) {
    bool is_good = lua_getfield(L, 1, name) == LUA_TTABLE;
    for (int i = 0; is_good && i < count; i++)
        is_good = read_integer(L, i + 1, &out[i]) && out[i] >= least && out[i] <= most;
    lua_pop(L, 1);
    return is_good;
}

static bool read_field(lua_State *L, const char *name, int64_t most, int64_t *out) {
    int is_integer;
    lua_getfield(L, 1, name);
    *out = lua_tointegerx(L, -1, &is_integer);
    lua_pop(L, 1);
    return is_integer && *out >= 0 && *out <= most;
}

static bool read_knobs(lua_State *L, cld_conv_plan *p) {
    bool is_good = lua_getfield(L, 1, "knobs") == LUA_TTABLE && lua_rawlen(L, -1) <= CLD_PLAN_KNOBS;
    p->knob_count = is_good ? (int)lua_rawlen(L, -1) : 0;
    for (int i = 0; is_good && i < p->knob_count; i++) {
        is_good = lua_rawgeti(L, -1, i + 1) == LUA_TTABLE && read_integer(L, 1, &p->knobs[i].type) &&
                  read_integer(L, 2, &p->knobs[i].value);
        lua_pop(L, 1);
    }
    lua_pop(L, 1);
    return is_good;
}

/* Reads the table's field, which must be one of the words, as that word's index. */
static bool read_word(lua_State *L, const char *name, const char *const *words, int count, int *out) {
    bool is_string = lua_getfield(L, 1, name) == LUA_TSTRING;
    *out = 0;
    while (is_string && *out < count && strcmp(lua_tostring(L, -1), words[*out]) != 0) ++*out;
    lua_pop(L, 1);
    return is_string && *out < count;
}

/* Reads the plan in the table at 1. Returns the name of the first field that is wrong, or NULL. */
static const char *read_plan(lua_State *L, cld_conv_plan *p) {
    static const char *const dtypes[] = {"f32", "f64", "bf16", "f16"};
    static const cld_dtype values[] = {CLD_F32, CLD_F64, CLD_BF16, CLD_F16};
    plan_lists lists = lists_of(p);
    int dtype;
    int64_t groups, pair[2];
    if (!read_word(L, "kind", plan_kinds, 3, &p->kind)) return "kind";
    if (!read_word(L, "dtype", dtypes, 4, &dtype)) return "dtype";
    p->dtype = values[dtype];
    bool is_flag = lua_getfield(L, 1, "tf32") == LUA_TBOOLEAN;
    p->tf32 = lua_toboolean(L, -1);
    lua_pop(L, 1);
    if (!is_flag) return "tf32";
    for (int i = 0; i < 3; i++) {
        if (!read_list(L, fours[i], 4, 1, INT64_MAX, lists.four[i])) return fours[i];
        if (!read_list(L, twos[i], 2, 0, INT32_MAX, pair)) return twos[i];
        for (int j = 0; j < 2; j++) lists.two[i][j] = (int)pair[j];
    }
    if (!read_field(L, "groups", INT32_MAX, &groups)) return "groups";
    p->params.groups = (int)groups;
    if (!read_field(L, "alignment", INT32_MAX, &p->alignment)) return "alignment";
    if (!read_field(L, "engine", INT64_MAX, &p->engine)) return "engine";
    return read_knobs(L, p) ? NULL : "knobs";
}

/* --- cld.cuda.use_plan(plan): plan is one that plans() returned, for the same library on the same chip.
 * Convolutions of its shape use it from now on; a plan that cannot be made is ignored. */
static int cuda_use_plan(lua_State *L) {
    cld_conv_plan plan = {0};
    cldL_check_count(L, 1);
    luaL_checktype(L, 1, LUA_TTABLE);
    const char *wrong = read_plan(L, &plan);
    if (wrong) return luaL_error(L, "use_plan: '%s' is missing or wrong in the plan", wrong);
    const cld_plan_ops *plans = check_opened(L)->plans;
    if (plans) cldL_check_status(L, plans->use(&plan));
    return 0;
}

int cldL_open_cuda(lua_State *L) {
    static const luaL_Reg functions[] = {
        {"devices", cuda_devices},
        {"is_available", cuda_is_available},
        {"resolve", cuda_resolve},
        {"is_open", cuda_is_open},
        {"is_name", cuda_is_name},
        {"is_emulated", cuda_is_emulated},
        {"memory", cuda_memory},
        {"synchronize", cuda_synchronize},
        {"forbid_waiting", cuda_forbid_waiting},
        {"library", cuda_library},
        {"reset_peak", cuda_reset_peak},
        {"plans", cuda_plans},
        {"plan_library", cuda_plan_library},
        {"use_plan", cuda_use_plan},
        {NULL, NULL},
    };
    luaL_newlib(L, functions);
    return 1;
}
