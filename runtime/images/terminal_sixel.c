/* Images as Sixel graphics: bands of six rows, and in each band a line for each of its colours.
 *
 * The palette is made by median cut (Heckbert, "Color image quantization for frame buffer display", 1982): the image's
 * colours, with five bits per channel, start in one box. Then the box with the largest product of spread and pixels is
 * cut in two until there are as many boxes as colours.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/images/terminal.h"

enum { BINS = 1 << 15, COLORS = 256 };

typedef struct box {
    int begin, end; /* in the list of used bins */
    int64_t pixels;
    int axis, spread; /* the widest channel */
} box;

typedef struct palette {
    int64_t counts[BINS];
    int bins[BINS]; /* those with pixels */
    box boxes[COLORS];
    int count; /* of boxes */
    uint8_t rgb[COLORS][3];
    uint8_t color_of[BINS];
} palette;

static int bin_of(const uint8_t *rgb) { return rgb[0] >> 3 << 10 | rgb[1] >> 3 << 5 | rgb[2] >> 3; }
static int channel(int bin, int axis) { return bin >> (10 - 5 * axis) & 31; }

/* Finds the box's number of pixels and its widest channel. */
static void measure(palette *p, box *b) {
    b->pixels = 0;
    b->spread = -1;
    for (int i = b->begin; i < b->end; i++) b->pixels += p->counts[p->bins[i]];
    for (int axis = 0; axis < 3; axis++) {
        int least = 31, most = 0;
        for (int i = b->begin; i < b->end; i++) {
            int value = channel(p->bins[i], axis);
            if (value < least) least = value;
            if (value > most) most = value;
        }
        if (most - least > b->spread) {
            b->spread = most - least;
            b->axis = axis;
        }
    }
}

/* Sorts the box's bins by its widest channel: there are 32 values. */
static void sort_bins(palette *p, const box *b, int *scratch) {
    int at = 0;
    for (int value = 0; value < 32; value++)
        for (int i = b->begin; i < b->end; i++)
            if (channel(p->bins[i], b->axis) == value) scratch[at++] = p->bins[i];
    memcpy(p->bins + b->begin, scratch, (size_t)at * sizeof *scratch);
}

/* Cuts the box in two, each with half the pixels as nearly as possible. */
static void cut(palette *p, box *b, int *scratch) {
    int64_t so_far = 0;
    int middle = b->begin + 1;
    sort_bins(p, b, scratch);
    for (int i = b->begin; i < b->end - 1; i++) {
        so_far += p->counts[p->bins[i]];
        middle = i + 1;
        if (2 * so_far >= b->pixels) break;
    }
    box *other = &p->boxes[p->count++];
    *other = (box){.begin = middle, .end = b->end};
    b->end = middle;
    measure(p, b);
    measure(p, other);
}

static void average(palette *p, int color) {
    const box *b = &p->boxes[color];
    int64_t sums[3] = {0};
    for (int i = b->begin; i < b->end; i++) {
        p->color_of[p->bins[i]] = (uint8_t)color;
        for (int c = 0; c < 3; c++) sums[c] += p->counts[p->bins[i]] * (channel(p->bins[i], c) * 255 / 31);
    }
    for (int c = 0; c < 3; c++) p->rgb[color][c] = (uint8_t)(sums[c] / b->pixels);
}

static void make_palette(palette *p, const uint8_t *pixels, int64_t count, int *scratch) {
    box *first = &p->boxes[0];
    *first = (box){0};
    for (int64_t i = 0; i < count; i++) {
        int bin = bin_of(pixels + 3 * i);
        if (p->counts[bin]++ == 0) p->bins[first->end++] = bin;
    }
    p->count = 1;
    measure(p, first);
    while (p->count < COLORS) {
        box *best = NULL;
        for (int i = 0; i < p->count; i++) {
            box *b = &p->boxes[i];
            if (b->spread > 0 && (!best || b->pixels * b->spread > best->pixels * best->spread)) best = b;
        }
        if (!best) break;
        cut(p, best, scratch);
    }
    for (int color = 0; color < p->count; color++) average(p, color);
}

/* ---- bands --------------------------------------------------------------------------------------------- */

typedef struct writer {
    char *text;
    size_t used, room;
} writer;

static bool reserve(writer *w, size_t more) {
    if (w->room - w->used >= more) return true;
    size_t room = 2 * w->room + more;
    char *text = realloc(w->text, room);
    if (!text) return false;
    w->text = text;
    w->room = room;
    return true;
}

/* A run of one character, written as "!" and its length if that is shorter. */
static void put_run(writer *w, char what, int64_t run) {
    if (run > 3)
        w->used += (size_t)sprintf(w->text + w->used, "!%lld%c", (long long)run, what);
    else
        for (; run > 0; run--) w->text[w->used++] = what;
}

/* One colour's pixels in a band: each column is six bits. */
static void put_color(writer *w, const uint8_t *colors, int64_t width, int64_t rows, int color) {
    int last = -1;
    int64_t run = 0;
    w->used += (size_t)sprintf(w->text + w->used, "#%d", color);
    for (int64_t x = 0; x < width; x++) {
        int bits = 0;
        for (int64_t y = 0; y < rows; y++) bits |= (colors[y * width + x] == color) << y;
        if (bits != last && run) put_run(w, (char)(63 + last), run);
        run = bits == last ? run + 1 : 1;
        last = bits;
    }
    if (last) put_run(w, (char)(63 + last), run);
    w->text[w->used++] = '$';
}

static bool put_band(writer *w, const uint8_t *colors, int64_t width, int64_t rows) {
    bool used[COLORS] = {false};
    for (int64_t i = 0; i < rows * width; i++) used[colors[i]] = true;
    for (int color = 0; color < COLORS; color++) {
        if (!used[color]) continue;
        if (!reserve(w, (size_t)width + 64)) return false;
        put_color(w, colors, width, rows, color);
    }
    w->text[w->used++] = '-'; /* the last colour has left room */
    return true;
}

static bool put_image(writer *w, const palette *p, const uint8_t *colors, int64_t height, int64_t width) {
    if (!reserve(w, 64 + 24 * COLORS)) return false;
    w->used = (size_t)sprintf(w->text, "\x1bP0;1q\"1;1;%lld;%lld", (long long)width, (long long)height);
    for (int i = 0; i < p->count; i++) /* Sixel's levels are percent */
        w->used += (size_t)sprintf(w->text + w->used, "#%d;2;%d;%d;%d", i, (p->rgb[i][0] * 100 + 127) / 255,
                                   (p->rgb[i][1] * 100 + 127) / 255, (p->rgb[i][2] * 100 + 127) / 255);
    for (int64_t y = 0; y < height; y += 6)
        if (!put_band(w, colors + y * width, width, height - y < 6 ? height - y : 6)) return false;
    if (!reserve(w, 3)) return false;
    memcpy(w->text + w->used, "\x1b\\\n", 3);
    w->used += 3;
    return true;
}

char *cld_terminal_sixel(const cld_tensor *image, size_t *length) {
    int64_t height = image->a.shape[0], width = image->a.shape[1];
    const uint8_t *pixels = image->a.data;
    palette *p = calloc(1, sizeof *p);
    int *scratch = malloc(BINS * sizeof *scratch);
    uint8_t *colors = malloc((size_t)(height * width) + 1);
    writer w = {0};
    bool done = p && scratch && colors;
    if (done) {
        make_palette(p, pixels, height * width, scratch);
        for (int64_t i = 0; i < height * width; i++) colors[i] = p->color_of[bin_of(pixels + 3 * i)];
        done = put_image(&w, p, colors, height, width);
    }
    free(p);
    free(scratch);
    free(colors);
    *length = w.used;
    if (done) return w.text;
    free(w.text);
    return cld_fail_null(CLD_NOMEM, "out of memory for an image as text");
}
