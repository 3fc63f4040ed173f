/* cld.core.screen: images as text for a terminal, and facts about the terminal. lua/cld/image/shown.lua builds
 * cld.image.show on these. */
#include "bindings/io.h"
#include "runtime/core/process.h"
#include "runtime/images/terminal.h"

#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

/* The image at 1, dense on the host; a tensor on the stack keeps it. */
static const cld_tensor *check_image(lua_State *L) {
    cld_tensor *image = cldL_check_tensor(L, 1);
    bool is_image = image->a.dtype == CLD_U8 && image->a.ndim == 3 && image->a.shape[2] == 3;
    luaL_argcheck(L, is_image, 1, "expected an image u8[height, width, 3]");
    cld_tensor **host = cldL_new_tensor(L);
    *host = cld_tensor_on_host(image);
    cldL_result(L, *host);
    return *host;
}

static int push_text(lua_State *L, cldL_guard *g, size_t length) {
    if (!g->held) return cldL_raise(L);
    lua_pushlstring(L, g->held, length);
    cldL_release(g);
    return 1;
}

/* --- blocks(image[, 256]) -> text of half blocks, in 24-bit colours or xterm's 256 */
static int screen_blocks(lua_State *L) {
    cld_terminal_colors colors = luaL_optinteger(L, 2, 0) == 256 ? CLD_COLORS_256 : CLD_COLORS_FULL;
    const cld_tensor *image = check_image(L);
    cldL_guard *g = cldL_new_guard(L, cldL_release_memory);
    size_t length = 0;
    g->held = cld_terminal_blocks(image, colors, &length);
    return push_text(L, g, length);
}

/* --- characters(image) -> text, bright pixels as dense characters */
static int screen_characters(lua_State *L) {
    const cld_tensor *image = check_image(L);
    cldL_guard *g = cldL_new_guard(L, cldL_release_memory);
    size_t length = 0;
    g->held = cld_terminal_characters(image, &length);
    return push_text(L, g, length);
}

/* --- sixel(image) -> text, Sixel graphics */
static int screen_sixel(lua_State *L) {
    const cld_tensor *image = check_image(L);
    cldL_guard *g = cldL_new_guard(L, cldL_release_memory);
    size_t length = 0;
    g->held = cld_terminal_sixel(image, &length);
    return push_text(L, g, length);
}

/* --- has_sixel() -> whether the terminal says that it shows Sixel graphics; asked once, for at most 0.2 s */
static int screen_has_sixel(lua_State *L) {
    lua_pushboolean(L, cld_terminal_has_sixel());
    return 1;
}

/* --- facts() -> {terminal = whether standard output is a terminal of any kind, columns, pixels = its width in pixels
 * or nil} */
static int screen_facts(lua_State *L) {
    struct winsize size;
    lua_newtable(L);
    lua_pushboolean(L, isatty(STDOUT_FILENO) == 1);
    lua_setfield(L, -2, "terminal");
    lua_pushinteger(L, cld_terminal_columns());
    lua_setfield(L, -2, "columns");
    if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_xpixel > 0) {
        lua_pushinteger(L, size.ws_xpixel);
        lua_setfield(L, -2, "pixels");
    }
    return 1;
}

int cldL_open_screen(lua_State *L) {
    static const luaL_Reg functions[] = {{"blocks", screen_blocks}, {"characters", screen_characters},
                                         {"sixel", screen_sixel},   {"has_sixel", screen_has_sixel},
                                         {"facts", screen_facts},   {NULL, NULL}};
    luaL_newlib(L, functions);
    return 1;
}
