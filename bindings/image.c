/* cld.image: Pillow's image operations on u8 tensors (height, width, 3). */
#include "bindings/bindings.h"

#include <string.h>

#include "runtime/images/follow.h"
#include "runtime/images/image.h"

static int apply(lua_State *L, cld_image_op op, double value) {
    const cld_tensor *image = cldL_check_tensor(L, 1);
    cld_tensor **out = cldL_new_tensor(L);
    *out = cld_image_apply(op, image, value);
    return cldL_result(L, *out);
}

/* --- cld.image.adjust_brightness(image, factor) -> image: u8 (H, W, 3), with the same pixels as Pillow and
 * torchvision; 1 changes nothing, 0 gives black.
 *
 *     local image = cld.full({ 2, 2, 3 }, 100, "u8")
 *     print(cld.image.adjust_brightness(image, 1.5)[{ 1, 1, 1 }]:item())  --> 150 */
static int image_adjust_brightness(lua_State *L) {
    return apply(L, CLD_IMAGE_BRIGHTNESS, luaL_checknumber(L, 2));
}
/* --- cld.image.adjust_contrast(image, factor) -> image: u8 (H, W, 3), as Pillow; 1 changes nothing, 0 gives
 * the mean grey. */
static int image_adjust_contrast(lua_State *L) {
    return apply(L, CLD_IMAGE_CONTRAST, luaL_checknumber(L, 2));
}
/* --- cld.image.adjust_saturation(image, factor) -> image: u8 (H, W, 3), as Pillow; 1 changes nothing, 0 gives
 * greys. */
static int image_adjust_saturation(lua_State *L) {
    return apply(L, CLD_IMAGE_SATURATION, luaL_checknumber(L, 2));
}
/* --- cld.image.adjust_sharpness(image, factor) -> image: u8 (H, W, 3), as Pillow; 1 changes nothing, 0 gives
 * a smoothed image. */
static int image_adjust_sharpness(lua_State *L) {
    return apply(L, CLD_IMAGE_SHARPNESS, luaL_checknumber(L, 2));
}
/* --- cld.image.solarize(image, threshold) -> image: u8 (H, W, 3): values at the threshold (0 to 256) and
 * above are inverted, as Pillow. */
static int image_solarize(lua_State *L) { return apply(L, CLD_IMAGE_SOLARIZE, luaL_checknumber(L, 2)); }
/* --- cld.image.posterize(image, bits) -> image: u8 (H, W, 3): keeps that many of the highest bits of each
 * value, as Pillow. */
static int image_posterize(lua_State *L) { return apply(L, CLD_IMAGE_POSTERIZE, luaL_checknumber(L, 2)); }
/* --- cld.image.invert(image) -> image: u8 (H, W, 3): 255 minus each value. */
static int image_invert(lua_State *L) { return apply(L, CLD_IMAGE_INVERT, 0); }
/* --- cld.image.autocontrast(image) -> image: u8 (H, W, 3): stretches each channel to 0 to 255, as Pillow. */
static int image_autocontrast(lua_State *L) { return apply(L, CLD_IMAGE_AUTOCONTRAST, 0); }
/* --- cld.image.equalize(image) -> image: u8 (H, W, 3): equalizes each channel's histogram, as Pillow. */
static int image_equalize(lua_State *L) { return apply(L, CLD_IMAGE_EQUALIZE, 0); }
/* --- cld.image.adjust_hue(image, shift) -> image: u8 (H, W, 3), as torchvision; the shift, -0.5 to 0.5, is
 * a fraction of the colour circle. */
static int image_adjust_hue(lua_State *L) { return apply(L, CLD_IMAGE_HUE, luaL_checknumber(L, 2)); }
/* --- cld.image.gaussian_blur(image, sigma) -> image: u8 (H, W, 3), as Pillow's GaussianBlur; sigma is in
 * pixels. */
static int image_gaussian_blur(lua_State *L) { return apply(L, CLD_IMAGE_BLUR, luaL_checknumber(L, 2)); }
/* --- cld.image.grayscale(image) -> image: u8 (H, W, 3), with the luminance in all channels, as torchvision's
 * grayscale with three channels. */
static int image_grayscale(lua_State *L) { return apply(L, CLD_IMAGE_GRAYSCALE, 0); }
/* --- cld.image.hflip(image) -> image: u8 (H, W, 3), with left and right exchanged. */
static int image_hflip(lua_State *L) { return apply(L, CLD_IMAGE_HFLIP, 0); }

static int check_int(lua_State *L, int arg) {
    lua_Integer value = luaL_checkinteger(L, arg);
    luaL_argcheck(L, value >= -65536 && value <= 65536, arg, "out of range: at most 65536 pixels");
    return (int)value;
}

/* size | {height, width} */
static void check_size(lua_State *L, int arg, int64_t size[CLD_MAX_DIMS]) {
    if (lua_istable(L, arg)) {
        luaL_argcheck(L, cldL_check_shape(L, arg, size) == 2, arg,
                      "size must be a number or {height, width}");
        for (int i = 0; i < 2; i++)
            luaL_argcheck(L, size[i] >= 1 && size[i] <= 65535, arg, "size must be 1 to 65535");
    } else {
        size[0] = size[1] = check_int(L, arg);
    }
}

static cld_filter check_filter(lua_State *L, int arg) {
    static const char *const names[] = {"bilinear", "bicubic", NULL};
    return luaL_checkoption(L, arg, "bilinear", names) == 0 ? CLD_FILTER_BILINEAR : CLD_FILTER_BICUBIC;
}

/* --- cld.image.resized_crop(image, top, left, height, width, size[, filter = "bilinear"]) -> image: a
 * rectangle of u8 (H, W, 3), in pixels from 0, scaled to size, which is a number or {height, width}. filter:
 * "bilinear" or "bicubic", with antialiasing as in Pillow. */
static int image_resized_crop(lua_State *L) {
    const cld_tensor *image = cldL_check_tensor(L, 1);
    cld_rect crop = {check_int(L, 2), check_int(L, 3), check_int(L, 4), check_int(L, 5)};
    int64_t size[CLD_MAX_DIMS];
    check_size(L, 6, size);
    cld_filter filter = check_filter(L, 7);
    cld_tensor **out = cldL_new_tensor(L);
    *out = cld_image_resized_crop(image, crop, (int)size[0], (int)size[1], filter);
    return cldL_result(L, *out);
}

/* --- cld.image.resize(image, size[, filter = "bilinear"]) -> image: u8 (H, W, 3) scaled to size, a number
 * for both sides or {height, width}, as Pillow's Image.resize. */
static int image_resize(lua_State *L) {
    const cld_tensor *image = cldL_check_tensor(L, 1);
    int64_t size[CLD_MAX_DIMS];
    check_size(L, 2, size);
    cld_filter filter = check_filter(L, 3);
    cld_tensor **out = cldL_new_tensor(L);
    *out = cld_image_resize(image, (int)size[0], (int)size[1], filter);
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

/* --- cld.image.normalize(image[, mean, std]) -> f32 (3, height, width): (image / 255 - mean) / std of u8
 * (H, W, 3); mean and std are lists of three. */
static int image_normalize(lua_State *L) {
    const cld_tensor *image = cldL_check_tensor(L, 1);
    float mean[3] = {0, 0, 0}, std[3] = {1, 1, 1};
    check_channels(L, 2, mean);
    check_channels(L, 3, std);
    for (int c = 0; c < 3; c++) luaL_argcheck(L, std[c] > 0, 3, "std must be positive");
    cld_tensor **out = cldL_new_tensor(L);
    *out = cld_image_normalize(image, mean, std);
    return cldL_result(L, *out);
}

/* ---- views written as numbers -------------------------------------------------------------------------------- */

/* The instructions at the list on top of the stack: {{"contrast", 1.4}, {"flip"}, ...}. */
static void check_view(lua_State *L, cld_view *v, int height, int width) {
    luaL_checktype(L, -1, LUA_TTABLE);
    int count = (int)luaL_len(L, -1);
    if (count > CLD_IMAGE_STEPS) luaL_error(L, "a view has at most %d instructions", CLD_IMAGE_STEPS);
    for (int i = 0; i < count; i++) {
        double numbers[CLD_IMAGE_NUMBERS];
        if (lua_geti(L, -1, i + 1) != LUA_TTABLE) luaL_error(L, "an instruction is {name, number, ...}");
        int given = (int)luaL_len(L, -1) - 1;
        if (given < 0 || given > CLD_IMAGE_NUMBERS) luaL_error(L, "an instruction is {name, number, ...}");
        for (int k = 0; k < given; k++) {
            lua_geti(L, -1, k + 2);
            numbers[k] = luaL_checknumber(L, -1);
            lua_pop(L, 1);
        }
        lua_geti(L, -1, 1);
        cldL_check_status(L, cld_image_instruction(&v->step[i], luaL_checkstring(L, -1), numbers, given));
        lua_pop(L, 2);
    }
    cldL_check_status(L, cld_image_finish_view(v, count, height, width));
}

/* --- cld.image.follow(image, view[, {sparing = false, shrink = 1}]) -> u8 (height, width, 3), or f32 (3,
 * height, width) if it is normalized: applies a list of drawn instructions ({{"contrast", 1.4}, {"flip"}},
 * runtime/images/image.h). For specs and experiments; cld.augment draws such lists. */
static int image_follow(lua_State *L) {
    static const char *const names[] = {"sparing", "shrink", NULL};
    const cld_tensor *image = cldL_check_tensor(L, 1);
    luaL_argcheck(L, image->a.ndim == 3 && image->a.shape[0] <= 8191 && image->a.shape[1] <= 8191, 1,
                  "expected an image u8[height, width, 3] of at most 8191 pixels on a side");
    cld_image_given given = {.shrink = 1};
    if (!lua_isnoneornil(L, 3)) {
        cldL_check_fields(L, 3, "follow", names);
        given.sparing = cldL_field_boolean(L, 3, "sparing", false);
        lua_Integer shrink = cldL_field_integer(L, 3, "shrink", 1);
        luaL_argcheck(L, shrink == 1 || shrink == 2 || shrink == 4 || shrink == 8, 3,
                      "shrink must be 1, 2, 4 or 8");
        given.shrink = (int)shrink;
    }
    cld_view *v = lua_newuserdatauv(L, cld_view_bytes(CLD_IMAGE_STEPS), 0);
    lua_pushvalue(L, 2);
    check_view(L, v, (int)image->a.shape[0] * given.shrink, (int)image->a.shape[1] * given.shrink);
    cld_tensor **out = cldL_new_tensor(L);
    *out = cld_image_follow(image, v, &given);
    return cldL_result(L, *out);
}

/* --- cld.image.follow_all(images, rows or nil, {view, ...}[, dtype = "f32"]) -> (n, 3, height, width):
 * follow for those of the images u8 (N, H, W, 3) that rows (i64, from 0) lists, on their device. */
static int image_follow_all(lua_State *L) {
    cld_tensor *images = cldL_check_tensor(L, 1), *rows = cldL_opt_tensor(L, 2);
    luaL_checktype(L, 3, LUA_TTABLE);
    cld_dtype dtype = lua_isnoneornil(L, 4) ? CLD_F32 : cldL_check_dtype(L, 4);
    luaL_argcheck(L, images->a.ndim == 4 && images->a.shape[1] <= 65535 && images->a.shape[2] <= 65535, 1,
                  "expected images u8[n, height, width, 3]");
    lua_Integer n = luaL_len(L, 3);
    luaL_argcheck(L, n >= 1 && n <= 65536, 3, "expected 1 to 65536 views");
    size_t stride = cld_view_bytes(CLD_IMAGE_STEPS);
    char *views = lua_newuserdatauv(L, (size_t)n * stride, 0);
    memset(views, 0, (size_t)n * stride);
    for (lua_Integer i = 0; i < n; i++) {
        lua_geti(L, 3, i + 1);
        check_view(L, (cld_view *)(views + (size_t)i * stride), (int)images->a.shape[1],
                   (int)images->a.shape[2]);
        lua_pop(L, 1);
    }
    cld_tensor **out = cldL_new_tensor(L);
    *out = cld_image_follow_all(images, rows, (const cld_view *)views, stride, n, dtype);
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
    {"adjust_sharpness", image_adjust_sharpness},
    {"solarize", image_solarize},
    {"posterize", image_posterize},
    {"invert", image_invert},
    {"autocontrast", image_autocontrast},
    {"equalize", image_equalize},
    {"resize", image_resize},
    {"follow", image_follow},
    {"follow_all", image_follow_all},
    {NULL, NULL},
};

int cldL_open_image(lua_State *L) {
    luaL_newlib(L, functions);
    return 1;
}
