/* A view of an image as it was drawn: a list of instructions, complete with every number that is random or transcendental
 * (runtime/views draws them). The host and other devices follow it with integer and plain float arithmetic alone, built
 * without fused multiply-adds (kernels/pixel.h), so that the pixels do not depend on who makes them.
 *
 * The canvas is three 8-bit planes. It begins as the image. A CLD_VIEW_RESAMPLE that is the first instruction cuts it out
 * of the image instead, of which then only that part is needed, at a smaller scale perhaps; a later one, out of the canvas
 * so far. CLD_VIEW_NORMALIZE, which is always there, turns the canvas into floats,
 * and only CLD_VIEW_ERASE may follow it. An instruction is 64 bytes, a view a header of 16 and its instructions: bytes that are
 * copied to a device as they are.
 *
 * Which part of an image a view needs: cld_view_needs of kernels/resample.h.
 *
 * A new instruction: its name in CLD_VIEW_OPS, what it holds in cld_view_instruction, its arithmetic in kernels/pixel.h,
 * a row in kernels/cpu/view.c, a case in kernels/cuda/view.cu, its numbers in runtime/images/instructions.c.
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
    size_t stride;               /* bytes from a row to the next */
    int height, width;           /* of the whole image, at this scale */
    cld_rect there;              /* the part that data holds, at this scale */
    int shrink;                  /* the image's full size divided by this one: 1, 2, 4 or 8 */
    int full_height, full_width; /* in which the boxes of a view count */
} cld_pixels;

/* All of an image, interleaved RGB without gaps. */
static inline cld_pixels cld_pixels_whole(const uint8_t *data, int height, int width) {
    cld_pixels p = {data, 3 * (size_t)width, height, width, {0, 0, height, width}, 1, height, width};
    return p;
}

#define CLD_VIEW_OPS(X)                                                                                      \
    X(RESAMPLE)     /* resample: the box, resized to `out`'s size; of that the window is the new canvas */   \
    X(WINDOW)       /* window: this part is the new canvas; what lies outside the old one is filled */       \
    X(FLIP)         /* mirrored left to right */                                                             \
    X(BRIGHTNESS)   /* factor: a blend with black */                                                         \
    X(CONTRAST)     /* factor: a blend with the mean grey level */                                           \
    X(SATURATION)   /* factor: a blend with the grey image */                                                \
    X(HUE)          /* shift: 0 to 255, of Pillow's 8-bit hue */                                             \
    X(GREY)         /* convert("L") in all three planes */                                                   \
    X(BOX_BLUR)     /* box: Pillow's GaussianBlur, three box blurs along x, then along y */                  \
    X(TAP_BLUR)     /* taps: a symmetric filter along y, then x, in floats, the border reflected */          \
    X(INVERT)       /* 255 - level */                                                                        \
    X(SOLARIZE)     /* level: inverts levels of at least this */                                             \
    X(SOLARIZE_ADD) /* level: added to levels below 128, at most 255 */                                      \
    X(POSTERIZE)    /* level: bits that are kept, 0 to 8 */                                                  \
    X(AUTOCONTRAST) /* ImageOps.autocontrast, by channel */                                                  \
    X(EQUALIZE)     /* ImageOps.equalize, by channel */                                                      \
    X(SHARPNESS)    /* factor: ImageEnhance.Sharpness */                                                     \
    X(AFFINE)       /* affine: Image.transform of the canvas, its size kept */                               \
    X(NORMALIZE) /* normalize: (level / 255 - mean) / std, per channel; the canvas is floats from here on */ \
    X(ERASE)     /* erase: this part of each channel becomes its value; only after NORMALIZE */

typedef enum cld_view_op {
#define CLD_ENUM(name) CLD_VIEW_##name,
    CLD_VIEW_OPS(CLD_ENUM)
#undef CLD_ENUM
        CLD_VIEW_OP_COUNT
} cld_view_op;

typedef enum cld_filter { CLD_FILTER_NEAREST, CLD_FILTER_BILINEAR, CLD_FILTER_BICUBIC } cld_filter;

typedef struct cld_view_instruction {
    int32_t op;   /* cld_view_op */
    int32_t flip; /* RESAMPLE, NORMALIZE: the result is mirrored left to right as well */
    union {
        struct {
            float top, left, height, width; /* the box, in pixels of the full-size image, or of the canvas */
            /* What it is resized to: Image.crop of the pixels it touches, then resize(box). */
            int32_t out_height, out_width;
            int32_t window[4]; /* top, left, height, width: of that */
            int32_t filter;    /* cld_filter */
        } resample;
        struct {
            int32_t top, left, height, width; /* may reach over the canvas' borders */
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
            /* a to f, the data of Image.transform: an output pixel whose centre is at (x, y), its column and row + 0.5,
             * comes from the canvas' point (a x + b y + c, d x + e y + f). */
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
    int32_t pixels;              /* of the largest canvas on the way, the first and the last among them */
    cld_view_instruction step[]; /* (count) */
} cld_view;

/* The canvas' size before the instruction -> after it. */
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
