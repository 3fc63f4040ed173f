/* Image files: their kind, from the first bytes; limits; turning upright. */
#include "runtime/images/decode.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "runtime/images/decode_kinds.h"

/* ---- the kind of a file -------------------------------------------------------------------------------- */

static const struct {
    size_t at, length;
    const char *bytes, *what;
} others[] = {
    {0, 6, "GIF87a", "a GIF"},
    {0, 6, "GIF89a", "a GIF"},
    {0, 2, "BM", "a BMP"},
    {0, 4, "II*\0", "a TIFF"},
    {0, 4, "MM\0*", "a TIFF"},
    {0, 4, "II+\0", "a TIFF"},
    {0, 4, "MM\0+", "a TIFF"},
    {8, 4, "WEBP", "a WebP"},
    {4, 8, "ftypavif", "an AVIF"},
    {4, 8, "ftypavis", "an AVIF"},
    {4, 7, "ftyphei", "a HEIC"},
    {4, 7, "ftyphev", "a HEIC"},
    {4, 8, "ftypmif1", "a HEIC"},
    {4, 8, "ftypmsf1", "a HEIC"},
    {4, 4, "ftyp", "a video"},
    {4, 4, "jP  ", "a JPEG 2000"},
    {0, 4, "\xff\x4f\xff\x51", "a JPEG 2000"},
    {0, 2, "\xff\x0a", "a JPEG XL"},
    {4, 4, "JXL ", "a JPEG XL"},
    {0, 4, "8BPS", "a Photoshop file"},
    {0, 4, "\0\0\1\0", "an icon"},
    {0, 4, "%PDF", "a PDF"},
    {0, 4, "PK\3\4", "a zip archive"},
    {0, 2, "\x1f\x8b", "gzip'ed"},
    {257, 5, "ustar", "a tar archive"},
    {0, 6, "\x93NUMPY", "an .npy array"},
    {0, 4, "\0\5\x16\7", "what macOS keeps beside a file, not the file itself"},
    {0, 18, "version https://git", "a Git LFS pointer, not the file itself"},
};

/* The first tag of a text file. */
static const struct {
    const char *tag, *what;
} texts[] = {{"<!doctype html", "an HTML page"},
             {"<html", "an HTML page"},
             {"<svg", "an SVG"},
             {"<?xml", "an XML file"}};

static const char *other_kind(const uint8_t *bytes, size_t length) {
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        if (length >= others[i].at + others[i].length &&
            memcmp(bytes + others[i].at, others[i].bytes, others[i].length) == 0)
            return others[i].what;
    size_t at = length >= 3 && memcmp(bytes, "\xef\xbb\xbf", 3) == 0 ? 3 : 0;
    while (at < length && memchr(" \t\r\n", bytes[at], 4)) at++;
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        size_t n = strlen(texts[i].tag);
        if (length - at >= n && strncasecmp((const char *)bytes + at, texts[i].tag, n) == 0)
            return texts[i].what;
    }
    return NULL;
}

static cld_status fail_unknown(const uint8_t *bytes, size_t length) {
    if (length == 0) return cld_fail(CLD_INVALID, "an empty file");
    const char *what = other_kind(bytes, length);
    if (what) return cld_fail(CLD_INVALID, "%s; JPEG, PNG, PPM and PGM are read", what);
    size_t zeros = 0;
    while (zeros < length && bytes[zeros] == 0) zeros++;
    if (zeros == length) return cld_fail(CLD_INVALID, "only zeros (%zu bytes)", length);
    char shown[3 * 8 + 1] = "";
    for (size_t i = 0; i < length && i < 8; i++)
        snprintf(shown + 3 * i, sizeof shown - 3 * i, " %02x", bytes[i]);
    return cld_fail(CLD_INVALID, "not a known kind of image: it begins with the bytes%s", shown);
}

cld_status cld_picture_open(cld_picture *p, const void *file, size_t length) {
    const uint8_t *bytes = file;
    *p = (cld_picture){.bytes = bytes, .length = length, .orientation = 1};
    if (length >= 3 && memcmp(bytes, "\xff\xd8\xff", 3) == 0) {
        p->kind = CLD_PICTURE_JPEG;
        CLD_TRY(cld_jpeg_open(p));
    } else if (length >= 8 && memcmp(bytes, "\x89PNG\r\n\x1a\n", 8) == 0) {
        p->kind = CLD_PICTURE_PNG;
        CLD_TRY(cld_png_open(p));
    } else if (length >= 3 && bytes[0] == 'P' && bytes[1] >= '1' && bytes[1] <= '6' &&
               memchr(" \t\n\v\f\r#", bytes[2], 7)) {
        p->kind = CLD_PICTURE_PNM;
        CLD_TRY(cld_pnm_open(p));
    } else {
        return fail_unknown(bytes, length);
    }
    if (p->height < 1 || p->width < 1)
        return cld_fail(CLD_INVALID, "an image without pixels (%d x %d)", p->height, p->width);
    if ((int64_t)p->height * p->width > CLD_PICTURE_MAX_PIXELS)
        return cld_fail(CLD_INVALID, "an image of %d x %d pixels; at most %d in all can be read", p->height,
                        p->width, CLD_PICTURE_MAX_PIXELS);
    return CLD_OK;
}

/* ---- pixels -------------------------------------------------------------------------------------------- */

cld_status cld_picture_decode(cld_pixels *out, const cld_picture *p, cld_rect part, int shrink,
                              cld_scratch *scratch) {
    if (part.top < 0 || part.left < 0 || part.height < 1 || part.width < 1 ||
        part.height > p->height - part.top || part.width > p->width - part.left)
        return cld_fail(CLD_INVALID, "a part of %d x %d pixels from (%d, %d) is not in an image of %d x %d",
                        part.height, part.width, part.top, part.left, p->height, p->width);
    if (shrink != 1 && shrink != 2 && shrink != 4 && shrink != 8)
        return cld_fail(CLD_INVALID, "images can be shrunk by 1, 2, 4 or 8, not by %d", shrink);
    switch (p->kind) {
    case CLD_PICTURE_JPEG: return cld_jpeg_decode(out, p, part, shrink, scratch);
    case CLD_PICTURE_PNG: return cld_png_decode(out, p, part, scratch);
    case CLD_PICTURE_PNM: return cld_pnm_decode(out, p, part, scratch);
    }
    return cld_fail(CLD_INVALID, "an image of unknown kind");
}

cld_status cld_picture_upright(cld_pixels *out, const cld_pixels *pixels, int orientation,
                               cld_scratch *scratch) {
    /* Orientations 5 to 8 swap rows and columns; some read the source from the bottom or from the right. */
    bool swap = orientation >= 5;
    bool from_bottom = orientation == 3 || orientation == 4 || orientation == 6 || orientation == 7;
    bool from_right = orientation == 2 || orientation == 3 || orientation == 7 || orientation == 8;
    cld_rect there = pixels->there;
    int height = swap ? there.width : there.height, width = swap ? there.height : there.width;
    uint8_t *data = cld_scratch_reserve(scratch, (size_t)height * width * 3);
    if (!data) return CLD_NOMEM;
    for (int y = 0; y < height; y++) {
        uint8_t *to = data + (size_t)y * width * 3;
        for (int x = 0; x < width; x++, to += 3) {
            int row = swap ? x : y, column = swap ? y : x;
            if (from_bottom) row = there.height - 1 - row;
            if (from_right) column = there.width - 1 - column;
            memcpy(to, pixels->data + (size_t)row * pixels->stride + (size_t)column * 3, 3);
        }
    }
    int below = pixels->height - there.top - there.height, right = pixels->width - there.left - there.width;
    int top = from_bottom ? below : there.top, left = from_right ? right : there.left;
    *out = (cld_pixels){
        .data = data,
        .stride = (size_t)width * 3,
        .height = swap ? pixels->width : pixels->height,
        .width = swap ? pixels->height : pixels->width,
        .there = {swap ? left : top, swap ? top : left, height, width},
        .shrink = pixels->shrink,
        .full_height = swap ? pixels->full_width : pixels->full_height,
        .full_width = swap ? pixels->full_height : pixels->full_width,
    };
    return CLD_OK;
}

/* ---- orientation --------------------------------------------------------------------------------------- */

#define ORIENTATION_TAG 0x0112

typedef struct tiff {
    const uint8_t *bytes;
    size_t length;
    bool little;
} tiff;

/* 0 if it is beyond the end. */
static uint32_t tiff_number(const tiff *t, size_t at, int bytes) {
    uint32_t value = 0;
    if (at > t->length || t->length - at < (size_t)bytes) return 0;
    for (int i = 0; i < bytes; i++) value = value << 8 | t->bytes[at + (t->little ? bytes - 1 - i : i)];
    return value;
}

int cld_exif_orientation(const uint8_t *bytes, size_t length) {
    tiff t = {bytes, length, length >= 2 && bytes[0] == 'I'};
    if (length < 8 || (memcmp(bytes, "II*\0", 4) != 0 && memcmp(bytes, "MM\0*", 4) != 0)) return 1;
    size_t at = tiff_number(&t, 4, 4);
    uint32_t entries = tiff_number(&t, at, 2);
    at += 2;
    for (uint32_t i = 0; i < entries && at + 12 <= length; i++, at += 12) {
        if (tiff_number(&t, at, 2) != ORIENTATION_TAG) continue;
        uint32_t type = tiff_number(&t, at + 2, 2);
        uint32_t value = type == 3 ? tiff_number(&t, at + 8, 2) : type == 4 ? tiff_number(&t, at + 8, 4) : 1;
        return value >= 1 && value <= 8 ? (int)value : 1;
    }
    return 1;
}
