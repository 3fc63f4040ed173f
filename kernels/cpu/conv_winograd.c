/* Winograd's minimal filtering F(4 x 4, 3 x 3) (Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks",
 * CVPR 2016): tiles of 4 x 4 outputs, each from 6 x 6 inputs, with 36 multiplications where the definition has 144.
 *
 *     forward   Y = A' [ (G g G') . (B' d B) ] A       . element by element, summed over the input channels
 *     data      the same with g turned by 180 degrees and the channels' roles exchanged
 *     weights   dg = G' [ (A dY A') . (B' d B) ] G     summed over tiles: the adjoint of the forward map in g
 *
 * At each of the 36 places of a transformed tile the sum over channels (or tiles) is a matrix product. All three
 * matrices are kept in panels of 16 channels side by side, [place][channels / 16][tile][16], which is how the blocked
 * activations come (nChw16c), so that transforms and products read and write whole vectors in order.
 *
 * Forward: each thread takes chunks of tiles that stay in its cache from transform to output. Weights: all threads
 * transform a wave of tiles, then share out the places of the product; no sum is split, so that the result does not
 * depend on the number of threads.
 */
#include "kernels/cpu/conv_winograd.h"
#include "kernels/cpu/simd.h"

#include <omp.h>
#include <string.h>

#define PLACES     36
#define MIN_TILES  64        /* fewer are not worth the transform of the weights */
#define CHUNK      24        /* tiles of a forward chunk: a multiple of ROWS */
#define ROWS       6         /* of the product held in registers, by 16 columns */
#define WAVE_BYTES (8 << 20) /* of a wave's transformed tiles: about what a shared cache can hold */

/* 8 lanes: two of them are a panel's 16. */
typedef float vec __attribute__((vector_size(32), aligned(16)));
typedef float vec_at __attribute__((vector_size(32), aligned(4), may_alias));
CLD_INLINE vec load(const float *p) { return *(const vec_at *)p; }
CLD_INLINE void store(float *p, vec v) { *(vec_at *)p = v; }

/* ---- the transforms in one dimension ------------------------------------------------------------------- */

/* Polynomials of degree 5 are told by their values at 0, -P, P, -Q, Q and infinity. With 5/8 and 3/2 in the place of
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

/* Both dimensions of a tile: in x in vectors to out x out; element (y, x) lies at [y][x]. */
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

/* A blocked activation seen as tiles: those of image 0 row by row, then image 1's. */
typedef struct tiled {
    float *data;
    int64_t blocks, height, width; /* blocks of 16 channels */
    int64_t down, across, tiles;   /* tiles in an image's column and row, and in all images */
} tiled;

static tiled tiles_of(const cld_array *a, const cld_array *y) {
    tiled t = {.data = a->data, .blocks = a->shape[1] / 16, .height = a->shape[2], .width = a->shape[3]};
    t.down = (y->shape[2] + 3) / 4;
    t.across = (y->shape[3] + 3) / 4;
    t.tiles = a->shape[0] * t.down * t.across;
    return t;
}

/* Where tile `index` of a block begins: its image's plane, and the position of its first output. */
typedef struct place {
    float *plane;
    int64_t y, x;
} place;

CLD_INLINE place place_of(const tiled *t, int64_t index, int64_t block) {
    int64_t image = index / (t->down * t->across), within = index % (t->down * t->across);
    return (place){t->data + (image * t->blocks + block) * t->height * t->width * 16, within / t->across * 4,
                   within % t->across * 4};
}

/* The side x side part of the plane from (y, x) on, 8 channels from `lane` on; 0 outside the plane. */
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

/* A transformed tile's places lie `step` floats apart. */
CLD_INLINE void store_places(float *to, int64_t step, const vec v[6][6]) {
    for (int i = 0; i < 6; i++)
        for (int j = 0; j < 6; j++, to += step) store(to, v[i][j]);
}
CLD_INLINE void load_places(vec v[6][6], const float *from, int64_t step) {
    for (int i = 0; i < 6; i++)
        for (int j = 0; j < 6; j++, from += step) v[i][j] = load(from);
}

/* Panels of `count` transformed tiles: place p of tile i in block b. */
#define PANEL(data, blocks, count, p, b, i) ((data) + ((((p) * (blocks)) + (b)) * (count) + (i)) * 16)

CLD_SIMD static void gather_inputs(float *panels, int64_t count, const tiled *t, int64_t first, int64_t i,
                                   const int padding[2]) {
    for (int64_t b = 0; b < t->blocks; b++) {
        place at = place_of(t, first + i, b);
        for (int lane = 0; lane < 16; lane += 8) {
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
        for (int lane = 0; lane < 16; lane += 8) {
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
        for (int lane = 0; lane < 16; lane += 8) {
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

/* The weights as the product wants them: [place][out / 16][in][16 out]. In the data gradient the kernel's output
 * channels are the convolution's input. */
typedef struct kernels {
    float *data; /* o i h w */
    int64_t in, out, in_stride, out_stride;
    bool turned;
} kernels;

static kernels kernels_of(const cld_array *w, cld_conv_direction direction) {
    int64_t o = w->shape[0], i = w->shape[1];
    if (direction == CLD_CONV_DATA) return (kernels){w->data, o, i, i * 9, 9, true};
    return (kernels){w->data, i, o, 9, i * 9, false};
}

#define KERNEL_PANEL(data, k, p, block, in)                                                                  \
    ((data) + ((((p) * ((k)->out / 16)) + (block)) * (k)->in + (in)) * 16)

CLD_SIMD static void gather_kernels(float *panels, const kernels *k, int64_t block, int64_t in) {
    float lanes[9][16];
    for (int o = 0; o < 16; o++) {
        const float *g = k->data + (block * 16 + o) * k->out_stride + in * k->in_stride;
        for (int tap = 0; tap < 9; tap++) lanes[k->turned ? 8 - tap : tap][o] = g[tap];
    }
    for (int lane = 0; lane < 16; lane += 8) {
        vec g[3][3], u[6][6];
        for (int tap = 0; tap < 9; tap++) g[tap / 3][tap % 3] = load(&lanes[tap][lane]);
        transform_kernel(u, g);
        store_places(KERNEL_PANEL(panels, k, 0, block, in) + lane, k->out * k->in, u);
    }
}

CLD_SIMD static void scatter_kernels(const kernels *k, int64_t block, int64_t in, const float *panels) {
    float lanes[9][16];
    for (int lane = 0; lane < 16; lane += 8) {
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
        vec b0 = load(b), b1 = load((b) + 8);                                                                \
        _Pragma("GCC unroll 6") for (int r = 0; r < rows; r++) {                                             \
            acc[r][0] += (a)[r * (a_step)] * b0;                                                             \
            acc[r][1] += (a)[r * (a_step)] * b1;                                                             \
        }                                                                                                    \
    } while (0)

/* m[tile][16] = sum over input channels of v[channel / 16][tile][channel % 16] u[channel][16], for `rows` tiles. */
CLD_INLINE void multiply_tiles(float *m, const float *v, int64_t v_step, const float *u, int64_t blocks,
                               const int rows) {
    vec acc[ROWS][2] = {{{0}}};
    for (int64_t b = 0; b < blocks; b++, v += v_step)
        for (int c = 0; c < 16; c++, u += 16) ACCUMULATE(rows, v + c, 16, u);
    for (int r = 0; r < rows; r++) {
        store(m + 16 * r, acc[r][0]);
        store(m + 16 * r + 8, acc[r][1]);
    }
}

CLD_SIMD static void multiply_chunk(float *m, const float *v, const float *u, int64_t count,
                                    int64_t in_blocks) {
    int64_t i = 0, step = count * 16;
    for (; i + ROWS <= count; i += ROWS) multiply_tiles(m + i * 16, v + i * 16, step, u, in_blocks, ROWS);
    for (; i + 2 <= count; i += 2) multiply_tiles(m + i * 16, v + i * 16, step, u, in_blocks, 2);
    for (; i < count; i++) multiply_tiles(m + i * 16, v + i * 16, step, u, in_blocks, 1);
}

/* s[channel][16] += sum over tiles of v[tile][channel] w[tile][16], for `rows` channels. */
CLD_INLINE void multiply_channels(float *s, const float *v, const float *w, int64_t count, const int rows) {
    vec acc[ROWS][2];
    for (int r = 0; r < rows; r++) {
        acc[r][0] = load(s + 16 * r);
        acc[r][1] = load(s + 16 * r + 8);
    }
    for (int64_t i = 0; i < count; i++) ACCUMULATE(rows, v + 16 * i, 1, w + 16 * i);
    for (int r = 0; r < rows; r++) {
        store(s + 16 * r, acc[r][0]);
        store(s + 16 * r + 8, acc[r][1]);
    }
}

CLD_SIMD static void multiply_wave(float *s, const float *v, const float *w, int64_t count,
                                   int64_t in_blocks) {
    for (int64_t b = 0; b < in_blocks; b++, v += count * 16, s += 256) {
        multiply_channels(s, v, w, count, 6);
        multiply_channels(s + 6 * 16, v + 6, w, count, 5);
        multiply_channels(s + 11 * 16, v + 11, w, count, 5);
    }
}

/* ---- forward and data ---------------------------------------------------------------------------------- */

static int64_t panel_floats(int64_t count, int64_t blocks) { return PLACES * count * blocks * 16; }

static void convolve_chunk(float *scratch, const tiled *y, const tiled *x, const int padding[2],
                           const float *u, int64_t first, int64_t count) {
    float *v = scratch, *m = scratch + panel_floats(count, x->blocks);
    for (int64_t i = 0; i < count; i++) gather_inputs(v, count, x, first, i, padding);
    for (int64_t p = 0; p < PLACES; p++)
        for (int64_t b = 0; b < y->blocks; b++)
            multiply_chunk(PANEL(m, y->blocks, count, p, b, 0), PANEL(v, x->blocks, count, p, 0, 0),
                           u + (p * y->blocks + b) * x->blocks * 256, count, x->blocks);
    for (int64_t i = 0; i < count; i++) scatter_outputs(y, first, i, m, count);
}

static cld_status convolve(const cld_array *out, const cld_array *in, const kernels *k,
                           const int padding[2]) {
    tiled x = tiles_of(in, out), y = tiles_of(out, out);
    int64_t threads = omp_get_max_threads(), share = (y.tiles + threads - 1) / threads;
    int64_t chunk = share < CHUNK ? (share + ROWS - 1) / ROWS * ROWS : CHUNK;
    int64_t kernel_floats = PLACES * k->in * k->out, chunk_floats = panel_floats(chunk, x.blocks + y.blocks);
    size_t bytes = (size_t)(kernel_floats + threads * chunk_floats) * sizeof(float);
    void *scratch;
    CLD_TRY(cld_cpu_memory.allocate(&scratch, bytes));
    float *u = scratch;
#pragma omp parallel
    {
        float *own = u + kernel_floats + omp_get_thread_num() * chunk_floats;
#pragma omp for schedule(static)
        for (int64_t i = 0; i < k->out / 16 * k->in; i++) gather_kernels(u, k, i / k->in, i % k->in);
#pragma omp for schedule(dynamic)
        for (int64_t first = 0; first < y.tiles; first += chunk)
            convolve_chunk(own, &y, &x, padding, u, first, y.tiles - first < chunk ? y.tiles - first : chunk);
    }
    cld_cpu_memory.release(scratch, bytes);
    return CLD_OK;
}

/* ---- weights ------------------------------------------------------------------------------------------- */

static cld_status convolve_weights(const cld_array *dw, const cld_array *in, const cld_array *dy,
                                   const int padding[2]) {
    tiled x = tiles_of(in, dy), y = tiles_of(dy, dy);
    kernels k = kernels_of(dw, CLD_CONV_WEIGHTS);
    int64_t tile_bytes = panel_floats(1, x.blocks + y.blocks) * (int64_t)sizeof(float);
    int64_t wave = WAVE_BYTES / tile_bytes < 16 ? 16 : WAVE_BYTES / tile_bytes;
    if (wave > x.tiles) wave = x.tiles;
    int64_t sums = PLACES * k.in * k.out;
    size_t bytes = (size_t)(sums + panel_floats(wave, x.blocks + y.blocks)) * sizeof(float);
    void *scratch;
    CLD_TRY(cld_cpu_memory.allocate(&scratch, bytes));
    float *s = scratch, *v = s + sums, *w = v + panel_floats(wave, x.blocks);
#pragma omp parallel
    {
#pragma omp for schedule(static)
        for (int64_t i = 0; i < PLACES * y.blocks; i++)
            memset(s + i * k.in * 16, 0, (size_t)(k.in * 16) * sizeof *s);
        for (int64_t first = 0; first < x.tiles; first += wave) {
            int64_t count = x.tiles - first < wave ? x.tiles - first : wave;
#pragma omp for schedule(static) nowait
            for (int64_t i = 0; i < count; i++) gather_inputs(v, count, &x, first, i, padding);
#pragma omp for schedule(static)
            for (int64_t i = 0; i < count; i++) gather_gradients(w, count, &y, first, i);
#pragma omp for schedule(static)
            for (int64_t i = 0; i < PLACES * y.blocks; i++)
                multiply_wave(s + i * k.in * 16, PANEL(v, x.blocks, count, i / y.blocks, 0, 0),
                              w + i * count * 16, count, x.blocks);
        }
#pragma omp for schedule(static)
        for (int64_t i = 0; i < k.out / 16 * k.in; i++) scatter_kernels(&k, i / k.in, i % k.in, s);
    }
    cld_cpu_memory.release(scratch, bytes);
    return CLD_OK;
}

/* ---- the entry ----------------------------------------------------------------------------------------- */

bool cld_winograd_takes(const cld_conv_arrays *a, const cld_conv_params *p) {
    if (a->bias || p->groups != 1 || a->x->layout != CLD_BLOCKED || a->y->layout != CLD_BLOCKED) return false;
    for (int i = 0; i < 2; i++)
        if (a->w->shape[2 + i] != 3 || p->stride[i] != 1 || p->dilation[i] != 1 || p->padding[i] > 2)
            return false;
    return tiles_of(a->y, a->y).tiles >= MIN_TILES;
}

cld_status cld_winograd_conv(cld_conv_direction direction, const cld_conv_arrays *a,
                             const cld_conv_params *p) {
    kernels k = kernels_of(a->w, direction);
    switch (direction) {
    case CLD_CONV_FORWARD: return convolve(a->y, a->x, &k, p->padding);
    case CLD_CONV_DATA: return convolve(a->x, a->y, &k, (int[]){2 - p->padding[0], 2 - p->padding[1]});
    default: return convolve_weights(a->w, a->x, a->y, p->padding);
    }
}
