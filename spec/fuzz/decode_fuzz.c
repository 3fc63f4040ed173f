/* libFuzzer's target for the decoders of image files: `make fuzz`. The file's length chooses the part and the scale, so
 * that one file reproduces a finding: build/fuzz/decode FILE. This build does not check checksums (decode_png.c). */
#include <stdlib.h>

#include "runtime/images/decode.h"

#define MOST_PIXELS (1 << 22) /* larger images are not decoded: they would only be slow */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Reads every byte, so that the sanitizers see any that is not ours. */
static unsigned sum(const cld_pixels *p) {
    unsigned total = 0;
    for (int y = 0; y < p->there.height; y++)
        for (int x = 0; x < p->there.width * 3; x++) total += p->data[(size_t)y * p->stride + (size_t)x];
    return total;
}

static void require(int holds) {
    if (!holds) abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static volatile unsigned total;
    cld_picture p;
    cld_pixels pixels, up;
    cld_scratch decoded = {0}, turned = {0};
    if (cld_picture_open(&p, data, size) == CLD_OK && (int64_t)p.height * p.width <= MOST_PIXELS) {
        unsigned pick = (unsigned)size * 2654435761u;
        int shrink = 1 << (pick >> 30);
        cld_rect part = {(int)((pick >> 3) % (unsigned)p.height), (int)((pick >> 7) % (unsigned)p.width), 1,
                         1};
        part.height += (int)((pick >> 11) % (unsigned)(p.height - part.top));
        part.width += (int)((pick >> 13) % (unsigned)(p.width - part.left));
        const struct {
            cld_rect part;
            int shrink;
        } jobs[] = {{{0, 0, p.height, p.width}, 1}, {part, 1}, {part, shrink}};
        for (int i = 0; i < 3; i++) {
            if (cld_picture_decode(&pixels, &p, jobs[i].part, jobs[i].shrink, &decoded) != CLD_OK) continue;
            cld_rect there = pixels.there, want = jobs[i].part;
            int by = pixels.shrink;
            require(there.top * by <= want.top && there.left * by <= want.left);
            require((there.top + there.height) * by >= want.top + want.height);
            require((there.left + there.width) * by >= want.left + want.width);
            require(there.top + there.height <= pixels.height && there.left + there.width <= pixels.width);
            total += sum(&pixels);
            if (cld_picture_upright(&up, &pixels, p.orientation, &turned) == CLD_OK) total += sum(&up);
        }
    }
    cld_scratch_free(&decoded);
    cld_scratch_free(&turned);
    return 0;
}
