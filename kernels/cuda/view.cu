/* Executes drawn views (kernels/view.h) of images on the device, with the same pixels as the host (kernels/cpu/view.c).
 * The arithmetic of a pixel is in shared functions (kernels/pixel.h, kernels/resample.h), compiled without fused
 * multiply-adds, which round once where Pillow rounds twice.
 *
 * One block makes one view, instruction by instruction, on three 8-bit planes and as much working memory. They lie in
 * shared memory if they fit (32 x 32 pixels: 10 KiB), else in scratch memory. One launch for the batch.
 */
#include "kernels/cuda/view.cuh"
#include "kernels/cuda/view_affine.cuh"
#include "kernels/cuda/view_blur.cuh"
#include "kernels/cuda/view_color.cuh"
#include "kernels/cuda/view_levels.cuh"
#include "kernels/cuda/view_move.cuh"
#include "kernels/cuda/view_resample.cuh"

#define STATIC_BYTES  4096 /* of shared memory: room for values exchanged among threads */
#define SHARED_BYTES  ((48 << 10) - STATIC_BYTES) /* the rest of what a block may have on every device */
#define SCRATCH_SLOTS (4 * 132)                   /* blocks at once, if they work in scratch memory, ... */
#define SCRATCH_BYTES ((size_t)256 << 20)         /* ... if this is enough for so many */
#define MAX_THREADS   384                         /* two blocks of this size leave each thread 85 registers */

static_assert(sizeof(exchange) + sizeof(resampling) + 2 * 16 <= STATIC_BYTES,
              "a block's static shared memory");

typedef struct job {
    void *out; /* (n, height, width, 3): channels last, as convolutions need them */
    cld_dtype dtype;
    const uint8_t *drawn; /* (n, stride) */
    size_t stride;
    const uint8_t *images; /* (count, height, width, 3) */
    const int64_t *rows;   /* (n / per_row), or NULL */
    int64_t n, row_stride, per_row, count;
    int height, width;
    size_t work, taps, bytes; /* offsets in a block's memory, and its size */
    uint8_t *scratch;         /* one block's memory for each of the grid's blocks, or NULL: shared memory */
    cld_fault *fault;
} job;

/* ---- from the image to the canvas, and from the canvas to the view ------------------------------------------------------- */

__device__ inline void take_image(const canvas &c, const uint8_t *image) {
    int pixels = c.height * c.width;
    for (int k = thread(); k < pixels; k += threads())
        for (int channel = 0; channel < 3; channel++)
            c.data[channel * pixels + k] = image[3 * (int64_t)k + channel];
}

__device__ inline void store_as(void *out, int64_t k, float value, cld_dtype dtype) {
    if (dtype == CLD_F32)
        ((float *)out)[k] = value;
    else if (dtype == CLD_BF16)
        ((bf16 *)out)[k] = store<bf16>(value);
    else
        ((f16 *)out)[k] = store<f16>(value);
}

/* NORMALIZE at `s`, and every ERASE before `end`; neighbouring threads write neighbouring elements. */
__device__ inline void write_view(const job &j, int64_t view, const canvas &c, const instruction *s,
                                  const instruction *end) {
    int pixels = c.height * c.width;
    int64_t first = view * 3 * pixels;
    for (int k = thread(); k < 3 * pixels; k += threads()) {
        int channel = k % 3, pixel = k / 3;
        int y = pixel / c.width, x = pixel % c.width, from = s->flip ? c.width - 1 - x : x;
        float value = cld_pixel_normalize(c.data[channel * pixels + y * c.width + from],
                                          s->normalize.mean[channel], s->normalize.std[channel]);
        for (const instruction *e = s + 1; e < end; e++)
            if (y >= e->erase.top && y < e->erase.top + e->erase.height && x >= e->erase.left &&
                x < e->erase.left + e->erase.width)
                value = e->erase.value[channel];
        store_as(j.out, first + k, value, j.dtype);
    }
}

/* ---- the kernel -------------------------------------------------------------------------------------------------------- */

template <bool AGAIN>
__device__ inline void follow(canvas &c, const instruction &s, exchange *shared, resampling *plan) {
    switch (s.op) {
    case CLD_VIEW_RESAMPLE:
        if (AGAIN) resample(c, s, plan);
        break;
    case CLD_VIEW_WINDOW: window(c, s); break;
    case CLD_VIEW_FLIP: flip(c); break;
    case CLD_VIEW_BRIGHTNESS: blend_with_level(c, 0, s.factor); break;
    case CLD_VIEW_CONTRAST: blend_with_level(c, mean_grey(c, shared), s.factor); break;
    case CLD_VIEW_SATURATION: saturate(c, s.factor); break;
    case CLD_VIEW_HUE: turn_hue(c, s.shift); break;
    case CLD_VIEW_GREY: to_grey(c); break;
    case CLD_VIEW_BOX_BLUR: box_blur(c, s); break;
    case CLD_VIEW_TAP_BLUR: tap_blur(c, s, shared); break;
    case CLD_VIEW_INVERT: invert(c); break;
    case CLD_VIEW_SOLARIZE: solarize(c, s.level); break;
    case CLD_VIEW_SOLARIZE_ADD: solarize_add(c, s.level); break;
    case CLD_VIEW_POSTERIZE: posterize(c, s.level); break;
    case CLD_VIEW_AUTOCONTRAST: autocontrast(c, shared); break;
    case CLD_VIEW_EQUALIZE: equalize(c, shared); break;
    case CLD_VIEW_SHARPNESS: sharpen(c, s.factor); break;
    case CLD_VIEW_AFFINE: affine(c, s); break;
    default: break;
    }
}

/* AGAIN: a RESAMPLE may come anywhere, which needs more registers than two blocks of a multiprocessor can have. */
template <bool AGAIN> __global__ void __launch_bounds__(MAX_THREADS, AGAIN ? 1 : 2) follow_views(job j) {
    CLD_DYNAMIC_SHARED(uint8_t, dynamic);
    CLD_SHARED(exchange, shared, [1]);
    CLD_SHARED(resampling, plan, [1]);
    uint8_t *memory = j.scratch ? j.scratch + blockIdx.x * j.bytes : dynamic;
    for (int64_t i = blockIdx.x; i < j.n; i += gridDim.x) {
        int64_t row =
            j.rows ? checked(j.fault, CLD_FAULT_IMAGE, j.rows[i / j.per_row * j.row_stride], j.count) : i;
        const uint8_t *image = j.images + row * j.height * j.width * 3;
        const cld_view *v = (const cld_view *)(j.drawn + i * j.stride);
        const instruction *s = v->step, *end = s + v->count;
        canvas c = {memory, memory + j.work, (int32_t *)(memory + j.taps), j.height, j.width};
        __syncthreads(); /* until the last view has been written */
        bool resampled = s < end && s->op == CLD_VIEW_RESAMPLE;
        if (thread() == 0) plan->from = {resampled ? image : NULL, 3 * (int64_t)j.width, 3, 1};
        if (!resampled)
            take_image(c, image);
        else if (!AGAIN)
            resample(c, *s++, plan);
        for (; s < end && s->op != CLD_VIEW_NORMALIZE; s++) follow<AGAIN>(c, *s, shared, plan);
        __syncthreads();
        if (s < end) write_view(j, i, c, s, end);
    }
}

/* ---- the launch -------------------------------------------------------------------------------------------------------- */

static size_t aligned(size_t bytes) { return (bytes + 15) & ~(size_t)15; }

static cld_status views(const cld_array *view, const cld_array *images, const cld_array *rows,
                        const cld_array *drawn, const cld_view_batch *batch) {
    if (cld_numel(view) == 0) return CLD_OK;
    job j;
    j.out = view->data;
    j.dtype = view->dtype;
    j.drawn = (const uint8_t *)drawn->data;
    j.stride = batch->stride;
    j.images = (const uint8_t *)images->data;
    j.rows = rows ? (const int64_t *)rows->data : NULL;
    j.row_stride = rows ? rows->strides[0] : 0;
    j.n = view->shape[0];
    j.per_row = rows ? j.n / rows->shape[0] : 1;
    j.count = images->shape[0];
    j.height = (int)images->shape[1];
    j.width = (int)images->shape[2];
    size_t planes = 4 * (size_t)batch->pixels, narrowed = 3 * (size_t)batch->narrowed;
    j.work = aligned(planes);
    j.taps = j.work + aligned(planes > narrowed ? planes : narrowed);
    j.bytes = j.taps + aligned(sizeof(int32_t) * (size_t)batch->taps);
    j.scratch = NULL;
    j.fault = cld_cuda_fault();

    size_t shared_bytes = j.bytes;
    int blocks = (int)j.n, threads = batch->pixels > 64 * 64 ? MAX_THREADS : 256;
    CLD_SCRATCH scratch;
    if (shared_bytes > SHARED_BYTES) {
        shared_bytes = 16; /* not used */
        size_t slots = SCRATCH_BYTES / j.bytes;
        slots = slots < 1 ? 1 : slots < SCRATCH_SLOTS ? slots : SCRATCH_SLOTS;
        blocks = (size_t)j.n < slots ? blocks : (int)slots;
        CLD_TRY(cld_cuda_scratch(&scratch, (size_t)blocks * j.bytes));
        j.scratch = (uint8_t *)scratch.data;
    }
    switch (view->dtype) {
    case CLD_F32:
    case CLD_BF16:
    case CLD_F16:
        if (batch->resamples_again) return CLD_LAUNCH((follow_views<true>), blocks, threads, shared_bytes, j);
        return CLD_LAUNCH((follow_views<false>), blocks, threads, shared_bytes, j);
    default: return cld_fail(CLD_UNSUPPORTED, "loader: the device makes views in f32, bf16 and f16");
    }
}

extern "C" {
const cld_image_ops cld_cuda_image = {NULL, NULL, views};
}
