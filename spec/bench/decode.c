/* `make bench-decode`: our decoding against libjpeg and libpng called directly, in turn, on one thread; medians of
 * ROUNDS. The images are of 480 x 360 pixels and are made here. Files given as arguments are decoded instead (all of
 * one format, at most 480 x 360). */
#define _GNU_SOURCE
#include <stdio.h> /* jpeglib.h needs it */

#include <jpeglib.h>

#include <math.h>
#include <png.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "runtime/images/decode.h"
#include "runtime/io/slurp.h"

enum { HEIGHT = 360, WIDTH = 480, IMAGES = 16, ROUNDS = 25 };

typedef struct file {
    uint8_t *bytes;
    size_t length;
} file;

static uint8_t pixels[HEIGHT * WIDTH * 3];

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static int compare(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void stop(const char *what) {
    fprintf(stderr, "decode: %s\n", what);
    exit(1);
}

/* Waves and noise of a few pixels: about 40 KB at quality 75. */
static file make(cld_picture_kind kind, int seed) {
    unsigned state = (unsigned)seed * 2654435761u + 1;
    static float noise[3][HEIGHT + 1][WIDTH + 1];
    for (int c = 0; c < 3; c++)
        for (int y = 0; y <= HEIGHT; y++)
            for (int x = 0; x <= WIDTH; x++) {
                state = state * 1664525u + 1013904223u;
                noise[c][y][x] = (float)(state >> 16) / 65536 * 60 - 30;
            }
    for (int y = 0; y < HEIGHT; y++)
        for (int x = 0; x < WIDTH; x++)
            for (int c = 0; c < 3; c++) {
                float wave =
                    50 * sinf((float)(x * (seed + 3)) / 150 + (float)c) + 40 * cosf((float)(x * y) / 9000);
                float n = noise[c][y][x] + noise[c][y + 1][x] + noise[c][y][x + 1] + noise[c][y + 1][x + 1];
                pixels[(y * WIDTH + x) * 3 + c] = (uint8_t)fminf(fmaxf(128 + wave + n / 2, 0), 255);
            }
    file f;
    if (cld_picture_encode(&f.bytes, &f.length, kind, pixels, HEIGHT, WIDTH, 75) != CLD_OK)
        stop(cld_error_message());
    return f;
}

/* ---- what is measured ---------------------------------------------------------------------------------- */

static void direct_jpeg(const file *f) {
    struct jpeg_decompress_struct jpeg;
    struct jpeg_error_mgr errors;
    jpeg.err = jpeg_std_error(&errors);
    jpeg_create_decompress(&jpeg);
    jpeg_mem_src(&jpeg, f->bytes, f->length);
    jpeg_read_header(&jpeg, TRUE);
    jpeg.out_color_space = JCS_RGB;
    jpeg_start_decompress(&jpeg);
    while (jpeg.output_scanline < jpeg.output_height) {
        JSAMPROW row = pixels + (size_t)jpeg.output_scanline * jpeg.output_width * 3;
        jpeg_read_scanlines(&jpeg, &row, 1);
    }
    jpeg_finish_decompress(&jpeg);
    jpeg_destroy_decompress(&jpeg);
}

static void read_bytes(png_structp png, png_bytep to, size_t length) {
    const uint8_t **at = png_get_io_ptr(png);
    memcpy(to, *at, length);
    *at += length;
}

static void direct_png(const file *f) {
    const uint8_t *at = f->bytes;
    png_structp png = png_create_read_struct(PNG_LIBPNG_VER_STRING, NULL, NULL, NULL);
    png_infop info = png_create_info_struct(png);
    png_set_read_fn(png, &at, read_bytes);
    png_read_info(png, info);
    png_read_update_info(png, info);
    size_t stride = png_get_rowbytes(png, info);
    for (unsigned y = 0; y < png_get_image_height(png, info); y++)
        png_read_row(png, pixels + y * stride, NULL);
    png_read_end(png, NULL);
    png_destroy_read_struct(&png, &info, NULL);
}

static void ours(const file *f, int share, int shrink) {
    static cld_scratch scratch;
    cld_picture p;
    cld_pixels out;
    if (cld_picture_open(&p, f->bytes, f->length) != CLD_OK) stop(cld_error_message());
    cld_rect part = {0, 0, p.height, p.width};
    if (share > 1) part = (cld_rect){p.height / 4, p.width / 4, p.height / share, p.width / share};
    if (cld_picture_decode(&out, &p, part, shrink, &scratch) != CLD_OK) stop(cld_error_message());
}

static const struct {
    const char *name;
    int share, shrink; /* share: decodes 1/share of the rows and columns; 0: calls the library directly */
} jobs[] = {{"the library directly", 0, 1},
            {"whole", 1, 1},
            {"the middle quarter", 2, 1},
            {"whole, at a half", 1, 2},
            {"the middle quarter, at a half", 2, 2}};
enum { JOBS = sizeof jobs / sizeof *jobs };

static void measure(const char *title, const file *files, int count, cld_picture_kind kind) {
    static double seconds[JOBS][ROUNDS];
    size_t bytes = 0;
    for (int i = 0; i < count; i++) bytes += files[i].length;
    for (int round = 0; round < ROUNDS; round++)
        for (int j = 0; j < JOBS; j++) {
            double begin = now();
            for (int i = 0; i < count; i++) {
                if (jobs[j].share)
                    ours(files + i, jobs[j].share, jobs[j].shrink);
                else if (kind == CLD_PICTURE_JPEG)
                    direct_jpeg(files + i);
                else
                    direct_png(files + i);
            }
            seconds[j][round] = (now() - begin) / count;
        }
    printf("%s, %.0f KB each\n", title, (double)bytes / count / 1000);
    for (int j = 0; j < JOBS; j++) {
        qsort(seconds[j], ROUNDS, sizeof **seconds, compare);
        if (kind != CLD_PICTURE_JPEG && jobs[j].shrink > 1) continue;
        printf("  %-30s %6.0f images/s  %.2f\n", jobs[j].name, 1 / seconds[j][ROUNDS / 2],
               seconds[0][ROUNDS / 2] / seconds[j][ROUNDS / 2]);
    }
}

int main(int argc, char **argv) {
    if (argc > 1) {
        file *files = calloc((size_t)argc, sizeof *files);
        cld_picture p = {0};
        for (int i = 1; files && i < argc; i++) {
            cld_scratch s = {0};
            if (cld_file_slurp(&s, &files[i].length, AT_FDCWD, argv[i]) != CLD_OK ||
                cld_picture_open(&p, s.data, files[i].length) != CLD_OK)
                stop(cld_error_message());
            if (p.height * p.width > HEIGHT * WIDTH) stop("an image of more than 480 x 360 pixels");
            files[i].bytes = s.data;
        }
        if (files) measure("files", files + 1, argc - 1, p.kind);
        return 0;
    }
    for (int kind = CLD_PICTURE_JPEG; kind <= CLD_PICTURE_PNG; kind++) {
        file files[IMAGES];
        for (int i = 0; i < IMAGES; i++) files[i] = make((cld_picture_kind)kind, i);
        measure(kind == CLD_PICTURE_JPEG ? "JPEG" : "PNG", files, IMAGES, (cld_picture_kind)kind);
        for (int i = 0; i < IMAGES; i++) free(files[i].bytes);
    }
    return 0;
}
