/* The contract is in picture_facts.h. cld_picture_open has already walked through the header, so what is read here is
 * known to exist, except for a JPEG's frame, which is searched for again.
 */
#include "runtime/images/picture_facts.h"

#include "runtime/images/decode_kinds.h"

const char *cld_picture_kind_name(cld_picture_kind kind) {
    static const char *const names[] = {
        [CLD_PICTURE_JPEG] = "JPEG", [CLD_PICTURE_PNG] = "PNG", [CLD_PICTURE_PNM] = "PPM"};
    return names[kind];
}

/* SOF0 to SOF15, except DHT, JPG and DAC. */
static bool is_frame(int marker) {
    return marker >= 0xc0 && marker <= 0xcf && marker != 0xc4 && marker != 0xc8 && marker != 0xcc;
}

static bool is_alone(int marker) { return marker <= 0x01 || (marker >= 0xd0 && marker <= 0xd8); }

static void read_jpeg(cld_picture_facts *f, const cld_picture *p) {
    const uint8_t *b = p->bytes;
    size_t at = 2, end = p->length;
    for (;;) {
        while (at < end && b[at] != 0xff) at++;
        while (at < end && b[at] == 0xff) at++;
        if (end - at < 9) return;
        int marker = b[at++];
        if (is_alone(marker)) continue;
        if (is_frame(marker)) {
            f->bits = b[at + 2];
            f->channels = b[at + 7];
            return;
        }
        at += cld_be16(b + at);
        if (at >= end) return;
    }
}

static void read_png(cld_picture_facts *f, const cld_picture *p) {
    enum { DEPTH = 24, COLOR = 25, USES_COLOR = 2, USES_ALPHA = 4 };
    if (p->length <= COLOR) return;
    f->bits = p->bytes[DEPTH];
    f->channels = p->bytes[COLOR] & USES_COLOR ? 3 : 1;
    f->alpha = p->bytes[COLOR] & USES_ALPHA;
}

/* The next number after `at` in a header's text; comments are skipped. */
static long next_number(const cld_picture *p, size_t *at) {
    long number = 0;
    bool begun = false;
    for (; *at < p->length; ++*at) {
        uint8_t c = p->bytes[*at];
        if (c >= '0' && c <= '9' && number < 1000000) {
            number = 10 * number + (c - '0');
            begun = true;
        } else if (begun) {
            break;
        } else if (c == '#') {
            while (*at + 1 < p->length && p->bytes[*at + 1] != '\n' && p->bytes[*at + 1] != '\r') ++*at;
        }
    }
    return number;
}

static void read_pnm(cld_picture_facts *f, const cld_picture *p) {
    int kind = p->bytes[1] - '0';
    size_t at = 2;
    f->channels = kind == 3 || kind == 6 ? 3 : 1;
    f->bits = 1;
    if (kind == 1 || kind == 4) return; /* black and white */
    next_number(p, &at);
    next_number(p, &at);
    f->bits = next_number(p, &at) > 255 ? 16 : 8;
}

cld_picture_facts cld_picture_facts_of(const cld_picture *p) {
    cld_picture_facts f = {.kind = p->kind, .channels = 3, .bits = 8, .orientation = p->orientation};
    if (p->kind == CLD_PICTURE_JPEG) read_jpeg(&f, p);
    if (p->kind == CLD_PICTURE_PNG) read_png(&f, p);
    if (p->kind == CLD_PICTURE_PNM) read_pnm(&f, p);
    return f;
}
