/* Winograd's minimal filtering F(4 x 4, 3 x 3) (Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks",
 * CVPR 2016): tiles of 4 x 4 outputs, each from 6 x 6 inputs, with 36 multiplications instead of 144.
 *
 *     forward   Y = A' [ (G g G') . (B' d B) ] A       . element by element, summed over the input channels
 *     data      the same with g rotated by 180 degrees and the channels' roles swapped
 *     weights   dg = G' [ (A dY A') . (B' d B) ] G     summed over tiles: the adjoint of the forward map in g
 *
 * At each of the 36 places of a transformed tile the sum over channels (or tiles) is a matrix product. All three
 * matrices are kept in panels of 16 adjacent channels, [place][channels / 16][tile][16], which matches the blocked
 * activations (nChw16c), so that transforms and products read and write whole vectors in order.
 *
 * Forward: each thread takes chunks of tiles that stay in its cache from transform to output. Weights: all threads
 * transform a wave of tiles, then divide the places of the product among them. No sum is split, so the result does not
 * depend on the number of threads. The loops are in conv_winograd_lanes.h.
 */
#include "kernels/cpu/conv_winograd.h"
#include "kernels/cpu/conv_winograd_loops.h"

#include <omp.h>
#include <string.h>

#define MIN_TILES         64        /* with fewer tiles, transforming the weights does not pay */
#define TILES_PER_CHANNEL 4         /* with AVX-512; if there are fewer, oneDNN's is faster */
#define CHUNK             24        /* tiles of a forward chunk: a multiple of the loops' rows */
#define WAVE_BYTES        (8 << 20) /* for a wave's transformed tiles: about what a shared cache can hold */

static const cld_winograd_loops *loops(void) {
    return cld_onednn_isa() == CLD_ISA_AVX512 ? &cld__winograd_16 : &cld__winograd_8;
}

static tiled tiles_of(const cld_array *a, const cld_array *y) {
    tiled t = {.data = a->data, .blocks = a->shape[1] / 16, .height = a->shape[2], .width = a->shape[3]};
    t.down = (y->shape[2] + 3) / 4;
    t.across = (y->shape[3] + 3) / 4;
    t.tiles = a->shape[0] * t.down * t.across;
    return t;
}

static kernels kernels_of(const cld_array *w, cld_conv_direction direction) {
    int64_t o = w->shape[0], i = w->shape[1];
    if (direction == CLD_CONV_DATA) return (kernels){w->data, o, i, i * 9, 9, true};
    return (kernels){w->data, i, o, 9, i * 9, false};
}

/* ---- forward and data ---------------------------------------------------------------------------------- */

static int64_t panel_floats(int64_t count, int64_t blocks) { return PLACES * count * blocks * 16; }

static void convolve_chunk(const cld_winograd_loops *l, float *scratch, const tiled *y, const tiled *x,
                           const int padding[2], const float *u, int64_t first, int64_t count) {
    float *v = scratch, *m = scratch + panel_floats(count, x->blocks);
    for (int64_t i = 0; i < count; i++) l->gather_inputs(v, count, x, first, i, padding);
    for (int64_t p = 0; p < PLACES; p++)
        for (int64_t b = 0; b < y->blocks; b++)
            l->multiply_chunk(PANEL(m, y->blocks, count, p, b, 0), PANEL(v, x->blocks, count, p, 0, 0),
                              u + (p * y->blocks + b) * x->blocks * 256, count, x->blocks);
    for (int64_t i = 0; i < count; i++) l->scatter_outputs(y, first, i, m, count);
}

static cld_status convolve(const cld_array *out, const cld_array *in, const kernels *k,
                           const int padding[2]) {
    const cld_winograd_loops *l = loops();
    tiled x = tiles_of(in, out), y = tiles_of(out, out);
    int64_t threads = omp_get_max_threads(), share = (y.tiles + threads - 1) / threads;
    int64_t chunk = share < CHUNK ? (share + l->rows - 1) / l->rows * l->rows : CHUNK;
    int64_t kernel_floats = PLACES * k->in * k->out, chunk_floats = panel_floats(chunk, x.blocks + y.blocks);
    size_t bytes = (size_t)(kernel_floats + threads * chunk_floats) * sizeof(float);
    void *scratch;
    CLD_TRY(cld_cpu_memory.allocate(&scratch, bytes));
    float *u = scratch;
#pragma omp parallel
    {
        float *own = u + kernel_floats + omp_get_thread_num() * chunk_floats;
#pragma omp for schedule(static)
        for (int64_t i = 0; i < k->out / 16 * k->in; i++) l->gather_kernels(u, k, i / k->in, i % k->in);
#pragma omp for schedule(dynamic)
        for (int64_t first = 0; first < y.tiles; first += chunk)
            convolve_chunk(l, own, &y, &x, padding, u, first,
                           y.tiles - first < chunk ? y.tiles - first : chunk);
    }
    cld_cpu_memory.release(scratch, bytes);
    return CLD_OK;
}

/* ---- weights ------------------------------------------------------------------------------------------- */

static cld_status convolve_weights(const cld_array *dw, const cld_array *in, const cld_array *dy,
                                   const int padding[2]) {
    const cld_winograd_loops *l = loops();
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
            for (int64_t i = 0; i < count; i++) l->gather_inputs(v, count, &x, first, i, padding);
#pragma omp for schedule(static)
            for (int64_t i = 0; i < count; i++) l->gather_gradients(w, count, &y, first, i);
#pragma omp for schedule(static)
            for (int64_t i = 0; i < PLACES * y.blocks; i++)
                l->multiply_wave(s + i * k.in * 16, PANEL(v, x.blocks, count, i / y.blocks, 0, 0),
                                 w + i * count * 16, count, x.blocks);
        }
#pragma omp for schedule(static)
        for (int64_t i = 0; i < k.out / 16 * k.in; i++) l->scatter_kernels(&k, i / k.in, i % k.in, s);
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
    int64_t tiles = tiles_of(a->y, a->y).tiles, in = a->w->shape[1], out = a->w->shape[0];
    if (cld_onednn_isa() == CLD_ISA_AVX512) return tiles >= TILES_PER_CHANNEL * (in > out ? in : out);
    return tiles >= MIN_TILES;
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
