/* Decoding PBM, PGM and PPM files, binary (P4 to P6) and plain (P1 to P3), as Pillow does: levels are scaled to 255.
 * Those of a PGM with a maximum above 255 are scaled to 65535, and the high byte is used. */
#include <math.h>
#include <stdbool.h>
#include <string.h>

#include "runtime/images/decode_kinds.h"

#define MAX_LEVEL 65535

typedef struct pnm {
    int digit; /* 1 to 6, for P1 to P6 */
    int height, width, most;
    size_t at; /* the first byte of the pixels */
} pnm;

static bool is_space(int c) { return c == ' ' || (c >= '\t' && c <= '\r'); }
static bool is_digit(int c) { return c >= '0' && c <= '9'; }

static void skip_comment(const cld_picture *p, size_t *at) {
    while (*at < p->length && p->bytes[*at] != '\n' && p->bytes[*at] != '\r') ++*at;
}

static void skip_space(const cld_picture *p, size_t *at) {
    while (*at < p->length && (is_space(p->bytes[*at]) || p->bytes[*at] == '#')) {
        if (p->bytes[*at] == '#')
            skip_comment(p, at);
        else
            ++*at;
    }
}

/* -1 if there is no number, or one above 2^31. */
static int64_t read_number(const cld_picture *p, size_t *at) {
    int64_t value = 0;
    skip_space(p, at);
    if (*at >= p->length || !is_digit(p->bytes[*at])) return -1;
    while (*at < p->length && is_digit(p->bytes[*at])) {
        value = value * 10 + (p->bytes[(*at)++] - '0');
        if (value > INT32_MAX) return -1;
    }
    return value;
}

static cld_status read_header(pnm *h, const cld_picture *p) {
    size_t at = 2;
    h->digit = p->bytes[1] - '0';
    bool bits = h->digit == 1 || h->digit == 4;
    int64_t width = read_number(p, &at), height = read_number(p, &at), most = bits ? 1 : read_number(p, &at);
    if (width < 0 || height < 0 || most < 1 || most > MAX_LEVEL || at >= p->length ||
        !(is_space(p->bytes[at]) || p->bytes[at] == '#'))
        return cld_fail(CLD_INVALID, "a damaged P%d image: its header is not three sizes", h->digit);
    h->width = (int)width;
    h->height = (int)height;
    h->most = (int)most;
    h->at = at + 1;
    return CLD_OK;
}

cld_status cld_pnm_open(cld_picture *p) {
    pnm h = {0};
    CLD_TRY(read_header(&h, p));
    p->height = h.height;
    p->width = h.width;
    return CLD_OK;
}

static cld_status fail_short(const cld_picture *p, const pnm *h) {
    return cld_fail(CLD_INVALID, "a truncated P%d image: %zu bytes are too few for its %d x %d pixels",
                    h->digit, p->length, p->height, p->width);
}

/* Scales one of the file's levels to 8 bits. */
static uint8_t scaled(const pnm *h, bool gray, int64_t level) {
    if (h->most == 255) return (uint8_t)level;
    int top = gray && h->most > 255 ? 65535 : 255;
    double value = fmin(rint((double)level / h->most * top), top);
    return top == 255 ? (uint8_t)value : (uint8_t)((int)value >> 8);
}

static cld_status decode_plain(uint8_t *data, const cld_picture *p, const pnm *h, cld_rect rows) {
    size_t at = h->at, first = (size_t)rows.top * rows.width;
    int channels = h->digit == 3 ? 3 : 1, copies = h->digit == 3 ? 1 : 3;
    size_t levels = ((size_t)rows.height * rows.width + first) * channels;
    uint8_t *to = data;
    for (size_t i = 0; i < levels; i++) {
        int64_t level;
        skip_space(p, &at);
        if (h->digit == 1 && at < p->length)
            level = p->bytes[at] == '0' ? 1 : p->bytes[at] == '1' ? 0 : -1, at++; /* 1 is black */
        else
            level = read_number(p, &at);
        if (level < 0 && at >= p->length) return fail_short(p, h);
        if (level < 0 || level > h->most)
            return cld_fail(CLD_INVALID, "a damaged P%d image: expected a level from 0 to %d before byte %zu",
                            h->digit, h->most, at);
        if (i < first * channels) continue;
        uint8_t value = scaled(h, channels == 1, level);
        for (int c = 0; c < copies; c++) *to++ = value;
    }
    return CLD_OK;
}

static void decode_bits(uint8_t *data, const uint8_t *from, cld_rect rows) {
    size_t stride = ((size_t)rows.width + 7) / 8;
    for (int y = 0; y < rows.height; y++)
        for (int x = 0; x < rows.width; x++, data += 3) {
            uint8_t byte = from[(size_t)(rows.top + y) * stride + (size_t)x / 8];
            memset(data, byte >> (7 - x % 8) & 1 ? 0 : 255, 3);
        }
}

static void decode_levels(uint8_t *data, const uint8_t *from, const pnm *h, cld_rect rows) {
    int channels = h->digit == 6 ? 3 : 1, copies = h->digit == 6 ? 1 : 3, bytes = h->most > 255 ? 2 : 1;
    size_t first = (size_t)rows.top * rows.width * channels;
    size_t levels = (size_t)rows.height * rows.width * channels;
    from += first * bytes;
    if (channels == 3 && h->most == 255) {
        memcpy(data, from, levels);
        return;
    }
    for (size_t i = 0; i < levels; i++, from += bytes) {
        uint8_t value = scaled(h, channels == 1, bytes == 2 ? cld_be16(from) : from[0]);
        for (int c = 0; c < copies; c++) *data++ = value;
    }
}

cld_status cld_pnm_decode(cld_pixels *out, const cld_picture *p, cld_rect part, cld_scratch *scratch) {
    pnm h = {0};
    CLD_TRY(read_header(&h, p));
    cld_rect rows = {part.top, 0, part.height, p->width};
    /* the fewest bytes that the rows down to the part's last can take */
    size_t there = p->length - h.at, samples = (size_t)(part.top + part.height) * p->width;
    size_t least = samples;
    if (h.digit == 4) least = (size_t)(part.top + part.height) * (((size_t)p->width + 7) / 8);
    if (h.digit == 3 || h.digit == 6) least *= 3;
    if (h.digit == 5 || h.digit == 6) least *= h.most > 255 ? 2 : 1;
    if (h.digit == 2 || h.digit == 3) least = 2 * least - 1; /* a digit and a separator each */
    if (there < least) return fail_short(p, &h);
    uint8_t *data = cld_scratch_reserve(scratch, (size_t)rows.height * rows.width * 3);
    if (!data) return CLD_NOMEM;
    if (h.digit <= 3)
        CLD_TRY(decode_plain(data, p, &h, rows));
    else if (h.digit == 4)
        decode_bits(data, p->bytes + h.at, rows);
    else
        decode_levels(data, p->bytes + h.at, &h, rows);
    *out = (cld_pixels){
        .data = data,
        .stride = (size_t)rows.width * 3,
        .height = p->height,
        .width = p->width,
        .there = rows,
        .shrink = 1,
        .full_height = p->height,
        .full_width = p->width,
    };
    return CLD_OK;
}
