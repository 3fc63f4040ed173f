/* Text in a stroke font of our own: it is drawn as lines, so it can have any size and direction.
 *
 * A glyph is its width, a colon and strokes. A stroke is a list of points, each two digits in base 36, x and y. A
 * capital is 8 wide and reaches from y = 0 to the baseline at c (12); small letters begin at 4 and go down to g (16).
 */
#include <ctype.h>
#include <string.h>

#include "runtime/core/text.h"
#include "runtime/plot/canvas.h"

enum { FIRST = ' ', BASELINE = 12, APART = 3 };

#define UNIT      0.06 /* of the size */
#define THICKNESS 0.1

/* clang-format off */
static const char *const glyphs[] = {
    "4:", "2:1018 1b1c", "4:1013 3033", "8:301c 705c 0484 0888", "8:82602002042666888a6c2c0a 404c",     /*   ! " # $ */
    "8:800c 0121230301 69898b6b69", "8:8c131120405153080a2c4c88", "2:1013", "3:3013193c", "3:0023290c", /* % & ' ( ) */
    "6:3339 0468 6408", "8:444c 0888", "2:1b1c0e", "6:0767", "2:1b1c", "6:600c",                        /* * + , - . / */
    "7:2050727a5c2c0a0220", "8:13404c 1c7c", "8:02206082840c8c", "8:022060828466888a6c2c0a 3666",       /* 0 1 2 3 */
    "8:6c600888", "8:80000565878a6c2c0a", "8:826020020a2c6c8a87652507", "8:00803c",                     /* 4 5 6 7 */
    "8:206082846626040220 26080a2c6c8a8866", "8:0a2c6c8a8260200205276785",                              /* 8 9 */
    "2:1516 1b1c", "2:1516 1b1c0e", "6:64086c", "8:0686 0a8a", "6:04680c", "8:02206082844749 4b4c",     /* : ; < = > ? */
    "8:686535386888826020020a2c8c", "8:0c408c 1878", "8:000c6c8a886606 0060828466", "8:826020020a2c6c8a", /* @ A B C */
    "8:000c5c89835000", "8:80000c8c 0666", "8:80000c 0666", "8:826020020a2c6c8a8646", "8:000c 808c 0686", /* D E F G H */
    "4:202c 0040 0c4c", "7:707a5c2c0a", "8:000c 8007 348c", "8:000c8c", "8:0c0046808c", "8:0c008c80",   /* I J K L M N */
    "8:2060828a6c2c0a0220", "8:0c006082856707", "8:2060828a6c2c0a0220 598c", "8:0c006082856707 478c",   /* O P Q R */
    "8:82602002042666888a6c2c0a", "8:0080 404c", "8:000a2c6c8a80", "8:004c80", "8:002c446c80",          /* S T U V W */
    "8:008c 800c", "8:004680 464c", "8:00800c8c", "3:30101c3c", "6:006c", "3:00202c0c", "6:033063",     /* X Y Z [ \ ] ^ */
    "8:0d8d", "2:0012", "6:646c 664424060a2c4c6a", "6:000c 062444666a4c2c0a", "6:664424060a2c4c6a",     /* _ ` a b c */
    "6:606c 664424060a2c4c6a", "6:0868664424060a2c5c6b", "5:5040222c 0454",                             /* d e f */
    "6:646e4g1g 664424060a2c4c6a", "6:000c 062444666c", "2:141c 1011", "3:242e1g0g 2021",               /* g h i j */
    "6:000c 6409 276c", "2:101c", "A:040c 062434565c 567484a6ac", "6:040c 062444666c",                  /* k l m n */
    "6:2444666a4c2c0a0624", "6:040g 062444666a4c2c0a", "6:646g 664424060a2c4c6a", "5:040c 073454",      /* o p q r */
    "6:65542405072848696b4c1c0b", "5:212a4c5c 0454", "6:040a2c4c6a 646c", "6:043c64", "8:042c456c84",   /* s t u v w */
    "6:046c 640c", "6:043c 641g", "6:04640c6c", "4:40212506272b4c", "2:101e", "4:00212546272b0c",       /* x y z { | } */
    "8:07256886",                                                                                       /* ~ */
};
/* clang-format on */
static const char unknown[] = "6:00606c0c00";

enum { GLYPHS = sizeof glyphs / sizeof *glyphs };

static int digit(char c) { return c <= '9' ? c - '0' : tolower(c) - 'a' + 10; }

/* The glyph of the text's first character; moves the text past it. */
static const char *next_glyph(const char **text, size_t *length) {
    unsigned code = 0;
    size_t bytes = (size_t)cld_utf8(*text, *length, &code);
    bool known = bytes == 1 && code >= FIRST && code < FIRST + GLYPHS;
    *text += bytes ? bytes : 1;
    *length -= bytes ? bytes : 1;
    return known ? glyphs[code - FIRST] : unknown;
}

double cld_text_width(const char *text, size_t length, double size) {
    int units = 0;
    while (length > 0) units += digit(*next_glyph(&text, &length)) + APART;
    return (units > 0 ? units - APART : 0) * UNIT * size;
}

/* Where a glyph's points are on the canvas. */
typedef struct place {
    double x, y, unit;
    bool vertical;
} place;

static void locate(const place *at, const char *point, double out[2]) {
    double right = digit(point[0]) * at->unit, up = (BASELINE - digit(point[1])) * at->unit;
    out[0] = at->vertical ? at->x - up : at->x + right;
    out[1] = at->vertical ? at->y - right : at->y - up;
}

static void draw_glyph(cld_mask *m, const place *at, const char *glyph, double thickness) {
    double from[2] = {0}, to[2];
    for (const char *point = glyph + 2; *point; point += 2) {
        bool begins = point == glyph + 2 || *point == ' ';
        if (*point == ' ') point++;
        locate(at, point, to);
        if (!begins) cld_mask_line(m, from[0], from[1], to[0], to[1], thickness);
        from[0] = to[0];
        from[1] = to[1];
    }
}

cld_status cld_canvas_text(cld_tensor *image, const char *text, size_t length, double x, double y,
                           double size, bool vertical, const cld_pen *pen) {
    cld_mask m;
    place at = {x, y, UNIT * size, vertical};
    CLD_TRY(cld_mask_new(&m, image));
    while (length > 0) {
        const char *glyph = next_glyph(&text, &length);
        draw_glyph(&m, &at, glyph, THICKNESS * size);
        double advance = (digit(*glyph) + APART) * at.unit;
        if (vertical)
            at.y -= advance;
        else
            at.x += advance;
    }
    cld_mask_paint(&m, image, pen);
    return CLD_OK;
}
