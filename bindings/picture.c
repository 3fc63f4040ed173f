/* cld.core.picture: image files. lua/cld/image.lua builds cld.image on these and on image.c's functions. */
#include <string.h>

#include "bindings/bindings.h"
#include "runtime/images/picture.h"

static const char *const kinds[] = {
    [CLD_PICTURE_JPEG] = "jpeg", [CLD_PICTURE_PNG] = "png", [CLD_PICTURE_PNM] = "ppm", NULL};

static const char *check_path(lua_State *L, int arg) {
    size_t length;
    const char *path = luaL_checklstring(L, arg, &length);
    luaL_argcheck(L, strlen(path) == length, arg, "the string holds a zero byte");
    return path;
}

/* read(path[, upright]) -> u8 (height, width, 3) */
static int picture_read(lua_State *L) {
    const char *path = check_path(L, 1);
    bool upright = cldL_check_flag(L, 2, false);
    cld_tensor **out = cldL_new_tensor(L);
    *out = cld_picture_read(path, upright);
    return cldL_result(L, *out);
}

static int check_pixels(lua_State *L, int arg) {
    lua_Integer value = luaL_checkinteger(L, arg);
    luaL_argcheck(L, value >= 0 && value <= INT32_MAX, arg, "expected a number of pixels, at least 0");
    return (int)value;
}

/* decode(bytes[, upright[, shrink[, top, left, height, width]]]) -> u8 (height, width, 3): the part, given in pixels
 * of the full size, at 1/shrink if this kind of file can be shrunk. bytes is a string or u8 (n). */
static int picture_decode(lua_State *L) {
    cld_tensor *tensor = cldL_test_tensor(L, 1);
    size_t length;
    const char *bytes = tensor ? NULL : luaL_checklstring(L, 1, &length);
    bool upright = cldL_check_flag(L, 2, false);
    lua_Integer shrink = luaL_optinteger(L, 3, 1);
    luaL_argcheck(L, shrink >= 1 && shrink <= 8, 3, "shrink must be 1, 2, 4 or 8");
    bool whole = lua_isnoneornil(L, 4);
    cld_rect rect = {0}, *part = whole ? NULL : &rect;
    if (!whole)
        rect = (cld_rect){check_pixels(L, 4), check_pixels(L, 5), check_pixels(L, 6), check_pixels(L, 7)};
    cld_tensor **out = cldL_new_tensor(L);
    *out = tensor ? cld_picture_tensor_of(tensor, part, (int)shrink, upright)
                  : cld_picture_tensor(bytes, length, part, (int)shrink, upright);
    return cldL_result(L, *out);
}

/* write(path, "jpeg"|"png"|"ppm", image, quality) */
static int picture_write(lua_State *L) {
    const char *path = check_path(L, 1);
    cld_picture_kind kind = (cld_picture_kind)luaL_checkoption(L, 2, NULL, kinds);
    cld_tensor *image = cldL_check_tensor(L, 3);
    lua_Integer quality = luaL_checkinteger(L, 4);
    luaL_argcheck(L, quality >= 1 && quality <= 100, 4, "quality must be 1 to 100");
    cldL_check_saved(L, cld_picture_write(path, kind, image, (int)quality));
    return 0;
}

/* encode("jpeg"|"png"|"ppm", image, quality) -> u8 (n), a file's bytes */
static int picture_encode(lua_State *L) {
    cld_picture_kind kind = (cld_picture_kind)luaL_checkoption(L, 1, NULL, kinds);
    cld_tensor *image = cldL_check_tensor(L, 2);
    lua_Integer quality = luaL_checkinteger(L, 3);
    luaL_argcheck(L, quality >= 1 && quality <= 100, 3, "quality must be 1 to 100");
    cld_tensor **out = cldL_new_tensor(L);
    *out = cld_picture_encoded(kind, image, (int)quality);
    return cldL_result(L, *out);
}

static const luaL_Reg functions[] = {
    {"read", picture_read}, {"decode", picture_decode}, {"write", picture_write}, {"encode", picture_encode},
    {NULL, NULL},
};

int cldL_open_picture(lua_State *L) {
    luaL_newlib(L, functions);
    return 1;
}
