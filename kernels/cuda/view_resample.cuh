/* Pillow's resize: kernels/cpu/view_resample.c. From the interleaved image or the canvas to work, in a pass along x or
 * y in Pillow's order, then along the other dimension to data, each rounded to 8 bits. */
#ifndef CLD_CUDA_VIEW_RESAMPLE_CUH
#define CLD_CUDA_VIEW_RESAMPLE_CUH

#include "kernels/cuda/view.cuh"

/* The input of the resampling. */
typedef struct source {
    const uint8_t *data;
    int64_t row, pixel, channel; /* bytes between them */
} source;

/* Filled in by one thread for all. */
typedef struct resampling {
    source from;
    cld_axis x, y;
    cld_rect needed;
    /* Numbers for an output's taps: its first input, counted from the start of the needed part; how many; the
     * weights. */
    int room_x, room_y;
    bool y_first;
} resampling;

__device__ inline void plan_resampling(resampling *r, const instruction &s, int height, int width) {
    r->x = cld_axis_x(&s, 1, width);
    r->y = cld_axis_y(&s, 1, height);
    r->needed = cld_resample_needs(&s, &r->y, &r->x);
    r->room_x = 2 + cld_axis_room(&r->x);
    r->room_y = 2 + cld_axis_room(&r->y);
    r->y_first = cld_resample_y_first(&r->y, &r->x) != 0;
}

__device__ inline void make_taps(int32_t *taps, int room, const cld_axis &a, int from, int outputs, int shift,
                                 bool mirrored) {
    for (int i = thread(); i < outputs; i += threads()) {
        int32_t *numbers = taps + i * room;
        int first;
        numbers[1] = cld_axis_taps(&first, numbers + 2, &a, mirrored ? from + outputs - 1 - i : from + i);
        numbers[0] = first + shift;
    }
}

/* An output from its input levels, `stride` bytes apart; `in` points at input 0. */
__device__ inline uint8_t tap_sum(const uint8_t *in, int64_t stride, const int32_t *taps) {
    int32_t sum = CLD_TAP_HALF, count = taps[1];
    in += taps[0] * stride;
    for (int t = 0; t < count; t++) sum += taps[2 + t] * in[t * stride];
    return cld_tap_level(sum);
}

/* One dimension of three planes with outputs (rows, columns): an output's input levels lie `along` apart, those of its
 * neighbours in the other dimension `across`. */
template <bool of_rows>
__device__ inline void pass(uint8_t *out, int rows, int columns, const uint8_t *in, int64_t along,
                            int64_t across, int64_t channel, const int32_t *taps, int room) {
    int pixels = rows * columns;
    for (int k = thread(); k < pixels; k += threads()) {
        int y = k / columns, x = k % columns;
        const uint8_t *line = in + (of_rows ? x : y) * across;
        for (int i = 0; i < 3; i++)
            out[i * pixels + k] = tap_sum(line + i * channel, along, taps + (of_rows ? y : x) * room);
    }
}

/* Resamples the image r->from, if it has data, else the canvas. Afterwards it has none. */
__device__ inline void resample(canvas &c, const instruction &s, resampling *r) {
    __syncthreads();
    if (thread() == 0) {
        plan_resampling(r, s, c.height, c.width);
        if (!r->from.data) r->from = {c.data, c.width, 1, (int64_t)c.height * c.width};
    }
    __syncthreads();
    const int32_t *w = s.resample.window;
    int height = w[2], width = w[3];
    cld_rect needed = r->needed;
    int32_t *taps_x = c.taps, *taps_y = c.taps + width * r->room_x;
    make_taps(taps_x, r->room_x, r->x, w[1], width, r->x.base - needed.left, s.flip != 0);
    make_taps(taps_y, r->room_y, r->y, w[0], height, r->y.base - needed.top, false);
    __syncthreads();
    const uint8_t *data = r->from.data + needed.top * r->from.row + needed.left * r->from.pixel;
    const source &from = r->from;
    if (r->y_first) {
        int64_t columns = needed.width;
        pass<true>(c.work, height, columns, data, from.row, from.pixel, from.channel, taps_y, r->room_y);
        __syncthreads();
        pass<false>(c.data, height, width, c.work, 1, columns, height * columns, taps_x, r->room_x);
    } else {
        int64_t rows = needed.height;
        pass<false>(c.work, rows, width, data, from.pixel, from.row, from.channel, taps_x, r->room_x);
        __syncthreads();
        pass<true>(c.data, height, width, c.work, width, 1, rows * width, taps_y, r->room_y);
    }
    if (thread() == 0) r->from.data = NULL;
    c.height = height;
    c.width = width;
}

#endif
