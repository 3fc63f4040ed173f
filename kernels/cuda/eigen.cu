/* Eigenvalues and eigenvectors of symmetric matrices by one-sided Jacobi rotations (Hestenes 1958; Golub and Van Loan,
 * Matrix Computations, 8.6.3): one block per matrix, in one launch, and nothing is read back.
 *
 * With r, the largest sum of absolute values of a row, all eigenvalues of A / r lie in -1 .. 1, and those of B = A / r
 * + 2 in 1 .. 3. Pairs of B's rows are rotated until all are orthogonal. Then row i is b_i v_i', with v_i a unit
 * eigenvector. Its length is the eigenvalue of B, and none is small, so every row has a well-defined direction. Equal
 * eigenvalues are no problem. The eigenvalues of A are v' A v, accurate to a few roundings of r.
 *
 * A sweep visits every pair once, in rounds of pairs without a common row, with one warp per pair. The algorithm ends
 * with the first sweep that rotates nothing. Sums are always in the same order, so that the same input gives the same
 * bits. */
#include "kernels/cuda/block.cuh"
#include "kernels/cuda/math.h"

enum { MOST_THREADS = 1024, MOST_SWEEPS = 30 /* 6 to 10 are enough */ };

template <typename T> struct epsilon;
template <> struct epsilon<float> {
    __device__ static float value() { return FLT_EPSILON; }
};
template <> struct epsilon<double> {
    __device__ static double value() { return DBL_EPSILON; }
};

/* ---- by a warp ----------------------------------------------------------------------------------------------------- */

/* Rotates rows x and y, n values each, until they are orthogonal; returns whether they were not. */
template <typename T> static __device__ bool turn(T *x, T *y, int n) {
    int lane = threadIdx.x % 32;
    T xx = 0, yy = 0, xy = 0;
    for (int i = lane; i < n; i += 32) {
        xx = fused(x[i], x[i], xx);
        yy = fused(y[i], y[i], yy);
        xy = fused(x[i], y[i], xy);
    }
    xx = warp_sum(xx);
    yy = warp_sum(yy);
    xy = warp_sum(xy);
    if (!(fabs(xy) > 16 * epsilon<T>::value() * sqrt(xx) * sqrt(yy))) return false;
    T zeta = (yy - xx) / (2 * xy), t = (zeta < 0 ? (T)-1 : (T)1) / ((T)fabs(zeta) + sqrt(1 + zeta * zeta));
    T c = 1 / sqrt(1 + t * t), s = c * t;
    for (int i = lane; i < n; i += 32) {
        T p = x[i], q = y[i];
        x[i] = c * p - s * q;
        y[i] = s * p + c * q;
    }
    return true;
}

/* The length of x, with the sign of its largest value, the first among equals; returned to every lane. */
template <typename T> static __device__ T signed_length(const T *x, int n) {
    T squares = 0, most = -1;
    int at = n;
    for (int i = threadIdx.x % 32; i < n; i += 32) {
        squares = fused(x[i], x[i], squares);
        if (fabs(x[i]) > most) most = fabs(x[i]), at = i;
    }
    squares = warp_sum(squares);
    for (int offset = 16; offset > 0; offset >>= 1) {
        T other = __shfl_xor_sync(WHOLE_WARP, most, offset);
        int where = __shfl_xor_sync(WHOLE_WARP, at, offset);
        if (other > most || (other == most && where < at)) most = other, at = where;
    }
    return x[at] < 0 ? -sqrt(squares) : sqrt(squares);
}

/* x' A x / (x' x) for a row x of this length, with A divided by most and r; returned to every lane. */
template <typename T> static __device__ T quotient(const T *a, const T *x, int n, T length, T most, T r) {
    T sum = 0;
    for (int i = 0; i < n; i++) {
        const T *row = a + (int64_t)i * n;
        T below = 0;
        for (int j = threadIdx.x % 32; j <= i; j += 32)
            below = fused(row[j] / most, j < i ? 2 * x[j] : x[j], below);
        sum = fused(below, x[i], sum);
    }
    return warp_sum(sum) / length / length / r;
}

/* ---- by a block ---------------------------------------------------------------------------------------------------- */

/* Value (i, j) of the matrix, of which only the lower triangle is read. */
template <typename T> static __device__ T entry(const T *a, int n, int i, int j) {
    return i >= j ? a[(int64_t)i * n + j] : a[(int64_t)j * n + i];
}

/* b = A / (r most) + 2, where most is the largest absolute value, and r that of A / most; false if a value is not
 * finite. */
template <typename T> static __device__ bool prepare(T *b, const T *a, int n, T *most, T *r, T *shared) {
    T largest = 0;
    int is_bad = 0;
    for (int64_t e = threadIdx.x; e < (int64_t)n * n; e += blockDim.x) {
        int i = (int)(e / n), j = (int)(e % n);
        T value = fabs(entry(a, n, i, j));
        is_bad |= !(value <= limits<T>::most());
        largest = larger(largest, value);
    }
    if (__syncthreads_or(is_bad)) return false;
    *most = largest = block_largest(largest, shared);
    if (largest == 0) *most = largest = 1;
    T sum = 0, largest_sum = 0;
    for (int i = threadIdx.x; i < n; i += blockDim.x) {
        sum = 0;
        for (int j = 0; j < n; j++) sum += fabs(entry(a, n, i, j)) / largest;
        largest_sum = larger(largest_sum, sum);
    }
    largest_sum = block_largest(largest_sum, shared);
    *r = largest_sum = largest_sum == 0 ? 1 : largest_sum;
    for (int64_t e = threadIdx.x; e < (int64_t)n * n; e += blockDim.x) {
        int i = (int)(e / n), j = (int)(e % n);
        b[e] = entry(a, n, i, j) / largest / largest_sum + (i == j ? 2 : 0);
    }
    __syncthreads();
    return true;
}

/* Round t of a sweep over m players, an even number: pair w of m / 2 (the circle method of tournaments). */
static __device__ void pair_of(int *p, int *q, int w, int t, int m) {
    int turns = m - 1, x = w == 0 ? turns : (t + w) % turns, y = w == 0 ? t : (t - w + turns) % turns;
    *p = x < y ? x : y;
    *q = x < y ? y : x;
}

/* a (n, n), values (n), vectors (n, k); workspace: b (n, n), lengths and found (n), for each block. */
template <typename T>
static __global__ void __launch_bounds__(MOST_THREADS)
    eigen(T *values, T *vectors, T *b, T *lengths, T *found, const T *a, int n, int k) {
    CLD_SHARED(T, shared, [BLOCK_WARPS]);
    int64_t matrix = blockIdx.x, size = (int64_t)n * n;
    int warp = threadIdx.x / 32, warps = blockDim.x / 32, lane = threadIdx.x % 32, m = n + n % 2;
    values += matrix * n;
    lengths += matrix * n;
    found += matrix * n;
    a += matrix * size;
    vectors += matrix * n * k;
    b += matrix * size;
    T most, r;
    if (!prepare(b, a, n, &most, &r, shared)) {
        for (int i = threadIdx.x; i < n; i += blockDim.x) values[i] = (T)NAN;
        for (int64_t i = threadIdx.x; i < (int64_t)n * k; i += blockDim.x) vectors[i] = (T)NAN;
        return;
    }
    for (int sweep = 0, turned = 1; turned && sweep < MOST_SWEEPS; sweep++) {
        turned = 0;
        for (int t = 0; t < m - 1; t++) {
            for (int w = warp; w < m / 2; w += warps) {
                int p, q;
                pair_of(&p, &q, w, t, m);
                if (q < n && turn(b + (int64_t)p * n, b + (int64_t)q * n, n)) turned = 1;
            }
            __syncthreads();
        }
        turned = __syncthreads_or(turned);
    }
    for (int i = warp; i < n; i += warps) {
        T length = signed_length(b + (int64_t)i * n, n);
        T value = quotient(a, b + (int64_t)i * n, n, length, most, r);
        if (lane == 0) lengths[i] = length, found[i] = value;
    }
    __syncthreads();
    for (int i = warp; i < n; i += warps) {
        T length = lengths[i], own = found[i];
        int place = 0;
        for (int j = lane; j < n; j += 32) {
            T other = found[j];
            place += other < own || (other == own && j < i);
        }
        for (int offset = 16; offset > 0; offset >>= 1) place += __shfl_xor_sync(WHOLE_WARP, place, offset);
        if (lane == 0) values[place] = own * r * most;
        if (place >= k) continue;
        for (int j = lane; j < n; j += 32) vectors[(int64_t)j * k + place] = b[(int64_t)i * n + j] / length;
    }
}

/* ---- the contract -------------------------------------------------------------------------------------------------- */

template <typename T>
static cld_status solve(const cld_array *values, const cld_array *vectors, const cld_array *a) {
    int count = (int)a->shape[0], n = (int)a->shape[1], k = vectors ? (int)vectors->shape[2] : 0;
    int threads = (n + 1) / 2 * 32 < MOST_THREADS ? (n + 1) / 2 * 32 : (int)MOST_THREADS;
    CLD_SCRATCH block;
    CLD_TRY(cld_cuda_scratch(&block, (size_t)count * (size_t)n * (size_t)(n + 2) * sizeof(T)));
    T *lengths = (T *)block.data, *found = lengths + (int64_t)count * n, *b = found + (int64_t)count * n;
    return CLD_LAUNCH((eigen<T>), count, threads, 0, (T *)values->data, vectors ? (T *)vectors->data : NULL,
                      b, lengths, found, (const T *)a->data, n, k);
}

cld_status cld_cuda_eigh(const cld_array *values, const cld_array *vectors, const cld_array *a) {
    if (cld_numel(a) == 0) return CLD_OK;
    CLD_BY_WIDE(a->dtype, T, return solve<T>(values, vectors, a));
    return CLD_OK;
}
