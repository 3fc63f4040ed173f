/* Images as half blocks, and as plain characters. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/images/terminal.h"

/* ---- xterm's colours ----------------------------------------------------------------------------------- */

/* The cube's levels: 0, 95, 135, ... 255. */
static int level(int i) { return i ? 55 + 40 * i : 0; }
static int nearest_level(int value) { return value < 48 ? 0 : value < 115 ? 1 : (value - 35) / 40; }

static int distance(const uint8_t rgb[3], int r, int g, int b) {
    int dr = rgb[0] - r, dg = rgb[1] - g, db = rgb[2] - b;
    return dr * dr + dg * dg + db * db;
}

int cld_terminal_color(const uint8_t rgb[3]) {
    int r = nearest_level(rgb[0]), g = nearest_level(rgb[1]), b = nearest_level(rgb[2]);
    int mean = (rgb[0] + rgb[1] + rgb[2]) / 3, grey = mean < 8 ? 0 : mean > 238 ? 23 : (mean - 3) / 10;
    int shade = 8 + 10 * grey; /* of 24 */
    bool is_grey = distance(rgb, shade, shade, shade) < distance(rgb, level(r), level(g), level(b));
    return is_grey ? 232 + grey : 16 + 36 * r + 6 * g + b;
}

/* ---- half blocks --------------------------------------------------------------------------------------- */

static const char block[] = "\xE2\x96\x80"; /* U+2580 */
static const char plain[] = "\x1b[0m";

/* A row that is being written: where its text ends so far, and the colours that the terminal then has. */
typedef struct row {
    char *at;
    int64_t upper, lower; /* -1: the terminal's own */
    cld_terminal_colors colors;
} row;

static int64_t key_of(const uint8_t rgb[3], cld_terminal_colors colors) {
    return colors == CLD_COLORS_256 ? cld_terminal_color(rgb) : rgb[0] << 16 | rgb[1] << 8 | rgb[2];
}

/* which: 38 for the character's colour, 48 for the background. */
static void set_color(row *r, int which, int64_t *now, const uint8_t rgb[3]) {
    int64_t wanted = key_of(rgb, r->colors);
    if (wanted == *now) return;
    *now = wanted;
    r->at += r->colors == CLD_COLORS_256
                 ? sprintf(r->at, "\x1b[%d;5;%dm", which, (int)wanted)
                 : sprintf(r->at, "\x1b[%d;2;%d;%d;%dm", which, rgb[0], rgb[1], rgb[2]);
}

enum { MOST_OF_COLOR = 19 }; /* ESC [38;2;255;255;255m */

char *cld_terminal_blocks(const cld_tensor *image, cld_terminal_colors colors, size_t *length) {
    int64_t height = image->a.shape[0], width = image->a.shape[1], rows = (height + 1) / 2;
    size_t room = (size_t)rows * ((size_t)width * (2 * MOST_OF_COLOR + 3) + sizeof plain + 1) + 1;
    char *text = malloc(room);
    if (!text) return cld_fail_null(CLD_NOMEM, "out of memory for an image as text");
    row r = {.at = text, .colors = colors};
    const uint8_t *pixels = image->a.data;
    for (int64_t y = 0; y < height; y += 2) {
        r.upper = r.lower = -1;
        for (int64_t x = 0; x < width; x++) {
            const uint8_t *upper = pixels + 3 * (y * width + x);
            set_color(&r, 38, &r.upper, upper);
            if (y + 1 < height) set_color(&r, 48, &r.lower, upper + 3 * width);
            memcpy(r.at, block, 3);
            r.at += 3;
        }
        r.at += sprintf(r.at, "%s\n", plain);
    }
    *length = (size_t)(r.at - text);
    return text;
}

/* ---- characters ---------------------------------------------------------------------------------------- */

/* From dark to bright, on a dark background. */
static const char ramp[] = " .:-=+*#%@";

/* Rec. 601, as in Pillow's mode "L". */
static int brightness(const uint8_t *rgb) { return (299 * rgb[0] + 587 * rgb[1] + 114 * rgb[2]) / 1000; }

char *cld_terminal_characters(const cld_tensor *image, size_t *length) {
    int64_t height = image->a.shape[0], width = image->a.shape[1], rows = (height + 1) / 2;
    char *text = malloc((size_t)rows * ((size_t)width + 1) + 1), *at = text;
    if (!text) return cld_fail_null(CLD_NOMEM, "out of memory for an image as text");
    const uint8_t *pixels = image->a.data;
    for (int64_t y = 0; y < height; y += 2) {
        for (int64_t x = 0; x < width; x++) {
            const uint8_t *upper = pixels + 3 * (y * width + x),
                          *lower = y + 1 < height ? upper + 3 * width : upper;
            int mean = (brightness(upper) + brightness(lower)) / 2;
            *at++ = ramp[mean * (int)(sizeof ramp - 1) / 256];
        }
        *at++ = '\n';
    }
    *length = (size_t)(at - text);
    return text;
}
