/* Views of images that lie on the device: the loader's augmentation (runtime/data/augment.c), pixel for pixel. What is
 * drawn, and the arithmetic of a pixel, are the host's own functions (kernels/view.h, kernels/pixel.h); compiled without
 * fused multiply-adds, which round once where Pillow rounds twice.
 *
 * One block makes one view. Its first thread draws; then all of them go over the pixels, step by step, on three 8-bit
 * planes and as much working memory, which lie in shared memory where they fit (32 x 32 pixels: 7 KiB), else in scratch
 * memory. Steps that look at their own pixel alone need no barrier in between: a pixel is always the same thread's.
 */
#include "kernels/cuda/channels.cuh"
#include "kernels/pixel.h"
#include "kernels/view.h"

#define STATIC_BYTES  256                         /* of shared memory: room for what is drawn, and a sum */
#define SHARED_BYTES  ((48 << 10) - STATIC_BYTES) /* what else a block may have everywhere */
#define SCRATCH_SLOTS (4 * 132)                   /* blocks at once, where they work in scratch memory, ... */
#define SCRATCH_BYTES ((size_t)256 << 20)         /* ... if as much is enough for so many */
#define MAX_THREADS   512

static_assert(sizeof(cld_view) + 2 * 16 <= STATIC_BYTES, "a block's static shared memory");

/* Where a block works: all of it in one piece. */
typedef struct plan {
    int room_x, room_y;                /* weights per output, along x and y */
    size_t work, first, count, weight; /* bytes from the start, where the view is */
    size_t bytes;
} plan;

typedef struct job {
    cld_view_settings settings;
    cld_augment_draw draw;
    plan memory;
    const uint8_t *images; /* (count, height, width, 3) */
    const int64_t *index;  /* (n) */
    int64_t n, index_stride, count;
    int height, width;
    uint8_t *scratch; /* of a block for each of the grid's, or NULL: shared memory */
    cld_fault *fault;
} job;

/* A block's view, planes of `height` and `width`, while it is made. */
typedef struct canvas {
    uint8_t *view, *work;
    int height, width;
} canvas;

__device__ inline int thread() { return (int)threadIdx.x; }
__device__ inline int threads() { return (int)blockDim.x; }

/* ---- resized crop ------------------------------------------------------------------------------------------------------ */

/* Along x to work (3, crop's height, width), along y to view, each rounded to 8 bits. */
__device__ inline void resized_crop(const canvas &c, uint8_t *memory, const job &j, const uint8_t *image,
                                    const cld_rect &crop) {
    const plan &m = j.memory;
    int *first_x = (int *)(memory + m.first), *first_y = first_x + c.width;
    int *count_x = (int *)(memory + m.count), *count_y = count_x + c.width;
    int32_t *weight_x = (int32_t *)(memory + m.weight), *weight_y = weight_x + c.width * m.room_x;
    for (int o = thread(); o < c.width; o += threads())
        count_x[o] = cld_pixel_taps(&first_x[o], weight_x + o * m.room_x, o, crop.width, c.width);
    for (int o = thread(); o < c.height; o += threads())
        count_y[o] = cld_pixel_taps(&first_y[o], weight_y + o * m.room_y, o, crop.height, c.height);
    __syncthreads();
    int narrowed = crop.height * c.width;
    for (int k = thread(); k < narrowed; k += threads()) {
        int y = k / c.width, o = k % c.width;
        const uint8_t *pixel = image + 3 * ((int64_t)(crop.top + y) * j.width + crop.left + first_x[o]);
        const int32_t *weight = weight_x + o * m.room_x;
        int32_t r = 1 << (CLD_PIXEL_TAP_BITS - 1), g = r, b = r;
        for (int t = 0; t < count_x[o]; t++) {
            r += weight[t] * pixel[3 * t];
            g += weight[t] * pixel[3 * t + 1];
            b += weight[t] * pixel[3 * t + 2];
        }
        c.work[k] = (uint8_t)(r >> CLD_PIXEL_TAP_BITS);
        c.work[k + narrowed] = (uint8_t)(g >> CLD_PIXEL_TAP_BITS);
        c.work[k + 2 * narrowed] = (uint8_t)(b >> CLD_PIXEL_TAP_BITS);
    }
    __syncthreads();
    int pixels = c.height * c.width;
    for (int k = thread(); k < pixels; k += threads()) {
        int o = k / c.width, x = k % c.width;
        const int32_t *weight = weight_y + o * m.room_y;
        for (int channel = 0; channel < 3; channel++) {
            const uint8_t *from = c.work + channel * narrowed + first_y[o] * c.width + x;
            int32_t sum = 1 << (CLD_PIXEL_TAP_BITS - 1);
            for (int t = 0; t < count_y[o]; t++) sum += weight[t] * from[t * c.width];
            c.view[channel * pixels + k] = (uint8_t)(sum >> CLD_PIXEL_TAP_BITS);
        }
    }
}

/* ---- colour: runtime/data/color.c -------------------------------------------------------------------------------------- */

__device__ inline void blend_with_level(const canvas &c, int level, float factor) {
    int pixels = c.height * c.width;
    for (int k = thread(); k < pixels; k += threads())
        for (int at = k; at < 3 * pixels; at += pixels)
            c.view[at] = cld_pixel_blend(level, c.view[at], factor);
}

/* An integer below 2^32 for any view: the order of the additions does not matter. Once per view, so that no one still reads
 * the sum when it is cleared. */
__device__ inline int mean_grey(const canvas &c, unsigned *sum) {
    int pixels = c.height * c.width;
    unsigned part = 0;
    if (thread() == 0) *sum = 0;
    __syncthreads();
    for (int k = thread(); k < pixels; k += threads())
        part += (unsigned)cld_pixel_grey(c.view[k], c.view[k + pixels], c.view[k + 2 * pixels]);
    for (int step = 16; step > 0; step /= 2) part += __shfl_down_sync(0xffffffffu, part, step);
    if (thread() % 32 == 0) atomicAdd(sum, part);
    __syncthreads();
    return (int)((double)*sum / (double)pixels + 0.5);
}

__device__ inline void saturate(const canvas &c, float factor) {
    int pixels = c.height * c.width;
    for (int k = thread(); k < pixels; k += threads()) {
        uint8_t *r = c.view + k, *g = r + pixels, *b = g + pixels;
        int level = cld_pixel_grey(*r, *g, *b);
        *r = cld_pixel_blend(level, *r, factor);
        *g = cld_pixel_blend(level, *g, factor);
        *b = cld_pixel_blend(level, *b, factor);
    }
}

__device__ inline void turn_hue(const canvas &c, double factor) {
    int pixels = c.height * c.width, shift = cld_pixel_hue_shift(factor);
    for (int k = thread(); k < pixels; k += threads()) {
        uint8_t *r = c.view + k, *g = r + pixels, *b = g + pixels;
        int hue, saturation;
        cld_pixel_to_hue(&hue, &saturation, *r, *g, *b);
        cld_pixel_from_hue(r, g, b, hue, saturation, shift);
    }
}

__device__ inline void to_grey(const canvas &c) {
    int pixels = c.height * c.width;
    for (int k = thread(); k < pixels; k += threads()) {
        uint8_t *r = c.view + k, *g = r + pixels, *b = g + pixels;
        *r = *g = *b = (uint8_t)cld_pixel_grey(*r, *g, *b);
    }
}

__device__ inline void color_jitter(const canvas &c, const cld_view &v, const cld_augment &a, unsigned *sum) {
    for (int i = 0; i < 4; i++) {
        if (v.order[i] == CLD_JITTER_BRIGHTNESS && a.brightness > 0.0) blend_with_level(c, 0, v.brightness);
        if (v.order[i] == CLD_JITTER_CONTRAST && a.contrast > 0.0)
            blend_with_level(c, mean_grey(c, sum), v.contrast);
        if (v.order[i] == CLD_JITTER_SATURATION && a.saturation > 0.0) saturate(c, v.saturation);
        if (v.order[i] == CLD_JITTER_HUE && a.hue > 0.0) turn_hue(c, v.hue);
    }
}

/* ---- blur: runtime/data/blur.c ----------------------------------------------------------------------------------------- */

/* One box blur along x or y, the border repeated: the radius is a few pixels, so that each output sums its own. */
__device__ inline void box_blur(uint8_t *out, const uint8_t *in, const canvas &c, bool along_x,
                                const cld_box &b) {
    int extent = along_x ? c.width : c.height, stride = along_x ? 1 : c.width, pixels = c.height * c.width;
    __syncthreads();
    for (int k = thread(); k < 3 * pixels; k += threads()) {
        int at = along_x ? k % c.width : k % pixels / c.width;
        const uint8_t *line = in + (k - at * stride);
        int before = at - b.radius - 1, after = at + b.radius + 1;
        uint32_t sum = 0;
        for (int i = before + 1; i < after; i++)
            sum += line[(i < 0 ? 0 : i >= extent ? extent - 1 : i) * stride];
        before = before < 0 ? 0 : before;
        after = after >= extent ? extent - 1 : after;
        out[k] = cld_pixel_boxed(sum, line[before * stride], line[after * stride], b);
    }
}

__device__ inline void gaussian_blur(const canvas &c, double sigma) {
    cld_box b = cld_pixel_box(sigma);
    for (int pass = 0; pass < 2 * CLD_PIXEL_BOXES; pass++) {
        bool there = pass % 2 == 0;
        box_blur(there ? c.work : c.view, there ? c.view : c.work, c, pass < CLD_PIXEL_BOXES, b);
    }
    __syncthreads();
}

/* ---- the end ----------------------------------------------------------------------------------------------------------- */

/* Mirrored, normalized, erased, to channels last; neighbouring threads write neighbouring elements. */
template <typename T>
__device__ inline void write_view(T *out, const canvas &c, const cld_view &v, const cld_normalization &n) {
    int pixels = c.height * c.width;
    for (int k = thread(); k < 3 * pixels; k += threads()) {
        int channel = k % 3, pixel = k / 3;
        int y = pixel / c.width, x = pixel % c.width, from = v.flip ? c.width - 1 - x : x;
        float value = cld_pixel_normalize(c.view[channel * pixels + y * c.width + from], n.mean[channel],
                                          n.std[channel]);
        bool erased = v.erase && y >= v.erased.top && y < v.erased.top + v.erased.height &&
                      x >= v.erased.left && x < v.erased.left + v.erased.width;
        out[k] = store<T>(erased ? 0.0f : value);
    }
}

template <typename T> __global__ void __launch_bounds__(MAX_THREADS, 2) augment(T *out, job j) {
    CLD_DYNAMIC_SHARED(uint8_t, shared);
    CLD_SHARED(cld_view, drawn, [1]);
    CLD_SHARED(unsigned, sum, [1]);
    const cld_augment &a = j.settings.augment;
    uint8_t *memory = j.scratch ? j.scratch + blockIdx.x * j.memory.bytes : shared;
    canvas c = {memory, memory + j.memory.work, a.height, a.width};
    for (int64_t i = blockIdx.x; i < j.n; i += gridDim.x) {
        int64_t sample = checked(j.fault, CLD_FAULT_IMAGE, j.index[i * j.index_stride], j.count);
        __syncthreads();
        if (thread() == 0) {
            cld_philox rng = cld_philox_at(j.draw.seed, CLD_RNG_AUGMENT, j.draw.epoch, (uint64_t)sample,
                                           (uint64_t)j.draw.view);
            cld_view_draw(drawn, j.height, j.width, &j.settings, &rng);
        }
        __syncthreads();
        const cld_view &v = drawn[0];
        resized_crop(c, memory, j, j.images + sample * j.height * j.width * 3, v.crop);
        if (v.jitter) color_jitter(c, v, a, sum);
        if (v.grayscale) to_grey(c);
        if (v.blur) gaussian_blur(c, v.sigma);
        __syncthreads();
        write_view(out + i * 3 * a.height * a.width, c, v, a.normalization);
    }
}

/* ---- the launch -------------------------------------------------------------------------------------------------------- */

static size_t aligned(size_t bytes) { return (bytes + 15) & ~(size_t)15; }

/* The crop is at most the whole image. */
static plan plan_for(int image_height, int image_width, const cld_augment *a) {
    size_t height = (size_t)a->height, width = (size_t)a->width, tall = (size_t)image_height;
    plan m;
    m.room_x = cld_pixel_taps_room(image_width, a->width);
    m.room_y = cld_pixel_taps_room(image_height, a->height);
    m.work = aligned(3 * height * width);
    m.first = m.work + aligned(3 * (tall > height ? tall : height) * width);
    m.count = m.first + sizeof(int) * (width + height);
    m.weight = m.count + sizeof(int) * (width + height);
    m.bytes = aligned(m.weight + sizeof(int32_t) * (width * (size_t)m.room_x + height * (size_t)m.room_y));
    return m;
}

static cld_status augment_views(const cld_array *view, const cld_array *images, const cld_array *index,
                                const cld_augment *a, const cld_augment_draw *draw) {
    if (cld_numel(view) == 0) return CLD_OK;
    job j;
    j.settings = cld_view_settings_of(a);
    j.draw = *draw;
    j.images = (const uint8_t *)images->data;
    j.index = (const int64_t *)index->data;
    j.n = view->shape[0];
    j.index_stride = index->strides[0];
    j.count = images->shape[0];
    j.height = (int)images->shape[1];
    j.width = (int)images->shape[2];
    j.memory = plan_for(j.height, j.width, a);
    j.scratch = NULL;
    j.fault = cld_cuda_fault();

    size_t shared_bytes = j.memory.bytes;
    int blocks = (int)j.n, threads = a->height * a->width > 64 * 64 ? MAX_THREADS : 256;
    CLD_SCRATCH scratch;
    if (shared_bytes > SHARED_BYTES) {
        shared_bytes = 16; /* not used */
        size_t slots = SCRATCH_BYTES / j.memory.bytes;
        slots = slots < 1 ? 1 : slots < SCRATCH_SLOTS ? slots : SCRATCH_SLOTS;
        blocks = (size_t)j.n < slots ? blocks : (int)slots;
        CLD_TRY(cld_cuda_scratch(&scratch, (size_t)blocks * j.memory.bytes));
        j.scratch = (uint8_t *)scratch.data;
    }
    switch (view->dtype) {
        CLD_CASE(F32, float, T,
                 return CLD_LAUNCH((augment<T>), blocks, threads, shared_bytes, (T *)view->data, j))
        CLD_CASE(BF16, bf16, T,
                 return CLD_LAUNCH((augment<T>), blocks, threads, shared_bytes, (T *)view->data, j))
        CLD_CASE(F16, f16, T,
                 return CLD_LAUNCH((augment<T>), blocks, threads, shared_bytes, (T *)view->data, j))
    default: return cld_fail(CLD_UNSUPPORTED, "loader: the device makes views in f32, bf16 and f16");
    }
}

extern "C" {
const cld_image_ops cld_cuda_image = {augment_views};
}
