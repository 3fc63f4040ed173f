/* Kernels over an activation seen as a matrix: rows are the positions of all images, columns the channels, which lie side
 * by side. norm.cuh and bias.cu.
 *
 * A thread keeps to `width` channels, 16 bytes where the number of channels allows, and goes down a chunk of rows; a block
 * is `threads.x` such columns times `threads.y` rows at a time. What is per channel is loaded once per thread, and sums
 * over rows need no exchange but at the chunk's end: a tree over threads.y in shared memory, then, in another kernel, the
 * chunks in their order. The cut depends on the shape alone: sums come out the same on every GPU.
 */
#ifndef CLD_CUDA_CHANNELS_CUH
#define CLD_CUDA_CHANNELS_CUH

#include "kernels/cuda/number.cuh"

/* Neighbours that are loaded and stored as one. */
template <typename T, int WIDTH> struct alignas(sizeof(T) * WIDTH) pack { T at[WIDTH]; };

template <typename T, int WIDTH> __device__ inline pack<T, WIDTH> load_pack(const T *p) {
    return *reinterpret_cast<const pack<T, WIDTH> *>(p);
}

template <typename T, int WIDTH> __device__ inline void store_pack(T *p, const pack<T, WIDTH> &v) {
    *reinterpret_cast<pack<T, WIDTH> *>(p) = v;
}

/* Neighbours of any number, 16 bytes at a time: values per channel, and sums. */
template <typename T, int COUNT> __device__ inline void load_run(T *out, const T *p) {
    enum { PART = COUNT * sizeof(T) > 16 ? 16 / sizeof(T) : COUNT };
    for (int k = 0; k < COUNT; k += PART) {
        pack<T, PART> in = load_pack<T, PART>(p + k);
        for (int v = 0; v < PART; v++) out[k + v] = in.at[v];
    }
}

template <typename T, int COUNT> __device__ inline void store_run(T *p, const T *in) {
    enum { PART = COUNT * sizeof(T) > 16 ? 16 / sizeof(T) : COUNT };
    for (int k = 0; k < COUNT; k += PART) {
        pack<T, PART> out;
        for (int v = 0; v < PART; v++) out.at[v] = in[k + v];
        store_pack<T, PART>(p + k, out);
    }
}

/* One rounding, in every kernel and on the host: a value computed again is the same value. */
__device__ inline float multiply_add(float a, float b, float c) { return fmaf(a, b, c); }
__device__ inline double multiply_add(double a, double b, double c) { return fma(a, b, c); }

typedef struct channel_rows {
    int64_t rows, chunk_rows;
    int channels, chunks;
} channel_rows;

typedef struct channel_launch {
    channel_rows m;
    dim3 blocks, threads;
} channel_launch;

#define CHANNEL_THREADS 256
#define CHANNEL_COLUMNS 64 /* threads side by side, at most: 1 KiB of a row */
#define CHANNEL_BLOCKS                                                                                       \
    (6 * 132)            /* whole waves, at two or three of them on each multiprocessor of a large GPU */
#define CHANNEL_UNROLL 4 /* rows of one array that a thread has in flight */

/* Of `parts` matrices with so many rows each, or fewer: blocks.x counts the chunks of all. */
static inline channel_launch launch_of(int64_t rows, int64_t channels, int width, int parts = 1) {
    channel_launch l = {};
    int64_t groups = channels / width, slices = (groups + CHANNEL_COLUMNS - 1) / CHANNEL_COLUMNS;
    int64_t columns = (groups + slices - 1) / slices, down = 1;
    while (2 * down * columns <= CHANNEL_THREADS) down *= 2;
    int64_t wanted = CHANNEL_BLOCKS / slices / parts, least = down * CHANNEL_UNROLL;
    int64_t chunk_rows = (rows + (wanted < 1 ? 1 : wanted) - 1) / (wanted < 1 ? 1 : wanted);
    if (chunk_rows < least) chunk_rows = least;
    chunk_rows = (chunk_rows + down - 1) / down * down;
    l.m.rows = rows;
    l.m.chunk_rows = chunk_rows;
    l.m.channels = (int)channels;
    l.m.chunks = (int)((rows + chunk_rows - 1) / chunk_rows);
    l.blocks = dim3((unsigned)(l.m.chunks * parts), (unsigned)slices);
    l.threads = dim3((unsigned)columns, (unsigned)down);
    return l;
}

/* The part of a thread: rows first, first + blockDim.y, ... below end, all of them `column` and its neighbours. */
typedef struct channel_part {
    int64_t first, end;
    int column;
    bool any; /* column lies in the matrix */
} channel_part;

__device__ inline channel_part part_of(const channel_rows &m, int chunk, int width) {
    channel_part p;
    int64_t begin = chunk * m.chunk_rows, end = begin + m.chunk_rows;
    p.first = begin + (int)threadIdx.y;
    p.end = end < m.rows ? end : m.rows;
    p.column = (int)(blockIdx.y * blockDim.x + threadIdx.x) * width;
    p.any = p.column < m.channels;
    return p;
}

/* 16 bytes of T, or one element where the channels are no multiple of that or an array does not lie so. */
template <typename T>
static inline bool lies_in_packs(int64_t channels, const void *const *arrays, int count) {
    if (channels % (int64_t)(16 / sizeof(T)) != 0) return false;
    for (int i = 0; i < count; i++)
        if ((uintptr_t)arrays[i] % 16 != 0) return false;
    return true;
}

/* Call function<T, 16 bytes or 1> for x's dtype: packs where every one of the arrays lies so. */
#define CLD_BY_WIDTH(function, x, arrays, ...)                                                               \
    CLD_BY_FLOAT((x)->dtype, T,                                                                              \
                 if (lies_in_packs<T>((x)->shape[1], arrays, (int)(sizeof arrays / sizeof *arrays)))         \
                     CLD_TRY((function<T, (int)(16 / sizeof(T))>(__VA_ARGS__)));                             \
                 else CLD_TRY((function<T, 1>(__VA_ARGS__))))

/* Sums over threadIdx.y, in a tree: they end up in the threads of row 0. `shared`: COUNT values per thread. */
template <typename A, int COUNT> __device__ inline void sum_down(A *value, A *shared) {
    int threads = (int)(blockDim.x * blockDim.y), at = (int)(threadIdx.y * blockDim.x + threadIdx.x);
    for (int i = 0; i < COUNT; i++) shared[i * threads + at] = value[i];
    for (int step = (int)blockDim.y / 2; step > 0; step /= 2) {
        __syncthreads();
        if ((int)threadIdx.y >= step) continue;
        for (int i = 0; i < COUNT; i++) {
            value[i] += shared[i * threads + at + step * (int)blockDim.x];
            shared[i * threads + at] = value[i];
        }
    }
}

/* ---- the end of a reduction: few channels per block, so that few channels too fill several multiprocessors ------ */

#define FINISH_CHANNELS 8  /* 32 bytes of a row of partial sums: what memory fetches */
#define FINISH_DOWN     64 /* threads for the chunks of each */
#define FINISH_SHARE    ((CHANNEL_BLOCKS + FINISH_DOWN - 1) / FINISH_DOWN) /* chunks of a thread, at most */

/* A thread's share of a column of partial results, from row to row `pitch` apart: of the chunks threadIdx.y, threadIdx.y +
 * FINISH_DOWN, ...; 0 where there is none. All is under way before the first is used: this is all that the kernel waits
 * for, and a network has it four times per layer. */
template <typename A>
__device__ inline void load_share(A share[FINISH_SHARE], const A *column, int64_t pitch, int chunks) {
#pragma unroll
    for (int i = 0; i < FINISH_SHARE; i++) {
        int chunk = (int)threadIdx.y + i * FINISH_DOWN;
        share[i] = chunk < chunks ? column[chunk * pitch] : (A)0;
    }
}

/* The sum over threadIdx.y, in every thread. */
__device__ inline double sum_of_column(double value, double *shared) {
    int at = (int)(threadIdx.y * FINISH_CHANNELS + threadIdx.x);
    __syncthreads();
    shared[at] = value;
    for (int step = FINISH_DOWN / 2; step > 0; step /= 2) {
        __syncthreads();
        if ((int)threadIdx.y < step) shared[at] += shared[at + step * FINISH_CHANNELS];
    }
    __syncthreads();
    return shared[threadIdx.x];
}

#endif
