/* The loops of conv_winograd_loops.h with vectors of LANES floats, 8 or 16. Two sizes, because code for vectors wider
 * than the processor's is many times slower. Each is included by its own file. */
#include "kernels/cpu/conv_winograd_loops.h"
#include "kernels/cpu/simd.h"

#include <string.h>

#define VECTORS (16 / LANES)           /* in a panel's 16 channels */
#define ROWS    (LANES == 16 ? 24 : 6) /* rows of a product held in registers, by 16 columns */

typedef float vec __attribute__((vector_size(4 * LANES), aligned(16)));
typedef float vec_at __attribute__((vector_size(4 * LANES), aligned(4), may_alias));
CLD_INLINE vec load(const float *p) { return *(const vec_at *)p; }
CLD_INLINE void store(float *p, vec v) { *(vec_at *)p = v; }

/* ---- the transforms in one dimension ------------------------------------------------------------------- */

/* Polynomials of degree 5 are determined by their values at 0, -P, P, -Q, Q and infinity. With 5/8 and 3/2 in place of
 * Lavin and Gray's 1 and 2 the rounding errors are about a third (Barabasz et al., "Error Analysis and Improving the
 * Accuracy of Winograd Convolution for Deep Neural Networks", 2020); their squares are exact in f32. */
#define P  0.625f
#define Q  1.5f
#define PP (P * P)
#define QQ (Q * Q)
#define NP (1 / (2 * PP * (PP - QQ))) /* 1 / product of the differences between P and the other points */
#define NQ (1 / (2 * QQ * (QQ - PP)))

CLD_INLINE void times_b(vec o[6], const vec i[6]) { /* B' */
    vec even = i[4] - QQ * i[2], odd = P * (i[3] - QQ * i[1]);
    vec even2 = i[4] - PP * i[2], odd2 = Q * (i[3] - PP * i[1]);
    o[0] = PP * QQ * i[0] - (PP + QQ) * i[2] + i[4];
    o[1] = even + odd;
    o[2] = even - odd;
    o[3] = even2 + odd2;
    o[4] = even2 - odd2;
    o[5] = PP * QQ * i[1] - (PP + QQ) * i[3] + i[5];
}

CLD_INLINE void times_a(vec o[4], const vec i[6]) { /* A' */
    vec sum = i[1] + i[2], difference = i[1] - i[2], sum2 = i[3] + i[4], difference2 = i[3] - i[4];
    o[0] = i[0] + sum + sum2;
    o[1] = P * difference + Q * difference2;
    o[2] = PP * sum + QQ * sum2;
    o[3] = P * PP * difference + Q * QQ * difference2 + i[5];
}

CLD_INLINE void times_a_adjoint(vec o[6], const vec i[4]) { /* A */
    vec even = i[0] + PP * i[2], odd = P * (i[1] + PP * i[3]);
    vec even2 = i[0] + QQ * i[2], odd2 = Q * (i[1] + QQ * i[3]);
    o[0] = i[0];
    o[1] = even + odd;
    o[2] = even - odd;
    o[3] = even2 + odd2;
    o[4] = even2 - odd2;
    o[5] = i[3];
}

CLD_INLINE void times_g(vec o[6], const vec i[3]) { /* G */
    vec even = NP * (i[0] + PP * i[2]), odd = NP * P * i[1];
    vec even2 = NQ * (i[0] + QQ * i[2]), odd2 = NQ * Q * i[1];
    o[0] = i[0] * (1 / (PP * QQ));
    o[1] = even + odd;
    o[2] = even - odd;
    o[3] = even2 + odd2;
    o[4] = even2 - odd2;
    o[5] = i[2];
}

CLD_INLINE void times_g_adjoint(vec o[3], const vec i[6]) { /* G' */
    vec sum = NP * (i[1] + i[2]), sum2 = NQ * (i[3] + i[4]);
    o[0] = i[0] * (1 / (PP * QQ)) + sum + sum2;
    o[1] = NP * P * (i[1] - i[2]) + NQ * Q * (i[3] - i[4]);
    o[2] = PP * sum + QQ * sum2 + i[5];
}

/* Transforms both dimensions of a tile, from in x in vectors to out x out; element (y, x) lies at [y][x]. */
#define TRANSFORM_2D(name, one, in, out)                                                                     \
    CLD_INLINE void name(vec o[out][out], vec i[in][in]) {                                                   \
        vec half[in][out];                                                                                   \
        for (int y = 0; y < in; y++) one(half[y], i[y]);                                                     \
        for (int x = 0; x < out; x++) {                                                                      \
            vec column[in], result[out];                                                                     \
            for (int y = 0; y < in; y++) column[y] = half[y][x];                                             \
            one(result, column);                                                                             \
            for (int y = 0; y < out; y++) o[y][x] = result[y];                                               \
        }                                                                                                    \
    }
TRANSFORM_2D(transform_input, times_b, 6, 6)
TRANSFORM_2D(transform_product, times_a, 6, 4)
TRANSFORM_2D(transform_gradient, times_a_adjoint, 4, 6)
TRANSFORM_2D(transform_kernel, times_g, 3, 6)
TRANSFORM_2D(transform_sums, times_g_adjoint, 6, 3)

/* ---- tiles of an activation ---------------------------------------------------------------------------- */

/* Where tile `index` of a block begins: the plane of its image, and the position of its first output. */
typedef struct place {
    float *plane;
    int64_t y, x;
} place;

CLD_INLINE place place_of(const tiled *t, int64_t index, int64_t block) {
    int64_t image = index / (t->down * t->across), within = index % (t->down * t->across);
    return (place){t->data + (image * t->blocks + block) * t->height * t->width * 16, within / t->across * 4,
                   within % t->across * 4};
}

/* The side x side part of the plane that starts at (y, x), LANES channels from `lane` on; 0 outside the plane. */
#define READ_PART(name, side)                                                                                \
    CLD_INLINE void name(vec part[side][side], const tiled *t, const float *plane, int64_t y, int64_t x,     \
                         int lane) {                                                                         \
        const float *from = plane + (y * t->width + x) * 16 + lane;                                          \
        int64_t row = t->width * 16, bottom = t->height - y, right = t->width - x;                           \
        if (y >= 0 && x >= 0 && bottom >= side && right >= side) {                                           \
            for (int i = 0; i < side; i++)                                                                   \
                for (int j = 0; j < side; j++) part[i][j] = load(from + i * row + j * 16);                   \
            return;                                                                                          \
        }                                                                                                    \
        if (bottom > side) bottom = side;                                                                    \
        if (right > side) right = side;                                                                      \
        memset(part, 0, side *side * sizeof(vec));                                                           \
        for (int64_t i = y < 0 ? -y : 0; i < bottom; i++)                                                    \
            for (int64_t j = x < 0 ? -x : 0; j < right; j++) part[i][j] = load(from + i * row + j * 16);     \
    }
READ_PART(read_input, 6)
READ_PART(read_output, 4)

/* The places of a transformed tile lie `step` floats apart. */
CLD_INLINE void store_places(float *to, int64_t step, const vec v[6][6]) {
    for (int i = 0; i < 6; i++)
        for (int j = 0; j < 6; j++, to += step) store(to, v[i][j]);
}
CLD_INLINE void load_places(vec v[6][6], const float *from, int64_t step) {
    for (int i = 0; i < 6; i++)
        for (int j = 0; j < 6; j++, from += step) v[i][j] = load(from);
}

CLD_SIMD static void gather_inputs(float *panels, int64_t count, const tiled *t, int64_t first, int64_t i,
                                   const int padding[2]) {
    for (int64_t b = 0; b < t->blocks; b++) {
        place at = place_of(t, first + i, b);
        for (int lane = 0; lane < 16; lane += LANES) {
            vec d[6][6], v[6][6];
            read_input(d, t, at.plane, at.y - padding[0], at.x - padding[1], lane);
            transform_input(v, d);
            store_places(PANEL(panels, t->blocks, count, 0, b, i) + lane, t->blocks * count * 16, v);
        }
    }
}

CLD_SIMD static void gather_gradients(float *panels, int64_t count, const tiled *t, int64_t first,
                                      int64_t i) {
    for (int64_t b = 0; b < t->blocks; b++) {
        place at = place_of(t, first + i, b);
        for (int lane = 0; lane < 16; lane += LANES) {
            vec d[4][4], v[6][6];
            read_output(d, t, at.plane, at.y, at.x, lane);
            transform_gradient(v, d);
            store_places(PANEL(panels, t->blocks, count, 0, b, i) + lane, t->blocks * count * 16, v);
        }
    }
}

CLD_SIMD static void scatter_outputs(const tiled *t, int64_t first, int64_t i, const float *panels,
                                     int64_t count) {
    for (int64_t b = 0; b < t->blocks; b++) {
        place at = place_of(t, first + i, b);
        int64_t rows = t->height - at.y < 4 ? t->height - at.y : 4, columns = t->width - at.x;
        if (columns > 4) columns = 4;
        for (int lane = 0; lane < 16; lane += LANES) {
            vec m[6][6], y[4][4];
            load_places(m, PANEL(panels, t->blocks, count, 0, b, i) + lane, t->blocks * count * 16);
            transform_product(y, m);
            for (int64_t r = 0; r < rows; r++)
                for (int64_t c = 0; c < columns; c++)
                    store(at.plane + ((at.y + r) * t->width + at.x + c) * 16 + lane, y[r][c]);
        }
    }
}

/* ---- kernels ------------------------------------------------------------------------------------------- */

#define KERNEL_PANEL(data, k, p, block, in)                                                                  \
    ((data) + ((((p) * ((k)->out / 16)) + (block)) * (k)->in + (in)) * 16)

CLD_SIMD static void gather_kernels(float *panels, const kernels *k, int64_t block, int64_t in) {
    float lanes[9][16];
    for (int o = 0; o < 16; o++) {
        const float *g = k->data + (block * 16 + o) * k->out_stride + in * k->in_stride;
        for (int tap = 0; tap < 9; tap++) lanes[k->turned ? 8 - tap : tap][o] = g[tap];
    }
    for (int lane = 0; lane < 16; lane += LANES) {
        vec g[3][3], u[6][6];
        for (int tap = 0; tap < 9; tap++) g[tap / 3][tap % 3] = load(&lanes[tap][lane]);
        transform_kernel(u, g);
        store_places(KERNEL_PANEL(panels, k, 0, block, in) + lane, k->out * k->in, u);
    }
}

CLD_SIMD static void scatter_kernels(const kernels *k, int64_t block, int64_t in, const float *panels) {
    float lanes[9][16];
    for (int lane = 0; lane < 16; lane += LANES) {
        vec u[6][6], g[3][3];
        load_places(u, KERNEL_PANEL(panels, k, 0, block, in) + lane, k->out * k->in);
        transform_sums(g, u);
        for (int tap = 0; tap < 9; tap++) store(&lanes[tap][lane], g[tap / 3][tap % 3]);
    }
    for (int o = 0; o < 16; o++) {
        float *g = k->data + (block * 16 + o) * k->out_stride + in * k->in_stride;
        for (int tap = 0; tap < 9; tap++) g[tap] = lanes[tap][o];
    }
}

/* ---- products ------------------------------------------------------------------------------------------ */

/* rows x 16 of a product, held in registers: acc[r] += a[r] * b for each step of the sum. */
#define ACCUMULATE(rows, a, a_step, b)                                                                       \
    do {                                                                                                     \
        vec right[VECTORS];                                                                                  \
        for (int k = 0; k < VECTORS; k++) right[k] = load((b) + k * LANES);                                  \
        _Pragma("GCC unroll 24") for (int r = 0; r < rows; r++) for (int k = 0; k < VECTORS; k++)            \
            acc[r][k] += (a)[r * (a_step)] * right[k];                                                       \
    } while (0)

CLD_INLINE void store_rows(float *to, vec acc[ROWS][VECTORS], const int rows) {
    _Pragma("GCC unroll 24") for (int r = 0; r < rows; r++) for (int k = 0; k < VECTORS; k++)
        store(to + 16 * r + k * LANES, acc[r][k]);
}

CLD_INLINE void multiply_tiles(float *m, const float *v, int64_t v_step, const float *u, int64_t blocks,
                               const int rows) {
    vec acc[ROWS][VECTORS] = {{{0}}};
    for (int64_t b = 0; b < blocks; b++, v += v_step)
        for (int c = 0; c < 16; c++, u += 16) ACCUMULATE(rows, v + c, 16, u);
    store_rows(m, acc, rows);
}

CLD_SIMD static void multiply_chunk(float *m, const float *v, const float *u, int64_t count,
                                    int64_t in_blocks) {
    int64_t i = 0, step = count * 16;
    for (; i + ROWS <= count; i += ROWS) multiply_tiles(m + i * 16, v + i * 16, step, u, in_blocks, ROWS);
    for (; i + ROWS / 3 <= count; i += ROWS / 3)
        multiply_tiles(m + i * 16, v + i * 16, step, u, in_blocks, ROWS / 3);
    for (; i < count; i++) multiply_tiles(m + i * 16, v + i * 16, step, u, in_blocks, 1);
}

CLD_INLINE void multiply_channels(float *s, const float *v, const float *w, int64_t count, const int rows) {
    vec acc[ROWS][VECTORS];
    _Pragma("GCC unroll 24") for (int r = 0; r < rows; r++) for (int k = 0; k < VECTORS; k++) acc[r][k] =
        load(s + 16 * r + k * LANES);
    for (int64_t i = 0; i < count; i++) ACCUMULATE(rows, v + 16 * i, 1, w + 16 * i);
    store_rows(s, acc, rows);
}

CLD_SIMD static void multiply_wave(float *s, const float *v, const float *w, int64_t count,
                                   int64_t in_blocks) {
    for (int64_t b = 0; b < in_blocks; b++, v += count * 16, s += 256) {
#if LANES == 16
        multiply_channels(s, v, w, count, 16);
#else
        multiply_channels(s, v, w, count, 6);
        multiply_channels(s + 6 * 16, v + 6, w, count, 5);
        multiply_channels(s + 11 * 16, v + 11, w, count, 5);
#endif
    }
}

/* ---- the table ----------------------------------------------------------------------------------------- */

#define TABLE_NAME(lanes) cld__winograd_##lanes
#define TABLE(lanes)      TABLE_NAME(lanes)

const cld_winograd_loops TABLE(LANES) = {
    .rows = ROWS,
    .gather_inputs = gather_inputs,
    .gather_gradients = gather_gradients,
    .scatter_outputs = scatter_outputs,
    .gather_kernels = gather_kernels,
    .scatter_kernels = scatter_kernels,
    .multiply_chunk = multiply_chunk,
    .multiply_wave = multiply_wave,
};
