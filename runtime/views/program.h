/* A view is a program: a list of steps, like torchvision's Compose. This file draws it: it turns a program and the
 * random numbers of one sample into the instructions of kernels/view.h, before a pixel is touched.
 *
 * Each step draws from its own Philox stream, keyed by (seed, epoch, sample, view, the step's kind and its position
 * among the steps of that kind). So inserting a step does not change the draws of the others, and a view does not
 * depend on which device makes it, or when. A kind of step is one file here and one row in kinds.h: its settings, from
 * which Lua's constructor, checks and printing follow, and its draw function.
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

#define CLD_PROGRAM_STEPS 32        /* most steps in a list */
#define CLD_STEP_NUMBERS  16        /* most numbers in the settings of a step */
#define CLD_CANVAS_PIXELS 178956970 /* at most: the size of the largest image (runtime/images/decode.h) */

/* ---- kinds of steps ------------------------------------------------------------------------------------ */

/* The value in Lua -> the numbers that it becomes. */
typedef enum cld_setting_form {
    CLD_SETTING_NUMBER,      /* 1 */
    CLD_SETTING_INTEGER,     /* 1 */
    CLD_SETTING_PROBABILITY, /* a number 0 to 1 -> 1 */
    CLD_SETTING_RANGE,       /* {low, high}, or one number for both -> 2 */
    CLD_SETTING_FACTOR,      /* as in ColorJitter: x means {max(0, 1 - x), 1 + x}; or {low, high} -> 2 */
    CLD_SETTING_SHIFT,       /* the same around 0: x means {-x, x} -> 2 */
    CLD_SETTING_SIZE,        /* pixels: {height, width}, or one number for both -> 2 */
    CLD_SETTING_SHORTER,     /* pixels: {height, width}; or the shorter side, and the second is 0 -> 2 */
    CLD_SETTING_CHANNELS,    /* {r, g, b}, or one number for all -> 3 */
    CLD_SETTING_CHOICE       /* one of the words in `choices` -> 1, its position from 0 */
} cld_setting_form;

#define CLD_ABOVE_ZERO ((double)FLT_MIN) /* as a lower limit; shown as "0 <" */

typedef struct cld_setting {
    const char *name; /* in Lua */
    cld_setting_form form;
    double defaults[3];  /* as numbers; NAN in the first: no default */
    double low, high;    /* limits of each number, inclusive; not for a probability or a choice */
    const char *choices; /* "bilinear|bicubic" */
    const char *help;    /* with its unit */
} cld_setting;

typedef enum cld_step_place {
    CLD_STEP_ON_PIXELS, /* anywhere before normalize */
    CLD_STEP_NORMALIZES,
    CLD_STEP_ON_FLOATS /* only after normalize */
} cld_step_place;

typedef struct cld_draw cld_draw; /* a view being drawn: see below */

typedef struct cld_view_kind {
    const char *name; /* in Lua: "random_resized_crop" */
    int stream;       /* of its random numbers, 1 to 255; never reused, so that old runs can be repeated */
    cld_step_place place;
    const char *help;
    const cld_setting *settings;                /* terminated by a name of NULL */
    cld_status (*check)(const double *numbers); /* (optional) what limits cannot express */
    /* (optional) The size of the canvas before the step -> after it. 0 x 0 is an unknown size, and a size that depends
     * on it stays unknown. An error if the size is known and impossible. */
    cld_status (*size)(const double *numbers, int *height, int *width);
    int images;       /* (optional) how many it makes from one; 0 means 1 */
    int instructions; /* the most that it adds */
    cld_status (*draw)(cld_draw *d, const double *numbers, cld_philox *rng);
} cld_view_kind;

extern const cld_view_kind *const cld_view_kinds[];         /* terminated by NULL */
const cld_view_kind *cld_view_kind_named(const char *name); /* NULL: there is none */

/* How many numbers a setting of this form has. */
int cld_setting_numbers(cld_setting_form form);
/* Converts `count` numbers as written in Lua to those of the setting. */
cld_status cld_setting_set(double *numbers, const cld_setting *s, const double *given, int count);
cld_status cld_setting_choose(double *numbers, const cld_setting *s, const char *word);
/* Checks the setting's numbers against its limits. The error begins with the setting's name, and says what would be
 * right. */
cld_status cld_setting_check(const cld_setting *s, const double *numbers);

/* ---- programs ------------------------------------------------------------------------------------------ */

typedef struct cld_program_step {
    const cld_view_kind *kind;
    double numbers[CLD_STEP_NUMBERS]; /* its settings, one after the other */
} cld_program_step;

/* Plain data, copied by value; cld_program_finish fills in what comes after the steps. */
typedef struct cld_program {
    int count;
    cld_program_step step[CLD_PROGRAM_STEPS];
    int occurrence[CLD_PROGRAM_STEPS]; /* of each step among those of its kind, from 0 */
    int images;                        /* that a view makes from one image: 9 for jigsaw patches */
    int instructions;                  /* room for a drawn view */
} cld_program;

/* Sets every setting to its default; one without a default is NAN. */
void cld_program_step_default(cld_program_step *step, const cld_view_kind *kind);
/* Checks one step's settings; the error does not name the step. */
cld_status cld_program_step_check(const cld_program_step *step);

/* Checks every step and their order: the error names the step and the setting, and says what would be right. */
cld_status cld_program_finish(cld_program *p);

/* The size of the views that it makes from images of this size, or, with 0 x 0, of any size; an error if the size
 * depends on the image and is not known. */
cld_status cld_program_size(const cld_program *p, int image_height, int image_width, int *height, int *width);

typedef struct cld_view_key {
    uint64_t seed, epoch, sample;
    int view; /* from 0 */
} cld_view_key;

/* Draws p->images views of an image of this size to out, each with room for p->instructions, `stride` bytes apart (at
 * least cld_view_bytes of that, a multiple of 16). Thread-safe; allocates nothing. CLD_INVALID: this image cannot be
 * viewed this way (it is too long and narrow, for example), but another may. */
cld_status cld_program_draw(const cld_program *p, cld_view *out, size_t stride, int image_height,
                            int image_width, const cld_view_key *key);

/* ---- for the kinds' files: draw.c ---------------------------------------------------------------------- */

struct cld_draw {
    cld_view *view;    /* the instructions so far */
    int room;          /* number of instructions that fit */
    int height, width; /* current size of the canvas; before the first instruction, of the image */
    int image; /* which of the program's images, from 0. The step that makes several, and those after it,
                          draw for each; earlier steps draw once */
};

/* Adds an instruction, zeroed except for its op; the step's file fills it in. Instructions that change the canvas'
 * size, or that can be merged with the previous one, have their own functions: */
cld_view_instruction *cld_draw_add(cld_draw *d, cld_view_op op);
/* Resizes the box of the image, which becomes the canvas. */
void cld_draw_resample(cld_draw *d, cld_rect box, int height, int width, cld_filter filter);
/* Makes this part of the canvas the new canvas; what reaches beyond its borders is filled with black. If only a
 * RESAMPLE, or nothing, comes before it, the resampling itself is cut, so that no unused pixels are computed. Adds at
 * most two instructions. */
void cld_draw_window(cld_draw *d, cld_rect part);
/* Mirrors left to right: merged into a RESAMPLE right before it, or a NORMALIZE right after it. */
void cld_draw_flip(cld_draw *d);
void cld_draw_normalize(cld_draw *d, const double mean[3], const double std[3]);

static inline double cld_draw_uniform(cld_philox *rng, double low, double high) {
    return low + (high - low) * (double)cld_philox_uniform(rng);
}
static inline bool cld_draw_happens(cld_philox *rng, double p) { return (double)cld_philox_uniform(rng) < p; }
/* A random integer from low to high. */
static inline int cld_draw_integer(cld_philox *rng, int low, int high) {
    return low + (int)cld_philox_below(rng, (uint32_t)(high - low) + 1u);
}
/* A rectangle whose share of `area` is drawn from one range, and whose ratio, uniform in its logarithm, from another;
 * false if a side came out as 0. `along` is the side that grows with the ratio. */
bool cld_draw_sides(int *along, int *across, double area, const double share[2], const double ratio[2],
                    cld_philox *rng);

#endif
