/* --- cld.views: the C functions beneath cld.augment, which adds constructors and presets. Programs use cld.augment.
 * Everything here follows the kinds' tables of settings: a new kind needs no change here.
 *
 * A program in Lua is a list of steps. A step is a table with its kind's name in `op`, and its settings. */
#include "bindings/bindings.h"
#include "runtime/views/apply.h"

#include <string.h>

#define CLDL_PROGRAM "cld.core.program"

const cld_program *cldL_check_program(lua_State *L, int arg) { return luaL_checkudata(L, arg, CLDL_PROGRAM); }

/* ---- kinds --------------------------------------------------------------------------------------------- */

static const char *const forms[] = {
    [CLD_SETTING_NUMBER] = "number",
    [CLD_SETTING_INTEGER] = "integer",
    [CLD_SETTING_PROBABILITY] = "probability",
    [CLD_SETTING_RANGE] = "range",
    [CLD_SETTING_FACTOR] = "factor",
    [CLD_SETTING_SHIFT] = "shift",
    [CLD_SETTING_SIZE] = "size",
    [CLD_SETTING_SHORTER] = "shorter",
    [CLD_SETTING_CHANNELS] = "channels",
    [CLD_SETTING_CHOICE] = "choice",
};

/* As an integer if it is one, so that it prints as 32 and not as 32.0. */
static void push_number(lua_State *L, double x) {
    lua_Integer i;
    if (lua_numbertointeger(x, &i) && (double)i == x)
        lua_pushinteger(L, i);
    else
        lua_pushnumber(L, x);
}

static void push_list(lua_State *L, const double *x, int count) {
    lua_createtable(L, count, 0);
    for (int i = 0; i < count; i++) {
        push_number(L, x[i]);
        lua_rawseti(L, -2, i + 1);
    }
}

/* The default as a user would write it; nil if there is none. */
static void push_default(lua_State *L, const cld_setting *s) {
    const double *x = s->defaults;
    int count = cld_setting_numbers(s->form);
    bool same = count < 2 || (x[1] == x[0] && (count < 3 || x[2] == x[0]));
    if (isnan(x[0])) {
        lua_pushnil(L);
    } else if (s->form == CLD_SETTING_CHOICE) {
        const char *end = strchr(s->choices, '|'); /* always the first */
        lua_pushlstring(L, s->choices, end ? (size_t)(end - s->choices) : strlen(s->choices));
    } else if (s->form == CLD_SETTING_FACTOR && x[0] == 2.0 - x[1]) {
        push_number(L, x[1] - 1.0);
    } else if (s->form == CLD_SETTING_SHIFT && x[0] == -x[1]) {
        push_number(L, x[1]);
    } else if (same && s->form != CLD_SETTING_RANGE) {
        push_number(L, x[0]);
    } else {
        push_list(L, x, count);
    }
}

static void push_setting(lua_State *L, const cld_setting *s) {
    lua_createtable(L, 0, 7);
    lua_pushstring(L, s->name);
    lua_setfield(L, -2, "name");
    lua_pushstring(L, forms[s->form]);
    lua_setfield(L, -2, "form");
    lua_pushstring(L, s->help);
    lua_setfield(L, -2, "help");
    push_default(L, s);
    lua_setfield(L, -2, "default");
    if (s->form == CLD_SETTING_CHOICE) {
        lua_pushstring(L, s->choices);
        lua_setfield(L, -2, "choices");
        return;
    }
    push_number(L, s->low == CLD_ABOVE_ZERO ? 0.0 : s->low);
    lua_setfield(L, -2, "low");
    push_number(L, s->form == CLD_SETTING_PROBABILITY ? 1.0 : s->high);
    lua_setfield(L, -2, "high");
}

/* --- cld.views.kinds() -> {{name =, help =, images =, settings = {{name =, form =, help =, default =, low
 * =, high =, choices =}, ...}}, ...}: the kinds of steps that make a view, and their settings. cld.augment
 * makes its functions from these. */
static int views_kinds(lua_State *L) {
    lua_newtable(L);
    for (int k = 0; cld_view_kinds[k]; k++) {
        const cld_view_kind *kind = cld_view_kinds[k];
        lua_createtable(L, 0, 4);
        lua_pushstring(L, kind->name);
        lua_setfield(L, -2, "name");
        lua_pushstring(L, kind->help);
        lua_setfield(L, -2, "help");
        lua_pushinteger(L, kind->images > 0 ? kind->images : 1);
        lua_setfield(L, -2, "images");
        lua_newtable(L);
        for (int i = 0; kind->settings[i].name; i++) {
            push_setting(L, &kind->settings[i]);
            lua_rawseti(L, -2, i + 1);
        }
        lua_setfield(L, -2, "settings");
        lua_rawseti(L, -2, k + 1);
    }
    return 1;
}

/* ---- a step, from a table ------------------------------------------------------------------------------ */

/* Raises with the step in front of the message; number 0 is a step that is in no list. */
static int step_error(lua_State *L, int number, const char *name, const char *message) {
    if (number == 0) return luaL_error(L, "augment.%s: %s", name, message);
    return luaL_error(L, "augment: step %d, %s: %s", number, name, message);
}

/* "; did you mean 'x'?", or nothing if no name is near. Pushes it. */
static const char *push_hint(lua_State *L, const char *word, const char *nearest) {
    return cldL_is_near(word, nearest) ? lua_pushfstring(L, "; did you mean '%s'?", nearest)
                                       : lua_pushliteral(L, "");
}

/* "sigma, p, taps". Pushes it. */
static const char *push_names(lua_State *L, const cld_view_kind *kind) {
    luaL_Buffer b;
    luaL_buffinit(L, &b);
    for (const cld_setting *s = kind->settings; s->name; s++) {
        if (s != kind->settings) luaL_addstring(&b, ", ");
        luaL_addstring(&b, s->name);
    }
    luaL_pushresult(&b);
    return lua_tostring(L, -1);
}

static const char *nearer(const char *word, const char *a, const char *b) {
    return !a || cldL_edit_distance(word, b) < cldL_edit_distance(word, a) ? b : a;
}

/* The kind that the step at `arg` names. */
static const cld_view_kind *check_kind(lua_State *L, int arg, int number) {
    if (lua_getfield(L, arg, "op") != LUA_TSTRING)
        luaL_error(L,
                   "augment: step %d: its field 'op' must be the name of a step, got a %s; make steps with "
                   "cld.augment.flip{} and the like",
                   number, luaL_typename(L, -1));
    const char *name = lua_tostring(L, -1), *nearest = NULL;
    const cld_view_kind *kind = cld_view_kind_named(name);
    lua_pop(L, 1); /* the step holds it */
    if (kind) return kind;
    for (int k = 0; cld_view_kinds[k]; k++) nearest = nearer(name, nearest, cld_view_kinds[k]->name);
    cldL_push_printable(L, name, strlen(name), CLD_ONE_LINE);
    const char *shown = lua_tostring(L, -1), *hint = push_hint(L, name, nearest);
    luaL_error(L, "augment: step %d: there is no step '%s'%s", number, shown, hint);
    return NULL;
}

static void check_names(lua_State *L, int arg, int number, const cld_view_kind *kind) {
    for (lua_pushnil(L); lua_next(L, arg); lua_pop(L, 1)) {
        if (lua_type(L, -2) != LUA_TSTRING) {
            step_error(L, number, kind->name,
                       lua_pushfstring(L, "settings need names: %s", push_names(L, kind)));
            return;
        }
        const char *key = lua_tostring(L, -2), *nearest = NULL;
        bool known = strcmp(key, "op") == 0;
        for (const cld_setting *s = kind->settings; s->name; s++) {
            known = known || strcmp(key, s->name) == 0;
            nearest = nearer(key, nearest, s->name);
        }
        if (known) continue;
        cldL_push_printable(L, key, strlen(key), CLD_ONE_LINE);
        const char *shown = lua_tostring(L, -1);
        const char *hint = cldL_is_near(key, nearest)
                               ? push_hint(L, key, nearest)
                               : lua_pushfstring(L, "; known settings: %s", push_names(L, kind));
        step_error(L, number, kind->name, lua_pushfstring(L, "unknown setting '%s'%s", shown, hint));
    }
}

/* Reads the setting from the value on top. */
static cld_status read_setting(lua_State *L, double *numbers, const cld_setting *s) {
    double given[3] = {0, 0, 0};
    if (lua_type(L, -1) == LUA_TSTRING && s->form == CLD_SETTING_CHOICE)
        return cld_setting_choose(numbers, s, lua_tostring(L, -1));
    if (lua_type(L, -1) == LUA_TNUMBER) {
        given[0] = lua_tonumber(L, -1);
        return cld_setting_set(numbers, s, given, 1);
    }
    lua_Unsigned count = lua_istable(L, -1) ? lua_rawlen(L, -1) : 0;
    if (count == 1 || count > 3) count = 0; /* a list of one is not a number */
    for (int i = 0; i < (int)count; i++) {
        if (lua_rawgeti(L, -1, i + 1) != LUA_TNUMBER) count = 0;
        given[i] = lua_tonumber(L, -1);
        lua_pop(L, 1);
    }
    return cld_setting_set(numbers, s, given, (int)count);
}

/* Describes the value on top for a message. */
static const char *push_shown(lua_State *L) {
    switch (lua_type(L, -1)) {
    case LUA_TNUMBER: return luaL_tolstring(L, -1, NULL);
    case LUA_TTABLE:
        for (lua_Unsigned i = 1, n = lua_rawlen(L, -1); i <= n; i++) {
            const char *type = luaL_typename(L, (lua_rawgeti(L, -1, (lua_Integer)i), -1));
            lua_pop(L, 1);
            if (strcmp(type, "number") != 0) return lua_pushfstring(L, "a list with a %s", type);
        }
        return lua_pushfstring(L, "a list of %d", (int)lua_rawlen(L, -1));
    case LUA_TSTRING: {
        size_t length;
        const char *text = lua_tolstring(L, -1, &length);
        cldL_push_printable(L, text, length, CLD_ONE_LINE);
        return lua_pushfstring(L, "'%s'", lua_tostring(L, -1));
    }
    default: return lua_pushfstring(L, "a %s", luaL_typename(L, -1));
    }
}

static void read_step(lua_State *L, int arg, int number, cld_program_step *step) {
    const cld_view_kind *kind = check_kind(L, arg, number);
    check_names(L, arg, number, kind);
    cld_program_step_default(step, kind);
    double *numbers = step->numbers;
    for (const cld_setting *s = kind->settings; s->name; s++) {
        if (lua_getfield(L, arg, s->name) != LUA_TNIL && read_setting(L, numbers, s) != CLD_OK)
            step_error(L, number, kind->name,
                       lua_pushfstring(L, "%s; got %s", cld_error_message(), push_shown(L)));
        lua_pop(L, 1);
        numbers += cld_setting_numbers(s->form);
    }
}

/* --- cld.views.check(step): an error if a setting of the step, {op = "flip", p = 0.5}, is wrong. */
static int views_check(lua_State *L) {
    cld_program_step step;
    luaL_checktype(L, 1, LUA_TTABLE);
    read_step(L, 1, 0, &step);
    if (cld_program_step_check(&step) != CLD_OK) step_error(L, 0, step.kind->name, cld_error_message());
    return 0;
}

/* ---- programs ------------------------------------------------------------------------------------------ */

/* --- cld.views.program(list) -> program: the steps, checked, as a C object. */
static int views_program(lua_State *L) {
    luaL_checktype(L, 1, LUA_TTABLE);
    lua_Unsigned count = lua_rawlen(L, 1);
    if (count > CLD_PROGRAM_STEPS)
        return luaL_error(L, "augment: %d steps; at most %d", (int)(count > INT32_MAX ? INT32_MAX : count),
                          CLD_PROGRAM_STEPS);
    cld_program *p = lua_newuserdatauv(L, sizeof *p, 0);
    *p = (cld_program){.count = (int)count};
    luaL_setmetatable(L, CLDL_PROGRAM);
    for (int i = 0; i < p->count; i++) {
        if (lua_rawgeti(L, 1, i + 1) != LUA_TTABLE)
            return luaL_error(L, "augment: step %d is a %s; make steps with cld.augment.flip{} and the like",
                              i + 1, luaL_typename(L, -1));
        read_step(L, lua_gettop(L), i + 1, &p->step[i]);
        lua_pop(L, 1);
    }
    cldL_check_status(L, cld_program_finish(p));
    return 1;
}

static int check_side(lua_State *L, int arg, lua_Integer least) {
    lua_Integer side = luaL_optinteger(L, arg, least);
    luaL_argcheck(L, side >= least && side <= INT32_MAX, arg, "expected the side of an image in pixels");
    return (int)side;
}

/* --- cld.views.size(program[, height, width]) -> height, width: the size of the views, for images of that size
 * or of any. */
static int views_size(lua_State *L) {
    const cld_program *p = cldL_check_program(L, 1);
    int height, width;
    cldL_check_status(L, cld_program_size(p, check_side(L, 2, 0), check_side(L, 3, 0), &height, &width));
    lua_pushinteger(L, height);
    lua_pushinteger(L, width);
    return 2;
}

/* --- cld.views.images(program) -> integer: how many views one image gives: 9 for jigsaw patches, else 1. */
static int views_images(lua_State *L) {
    lua_pushinteger(L, cldL_check_program(L, 1)->images);
    return 1;
}

/* ---- drawn views, to look at --------------------------------------------------------------------------- */

static const char *const ops[] = {
#define CLD_NAME(name) [CLD_VIEW_##name] = #name,
    CLD_VIEW_OPS(CLD_NAME)
#undef CLD_NAME
};

typedef enum { INTS, FLOATS, DOUBLES, BYTES, WORD } number_type;

/* The fields of each instruction. */
static const struct instruction_field {
    cld_view_op op;
    const char *name;
    number_type type;
    size_t offset;
    int count;
} fields[] = {
#define FIELD(op, name, type, member, count)                                                                 \
    { CLD_VIEW_##op, name, type, offsetof(cld_view_instruction, member), count }
    FIELD(RESAMPLE, "box", FLOATS, resample.top, 4),
    FIELD(RESAMPLE, "size", INTS, resample.out_height, 2),
    FIELD(RESAMPLE, "window", INTS, resample.window, 4),
    FIELD(RESAMPLE, "filter", INTS, resample.filter, 1),
    FIELD(WINDOW, "window", INTS, window.top, 4),
    FIELD(WINDOW, "fill", INTS, window.fill, 3),
    FIELD(BRIGHTNESS, "factor", FLOATS, factor, 1),
    FIELD(CONTRAST, "factor", FLOATS, factor, 1),
    FIELD(SATURATION, "factor", FLOATS, factor, 1),
    FIELD(SHARPNESS, "factor", FLOATS, factor, 1),
    FIELD(HUE, "shift", INTS, shift, 1),
    FIELD(BOX_BLUR, "radius", INTS, box.radius, 1),
    FIELD(BOX_BLUR, "whole", WORD, box.whole, 1),
    FIELD(BOX_BLUR, "edge", WORD, box.edge, 1),
    FIELD(TAP_BLUR, "radius", INTS, taps.radius, 1),
    FIELD(TAP_BLUR, "weights", FLOATS, taps.weight, 12),
    FIELD(SOLARIZE, "level", INTS, level, 1),
    FIELD(SOLARIZE_ADD, "level", INTS, level, 1),
    FIELD(POSTERIZE, "level", INTS, level, 1),
    FIELD(AFFINE, "matrix", DOUBLES, affine.matrix, 6),
    FIELD(AFFINE, "fill", BYTES, affine.fill, 3),
    FIELD(AFFINE, "filter", BYTES, affine.filter, 1),
    FIELD(NORMALIZE, "mean", FLOATS, normalize.mean, 3),
    FIELD(NORMALIZE, "std", FLOATS, normalize.std, 3),
    FIELD(ERASE, "window", INTS, erase.top, 4),
    FIELD(ERASE, "value", FLOATS, erase.value, 3),
#undef FIELD
};

static double field_number(const void *from, number_type type, int i) {
    switch (type) {
    case INTS: return ((const int32_t *)from)[i];
    case FLOATS: return (double)((const float *)from)[i];
    case DOUBLES: return ((const double *)from)[i];
    case BYTES: return ((const uint8_t *)from)[i];
    case WORD: return ((const uint32_t *)from)[i];
    }
    return 0.0;
}

static void push_instruction(lua_State *L, const cld_view_instruction *instruction) {
    lua_newtable(L);
    lua_pushstring(L, ops[instruction->op]);
    lua_setfield(L, -2, "op");
    lua_pushboolean(L, instruction->flip);
    lua_setfield(L, -2, "flip");
    for (size_t f = 0; f < sizeof fields / sizeof *fields; f++) {
        if ((int32_t)fields[f].op != instruction->op) continue;
        const void *from = (const char *)instruction + fields[f].offset;
        double numbers[12];
        for (int i = 0; i < fields[f].count; i++) numbers[i] = field_number(from, fields[f].type, i);
        if (fields[f].count == 1)
            push_number(L, numbers[0]);
        else
            push_list(L, numbers, fields[f].count);
        lua_setfield(L, -2, fields[f].name);
    }
}

static void push_view(lua_State *L, const cld_view *v) {
    lua_createtable(L, v->count, 3);
    lua_pushinteger(L, v->height);
    lua_setfield(L, -2, "height");
    lua_pushinteger(L, v->width);
    lua_setfield(L, -2, "width");
    lua_pushinteger(L, v->pixels);
    lua_setfield(L, -2, "pixels");
    for (int i = 0; i < v->count; i++) {
        push_instruction(L, &v->step[i]);
        lua_rawseti(L, -2, i + 1);
    }
}

/* {seed = 0, epoch = 0, sample = 0, view = 1} */
static cld_view_key check_key(lua_State *L, int arg) {
    static const char *const names[] = {"seed", "epoch", "sample", "view", NULL};
    cldL_check_fields(L, arg, "augment", names);
    lua_Integer epoch = cldL_field_integer(L, arg, "epoch", 0), view = cldL_field_integer(L, arg, "view", 1);
    lua_Integer sample = cldL_field_integer(L, arg, "sample", 0);
    luaL_argcheck(L, epoch >= 0 && epoch < 1 << 22, arg, "epoch must be 0 to 4194303");
    luaL_argcheck(L, sample >= 0 && sample < (lua_Integer)1 << 36, arg, "sample must be 0 to 2^36 - 1");
    luaL_argcheck(L, view >= 1 && view <= 64, arg, "view must be 1 to 64");
    return (cld_view_key){.seed = (uint64_t)cldL_field_integer(L, arg, "seed", 0),
                          .epoch = (uint64_t)epoch,
                          .sample = (uint64_t)sample,
                          .view = (int)view - 1};
}

/* --- cld.views.draw(program, {seed =, epoch =, sample =, view =}, height, width) -> {view, ...}: what is
 * drawn for an image of that size. Each view is a list of instructions with its height and width. */
static int views_draw(lua_State *L) {
    const cld_program *p = cldL_check_program(L, 1);
    cld_view_key key = check_key(L, 2);
    int height = check_side(L, 3, 1), width = check_side(L, 4, 1);
    size_t stride = cld_view_bytes(p->instructions);
    char *drawn = lua_newuserdatauv(L, stride * (size_t)p->images, 0);
    cldL_check_status(L, cld_program_draw(p, (cld_view *)(void *)drawn, stride, height, width, &key));
    lua_createtable(L, p->images, 0);
    for (int image = 0; image < p->images; image++) {
        push_view(L, (const cld_view *)(void *)(drawn + (size_t)image * stride));
        lua_rawseti(L, -2, image + 1);
    }
    return 1;
}

/* --- cld.views.apply(program, image, {seed =, epoch =, sample =, view =}) -> f32 (images, 3, height,
 * width): what the program makes of an image u8 (H, W, 3). */
static int views_apply(lua_State *L) {
    const cld_program *p = cldL_check_program(L, 1);
    cld_tensor *image = cldL_check_tensor(L, 2);
    cld_view_key key = check_key(L, 3);
    cld_tensor **out = cldL_new_tensor(L);
    *out = cld_program_views(p, image, &key);
    return cldL_result(L, *out);
}

/* clang-format off */
static const luaL_Reg functions[] = {
    {"apply", views_apply},
    {"check", views_check},
    {"draw", views_draw},
    {"images", views_images},
    {"kinds", views_kinds},
    {"program", views_program},
    {"size", views_size},
    {NULL, NULL},
};
/* clang-format on */

int cldL_open_views(lua_State *L) {
    luaL_newmetatable(L, CLDL_PROGRAM);
    lua_pop(L, 1);
    luaL_newlib(L, functions);
    return 1;
}
