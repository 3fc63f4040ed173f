/* Pillow's resize: kernels/cpu/view_resample.c. From the interleaved image or from the canvas to work, a pass along x or y
 * as Pillow has it, and along the other to data, each rounded to 8 bits. */
#ifndef CLD_CUDA_VIEW_RESAMPLE_CUH
#define CLD_CUDA_VIEW_RESAMPLE_CUH

#include "kernels/cuda/view.cuh"

/* What is resampled. */
typedef struct source {
    const uint8_t *data;
    int64_t row, pixel, channel; /* bytes from one to the next */
    int height, width;
} source;

/* Made by one thread for all. */
typedef struct resampling {
    cld_axis x, y;
    cld_rect needed;
    int room_x,
        room_y; /* numbers for an output's taps: its first input, counted from what is needed; how many; weights */
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

/* An output from its levels, `stride` bytes apart, of which input 0 is the first. */
__device__ inline uint8_t tap_sum(const uint8_t *in, int64_t stride, const int32_t *taps) {
    int32_t sum = CLD_TAP_HALF, count = taps[1];
    in += taps[0] * stride;
    for (int t = 0; t < count; t++) sum += taps[2 + t] * in[t * stride];
    return cld_tap_level(sum);
}

/* from: all of the image, or c itself. */
__device__ inline void resample(canvas &c, const instruction &s, const source &from, resampling *r) {
    __syncthreads();
    if (thread() == 0) plan_resampling(r, s, from.height, from.width);
    __syncthreads();
    const int32_t *w = s.resample.window;
    int height = w[2], width = w[3], pixels = height * width;
    cld_rect needed = r->needed;
    int32_t *taps_x = c.taps, *taps_y = c.taps + width * r->room_x;
    make_taps(taps_x, r->room_x, r->x, w[1], width, r->x.base - needed.left, s.flip != 0);
    make_taps(taps_y, r->room_y, r->y, w[0], height, r->y.base - needed.top, false);
    __syncthreads();
    const uint8_t *data = from.data + needed.top * from.row + needed.left * from.pixel;
    /* The size between the passes. */
    int rows = r->y_first ? height : needed.height, columns = r->y_first ? needed.width : width;
    int between = rows * columns;
    for (int k = thread(); k < between; k += threads()) {
        int y = k / columns, x = k % columns;
        for (int channel = 0; channel < 3; channel++)
            c.work[channel * between + k] = r->y_first
                                                ? tap_sum(data + x * from.pixel + channel * from.channel,
                                                          from.row, taps_y + y * r->room_y)
                                                : tap_sum(data + y * from.row + channel * from.channel,
                                                          from.pixel, taps_x + x * r->room_x);
    }
    __syncthreads();
    for (int k = thread(); k < pixels; k += threads()) {
        int y = k / width, x = k % width;
        for (int channel = 0; channel < 3; channel++) {
            const uint8_t *plane = c.work + channel * between;
            c.data[channel * pixels + k] = r->y_first
                                               ? tap_sum(plane + y * columns, 1, taps_x + x * r->room_x)
                                               : tap_sum(plane + x, columns, taps_y + y * r->room_y);
        }
    }
    c.height = height;
    c.width = width;
}

#endif
