/* Points as an SVG path, dots as braille. The contract is in marks.h. */
#include "runtime/plot/marks.h"

#include <math.h>
#include <stdlib.h>

#include "runtime/core/strings.h"
#include "runtime/core/text.h"

enum { MOST_OF_POINT = 64 };

/* In tenths of a pixel, limited: far outside the value makes no difference. */
static long long tenths(double v) { return llround(10 * fmin(1e6, fmax(-1e6, v))); }

static int put_number(char *out, long long tenths_of) {
    long long whole = llabs(tenths_of) / 10, rest = llabs(tenths_of) % 10;
    const char *sign = tenths_of < 0 ? "-" : "";
    return rest ? cld_format(out, 24, "%s%lld.%lld", sign, whole, rest)
                : cld_format(out, 24, "%s%lld", sign, whole);
}

char *cld_plot_path(const cld_tensor *points, cld_svg_path kind, size_t *length) {
    const double *p = points->a.data;
    int64_t count = points->a.shape[0];
    void *text = NULL;
    size_t room = 0, used = 0;
    bool joined = false;
    long long last_x = 0, last_y = 0;
    for (int64_t i = 0; i < count; i++, p += 2) {
        bool is_point = isfinite(p[0]) && isfinite(p[1]);
        if (!is_point) {
            joined = false;
            continue;
        }
        long long x = tenths(p[0]), y = tenths(p[1]);
        bool next = i + 1 < count && isfinite(p[2]) && isfinite(p[3]),
             alone = kind == CLD_SVG_DISCS || (!joined && !next);
        if (joined && !alone && x == last_x && y == last_y && next) continue;
        if (cld_grow(&text, &room, used + MOST_OF_POINT, 1) != CLD_OK) return free(text), NULL;
        char *at = (char *)text + used, *begin = at;
        *at++ = joined && !alone ? 'L' : 'M';
        at += put_number(at, x);
        *at++ = ' ';
        at += put_number(at, y);
        if (alone) at += cld_format(at, 4, "h0");
        used += (size_t)(at - begin);
        joined = true;
        last_x = x;
        last_y = y;
    }
    if (!text && cld_grow(&text, &room, 1, 1) != CLD_OK) return NULL;
    *length = used;
    return text;
}

cld_tensor *cld_plot_braille(const cld_tensor *dots) {
    static const uint8_t bits[4][2] = {{0x01, 0x08}, {0x02, 0x10}, {0x04, 0x20}, {0x40, 0x80}};
    int64_t shape[] = {dots->a.shape[0] / 4, dots->a.shape[1] / 2}, width = dots->a.shape[1];
    CLD_AUTO cld_tensor *cells = cld_tensor_new(CLD_I32, 2, shape, cld_cpu_backend());
    if (!cells) return NULL;
    const uint8_t *in = dots->a.data;
    int32_t *out = cells->a.data;
    for (int64_t row = 0; row < shape[0]; row++)
        for (int64_t column = 0; column < shape[1]; column++, out++) {
            int code = 0, least = 256;
            for (int y = 0; y < 4; y++)
                for (int x = 0; x < 2; x++) {
                    int dot = in[(4 * row + y) * width + 2 * column + x];
                    if (!dot) continue;
                    code |= bits[y][x];
                    if (dot < least) least = dot;
                }
            *out = code ? least << 8 | code : 0;
        }
    return cld_tensor_steal(&cells);
}
