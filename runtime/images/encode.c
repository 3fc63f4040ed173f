/* Encoding pixels: JPEG with Pillow's settings (4:2:0), PNG with libpng's, PPM. */
#define _GNU_SOURCE /* strcasestr */
#include <stdio.h>  /* jpeglib.h needs it */

#include <jpeglib.h>

#include <jerror.h>
#include <png.h>
#include <setjmp.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/images/decode.h"

/* The job, and the bytes so far. libjpeg and libpng report errors by longjmp, which stays inside `guarded`. */
typedef struct encoder {
    uint8_t *bytes;
    size_t length, room;
    jmp_buf escape;
    const uint8_t *interleaved;
    int height, width, quality;
    struct jpeg_compress_struct jpeg;
    struct jpeg_error_mgr errors;
    struct jpeg_destination_mgr destination;
    png_structp png;
    png_infop info;
} encoder;

/* Makes room for more bytes. */
static bool grow(encoder *e, size_t more) {
    if (e->room - e->length >= more) return true;
    size_t room = 2 * e->room + more + 65536;
    uint8_t *bytes = realloc(e->bytes, room);
    if (!bytes) {
        cld_fail(CLD_NOMEM, "out of memory for a file of %zu bytes", room);
        return false;
    }
    e->bytes = bytes;
    e->room = room;
    return true;
}

static cld_status guarded(encoder *e, cld_status (*work)(encoder *)) {
    if (setjmp(e->escape)) return cld_error_code();
    return work(e);
}

/* ---- JPEG ---------------------------------------------------------------------------------------------- */

static void jpeg_failed(j_common_ptr jpeg) {
    char message[JMSG_LENGTH_MAX];
    jpeg->err->format_message(jpeg, message);
    cld_fail(jpeg->err->msg_code == JERR_OUT_OF_MEMORY ? CLD_NOMEM : CLD_INVALID, "cannot make a JPEG: %s",
             message);
    longjmp(((encoder *)jpeg->client_data)->escape, 1);
}

static void give_room(encoder *e) {
    if (!grow(e, 65536)) longjmp(e->escape, 1);
    e->destination.next_output_byte = e->bytes + e->length;
    e->destination.free_in_buffer = e->room - e->length;
}

static void jpeg_begin(j_compress_ptr jpeg) { give_room(jpeg->client_data); }

static boolean jpeg_is_full(j_compress_ptr jpeg) {
    encoder *e = jpeg->client_data;
    e->length = e->room; /* the whole buffer, whatever free_in_buffer says, as libjpeg requires */
    give_room(e);
    return TRUE;
}

static void jpeg_end(j_compress_ptr jpeg) {
    encoder *e = jpeg->client_data;
    e->length = e->room - e->destination.free_in_buffer;
}

static cld_status make_jpeg(encoder *e) {
    jpeg_create_compress(&e->jpeg);
    e->jpeg.dest = &e->destination;
    e->jpeg.image_height = (unsigned)e->height;
    e->jpeg.image_width = (unsigned)e->width;
    e->jpeg.input_components = 3;
    e->jpeg.in_color_space = JCS_RGB;
    jpeg_set_defaults(&e->jpeg);
    jpeg_set_quality(&e->jpeg, e->quality, TRUE);
    jpeg_start_compress(&e->jpeg, TRUE);
    while (e->jpeg.next_scanline < e->jpeg.image_height) {
        JSAMPROW row = (JSAMPROW)e->interleaved + (size_t)e->jpeg.next_scanline * (size_t)e->width * 3;
        jpeg_write_scanlines(&e->jpeg, &row, 1);
    }
    jpeg_finish_compress(&e->jpeg);
    return CLD_OK;
}

static cld_status encode_jpeg(encoder *e) {
    if (e->quality < 1 || e->quality > 100)
        return cld_fail(CLD_INVALID, "quality must be 1 to 100, got %d", e->quality);
    if (e->height > JPEG_MAX_DIMENSION || e->width > JPEG_MAX_DIMENSION)
        return cld_fail(CLD_INVALID, "a JPEG holds at most %ld rows and columns, got %d x %d",
                        JPEG_MAX_DIMENSION, e->height, e->width);
    e->jpeg.err = jpeg_std_error(&e->errors);
    e->jpeg.client_data = e;
    e->errors.error_exit = jpeg_failed;
    e->destination = (struct jpeg_destination_mgr){
        .init_destination = jpeg_begin, .empty_output_buffer = jpeg_is_full, .term_destination = jpeg_end};
    cld_status status = guarded(e, make_jpeg);
    jpeg_destroy_compress(&e->jpeg);
    return status;
}

/* ---- PNG ----------------------------------------------------------------------------------------------- */

static void png_failed(png_structp png, png_const_charp message) {
    cld_fail(strcasestr(message, "memory") ? CLD_NOMEM : CLD_INVALID, "cannot make a PNG: %s", message);
    longjmp(((encoder *)png_get_error_ptr(png))->escape, 1);
}

static void png_warned(png_structp png, png_const_charp message) { (void)png, (void)message; }

static void png_bytes(png_structp png, png_bytep data, size_t length) {
    encoder *e = png_get_io_ptr(png);
    if (!grow(e, length)) longjmp(e->escape, 1);
    memcpy(e->bytes + e->length, data, length);
    e->length += length;
}

static void png_flushed(png_structp png) { (void)png; }

static cld_status make_png(encoder *e) {
    e->png = png_create_write_struct(PNG_LIBPNG_VER_STRING, e, png_failed, png_warned);
    e->info = e->png ? png_create_info_struct(e->png) : NULL;
    if (!e->info) return cld_fail(CLD_NOMEM, "out of memory for a PNG");
    png_set_write_fn(e->png, e, png_bytes, png_flushed);
    png_set_IHDR(e->png, e->info, (unsigned)e->width, (unsigned)e->height, 8, PNG_COLOR_TYPE_RGB,
                 PNG_INTERLACE_NONE, PNG_COMPRESSION_TYPE_DEFAULT, PNG_FILTER_TYPE_DEFAULT);
    png_write_info(e->png, e->info);
    for (int y = 0; y < e->height; y++)
        png_write_row(e->png, e->interleaved + (size_t)y * (size_t)e->width * 3);
    png_write_end(e->png, NULL);
    return CLD_OK;
}

static cld_status encode_png(encoder *e) {
    cld_status status = guarded(e, make_png);
    png_destroy_write_struct(&e->png, &e->info);
    return status;
}

/* ---- PPM ----------------------------------------------------------------------------------------------- */

static cld_status encode_ppm(encoder *e) {
    size_t pixels = (size_t)e->height * (size_t)e->width * 3;
    if (!grow(e, pixels + 64)) return CLD_NOMEM;
    int header = snprintf((char *)e->bytes, 64, "P6\n%d %d\n255\n", e->width, e->height);
    memcpy(e->bytes + header, e->interleaved, pixels);
    e->length = (size_t)header + pixels;
    return CLD_OK;
}

cld_status cld_picture_encode(uint8_t **bytes, size_t *length, cld_picture_kind kind,
                              const uint8_t *interleaved, int height, int width, int quality) {
    if (height < 1 || width < 1 || (int64_t)height * width > CLD_PICTURE_MAX_PIXELS)
        return cld_fail(CLD_INVALID, "an image to write must have 1 to %d pixels, got %d x %d",
                        CLD_PICTURE_MAX_PIXELS, height, width);
    encoder e = {.interleaved = interleaved, .height = height, .width = width, .quality = quality};
    cld_status status = kind == CLD_PICTURE_JPEG  ? encode_jpeg(&e)
                        : kind == CLD_PICTURE_PNG ? encode_png(&e)
                                                  : encode_ppm(&e);
    if (status != CLD_OK) {
        free(e.bytes);
        return status;
    }
    *bytes = e.bytes;
    *length = e.length;
    return CLD_OK;
}

#define TEXT(token)  TEXT_(token)
#define TEXT_(token) #token
const char *cld_picture_libraries(void) {
    return "libjpeg-turbo " TEXT(LIBJPEG_TURBO_VERSION) ", libpng " PNG_LIBPNG_VER_STRING;
}
