/* A view is a program: a list of steps, as torchvision's Compose is. This draws it: from a program and the random numbers
 * of one sample to the instructions of kernels/view.h, before a pixel is touched.
 *
 * Each step draws from a Philox stream of its own, keyed by (seed, epoch, sample, view, the step's kind and which of
 * its kind it is in the list): a step put in between shifts nobody else's draw, and a view does not depend on who makes
 * it, nor when. A kind of step is one file here and one row in kinds.h: its settings, with which Lua's constructor, its
 * checks and its printing are made, and its draw.
 *
 *     cld_program p = {.count = 1};
 *     cld_program_step_default(&p.step[0], cld_view_kind_named("flip"));
 *     CLD_TRY(cld_program_finish(&p));
 */
#ifndef CLD_VIEWS_PROGRAM_H
#define CLD_VIEWS_PROGRAM_H

#include <float.h>
#include <math.h>
#include <stdbool.h>

#include "kernels/view.h"
#include "runtime/core/error.h"
#include "runtime/core/philox.h"

#define CLD_PROGRAM_STEPS 32        /* at most in a list */
#define CLD_STEP_NUMBERS  16        /* at most in the settings of a step */
#define CLD_CANVAS_PIXELS 178956970 /* at most: what the largest image has (runtime/images/decode.h) */

/* ---- kinds of steps ------------------------------------------------------------------------------------ */

/* What Lua gives -> the numbers it becomes. */
typedef enum cld_setting_form {
    CLD_SETTING_NUMBER,      /* 1 */
    CLD_SETTING_INTEGER,     /* 1 */
    CLD_SETTING_PROBABILITY, /* a number 0 to 1 -> 1 */
    CLD_SETTING_RANGE,       /* {low, high}, or one number, which is both -> 2 */
    CLD_SETTING_FACTOR,      /* as ColorJitter's: x is {max(0, 1 - x), 1 + x}; or {low, high} -> 2 */
    CLD_SETTING_SHIFT,       /* the same around 0: x is {-x, x} -> 2 */
    CLD_SETTING_SIZE,        /* pixels: {height, width}, or one number, which is both -> 2 */
    CLD_SETTING_SHORTER, /* pixels: {height, width}; or one number for the shorter side, then the second is 0 -> 2 */
    CLD_SETTING_CHANNELS, /* {r, g, b}, or one number, which is all -> 3 */
    CLD_SETTING_CHOICE    /* one of the words in `choices` -> 1, its place from 0 */
} cld_setting_form;

#define CLD_ABOVE_ZERO ((double)FLT_MIN) /* as a lower limit: shown as "0 <" */

typedef struct cld_setting {
    const char *name; /* in Lua */
    cld_setting_form form;
    double defaults[3];  /* as numbers; NAN in the first: it must be given */
    double low, high;    /* each number's limits, inclusive; a probability and a choice need none */
    const char *choices; /* "bilinear|bicubic" */
    const char *help;    /* with its unit */
} cld_setting;

typedef enum cld_step_place {
    CLD_STEP_ON_PIXELS, /* anywhere before normalize */
    CLD_STEP_NORMALIZES,
    CLD_STEP_ON_FLOATS /* only after normalize */
} cld_step_place;

typedef struct cld_draw cld_draw; /* a view while it is drawn: see below */

typedef struct cld_view_kind {
    const char *name; /* in Lua: "random_resized_crop" */
    int stream;       /* of its random numbers, 1 to 255; never another's, so that old runs repeat */
    cld_step_place place;
    const char *help;
    const cld_setting *settings;                /* ends with a name of NULL */
    cld_status (*check)(const double *numbers); /* (optional) what limits cannot say */
    /* (optional) The canvas' size before it -> after it; 0 x 0 is one that is not known, and then a size that
     * depends on it stays so. An error if it is known and cannot be. */
    cld_status (*size)(const double *numbers, int *height, int *width);
    int images;       /* (optional) that it makes of one; 0 is 1 */
    int instructions; /* at most, that it adds */
    cld_status (*draw)(cld_draw *d, const double *numbers, cld_philox *rng);
} cld_view_kind;

extern const cld_view_kind *const cld_view_kinds[];         /* ends with NULL */
const cld_view_kind *cld_view_kind_named(const char *name); /* NULL: there is none */

/* Numbers that a setting of this form has. */
int cld_setting_numbers(cld_setting_form form);
/* `count` numbers as they are written in Lua -> those of the setting. */
cld_status cld_setting_set(double *numbers, const cld_setting *s, const double *given, int count);
cld_status cld_setting_choose(double *numbers, const cld_setting *s, const char *word);
/* The setting's numbers within its limits: the error begins with its name, and says what would be right. */
cld_status cld_setting_check(const cld_setting *s, const double *numbers);

/* ---- programs ------------------------------------------------------------------------------------------ */

typedef struct cld_program_step {
    const cld_view_kind *kind;
    double numbers[CLD_STEP_NUMBERS]; /* its settings, one after the other */
} cld_program_step;

/* Plain data, copied by value; cld_program_finish fills in what follows the steps. */
typedef struct cld_program {
    int count;
    cld_program_step step[CLD_PROGRAM_STEPS];
    int occurrence[CLD_PROGRAM_STEPS]; /* of each step's kind, from 0 */
    int images;                        /* that a view has of one image: 9 for jigsaw patches */
    int instructions;                  /* room for a drawn view */
} cld_program;

/* Every setting at its default; one that must be given is NAN. */
void cld_program_step_default(cld_program_step *step, const cld_view_kind *kind);
/* One step's settings; the error does not name the step. */
cld_status cld_program_step_check(const cld_program_step *step);

/* Checks every step and their order: the error names the step and the setting, and says what would be right. */
cld_status cld_program_finish(cld_program *p);

/* The size of the views that it makes of images of this size, or of any size with 0 x 0; an error if that depends on
 * the image and it is not known. */
cld_status cld_program_size(const cld_program *p, int image_height, int image_width, int *height, int *width);

typedef struct cld_view_key {
    uint64_t seed, epoch, sample;
    int view; /* from 0 */
} cld_view_key;

/* out: p->images views, each with room for p->instructions, `stride` bytes apart (at least cld_view_bytes of that, a
 * multiple of 16), of an image of this size. Thread-safe; allocates nothing. CLD_INVALID: this image cannot be viewed so
 * (it is too long and narrow, say), another may. */
cld_status cld_program_draw(const cld_program *p, cld_view *out, size_t stride, int image_height,
                            int image_width, const cld_view_key *key);

/* ---- for the kinds' files: draw.c ---------------------------------------------------------------------- */

struct cld_draw {
    cld_view *view;    /* instructions so far */
    int room;          /* instructions that fit */
    int height, width; /* of the canvas by now; before the first instruction of the image */
    int image; /* which of the program's images this is, from 0. The step that makes them and those after it
                          draw for each anew, those before it the same for all */
};

/* The next instruction, zeroed but for its op. Its file fills it in. What changes the canvas' size, or can be merged with
 * what stands before it, has a function of its own: */
cld_view_instruction *cld_draw_add(cld_draw *d, cld_view_op op);
/* The box of the image, resized, is the canvas. */
void cld_draw_resample(cld_draw *d, cld_rect box, int height, int width, cld_filter filter);
/* This part of the canvas becomes the canvas; what reaches over its borders is filled with black. If nothing but a RESAMPLE
 * stands before it, or nothing at all, the resampling is cut instead, so that nothing is computed in vain: it adds at most
 * two instructions. */
void cld_draw_window(cld_draw *d, cld_rect part);
/* Mirrored left to right: merged into a RESAMPLE right before it, or a NORMALIZE right after it. */
void cld_draw_flip(cld_draw *d);
void cld_draw_normalize(cld_draw *d, const double mean[3], const double std[3]);

static inline double cld_draw_uniform(cld_philox *rng, double low, double high) {
    return low + (high - low) * (double)cld_philox_uniform(rng);
}
static inline bool cld_draw_happens(cld_philox *rng, double p) { return (double)cld_philox_uniform(rng) < p; }
/* An integer, low to high. */
static inline int cld_draw_integer(cld_philox *rng, int low, int high) {
    return low + (int)cld_philox_below(rng, (uint32_t)(high - low) + 1u);
}
/* A rectangle whose share of `area` lies in one range and whose ratio, uniformly in its logarithm, in another; false if it
 * came out without a side. `along` is the side that grows with the ratio. */
bool cld_draw_sides(int *along, int *across, double area, const double share[2], const double ratio[2],
                    cld_philox *rng);

#endif
