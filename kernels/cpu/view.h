/* Shared by the files view*.c: the canvas while a view is made, and how their loops are compiled.
 *
 * The canvas is stored as planes (3, height, width), so that neighbouring bytes are of one channel and loops vectorize.
 * The loops are compiled for AVX2 and for any x86-64, but without FMA: a fused multiply-add rounds once where Pillow
 * rounds twice, and then truncates to another integer.
 */
#ifndef CLD_CPU_VIEW_H
#define CLD_CPU_VIEW_H

#include "kernels/backend.h"
#include "kernels/view.h"

#if defined(__x86_64__) && !defined(__SANITIZE_ADDRESS__)
#    define CLD_VIEW_SIMD __attribute__((target_clones("avx2", "default")))
#else
#    define CLD_VIEW_SIMD
#endif

#if defined(__x86_64__)
#    define CLD_VIEW_AVX2 __attribute__((target("avx2"))) /* intrinsics, beside a plain loop */
#endif

typedef struct cld_canvas {
    uint8_t *data;  /* (3, height, width), dense */
    uint8_t *spare; /* the same size, for operations that cannot be done in place: see cld__view_swap */
    uint8_t *work;  /* as many bytes as the instruction needs, 64-byte aligned */
    int height, width;
    const cld_pixels *image;
    bool taken; /* data holds the canvas; until then a RESAMPLE reads the image */
    float *out; /* (3, height, width): output of NORMALIZE and ERASE */
} cld_canvas;

/* Whether this processor has AVX2. With CLD_PLAIN_LOOPS=1 in the environment the answer is no, so that a spec can
 * compare. */
bool cld__view_has_avx2(void);

static inline size_t cld__view_pixels(const cld_canvas *c) { return (size_t)c->height * (size_t)c->width; }

static inline size_t cld__view_aligned(size_t bytes) { return (bytes + 63) & ~(size_t)63; }

/* Makes what was written to spare the canvas. */
static inline void cld__view_swap(cld_canvas *c) {
    uint8_t *data = c->data;
    c->data = c->spare;
    c->spare = data;
}

/* The canvas as rows of RGB, 3 bytes per pixel. */
void cld__view_interleave(uint8_t *pixels, const cld_canvas *c);

/* level -> table[level], in one plane or in all */
void cld__view_look_up(uint8_t *plane, size_t n, const uint8_t table[256]);

/* view_resample.c: splits pixels of four bytes (R, G, B, 0) into a row of each plane, `plane` bytes apart, and back. */
void cld__view_split_row(uint8_t *out, size_t plane, const uint8_t *pixels, int width);
void cld__view_join_row(uint8_t *pixels, const uint8_t *planes, size_t plane, size_t width);

/* One function per instruction, and, if it needs workspace, the bytes that it needs for a canvas of this size. */
#define CLD_CPU_VIEW(name) void cld__view_##name(cld_canvas *c, const cld_view_instruction *s)
CLD_CPU_VIEW(resample); /* view_resample.c: of image, or of the canvas once it is taken */
size_t cld__view_resample_bytes(const cld_canvas *c, const cld_view_instruction *s);
CLD_CPU_VIEW(window); /* view_move.c */
CLD_CPU_VIEW(flip);
CLD_CPU_VIEW(affine); /* view_affine.c */
size_t cld__view_affine_bytes(const cld_canvas *c, const cld_view_instruction *s);
CLD_CPU_VIEW(brightness); /* view_color.c */
CLD_CPU_VIEW(contrast);
CLD_CPU_VIEW(saturation);
CLD_CPU_VIEW(hue);
CLD_CPU_VIEW(grey);
CLD_CPU_VIEW(box_blur); /* view_blur.c */
size_t cld__view_box_blur_bytes(const cld_canvas *c, const cld_view_instruction *s);
CLD_CPU_VIEW(tap_blur);
size_t cld__view_tap_blur_bytes(const cld_canvas *c, const cld_view_instruction *s);
CLD_CPU_VIEW(sharpness);
CLD_CPU_VIEW(invert); /* view_levels.c */
CLD_CPU_VIEW(solarize);
CLD_CPU_VIEW(solarize_add);
CLD_CPU_VIEW(posterize);
CLD_CPU_VIEW(autocontrast);
CLD_CPU_VIEW(equalize);
CLD_CPU_VIEW(normalize); /* view_normalize.c */
CLD_CPU_VIEW(erase);

#endif
