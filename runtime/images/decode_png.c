/* Decoding PNG files with libpng, as Pillow's convert("RGB") does: transparency is dropped, not blended, 16-bit samples
 * lose their low byte, and colour profiles are ignored. libpng reports errors by longjmp, which stays inside
 * `guarded`. */
#define _GNU_SOURCE /* strcasestr */
#include <png.h>
#include <setjmp.h>
#include <stdbool.h>
#include <string.h>

#include "runtime/images/decode_kinds.h"

/* ---- the header ---------------------------------------------------------------------------------------- */

#define SIGNATURE 8  /* bytes; chunks follow */
#define CHUNK     12 /* bytes of a chunk without its data: length, name, ..., checksum */

cld_status cld_png_open(cld_picture *p) {
    const uint8_t *b = p->bytes;
    if (p->length < SIGNATURE + CHUNK + 13) return cld_fail(CLD_INVALID, "a PNG that ends within its header");
    if (cld_be32(b + SIGNATURE) != 13 || memcmp(b + SIGNATURE + 4, "IHDR", 4) != 0)
        return cld_fail(CLD_INVALID, "a damaged PNG: it does not begin with its header");
    uint32_t width = cld_be32(b + SIGNATURE + 8), height = cld_be32(b + SIGNATURE + 12);
    if (width > PNG_UINT_31_MAX || height > PNG_UINT_31_MAX)
        return cld_fail(CLD_INVALID, "a damaged PNG: a size of %u x %u pixels", height, width);
    p->height = (int)height;
    p->width = (int)width;
    for (size_t at = SIGNATURE; p->length - at >= CHUNK;) {
        uint32_t length = cld_be32(b + at);
        if (length > p->length - at - CHUNK) break;
        if (memcmp(b + at + 4, "eXIf", 4) == 0) p->orientation = cld_exif_orientation(b + at + 8, length);
        at += CHUNK + (size_t)length;
    }
    return CLD_OK;
}

/* ---- libpng -------------------------------------------------------------------------------------------- */

/* The most that one deflated byte can unpack to. */
#define MAX_INFLATION 1032.0

typedef struct decoder {
    png_structp png;
    png_infop info;
    jmp_buf escape;
    size_t at; /* the next byte of the file */
    /* the job */
    const cld_picture *picture;
    cld_rect part;
    cld_scratch *scratch;
    cld_pixels *out;
} decoder;

static void on_error(png_structp png, png_const_charp message) {
    decoder *d = png_get_error_ptr(png);
    if (strcasestr(message, "memory")) /* "Out of memory", "insufficient memory to read chunk" */
        cld_fail(CLD_NOMEM, "out of memory for a PNG of %d x %d pixels", d->picture->height,
                 d->picture->width);
    else
        cld_fail(CLD_INVALID, "a damaged PNG: %s", message);
    longjmp(d->escape, 1);
}

static void on_warning(png_structp png, png_const_charp message) { (void)png, (void)message; }

static void read_bytes(png_structp png, png_bytep to, size_t length) {
    decoder *d = png_get_io_ptr(png);
    if (length > d->picture->length - d->at) {
        cld_fail(CLD_INVALID, "a truncated PNG: it ends at byte %zu", d->picture->length);
        longjmp(d->escape, 1);
    }
    memcpy(to, d->picture->bytes + d->at, length);
    d->at += length;
}

static cld_status guarded(decoder *d, cld_status (*work)(decoder *)) {
    if (setjmp(d->escape)) return cld_error_code();
    return work(d);
}

static cld_status work(decoder *d) {
    const cld_picture *p = d->picture;
    d->png = png_create_read_struct(PNG_LIBPNG_VER_STRING, d, on_error, on_warning);
    d->info = d->png ? png_create_info_struct(d->png) : NULL;
    if (!d->info) return cld_fail(CLD_NOMEM, "out of memory for a PNG");
    png_structp png = d->png;
    png_set_read_fn(png, d, read_bytes);
#ifdef FUZZING_BUILD_MODE_UNSAFE_FOR_PRODUCTION
    png_set_crc_action(png, PNG_CRC_QUIET_USE, PNG_CRC_QUIET_USE); /* lets a fuzzer's changes get further */
    png_set_option(png, PNG_IGNORE_ADLER32, PNG_OPTION_ON);
#else
    png_set_crc_action(png, PNG_CRC_ERROR_QUIT, PNG_CRC_ERROR_QUIT);
#endif
    /* Chunks without pixel data are skipped: compressed profiles and texts can have any size. */
    png_set_keep_unknown_chunks(png, PNG_HANDLE_CHUNK_NEVER, NULL, -1);
    png_set_keep_unknown_chunks(png, PNG_HANDLE_CHUNK_NEVER, (png_const_bytep) "tRNS", 1);
    png_read_info(png, d->info);
    if ((int64_t)png_get_image_height(png, d->info) != p->height ||
        (int64_t)png_get_image_width(png, d->info) != p->width)
        return cld_fail(CLD_INVALID, "a damaged PNG: it gives two sizes");

    bool interlaced = png_get_interlace_type(png, d->info) != PNG_INTERLACE_NONE;
    int top = interlaced ? 0 : d->part.top;
    int bottom = interlaced ? p->height : d->part.top + d->part.height;
    if ((double)bottom * (double)png_get_rowbytes(png, d->info) > MAX_INFLATION * (double)p->length)
        return cld_fail(CLD_INVALID, "a damaged PNG: %zu bytes are too few for its %d x %d pixels", p->length,
                        p->height, p->width);
    png_set_strip_16(png);
    png_set_palette_to_rgb(png);
    if (png_get_bit_depth(png, d->info) < 8) png_set_expand_gray_1_2_4_to_8(png);
    png_set_strip_alpha(png);
    png_set_gray_to_rgb(png);
    int passes = png_set_interlace_handling(png);
    png_read_update_info(png, d->info);
    size_t stride = (size_t)p->width * 3;
    if (png_get_rowbytes(png, d->info) != stride)
        return cld_fail(CLD_INVALID, "a PNG of a kind that cannot be read");

    uint8_t *data = cld_scratch_reserve(d->scratch, (size_t)(bottom - top) * stride);
    if (!data) return CLD_NOMEM;
    for (int pass = 0; pass < passes; pass++)
        for (int y = 0; y < bottom; y++)
            png_read_row(png, data + (y < top ? 0 : (size_t)(y - top) * stride), NULL);
    *d->out = (cld_pixels){
        .data = data,
        .stride = stride,
        .height = p->height,
        .width = p->width,
        .there = {top, 0, bottom - top, p->width},
        .shrink = 1,
        .full_height = p->height,
        .full_width = p->width,
    };
    return CLD_OK;
}

cld_status cld_png_decode(cld_pixels *out, const cld_picture *p, cld_rect part, cld_scratch *scratch) {
    decoder d = {.picture = p, .part = part, .scratch = scratch, .out = out};
    cld_status status = guarded(&d, work);
    png_destroy_read_struct(&d.png, &d.info, NULL);
    return status;
}
