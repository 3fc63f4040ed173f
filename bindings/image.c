/* cld.image: Pillow's image operations on u8 tensors (height, width, 3). */
#include "bindings/bindings.h"
#include "runtime/data/image.h"

static int apply(lua_State *L, cld_image_op op, double value) {
    const cld_tensor *image = cldL_check_tensor(L, 1);
    cld_tensor **out = cldL_new_tensor(L);
    *out = cld_image_apply(op, image, value);
    return cldL_result(L, *out);
}

static int image_adjust_brightness(lua_State *L) {
    return apply(L, CLD_IMAGE_BRIGHTNESS, luaL_checknumber(L, 2));
}
static int image_adjust_contrast(lua_State *L) {
    return apply(L, CLD_IMAGE_CONTRAST, luaL_checknumber(L, 2));
}
static int image_adjust_saturation(lua_State *L) {
    return apply(L, CLD_IMAGE_SATURATION, luaL_checknumber(L, 2));
}
static int image_adjust_hue(lua_State *L) { return apply(L, CLD_IMAGE_HUE, luaL_checknumber(L, 2)); }
static int image_gaussian_blur(lua_State *L) { return apply(L, CLD_IMAGE_BLUR, luaL_checknumber(L, 2)); }
static int image_grayscale(lua_State *L) { return apply(L, CLD_IMAGE_GRAYSCALE, 0); }
static int image_hflip(lua_State *L) { return apply(L, CLD_IMAGE_HFLIP, 0); }

static int check_int(lua_State *L, int arg) {
    lua_Integer value = luaL_checkinteger(L, arg);
    luaL_argcheck(L, value >= -65536 && value <= 65536, arg, "out of range: at most 65536 pixels");
    return (int)value;
}

/* image.resized_crop(image, top, left, height, width, size | {height, width}): pixels, from 0. */
static int image_resized_crop(lua_State *L) {
    const cld_tensor *image = cldL_check_tensor(L, 1);
    cld_rect crop = {check_int(L, 2), check_int(L, 3), check_int(L, 4), check_int(L, 5)};
    int64_t size[CLD_MAX_DIMS];
    if (lua_istable(L, 6)) {
        luaL_argcheck(L, cldL_check_shape(L, 6, size) == 2, 6, "size is a number or {height, width}");
        for (int i = 0; i < 2; i++)
            luaL_argcheck(L, size[i] >= 1 && size[i] <= 65535, 6, "size must be 1 to 65535");
    } else {
        size[0] = size[1] = check_int(L, 6);
    }
    cld_tensor **out = cldL_new_tensor(L);
    *out = cld_image_resized_crop_tensor(image, crop, (int)size[0], (int)size[1]);
    return cldL_result(L, *out);
}

/* Three positive or negative numbers, one per channel. */
static void check_channels(lua_State *L, int arg, float out[3]) {
    if (lua_isnoneornil(L, arg)) return;
    luaL_argcheck(L, lua_istable(L, arg) && luaL_len(L, arg) == 3, arg,
                  "expected three numbers, one per channel");
    for (int c = 0; c < 3; c++) {
        lua_geti(L, arg, c + 1);
        luaL_argcheck(L, lua_isnumber(L, -1), arg, "expected three numbers, one per channel");
        out[c] = (float)lua_tonumber(L, -1);
        lua_pop(L, 1);
    }
}

/* image.normalize(image[, mean, std]) -> f32 (3, height, width): (image / 255 - mean) / std, per channel. */
static int image_normalize(lua_State *L) {
    const cld_tensor *image = cldL_check_tensor(L, 1);
    cld_normalization n = {{0, 0, 0}, {1, 1, 1}};
    check_channels(L, 2, n.mean);
    check_channels(L, 3, n.std);
    for (int c = 0; c < 3; c++) luaL_argcheck(L, n.std[c] > 0, 3, "std must be positive");
    cld_tensor **out = cldL_new_tensor(L);
    *out = cld_image_normalize_tensor(image, &n);
    return cldL_result(L, *out);
}

static const luaL_Reg functions[] = {
    {"adjust_brightness", image_adjust_brightness},
    {"adjust_contrast", image_adjust_contrast},
    {"adjust_hue", image_adjust_hue},
    {"adjust_saturation", image_adjust_saturation},
    {"gaussian_blur", image_gaussian_blur},
    {"grayscale", image_grayscale},
    {"hflip", image_hflip},
    {"normalize", image_normalize},
    {"resized_crop", image_resized_crop},
    {NULL, NULL},
};

int cldL_open_image(lua_State *L) {
    luaL_newlib(L, functions);
    return 1;
}
