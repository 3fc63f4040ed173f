/* Kernels over an activation seen as a matrix: rows are the positions of all images, columns the channels, which are
 * adjacent in memory. For norm.cuh and bias.cu.
 *
 * A thread handles `width` channels, 16 bytes if the number of channels allows, and goes down a chunk of rows. A block
 * covers `threads.x` such columns, a slice, and `threads.y` rows at a time. Values per channel are loaded once per
 * thread. Sums over rows need communication only at the chunk's end: a tree reduction over threads.y in shared memory,
 * which leaves a partial result. The last block of a slice to get this far (ticket.cuh) adds up the partial results of
 * all chunks, in their order. Slices are narrow, so that one block does that quickly. The partition depends on the
 * shape alone, so sums are the same on every GPU.
 */
#ifndef CLD_CUDA_CHANNELS_CUH
#define CLD_CUDA_CHANNELS_CUH

#include "kernels/cuda/number.cuh"
#include "kernels/cuda/ticket.cuh"

/* Neighbours that are loaded and stored as one access. */
template <typename T, int WIDTH> struct alignas(sizeof(T) * WIDTH) pack { T at[WIDTH]; };

template <typename T, int WIDTH> __device__ inline pack<T, WIDTH> load_pack(const T *p) {
    return *reinterpret_cast<const pack<T, WIDTH> *>(p);
}

template <typename T, int WIDTH> __device__ inline void store_pack(T *p, const pack<T, WIDTH> &v) {
    *reinterpret_cast<pack<T, WIDTH> *>(p) = v;
}

/* Any number of neighbours, 16 bytes at a time: values per channel, and sums. */
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

/* One rounding, in every kernel and on the host, so that a recomputed value is the same value. */
__device__ inline float multiply_add(float a, float b, float c) { return fmaf(a, b, c); }
__device__ inline double multiply_add(double a, double b, double c) { return fma(a, b, c); }

typedef struct channel_rows {
    int64_t rows, chunk_rows;
    int channels, chunks, slices;
} channel_rows;

typedef struct channel_launch {
    channel_rows m;
    unsigned blocks; /* the slices of the first chunk, those of the second, ... */
    dim3 threads;
} channel_launch;

#define CHANNEL_THREADS 256
#define CHANNEL_COLUMNS 8  /* at most this many packs side by side: 128 bytes of a row, a cache line */
#define CHANNEL_SINGLES 64 /* the same for single elements */
#define CHANNEL_BLOCKS                                                                                       \
    (6 * 132)            /* whole waves, with two or three blocks on each multiprocessor of a large GPU */
#define CHANNEL_UNROLL 4 /* rows of one array that a thread has in flight */

/* The launch for `parts` matrices of at most `rows` rows each; its blocks are those of all parts. */
static inline channel_launch launch_of(int64_t rows, int64_t channels, int width, int parts = 1) {
    channel_launch l = {};
    int64_t most = width > 1 ? CHANNEL_COLUMNS : CHANNEL_SINGLES;
    int64_t groups = channels / width, slices = (groups + most - 1) / most;
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
    l.m.slices = (int)slices;
    l.blocks = (unsigned)(l.m.chunks * parts * slices);
    l.threads = dim3((unsigned)columns, (unsigned)down);
    return l;
}

/* A thread's share: rows first, first + blockDim.y, ... below end, each with `column` and its neighbours. */
typedef struct channel_part {
    int64_t first, end;
    int column, chunk, slice;
    bool any; /* column lies inside the matrix */
} channel_part;

/* The first of a thread's columns in a slice. */
__device__ inline int column_of(int slice, int width) {
    return (slice * (int)blockDim.x + (int)threadIdx.x) * width;
}

/* This thread's share in block number `block` of a matrix. */
__device__ inline channel_part part_of(const channel_rows &m, int block, int width) {
    channel_part p;
    p.chunk = block / m.slices;
    p.slice = block % m.slices;
    int64_t chunk = p.chunk;
    int64_t begin = chunk * m.chunk_rows, end = begin + m.chunk_rows;
    p.first = begin + (int)threadIdx.y;
    p.end = end < m.rows ? end : m.rows;
    p.column = column_of(p.slice, width);
    p.any = p.column < m.channels;
    return p;
}

/* 16 bytes of T, or one element if the number of channels is no multiple of that or an array is not aligned. */
template <typename T>
static inline bool lies_in_packs(int64_t channels, const void *const *arrays, int count) {
    if (channels % (int64_t)(16 / sizeof(T)) != 0) return false;
    for (int i = 0; i < count; i++)
        if ((uintptr_t)arrays[i] % 16 != 0) return false;
    return true;
}

/* Call function<T, 16 bytes or 1> for x's dtype: packs if all of the arrays allow it. */
#define CLD_BY_WIDTH(function, x, arrays, ...)                                                               \
    CLD_BY_FLOAT((x)->dtype, T,                                                                              \
                 if (lies_in_packs<T>((x)->shape[1], arrays, (int)(sizeof arrays / sizeof *arrays)))         \
                     CLD_TRY((function<T, (int)(16 / sizeof(T))>(__VA_ARGS__)));                             \
                 else CLD_TRY((function<T, 1>(__VA_ARGS__))))

/* How a block reads the partial results of a slice: each thread takes COUNT of its column's channels, ROWS threads
 * share the chunks. */
template <int WIDTH> struct ending {
    enum { COUNT = WIDTH > 4 ? 4 : WIDTH, ROWS = WIDTH / COUNT };
    int column, first, step; /* the first channel; chunks first, first + step, ... */
    __device__ explicit ending(int slice)
        : column(column_of(slice, WIDTH) + (int)threadIdx.y % ROWS * COUNT), first((int)threadIdx.y / ROWS),
          step((int)blockDim.y / ROWS) {}
};

/* Sums over threadIdx.y, by a tree, separately for each ROWS-th row (ROWS a power of two, at most blockDim.y). The
 * results end up in the threads of the first ROWS rows. `shared`: COUNT values per thread; its previous content is no
 * longer needed. */
template <typename A, int COUNT, int ROWS = 1> __device__ inline void sum_down(A *value, A *shared) {
    int threads = (int)(blockDim.x * blockDim.y), at = (int)(threadIdx.y * blockDim.x + threadIdx.x);
    __syncthreads();
    for (int i = 0; i < COUNT; i++) shared[i * threads + at] = value[i];
    for (int step = (int)blockDim.y / 2; step >= ROWS; step /= 2) {
        __syncthreads();
        if ((int)threadIdx.y >= step) continue;
        for (int i = 0; i < COUNT; i++) {
            value[i] += shared[i * threads + at + step * (int)blockDim.x];
            shared[i * threads + at] = value[i];
        }
    }
}

#endif
