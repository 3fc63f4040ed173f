/* A drawn view of an image: a list of instructions that contains every random or transcendental number (runtime/views
 * draws them). The host and other devices execute it with integer and plain float arithmetic only, built without fused
 * multiply-adds (kernels/pixel.h), so that the pixels do not depend on the device.
 *
 * The canvas is three 8-bit planes. It starts as the image. If the first instruction is a CLD_VIEW_RESAMPLE, the canvas
 * is cut out of the image instead; then only that part of the image is needed, possibly at a smaller scale. A later
 * RESAMPLE cuts from the canvas so far. CLD_VIEW_NORMALIZE is always there and turns the canvas into floats; only
 * CLD_VIEW_ERASE may follow it. An instruction has 64 bytes. A view is a header of 16 bytes and its instructions,
 * copied to a device as they are.
 *
 * cld_view_needs in kernels/resample.h says which part of an image a view needs.
 *
 * To add an instruction: its name in CLD_VIEW_OPS, what it holds in cld_view_instruction, its arithmetic in
 * kernels/pixel.h, a row in kernels/cpu/view.c, a case in kernels/cuda/view.cu, its numbers in
 * runtime/images/instructions.c.
 */
#ifndef CLD_KERNELS_VIEW_H
#define CLD_KERNELS_VIEW_H

#include <stddef.h>
#include <stdint.h>

typedef struct cld_rect {
    int top, left, height, width; /* pixels, from 0 */
} cld_rect;

/* Part of an image in host memory: interleaved RGB. */
typedef struct cld_pixels {
    const uint8_t *data;         /* of the pixel at (there.top, there.left) */
    size_t stride;               /* bytes between rows */
    int height, width;           /* of the whole image, at this scale */
    cld_rect there;              /* the part that data holds, at this scale */
    int shrink;                  /* the image's full size divided by this one: 1, 2, 4 or 8 */
    int full_height, full_width; /* the size that a view's boxes refer to */
} cld_pixels;

/* All of an image, interleaved RGB without gaps. */
static inline cld_pixels cld_pixels_whole(const uint8_t *data, int height, int width) {
    cld_pixels p = {data, 3 * (size_t)width, height, width, {0, 0, height, width}, 1, height, width};
    return p;
}

#define CLD_VIEW_OPS(X)                                                                                      \
    X(RESAMPLE) /* resample: the box, resized to `out`'s size; the window of the result is the new canvas */ \
    X(WINDOW)   /* window: this part is the new canvas; pixels outside the old one are filled */             \
    X(FLIP)     /* mirrored left to right */                                                                 \
    X(BRIGHTNESS)   /* factor: a blend with black */                                                         \
    X(CONTRAST)     /* factor: a blend with the mean grey level */                                           \
    X(SATURATION)   /* factor: a blend with the grey image */                                                \
    X(HUE)          /* shift: 0 to 255, of Pillow's 8-bit hue */                                             \
    X(GREY)         /* convert("L") in all three planes */                                                   \
    X(BOX_BLUR)     /* box: Pillow's GaussianBlur, three box blurs along x, then along y */                  \
    X(TAP_BLUR)     /* taps: a symmetric filter along y, then x, in floats, the border reflected */          \
    X(INVERT)       /* 255 - level */                                                                        \
    X(SOLARIZE)     /* level: inverts levels of at least this value */                                       \
    X(SOLARIZE_ADD) /* level: added to levels below 128, at most 255 */                                      \
    X(POSTERIZE)    /* level: number of bits kept, 0 to 8 */                                                 \
    X(AUTOCONTRAST) /* ImageOps.autocontrast, per channel */                                                 \
    X(EQUALIZE)     /* ImageOps.equalize, per channel */                                                     \
    X(SHARPNESS)    /* factor: ImageEnhance.Sharpness */                                                     \
    X(AFFINE)       /* affine: Image.transform of the canvas, same size */                                   \
    X(NORMALIZE) /* normalize: (level / 255 - mean) / std, per channel; the canvas is floats from here on */ \
    X(ERASE)     /* erase: sets this part of each channel to its value; only after NORMALIZE */

typedef enum cld_view_op {
#define CLD_ENUM(name) CLD_VIEW_##name,
    CLD_VIEW_OPS(CLD_ENUM)
#undef CLD_ENUM
        CLD_VIEW_OP_COUNT
} cld_view_op;

typedef enum cld_filter { CLD_FILTER_NEAREST, CLD_FILTER_BILINEAR, CLD_FILTER_BICUBIC } cld_filter;

typedef struct cld_view_instruction {
    int32_t op;   /* cld_view_op */
    int32_t flip; /* RESAMPLE, NORMALIZE: the result is also mirrored left to right */
    union {
        struct {
            float top, left, height, width; /* the box, in pixels of the full-size image, or of the canvas */
            /* The size it is resized to: Image.crop of the pixels that the box touches, then resize(box). */
            int32_t out_height, out_width;
            int32_t window[4]; /* top, left, height, width, within the result */
            int32_t filter;    /* cld_filter */
        } resample;
        struct {
            int32_t top, left, height, width; /* may reach beyond the canvas */
            int32_t fill[3];
        } window;
        float factor;
        int32_t level;
        int32_t shift;
        struct {
            int32_t radius; /* see cld_box in pixel.h */
            uint32_t whole, edge;
        } box;
        struct {
            int32_t radius;   /* at most 11: 2 radius + 1 taps */
            float weight[12]; /* of the middle, then outwards */
        } taps;
        struct {
            /* a to f, the data of Image.transform: the output pixel with its centre at (x, y), that is column and row +
             * 0.5, is taken from the canvas at (a x + b y + c, d x + e y + f). */
            double matrix[6];
            uint8_t fill[3], filter;
        } affine;
        struct {
            float mean[3], std[3];
        } normalize;
        struct {
            int32_t top, left, height, width;
            float value[3];
        } erase;
        int32_t words[14];
    };
} cld_view_instruction;

typedef struct cld_view {
    int32_t count;               /* instructions */
    int32_t height, width;       /* of the finished view */
    int32_t pixels;              /* of the largest intermediate canvas, including the first and the last */
    cld_view_instruction step[]; /* (count) */
} cld_view;

/* The canvas' size before the instruction -> its size after it. */
static inline void cld_view_resize(const cld_view_instruction *s, int *height, int *width) {
    if (s->op == CLD_VIEW_RESAMPLE) {
        *height = s->resample.window[2];
        *width = s->resample.window[3];
    } else if (s->op == CLD_VIEW_WINDOW) {
        *height = s->window.height;
        *width = s->window.width;
    }
}

static inline size_t cld_view_bytes(int count) {
    return sizeof(cld_view) + (size_t)count * sizeof(cld_view_instruction);
}

#endif
