/* RandAugment as InfoMin uses it ("rand-n2-m10-mstd0.5" of timm and PyContrast): n of 15 ops, drawn with replacement,
 * each applied with probability p at a magnitude of N(m, mstd), clipped to 0 to 10. */
#include "runtime/views/kinds.h"

#define MAX_OPS   8
#define MAGNITUDE 10.0 /* the maximum */

enum { N, M, MSTD, P, FILL };
static const cld_setting settings[] = {
    {"n", CLD_SETTING_INTEGER, {2}, 0, MAX_OPS, NULL, "ops, drawn with replacement"},
    {"m", CLD_SETTING_NUMBER, {10}, 0, MAGNITUDE, NULL, "mean magnitude, 0 to 10"},
    {"mstd", CLD_SETTING_NUMBER, {0.5}, 0, 100, NULL, "its standard deviation"},
    {.name = "p", .form = CLD_SETTING_PROBABILITY, .defaults = {0.5}, .help = "probability of each op drawn"},
    {"fill", CLD_SETTING_CHANNELS, {124, 116, 104}, 0, 255, NULL, "level around a rotated or shifted image"},
    {.name = NULL},
};

static double normal(cld_philox *rng) {
    double u = 1.0 - (double)cld_philox_uniform(rng), v = (double)cld_philox_uniform(rng); /* u > 0 */
    return sqrt(-2.0 * log(u)) * cos(2.0 * M_PI * v);
}

static double either_sign(double x, cld_philox *rng) { return cld_draw_happens(rng, 0.5) ? -x : x; }

/* ---- ops on levels ------------------------------------------------------------------------------------- */

static void plain(cld_draw *d, cld_view_op op) { cld_draw_add(d, op); }
static void level(cld_draw *d, cld_view_op op, double x) { cld_draw_add(d, op)->level = (int32_t)x; }
static void factor(cld_draw *d, cld_view_op op, double share) {
    cld_draw_add(d, op)->factor = (float)(share * 1.8 + 0.1);
}

/* ---- ops that move pixels: Image.transform and Image.rotate -------------------------------------------- */

static void affine(cld_draw *d, const double *numbers, const double matrix[6], cld_philox *rng) {
    cld_view_instruction *i = cld_draw_add(d, CLD_VIEW_AFFINE);
    for (int k = 0; k < 6; k++) i->affine.matrix[k] = matrix[k];
    for (int c = 0; c < 3; c++) i->affine.fill[c] = (uint8_t)numbers[FILL + c];
    i->affine.filter = cld_draw_happens(rng, 0.5) ? CLD_FILTER_BILINEAR : CLD_FILTER_BICUBIC;
}

static double rounded(double x) { return rint(x * 1e15) / 1e15; } /* to 15 decimals, as in Image.rotate */

/* Counterclockwise about the centre. */
static void rotate(cld_draw *d, const double *numbers, double degrees, cld_philox *rng) {
    double turn = degrees < 0.0 ? degrees + 360.0 : degrees;
    double angle = -turn * (M_PI / 180.0), x = d->width / 2.0, y = d->height / 2.0;
    double c = rounded(cos(angle)), s = rounded(sin(angle));
    double matrix[6] = {c, s, (c * -x + s * -y) + x, -s, c, (-s * -x + c * -y) + y};
    affine(d, numbers, matrix, rng);
}

static void shear(cld_draw *d, const double *numbers, double along_x, double along_y, cld_philox *rng) {
    double matrix[6] = {1, along_x, 0, along_y, 1, 0};
    affine(d, numbers, matrix, rng);
}

static void translate(cld_draw *d, const double *numbers, double x, double y, cld_philox *rng) {
    double matrix[6] = {1, 0, x, 0, 1, y};
    affine(d, numbers, matrix, rng);
}

/* ---- the step ------------------------------------------------------------------------------------------ */

static void draw_op(cld_draw *d, const double *numbers, cld_philox *rng) {
    int op = cld_draw_integer(rng, 0, 14);
    bool applied = cld_draw_happens(rng, numbers[P]);
    double m = numbers[M] + numbers[MSTD] * normal(rng);
    double share = (m < 0.0 ? 0.0 : m > MAGNITUDE ? MAGNITUDE : m) / MAGNITUDE;
    if (!applied) return;
    switch (op) {
    case 0: plain(d, CLD_VIEW_AUTOCONTRAST); break;
    case 1: plain(d, CLD_VIEW_EQUALIZE); break;
    case 2: plain(d, CLD_VIEW_INVERT); break;
    case 3: rotate(d, numbers, either_sign(share * 30.0, rng), rng); break;
    case 4: level(d, CLD_VIEW_POSTERIZE, share * 4.0); break;
    case 5: level(d, CLD_VIEW_SOLARIZE, share * 256.0); break;
    case 6: level(d, CLD_VIEW_SOLARIZE_ADD, share * 110.0); break;
    case 7: factor(d, CLD_VIEW_SATURATION, share); break;
    case 8: factor(d, CLD_VIEW_CONTRAST, share); break;
    case 9: factor(d, CLD_VIEW_BRIGHTNESS, share); break;
    case 10: factor(d, CLD_VIEW_SHARPNESS, share); break;
    case 11: shear(d, numbers, either_sign(share * 0.3, rng), 0, rng); break;
    case 12: shear(d, numbers, 0, either_sign(share * 0.3, rng), rng); break;
    case 13: translate(d, numbers, either_sign(share * 0.45, rng) * d->width, 0, rng); break;
    case 14: translate(d, numbers, 0, either_sign(share * 0.45, rng) * d->height, rng); break;
    }
}

static cld_status draw(cld_draw *d, const double *numbers, cld_philox *rng) {
    for (int i = 0; i < (int)numbers[N]; i++) draw_op(d, numbers, rng);
    return CLD_OK;
}

const cld_view_kind cld_kind_rand_augment = {
    .name = "rand_augment",
    .stream = 10,
    .help = "n random ops out of 15",
    .settings = settings,
    .instructions = MAX_OPS,
    .draw = draw,
};
