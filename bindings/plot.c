/* cld.core.plot: functions that draw plots (runtime/plot). lua/cld/plot.lua builds cld.plot on these. */
#include "bindings/io.h"
#include "runtime/plot/canvas.h"
#include "runtime/plot/marks.h"
#include "runtime/plot/measure.h"

/* The tensor at arg, in f64, dense and on the cpu, in a tensor left on the stack. */
static const cld_tensor *check_numbers(lua_State *L, int arg) {
    cld_tensor *x = cldL_check_tensor(L, arg);
    cld_tensor **host = cldL_new_tensor(L);
    *host = cld_tensor_as(x, CLD_F64, cld_cpu_backend());
    cldL_result(L, *host);
    cld_tensor **dense = cldL_new_tensor(L);
    *dense = cld_tensor_on_host(*host);
    cldL_result(L, *dense);
    return *dense;
}

static const cld_tensor *check_points(lua_State *L, int arg) {
    const cld_tensor *points = check_numbers(L, arg);
    luaL_argcheck(L, points->a.ndim == 2 && points->a.shape[1] == 2, arg, "expected points (n, 2)");
    return points;
}

/* u8 (height, width[, 3]), dense, on the cpu, to draw on. */
static cld_tensor *check_canvas(lua_State *L) {
    cld_tensor *image = cldL_check_tensor(L, 1);
    bool is_canvas = image->a.dtype == CLD_U8 && cld_device(image) == cld_cpu_backend() &&
                     (image->a.ndim == 2 || (image->a.ndim == 3 && image->a.shape[2] == 3));
    luaL_argcheck(L, is_canvas, 1, "expected a canvas u8[height, width] or u8[height, width, 3]");
    cld_tensor *dense = cld_tensor_contiguous(image);
    bool is_dense = dense == image;
    cld_tensor_free(dense);
    luaL_argcheck(L, is_dense, 1, "expected a dense canvas");
    return image;
}

/* A table {width, on, off, opacity, color = {r, g, b}}. */
static cld_pen check_pen(lua_State *L, int arg) {
    cld_pen pen = {.width = cldL_field_number(L, arg, "width", 1),
                   .on = cldL_field_number(L, arg, "on", 0),
                   .off = cldL_field_number(L, arg, "off", 0),
                   .opacity = cldL_field_number(L, arg, "opacity", 1)};
    lua_getfield(L, arg, "color");
    luaL_argcheck(L, lua_istable(L, -1), arg, "expected a pen with a color {r, g, b}");
    for (int c = 0; c < 3; c++) {
        lua_geti(L, -1, c + 1);
        pen.color[c] = (uint8_t)luaL_optinteger(L, -1, 0);
        lua_pop(L, 1);
    }
    lua_pop(L, 1);
    return pen;
}

/* --- lines(canvas, points (n, 2), pen) */
static int plot_lines(lua_State *L) {
    cld_tensor *image = check_canvas(L);
    cld_pen pen = check_pen(L, 3);
    cldL_check_status(L, cld_canvas_lines(image, check_points(L, 2), &pen));
    return 0;
}

/* --- discs(canvas, points (n, 2), pen) */
static int plot_discs(lua_State *L) {
    cld_tensor *image = check_canvas(L);
    cld_pen pen = check_pen(L, 3);
    cldL_check_status(L, cld_canvas_discs(image, check_points(L, 2), &pen));
    return 0;
}

/* --- rectangle(canvas, x0, y0, x1, y1, pen) */
static int plot_rectangle(lua_State *L) {
    cld_tensor *image = check_canvas(L);
    cld_pen pen = check_pen(L, 6);
    cldL_check_status(L, cld_canvas_rectangle(image, luaL_checknumber(L, 2), luaL_checknumber(L, 3),
                                              luaL_checknumber(L, 4), luaL_checknumber(L, 5), &pen));
    return 0;
}

/* --- text(canvas, text, x, y, size, vertical, pen) */
static int plot_text(lua_State *L) {
    cld_tensor *image = check_canvas(L);
    size_t length;
    const char *text = luaL_checklstring(L, 2, &length);
    cld_pen pen = check_pen(L, 7);
    cldL_check_status(L, cld_canvas_text(image, text, length, luaL_checknumber(L, 3), luaL_checknumber(L, 4),
                                         luaL_checknumber(L, 5), lua_toboolean(L, 6), &pen));
    return 0;
}

/* --- text_width(text, size) -> pixels */
static int plot_text_width(lua_State *L) {
    size_t length;
    const char *text = luaL_checklstring(L, 1, &length);
    lua_pushnumber(L, cld_text_width(text, length, luaL_checknumber(L, 2)));
    return 1;
}

/* --- range(x, y or nil, x_positive, y_positive) -> the least and the greatest of x's finite (positive) elements
 * beside which y is so too; or nothing */
static int plot_range(lua_State *L) {
    cld_plot_wanted wanted = {lua_toboolean(L, 3), lua_toboolean(L, 4)};
    double least, most;
    lua_settop(L, 2);
    const cld_tensor *x = check_numbers(L, 1), *y = lua_isnil(L, 2) ? NULL : check_numbers(L, 2);
    luaL_argcheck(L, !y || cld_numel(&y->a) == cld_numel(&x->a), 2, "y must be as long as x");
    if (!cld_plot_range(x, y, wanted, &least, &most)) return 0;
    lua_pushnumber(L, least);
    lua_pushnumber(L, most);
    return 2;
}

/* --- histogram(x, least, most, count) -> f64 (count) */
static int plot_histogram(lua_State *L) {
    double least = luaL_checknumber(L, 2), most = luaL_checknumber(L, 3);
    lua_Integer count = luaL_checkinteger(L, 4);
    luaL_argcheck(L, count >= 1 && least < most, 4, "expected at least one part, and least < most");
    const cld_tensor *x = check_numbers(L, 1);
    cld_tensor **out = cldL_new_tensor(L);
    *out = cld_plot_histogram(x, least, most, count);
    return cldL_result(L, *out);
}

/* --- thinned(points (n, 2)) -> the points of a line in pixels without those that cannot be seen */
static int plot_thinned(lua_State *L) {
    const cld_tensor *points = check_points(L, 1);
    cld_tensor **out = cldL_new_tensor(L);
    *out = cld_plot_thinned(points);
    return cldL_result(L, *out);
}

/* --- path(points (n, 2), "lines" or "discs") -> the d attribute of an SVG path */
static int plot_path(lua_State *L) {
    static const char *const kinds[] = {"lines", "discs", NULL};
    cld_svg_path kind = (cld_svg_path)luaL_checkoption(L, 2, NULL, kinds);
    const cld_tensor *points = check_points(L, 1);
    cldL_guard *g = cldL_new_guard(L, cldL_release_memory);
    size_t length = 0;
    g->held = cld_plot_path(points, kind, &length);
    if (!g->held) return cldL_raise(L);
    lua_pushlstring(L, g->held, length);
    cldL_release(g);
    return 1;
}

/* --- braille(dots u8 (4 rows, 2 columns)) -> i32 (rows, columns): number << 8 | the bits of U+2800 to U+28FF */
static int plot_braille(lua_State *L) {
    cld_tensor *dots = check_canvas(L);
    luaL_argcheck(L, dots->a.ndim == 2, 1, "expected dots u8[height, width]");
    cld_tensor **out = cldL_new_tensor(L);
    *out = cld_plot_braille(dots);
    return cldL_result(L, *out);
}

int cldL_open_plot(lua_State *L) {
    static const luaL_Reg functions[] = {
        {"lines", plot_lines},
        {"discs", plot_discs},
        {"rectangle", plot_rectangle},
        {"text", plot_text},
        {"path", plot_path},
        {"text_width", plot_text_width},
        {"range", plot_range},
        {"histogram", plot_histogram},
        {"thinned", plot_thinned},
        {"braille", plot_braille},
        {NULL, NULL},
    };
    luaL_newlib(L, functions);
    return 1;
}
