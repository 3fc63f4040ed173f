/* Decoding JPEG files with libjpeg-turbo, with the same settings as Pillow.
 *
 * Rows below the part are not decoded, and no pixels are computed for rows above it. Columns outside the part are left
 * out as far as the pixels inside stay the same as in the whole image. libjpeg reports errors by longjmp, which stays
 * inside `guarded`. Its warnings are ignored, as in Pillow, except for one: that the file ends before the requested
 * rows.
 */
#include <stdio.h> /* jpeglib.h needs it */

#include <jpeglib.h>

#include <jerror.h>
#include <setjmp.h>
#include <stdbool.h>
#include <string.h>

#include "runtime/images/decode_kinds.h"

/* ---- the header ---------------------------------------------------------------------------------------- */

enum {
    SOF0 = 0xc0,
    DHT = 0xc4,
    JPG = 0xc8,
    DAC = 0xcc,
    SOF15 = 0xcf,
    RST0 = 0xd0,
    SOI = 0xd8,
    EOI = 0xd9,
    SOS = 0xda,
    APP1 = 0xe1,
    TEM = 0x01
};

static bool is_frame(int marker) {
    return marker >= SOF0 && marker <= SOF15 && marker != DHT && marker != JPG && marker != DAC;
}

/* Walks the markers up to the first scan. */
cld_status cld_jpeg_open(cld_picture *p) {
    const uint8_t *b = p->bytes;
    size_t at = 2, end = p->length;
    bool framed = false;
    for (;;) {
        while (at < end && b[at] != 0xff) at++; /* like libjpeg, skip what is not a marker */
        while (at < end && b[at] == 0xff) at++;
        if (at >= end) return cld_fail(CLD_INVALID, "a JPEG that ends within its header");
        int marker = b[at++];
        if (marker == 0 || marker == TEM || (marker >= RST0 && marker <= SOI)) continue;
        if (marker == EOI) return cld_fail(CLD_INVALID, "a JPEG without an image");
        if (end - at < 2 || end - at < cld_be16(b + at))
            return cld_fail(CLD_INVALID, "a JPEG that ends within its header");
        size_t length = cld_be16(b + at);
        if (length < 2) return cld_fail(CLD_INVALID, "a damaged JPEG: a segment of %zu bytes", length);
        const uint8_t *segment = b + at + 2;
        if (marker == SOS) break;
        if (is_frame(marker) && !framed) {
            if (length < 8) return cld_fail(CLD_INVALID, "a damaged JPEG: its frame header is too short");
            framed = true;
            p->height = (int)cld_be16(segment + 1);
            p->width = (int)cld_be16(segment + 3);
        }
        if (marker == APP1 && p->orientation == 1 && length >= 8 && memcmp(segment, "Exif\0\0", 6) == 0)
            p->orientation = cld_exif_orientation(segment + 6, length - 8);
        at += length;
    }
    return framed ? CLD_OK : cld_fail(CLD_INVALID, "a JPEG without the image's size");
}

/* ---- libjpeg ------------------------------------------------------------------------------------------- */

/* For a file of several scans libjpeg holds the coefficients in memory, 2 bytes per sample of at most four components:
 * 1.5 GB for the largest image. It fails if it would need more, and never makes temporary files. */
#define MAX_COEFFICIENTS ((long)CLD_PICTURE_MAX_PIXELS * 8 + (64L << 20))

/* A scan visits all blocks, but may take only a few bytes. So images of more than 22 million pixels may have fewer
 * scans: a file of a few MB then takes seconds at most. Encoders write up to 20 scans. */
#define MAX_SCANS       500
#define FEWEST_SCANS    64
#define MAX_BLOCK_WALKS (500.0 * (1 << 20))

/* With Huffman coding, every block in a scan takes at least a bit; with arithmetic coding, less. */
#define BLOCKS_A_BYTE            8
#define BLOCKS_A_BYTE_ARITHMETIC 256

#define ROWS_AT_ONCE 16

/* Columns beside a part that are decoded with it, because upsampling needs neighbours, which are missing at a
 * border. */
#define MARGIN 2

static int ceil_div(int a, int b) { return (a + b - 1) / b; }

typedef struct decoder {
    struct jpeg_decompress_struct jpeg;
    struct jpeg_error_mgr errors;
    struct jpeg_source_mgr source;
    struct jpeg_progress_mgr progress;
    jmp_buf escape;
    bool ended; /* libjpeg asked for bytes beyond the file's end */
    int most_scans;
    /* the job */
    const cld_picture *picture;
    cld_rect part;
    int shrink;
    cld_scratch *scratch;
    cld_pixels *out;
} decoder;

static void on_error(j_common_ptr jpeg) {
    decoder *d = jpeg->client_data;
    char message[JMSG_LENGTH_MAX];
    jpeg->err->format_message(jpeg, message);
    if (jpeg->err->msg_code == JERR_OUT_OF_MEMORY)
        cld_fail(CLD_NOMEM, "out of memory for a JPEG of %d x %d pixels", d->picture->height,
                 d->picture->width);
    else
        cld_fail(CLD_INVALID, "a damaged JPEG: %s", message);
    longjmp(d->escape, 1);
}

static void on_message(j_common_ptr jpeg, int level) { (void)jpeg, (void)level; }

static void start_source(j_decompress_ptr jpeg) { (void)jpeg; }

/* At the file's end, supplies end markers without end. */
static boolean fill_source(j_decompress_ptr jpeg) {
    static const JOCTET end[2] = {0xff, JPEG_EOI};
    ((decoder *)jpeg->client_data)->ended = true;
    jpeg->src->next_input_byte = end;
    jpeg->src->bytes_in_buffer = sizeof end;
    return TRUE;
}

static void skip_source(j_decompress_ptr jpeg, long bytes) {
    struct jpeg_source_mgr *source = jpeg->src;
    if (bytes <= 0) return;
    if ((size_t)bytes > (size_t)source->bytes_in_buffer) {
        fill_source(jpeg);
        return;
    }
    source->next_input_byte += bytes;
    source->bytes_in_buffer -= (size_t)bytes;
}

static void watch_scans(j_common_ptr common) {
    decoder *d = common->client_data;
    if (d->jpeg.input_scan_number <= d->most_scans) return;
    cld_fail(CLD_INVALID, "a JPEG of more than %d scans", d->most_scans);
    longjmp(d->escape, 1);
}

static cld_status guarded(decoder *d, cld_status (*work)(decoder *)) {
    if (setjmp(d->escape)) return cld_error_code();
    return work(d);
}

static cld_status fail_short(const decoder *d) {
    return cld_fail(CLD_INVALID, "a truncated JPEG: it ends at byte %zu, before the last of its rows",
                    d->picture->length);
}

/* The blocks of all components, down to the row `bottom`. */
static double count_blocks(const struct jpeg_decompress_struct *jpeg, int bottom) {
    double blocks = 0;
    for (int c = 0; c < jpeg->num_components; c++) {
        const jpeg_component_info *info = jpeg->comp_info + c;
        double rows = (double)bottom * info->v_samp_factor / jpeg->max_v_samp_factor;
        double columns = (double)jpeg->image_width * info->h_samp_factor / jpeg->max_h_samp_factor;
        blocks += (rows / DCTSIZE) * (columns / DCTSIZE);
    }
    return blocks;
}

/* Checks that the file is long enough for the requested rows: a file of a few bytes can claim any size. */
static cld_status check_length(decoder *d) {
    struct jpeg_decompress_struct *jpeg = &d->jpeg;
    double all = count_blocks(jpeg, d->picture->height);
    double needed = jpeg_has_multiple_scans(jpeg) ? all : count_blocks(jpeg, d->part.top + d->part.height);
    double least = needed / (jpeg->arith_code ? BLOCKS_A_BYTE_ARITHMETIC : BLOCKS_A_BYTE);
    double scans = MAX_BLOCK_WALKS / (all + 1);
    d->most_scans = scans > MAX_SCANS ? MAX_SCANS : scans < FEWEST_SCANS ? FEWEST_SCANS : (int)scans;
    if ((double)d->picture->length >= least) return CLD_OK;
    return cld_fail(CLD_INVALID, "a damaged JPEG: %zu bytes are too few for its %d x %d pixels",
                    d->picture->length, d->picture->height, d->picture->width);
}

/* Whether libjpeg smooths over missing scans, which uses the surrounding blocks. */
static bool is_smoothed(const struct jpeg_decompress_struct *jpeg) {
    if (!jpeg->progressive_mode || !jpeg->coef_bits) return false;
    for (int c = 0; c < jpeg->num_components; c++)
        for (int i = 0; i < DCTSIZE2; i++)
            if (jpeg->coef_bits[c][i] != 0) return true;
    return false;
}

/* Converts inverted CMYK to RGB, as Pillow does. */
static void cmyk_to_rgb(uint8_t *rgb, const uint8_t *cmyk, size_t pixels) {
    for (size_t i = 0; i < pixels; i++, rgb += 3, cmyk += 4) {
        int light = cmyk[3]; /* 255 - K, as Adobe stores it */
        for (int c = 0; c < 3; c++) {
            int product = (255 - cmyk[c]) * light + 128;
            rgb[c] = (uint8_t)(light - (((product >> 8) + product) >> 8));
        }
    }
}

static cld_status read_rows(decoder *d, uint8_t *data, size_t stride, uint8_t *wide, int top, int bottom) {
    struct jpeg_decompress_struct *jpeg = &d->jpeg;
    if (!is_smoothed(jpeg) && top > 0) jpeg_skip_scanlines(jpeg, (JDIMENSION)top);
    while ((int)jpeg->output_scanline < top) {
        JSAMPROW row = wide ? wide : data;
        jpeg_read_scanlines(jpeg, &row, 1);
    }
    while ((int)jpeg->output_scanline < bottom) {
        JSAMPROW rows[ROWS_AT_ONCE];
        int at = (int)jpeg->output_scanline, count = bottom - at;
        if (wide) {
            jpeg_read_scanlines(jpeg, &wide, 1);
            cmyk_to_rgb(data + (size_t)(at - top) * stride, wide, jpeg->output_width);
            continue;
        }
        if (count > ROWS_AT_ONCE) count = ROWS_AT_ONCE;
        for (int i = 0; i < count; i++) rows[i] = data + (size_t)(at - top + i) * stride;
        jpeg_read_scanlines(jpeg, rows, (JDIMENSION)count);
    }
    return d->ended ? fail_short(d) : CLD_OK;
}

/* libjpeg's jpeg_crop_scanline, up to version 2.1.5, gets the width of a component wrong if it is shrunk less than the
 * others. This matters if such a component must still be enlarged, as with 4:1:0 at half size. */
static bool can_crop(const struct jpeg_decompress_struct *jpeg) {
    for (int c = 0; c < jpeg->num_components; c++) {
        const jpeg_component_info *info = jpeg->comp_info + c;
        bool alike = info->DCT_scaled_size == jpeg->min_DCT_scaled_size;
        bool full = info->h_samp_factor * info->DCT_scaled_size ==
                        jpeg->max_h_samp_factor * jpeg->min_DCT_scaled_size &&
                    info->v_samp_factor * info->DCT_scaled_size ==
                        jpeg->max_v_samp_factor * jpeg->min_DCT_scaled_size;
        if (!alike && !full) return false;
    }
    return !is_smoothed(jpeg);
}

/* The columns from `first` to before `last`. Of those that are `decoded`, the `sound` ones are the same as in the whole
 * image. */
typedef struct columns {
    int first, last;
} columns;

static void choose_columns(columns *decoded, columns *sound, struct jpeg_decompress_struct *jpeg,
                           columns wanted) {
    int unit = jpeg->max_h_samp_factor * jpeg->min_DCT_scaled_size, width = (int)jpeg->output_width;
    int first = wanted.first < MARGIN ? 0 : (wanted.first - MARGIN) / unit * unit;
    int last = ceil_div(wanted.last + MARGIN, unit) * unit;
    *decoded = *sound = (columns){0, width};
    if ((first == 0 && last >= width) || !can_crop(jpeg)) return;
    if (last > width) last = width;
    JDIMENSION from = (JDIMENSION)first, count = (JDIMENSION)(last - first);
    jpeg_crop_scanline(jpeg, &from, &count);
    *decoded = (columns){(int)from, (int)(from + count)};
    *sound = *decoded;
    if (sound->first > 0) sound->first += MARGIN;
    if (sound->last < width) sound->last -= MARGIN;
}

static cld_status work(decoder *d) {
    struct jpeg_decompress_struct *jpeg = &d->jpeg;
    const cld_picture *p = d->picture;
    jpeg_create_decompress(jpeg);
    jpeg->src = &d->source;
    jpeg->progress = &d->progress;
    jpeg->mem->max_memory_to_use = MAX_COEFFICIENTS;
    jpeg_read_header(jpeg, TRUE);
    if (d->ended) return fail_short(d);
    if ((int)jpeg->image_height != p->height || (int)jpeg->image_width != p->width)
        return cld_fail(CLD_INVALID, "a damaged JPEG: it gives two sizes");
    if (jpeg->num_components == 2 || jpeg->num_components > 4)
        return cld_fail(CLD_INVALID, "a JPEG of %d channels; 1, 3 or 4 can be read", jpeg->num_components);
    CLD_TRY(check_length(d));
    bool cmyk = jpeg->num_components == 4;
    jpeg->out_color_space = cmyk ? JCS_CMYK : JCS_RGB;
    jpeg->scale_num = 1;
    jpeg->scale_denom = (unsigned)d->shrink;
    jpeg_start_decompress(jpeg);
    if (d->ended && jpeg_has_multiple_scans(jpeg)) return fail_short(d);

    int height = (int)jpeg->output_height, width = (int)jpeg->output_width, shrink = d->shrink;
    int top = d->part.top / shrink, bottom = ceil_div(d->part.top + d->part.height, shrink);
    columns wanted = {d->part.left / shrink, ceil_div(d->part.left + d->part.width, shrink)}, decoded, sound;
    choose_columns(&decoded, &sound, jpeg, wanted);
    size_t count = (size_t)(decoded.last - decoded.first), stride = count * 3, rows = (size_t)(bottom - top);
    uint8_t *data = cld_scratch_reserve(d->scratch, rows * stride + (cmyk ? count * 4 : 0));
    if (!data) return CLD_NOMEM;
    CLD_TRY(read_rows(d, data, stride, cmyk ? data + rows * stride : NULL, top, bottom));
    *d->out = (cld_pixels){
        .data = data + (size_t)(sound.first - decoded.first) * 3,
        .stride = stride,
        .height = height,
        .width = width,
        .there = {top, sound.first, (int)rows, sound.last - sound.first},
        .shrink = shrink,
        .full_height = p->height,
        .full_width = p->width,
    };
    return CLD_OK;
}

cld_status cld_jpeg_decode(cld_pixels *out, const cld_picture *p, cld_rect part, int shrink,
                           cld_scratch *scratch) {
    decoder d = {
        .picture = p,
        .part = part,
        .shrink = shrink,
        .scratch = scratch,
        .out = out,
        .most_scans = MAX_SCANS,
        .progress = {.progress_monitor = watch_scans},
        .source = {.next_input_byte = p->bytes,
                   .bytes_in_buffer = p->length,
                   .init_source = start_source,
                   .fill_input_buffer = fill_source,
                   .skip_input_data = skip_source,
                   .resync_to_restart = jpeg_resync_to_restart,
                   .term_source = start_source},
    };
    d.jpeg.err = jpeg_std_error(&d.errors);
    d.jpeg.client_data = &d;
    d.errors.error_exit = on_error;
    d.errors.emit_message = on_message;
    cld_status status = guarded(&d, work);
    jpeg_destroy_decompress(&d.jpeg);
    return status;
}
