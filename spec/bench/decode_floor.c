/* How long decoding a JPEG takes in libjpeg-turbo alone: the whole image, to RGB, into one buffer that is kept.
 *
 * A Lua module, so that it runs in the process of the decoder that it is compared with. An error ends the process, as
 * libjpeg's own handler does.
 *
 *     local height, width = require("decode_floor").decode(bytes)
 */
#include <lauxlib.h>
#include <lua.h>
#include <stdio.h> /* jpeglib.h needs it */
#include <stdlib.h>

#include <jpeglib.h>

#define ROWS_AT_ONCE 16

static JSAMPLE *buffer;
static size_t room;

static int decode(lua_State *L) {
    size_t length;
    const char *bytes = luaL_checklstring(L, 1, &length);
    struct jpeg_error_mgr errors;
    struct jpeg_decompress_struct jpeg = {.err = jpeg_std_error(&errors)};
    jpeg_create_decompress(&jpeg);
    jpeg_mem_src(&jpeg, (const unsigned char *)bytes, (unsigned long)length);
    jpeg_read_header(&jpeg, TRUE);
    jpeg.out_color_space = JCS_RGB;
    jpeg_start_decompress(&jpeg);
    size_t stride = 3 * (size_t)jpeg.output_width;
    if (room < stride * jpeg.output_height) {
        free(buffer);
        room = stride * jpeg.output_height;
        buffer = malloc(room);
        if (!buffer) abort();
    }
    while (jpeg.output_scanline < jpeg.output_height) {
        JSAMPROW rows[ROWS_AT_ONCE];
        for (size_t i = 0; i < ROWS_AT_ONCE && jpeg.output_scanline + i < jpeg.output_height; i++)
            rows[i] = buffer + (jpeg.output_scanline + i) * stride;
        JDIMENSION left = jpeg.output_height - jpeg.output_scanline;
        jpeg_read_scanlines(&jpeg, rows, left < ROWS_AT_ONCE ? left : ROWS_AT_ONCE);
    }
    lua_pushinteger(L, jpeg.output_height);
    lua_pushinteger(L, jpeg.output_width);
    jpeg_finish_decompress(&jpeg);
    jpeg_destroy_decompress(&jpeg);
    return 2;
}

__attribute__((visibility("default"))) int luaopen_decode_floor(lua_State *L) {
    lua_createtable(L, 0, 1);
    lua_pushcfunction(L, decode);
    lua_setfield(L, -2, "decode");
    return 1;
}
