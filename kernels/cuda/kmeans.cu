/* Lloyd's k-means as CLD defines it (Wang, Liu and Yu, CVPR 2021, and the authors' released code); the same rules as on
 * the CPU, and the same bits if the CPU has fused multiply-adds.
 *
 * An iteration is two launches for all parts of the rows, and nothing is read back between them: assign() gives each
 * row the number of its nearest centroid, and recenter() makes each centroid the mean of its members. Distances are
 * sums of (x - c)^2 over the dimensions, in ascending order for every pair, so that equal centroids give equal
 * distances and the tie rule holds. Members are summed in ascending order of the rows. If k is at least the number of
 * rows of every part, one iteration is enough, as on the CPU. */
#include "kernels/cuda/block.cuh"
#include "kernels/cuda/loss.h"

enum { THREADS = 128, DEPTH = 128 /* dimensions kept in shared memory at once */ };

/* The rows' parts, each with k centroids. */
typedef struct row_parts {
    cld_cut cut;
    int64_t dim, k;
} row_parts;

/* The first k rows, or zeros if there are fewer. columns: the centroids transposed, (dim, k), for assign(). A block
 * works on part blockIdx.y. */
template <typename T>
static __global__ void __launch_bounds__(THREADS)
    start(T *centroids, T *columns, float *empty, const T *x, row_parts p) {
    int64_t e = (int64_t)blockIdx.x * THREADS + threadIdx.x, dim = p.dim, k = p.k;
    int part = (int)blockIdx.y;
    int64_t first = part * k * dim, n = cld_cut_rows(&p.cut, part);
    if (e == 0) empty[part] = k > n ? (float)(n - k) : 0.0f;
    if (e >= k * dim) return;
    T value = e < n * dim ? x[cld_cut_begin(&p.cut, part) * dim + e] : (T)0;
    centroids[first + e] = value;
    columns[first + e % dim * k + e / dim] = value;
}

/* The nearer of two, the first among equals; the start is infinity at 0. */
template <typename T> struct nearest {
    T distance;
    int centroid;
    __device__ void offer(T other, int j) {
        if (other < distance || (other == distance && j < centroid)) distance = other, centroid = j;
    }
};

/* A block handles ROWS rows of part blockIdx.y; each thread takes one centroid after the other. */
template <typename T, int ROWS>
static __global__ void __launch_bounds__(THREADS, 4)
    assign(int64_t *labels, int64_t *group, const T *x, const T *columns, row_parts p) {
    CLD_SHARED(T, row, [ROWS][DEPTH]);
    CLD_SHARED(T, distances, [ROWS][THREADS / 32]);
    CLD_SHARED(int, numbers, [ROWS][THREADS / 32]);
    int part = (int)blockIdx.y;
    const int64_t begin = cld_cut_begin(&p.cut, part), dim = p.dim, k = p.k;
    const int n = (int)cld_cut_rows(&p.cut, part), first = (int)blockIdx.x * ROWS;
    if (first >= n) return; /* a part smaller than the first */
    x += begin * dim;
    columns += part * k * dim;
    nearest<T> best[ROWS];
    for (int r = 0; r < ROWS; r++) best[r] = nearest<T>{limits<T>::infinity(), 0};
    for (int64_t tile = 0; tile < k; tile += THREADS) {
        int64_t j = tile + threadIdx.x < k ? tile + threadIdx.x : k - 1;
        T sum[ROWS];
        for (int r = 0; r < ROWS; r++) sum[r] = 0;
        for (int64_t d = 0; d < dim; d += DEPTH) {
            int depth = dim - d < DEPTH ? (int)(dim - d) : (int)DEPTH;
            __syncthreads();
            for (int e = threadIdx.x; e < ROWS * depth; e += THREADS) {
                int i = first + e / depth;
                if (i >= n) i = n - 1; /* the last block may be short */
                row[e / depth][e % depth] = x[(int64_t)i * dim + d + e % depth];
            }
            __syncthreads();
            const T *column = columns + d * k + j;
#pragma unroll 16
            for (int l = 0; l < depth; l++) {
                T c = column[l * k];
#pragma unroll
                for (int r = 0; r < ROWS; r++) {
                    T difference = row[r][l] - c;
                    sum[r] = fused(difference, difference, sum[r]);
                }
            }
        }
        for (int r = 0; r < ROWS; r++) best[r].offer(sum[r], (int)j);
    }
#pragma unroll
    for (int r = 0; r < ROWS; r++) {
        for (int offset = 16; offset > 0; offset >>= 1) {
            T distance = __shfl_xor_sync(WHOLE_WARP, best[r].distance, offset);
            best[r].offer(distance, __shfl_xor_sync(WHOLE_WARP, best[r].centroid, offset));
        }
        if (threadIdx.x % 32 == 0) {
            distances[r][threadIdx.x / 32] = best[r].distance;
            numbers[r][threadIdx.x / 32] = best[r].centroid;
        }
    }
    __syncthreads();
    if ((int)threadIdx.x >= ROWS || first + (int)threadIdx.x >= n) return;
    nearest<T> result = {limits<T>::infinity(), 0};
    for (int w = 0; w < THREADS / 32; w++) result.offer(distances[threadIdx.x][w], numbers[threadIdx.x][w]);
    labels[begin + first + threadIdx.x] = result.centroid;
    if (group) group[begin + first + threadIdx.x] = part * k + result.centroid;
}

/* One block per centroid (of part blockIdx.z) and THREADS of its dimensions. Among THREADS rows at a time, the members
 * are listed in order and then added up. */
template <typename T>
static __global__ void __launch_bounds__(THREADS)
    recenter(T *centroids, T *columns, T *sizes, float *empty, const T *x, const int64_t *labels, row_parts p,
             bool is_last) {
    CLD_SHARED(int, counts, [BLOCK_WARPS]);
    CLD_SHARED(int, members, [THREADS]);
    int64_t j = blockIdx.x, d = (int64_t)blockIdx.y * THREADS + threadIdx.x, size = 0;
    int part = (int)blockIdx.z;
    int64_t begin = cld_cut_begin(&p.cut, part), n = cld_cut_rows(&p.cut, part), dim = p.dim, k = p.k;
    x += begin * dim;
    labels += begin;
    centroids += part * k * dim;
    columns += part * k * dim;
    T sum = 0;
    for (int64_t start = 0; start < n; start += THREADS) {
        bool member = start + threadIdx.x < n && labels[start + threadIdx.x] == j;
        int count, before = block_before(member, &count, counts);
        if (member) members[before] = threadIdx.x;
        __syncthreads();
        size += count;
        if (d < dim)
#pragma unroll 8
            for (int m = 0; m < count; m++) sum += x[(start + members[m]) * dim + d];
    }
    T divisor = size == 0 ? (T)1 : (T)size;
    if (d < dim) {
        centroids[j * dim + d] = sum / divisor;
        columns[d * k + j] = sum / divisor;
    }
    if (blockIdx.y > 0 || threadIdx.x > 0) return;
    sizes[part * k + j] = divisor;
    if (is_last && size == 0) atomicAdd(&empty[part], 1.0f); /* exact, in any order */
}

template <typename T>
static cld_status kmeans(const cld_array *labels, const cld_array *group, const cld_array *centroids,
                         const cld_array *sizes, const cld_array *empty, const cld_array *x,
                         const cld_parts *parts, int iterations) {
    unsigned count = (unsigned)cld_part_count(parts);
    row_parts p = {cld_cut_of(parts, x->shape[0]), x->shape[1], centroids->shape[0] / count};
    int64_t largest = cld_cut_most(&p.cut), values = p.k * p.dim;
    const T *rows = (const T *)x->data;
    T *c = (T *)centroids->data;
    int64_t *assigned = (int64_t *)labels->data, *groups = group ? (int64_t *)group->data : NULL;
    float *without = (float *)empty->data;
    bool few = x->shape[0] <= 8 * 132; /* so that more multiprocessors have work */
    dim3 tiles((unsigned)(few ? (largest + 1) / 2 : (largest + 7) / 8), count);
    dim3 means((unsigned)p.k, (unsigned)((p.dim + THREADS - 1) / THREADS), count);
    CLD_SCRATCH block;
    CLD_TRY(cld_cuda_scratch(&block, count * (size_t)values * sizeof(T)));
    T *columns = (T *)block.data;
    if (values == 0) return cld_fail(CLD_UNSUPPORTED, "kmeans: the rows have no columns");
    dim3 elements((unsigned)((values + THREADS - 1) / THREADS), count);
    CLD_TRY(CLD_LAUNCH((start<T>), elements, THREADS, 0, c, columns, without, rows, p));
    if (p.k >= largest) iterations = 1;
    for (int t = 0; t < iterations; t++) {
        if (few)
            CLD_TRY(CLD_LAUNCH((assign<T, 2>), tiles, THREADS, 0, assigned, groups, rows, columns, p));
        else
            CLD_TRY(CLD_LAUNCH((assign<T, 8>), tiles, THREADS, 0, assigned, groups, rows, columns, p));
        CLD_TRY(CLD_LAUNCH((recenter<T>), means, THREADS, 0, c, columns, (T *)sizes->data, without, rows,
                           assigned, p, t == iterations - 1));
    }
    return CLD_OK;
}

cld_status cld_cuda_kmeans(const cld_array *labels, const cld_array *group, const cld_array *centroids,
                           const cld_array *sizes, const cld_array *empty, const cld_array *x,
                           const cld_parts *parts, int iterations) {
    CLD_BY_WIDE(x->dtype, T, return kmeans<T>(labels, group, centroids, sizes, empty, x, parts, iterations));
    return CLD_OK;
}
