/* Convolutions of maps of a few pixels as matrix products, one for each pair of an output and an input pixel that a tap
 * of the kernel connects:
 *
 *     forward   Y[out] = sum of X[in] W[tap]'
 *     data      dX[in] = sum of dY[out] W[tap]
 *     weights   dW[tap] = sum of dY[out]' X[in]
 *
 * X[in] is (images, channels), all images' values at pixel `in`, and W[tap] (out channels, in channels). On such maps
 * most of a kernel's taps meet padding: on a 2 x 2 map 16 of a 3 x 3 kernel's 36 products remain, on a single pixel 1
 * of 9.
 *
 * Activations are gathered into [pixel][image][channel], weights into [tap][out][in]. Then neighbouring pixels are
 * neighbouring rows, so consecutive pairs of one tap form one product; for a 1 x 1 kernel there is only one. Pixels and
 * taps without a pair are left out. Operands that are already laid out this way (a map of one pixel, a 1 x 1 kernel)
 * are used in place.
 */
#include "kernels/cpu/conv_matrix.h"
#include "kernels/cpu/onednn.h"
#include "kernels/cpu/simd.h"

#define MOST 25 /* the most pixels of a map, and taps of a kernel */
#define MIN_PRODUCT                                                                                          \
    (4 << 20) /* multiplications per pair of pixels; smaller products are not worth the calls */

typedef struct pair {
    int out, in, tap, count; /* the tap connects `count` pixels from out on with those from in on */
} pair;

/* The pixels or taps of an operand. Those that occur in a pair are numbered in order: place[] holds each one's number,
 * or -1 for one that does not occur. */
typedef struct used {
    int all, count, place[MOST];
} used;

typedef struct joins {
    pair pairs[MOST * MOST];
    int count;
    used out, in, taps;
} joins;

/* The input row or column that output `out` reads through `tap`; outside the map for padding. */
static int64_t input_of(int64_t out, int64_t tap, const cld_conv_params *p, int dim) {
    return out * p->stride[dim] - p->padding[dim] + tap * p->dilation[dim];
}

static void number(used *u) {
    for (int i = 0; i < u->all; i++)
        if (u->place[i] == 0) u->place[i] = u->count++;
}

static void mark(used *u, int64_t all) {
    u->all = (int)all;
    u->count = 0;
    for (int i = 0; i < u->all; i++) u->place[i] = -1;
}

static void add_pair(joins *j, int out, int in, int tap) {
    if (j->count > 0) {
        pair *last = &j->pairs[j->count - 1];
        if (last->tap == tap && last->out + last->count == out && last->in + last->count == in) {
            last->count++;
            return;
        }
    }
    j->pairs[j->count++] = (pair){out, in, tap, 1};
}

/* Visits the pairs in the order of their taps. The first visit marks what is used, the second adds the pairs. */
static void visit(joins *j, const cld_conv_arrays *a, const cld_conv_params *p, bool add) {
    const int64_t *x = a->x->shape, *w = a->w->shape, *y = a->y->shape;
    for (int tap = 0; tap < j->taps.all; tap++)
        for (int out = 0; out < j->out.all; out++) {
            int64_t row = input_of(out / y[3], tap / w[3], p, 0),
                    column = input_of(out % y[3], tap % w[3], p, 1);
            if (row < 0 || row >= x[2] || column < 0 || column >= x[3]) continue;
            int in = (int)(row * x[3] + column);
            if (add)
                add_pair(j, j->out.place[out], j->in.place[in], j->taps.place[tap]);
            else
                j->out.place[out] = j->in.place[in] = j->taps.place[tap] = 0;
        }
}

static void join(joins *j, const cld_conv_arrays *a, const cld_conv_params *p) {
    j->count = 0;
    mark(&j->out, a->y->shape[2] * a->y->shape[3]);
    mark(&j->in, a->x->shape[2] * a->x->shape[3]);
    mark(&j->taps, a->w->shape[2] * a->w->shape[3]);
    visit(j, a, p, false);
    number(&j->out);
    number(&j->in);
    number(&j->taps);
    visit(j, a, p, true);
}

/* ---- gathering and scattering -------------------------------------------------------------------------- */

/* An operand in the form that the products need: [place][rows][columns]. For an activation these are images and
 * channels, for a weight the channels out and in. */
typedef struct operand {
    const cld_array *array;
    const used *used;
    int64_t rows, columns;
    float *data;
    bool in_place, written;
} operand;

static operand operand_of(const cld_array *a, const used *u, bool written) {
    return (operand){a, u, a->shape[0], a->shape[1], a->data, u->all == 1 && u->count == 1, written};
}

static size_t operand_floats(const operand *o) {
    return o->in_place ? 0 : (size_t)(o->used->count * o->rows * o->columns + 15) & ~(size_t)15;
}

/* One row at all its places, to or from an array whose columns come in blocks of `lanes`: [block][pixel][lane]. */
CLD_INLINE void move_row(const operand *o, int64_t row, const int64_t lanes, const bool scatter) {
    int64_t all = o->used->all, blocks = o->columns / lanes;
    for (int64_t pixel = 0; pixel < all; pixel++) {
        int place = o->used->place[pixel];
        float *theirs = (float *)o->array->data + row * o->columns * all + pixel * lanes;
        float *ours = o->data + (place * o->rows + row) * o->columns;
        if (place < 0 && !scatter) continue;
        for (int64_t b = 0; b < blocks; b++)
            for (int64_t i = 0; i < lanes; i++)
                if (!scatter)
                    ours[b * lanes + i] = theirs[b * all * lanes + i];
                else
                    theirs[b * all * lanes + i] = place < 0 ? 0 : ours[b * lanes + i];
    }
}

CLD_SIMD static void gather_plain(const operand *o, int64_t row) { move_row(o, row, 1, false); }
CLD_SIMD static void gather_blocked(const operand *o, int64_t row) { move_row(o, row, 16, false); }
CLD_SIMD static void scatter_plain(const operand *o, int64_t row) { move_row(o, row, 1, true); }
CLD_SIMD static void scatter_blocked(const operand *o, int64_t row) { move_row(o, row, 16, true); }

static void move(const operand *o, bool scatter) {
    if (o->in_place || o->written != scatter) return;
    bool blocked = o->array->layout == CLD_BLOCKED;
    int64_t floats = o->rows * o->columns * o->used->all;
#pragma omp parallel for schedule(static) if (floats >= CLD_PARALLEL_MIN)
    for (int64_t row = 0; row < o->rows; row++)
        if (scatter)
            (blocked ? scatter_blocked : scatter_plain)(o, row);
        else
            (blocked ? gather_blocked : gather_plain)(o, row);
}

/* ---- products ------------------------------------------------------------------------------------------ */

static float *at(const operand *o, int place) { return o->data + place * o->rows * o->columns; }

/* The product of one pair, or of several consecutive ones; `add`: adds to the result. */
static cld_status multiply(cld_conv_direction direction, const operand *x, const operand *w, const operand *y,
                           const pair *p, bool add) {
    int64_t rows = p->count * x->rows, ci = x->columns, co = y->columns;
    float *px = at(x, p->in), *pw = at(w, p->tap), *py = at(y, p->out), beta = add ? 1 : 0;
    switch (direction) {
    case CLD_CONV_FORWARD: return cld_sgemm('N', 'T', rows, co, ci, 1, px, ci, pw, ci, beta, py, co);
    case CLD_CONV_DATA: return cld_sgemm('N', 'N', rows, ci, co, 1, py, co, pw, ci, beta, px, ci);
    default: return cld_sgemm('T', 'N', co, ci, rows, 1, py, co, px, ci, beta, pw, ci);
    }
}

/* The place where the result of a pair's first product begins, depending on the direction. */
static int target(cld_conv_direction direction, const pair *p) {
    return direction == CLD_CONV_FORWARD ? p->out : direction == CLD_CONV_DATA ? p->in : p->tap;
}

/* Multiplies all pairs. A pair is split if only some of its results have been started: those are added to. */
static cld_status multiply_all(cld_conv_direction direction, const operand *x, const operand *w,
                               const operand *y, const joins *j) {
    bool begun[MOST] = {false};
    for (int i = 0; i < j->count; i++) {
        pair rest = j->pairs[i];
        while (rest.count > 0) {
            pair part = rest;
            int first = target(direction, &rest), width = direction == CLD_CONV_WEIGHTS ? 1 : rest.count,
                same = 1;
            while (same < width && begun[first + same] == begun[first]) same++;
            if (width > 1) part.count = same;
            CLD_TRY(multiply(direction, x, w, y, &part, begun[first]));
            for (int k = 0; k < same; k++) begun[first + k] = true;
            rest.out += part.count;
            rest.in += part.count;
            rest.count -= part.count;
        }
    }
    return CLD_OK;
}

/* ---- the entry ----------------------------------------------------------------------------------------- */

bool cld_matrix_takes(const cld_conv_arrays *a, const cld_conv_params *p) {
    int64_t in = a->x->shape[2] * a->x->shape[3], out = a->y->shape[2] * a->y->shape[3];
    int64_t taps = a->w->shape[2] * a->w->shape[3];
    if (a->bias || p->groups != 1 || in > MOST || out > MOST || taps > MOST) return false;
    if (in == 1 && out == 1) return true;
    if (a->x->shape[0] * a->w->shape[0] * a->w->shape[1] < MIN_PRODUCT) return false;
    joins j;
    join(&j, a, p);
    int joined = 0;
    for (int i = 0; i < j.count; i++) joined += j.pairs[i].count;
    return j.in.count < j.in.all || 2 * joined <= j.out.all * j.taps.all;
}

cld_status cld_matrix_conv(cld_conv_direction direction, const cld_conv_arrays *a, const cld_conv_params *p) {
    joins j;
    join(&j, a, p);
    operand x = operand_of(a->x, &j.in, direction == CLD_CONV_DATA);
    operand w = operand_of(a->w, &j.taps, direction == CLD_CONV_WEIGHTS);
    operand y = operand_of(a->y, &j.out, direction == CLD_CONV_FORWARD);
    operand *operands[] = {&x, &w, &y};
    size_t floats = 0;
    for (int i = 0; i < 3; i++) floats += operand_floats(operands[i]);
    void *scratch = NULL;
    if (floats) CLD_TRY(cld_cpu_memory.allocate(&scratch, floats * sizeof(float)));
    float *next = scratch;
    for (int i = 0; i < 3; i++) {
        operand *o = operands[i];
        if (o->in_place) continue;
        o->data = next;
        next += operand_floats(o);
        move(o, false);
    }
    cld_status status = multiply_all(direction, &x, &w, &y, &j);
    for (int i = 0; i < 3 && status == CLD_OK; i++) move(operands[i], true);
    if (floats) cld_cpu_memory.release(scratch, floats * sizeof(float));
    return status == CLD_OK ? CLD_OK : cld_fail_in("conv2d");
}
