/* Copy and fill, between any dtypes, strides and layouts. Where out's innermost dimension is not x's, a tile of both is
 * transposed by way of shared memory; all else is a walk. */
#include "kernels/cuda/convert.cuh"
#include "kernels/cuda/math.h"
#include "kernels/cuda/walk.cuh"

/* ---- as they lie ------------------------------------------------------------------------------------------------- */

template <typename To, typename From> struct copy_job {
    static const int ARRAYS = 2;
    To *out;
    const From *x;
    template <int V, int U> struct registers { cld_pack<From, V> x[U]; };
    void point_at(char *const data[]) {
        out = (To *)data[0];
        x = (const From *)data[1];
    }
    template <int V, typename R>
    __device__ void load(R &r, int u, const int64_t *at, const bool *same, int left) const {
        load_step<V>(r.x + u, x + at[1], same[1], left, From());
    }
    template <typename R> __device__ void compute(R &) const {}
    template <int V, typename R> __device__ void save(R &r, int u, int64_t at, int left) const {
        To y[V];
        CLD_UNROLL
        for (int j = 0; j < V; j++) y[j] = convert<To>(r.x[u].get(j));
        save_step<V>(out + at, y, left);
    }
};

/* ---- transposed --------------------------------------------------------------------------------------------------- */

/* Tiles of `a` elements along out's innermost dimension by `b` along x's, both powers of two. */
#define TILE         4096
#define TILE_THREADS 256

struct tiling {
    uint32_t extent_a, extent_b; /* of the two dimensions */
    int bits_a, bits_b, pitch; /* a tile has 1 << bits elements; rows of b in shared memory are pitch apart */
    cld_divisor tiles_a, tiles_b;
    int64_t out_b, x_a; /* strides; out's along a and x's along b are 1 */
    cld_dims<2> others;
};

/* Both ways the lanes of a warp are side by side in memory: along b to read, along a to write. */
template <typename To, typename From>
__global__ void __launch_bounds__(TILE_THREADS) transpose(To *out, const From *x, tiling t) {
    CLD_DYNAMIC_SHARED(To, tile);
    uint32_t rest = quotient(blockIdx.x, t.tiles_a), first_a = blockIdx.x - rest * t.tiles_a.divisor;
    uint32_t other = quotient(rest, t.tiles_b), first_b = rest - other * t.tiles_b.divisor;
    first_a <<= t.bits_a;
    first_b <<= t.bits_b;
    int64_t at[2];
    locate<2>(at, t.others, other);
    out += at[0];
    x += at[1];
    out += first_a + first_b * t.out_b;
    x += first_a * t.x_a + first_b;
    uint32_t width_a = t.extent_a - first_a, width_b = t.extent_b - first_b;
    uint32_t count = 1u << (t.bits_a + t.bits_b);
    From own[TILE / TILE_THREADS]; /* all read before any is put down: many reads are under way at once */
    CLD_UNROLL
    for (uint32_t k = 0; k < TILE / TILE_THREADS; k++) {
        uint32_t i = k * TILE_THREADS + threadIdx.x, b = i & ((1u << t.bits_b) - 1), a = i >> t.bits_b;
        if (i < count && a < width_a && b < width_b) own[k] = x[a * t.x_a + b];
    }
    CLD_UNROLL
    for (uint32_t k = 0; k < TILE / TILE_THREADS; k++) {
        uint32_t i = k * TILE_THREADS + threadIdx.x, b = i & ((1u << t.bits_b) - 1), a = i >> t.bits_b;
        if (i < count && a < width_a && b < width_b) tile[a * t.pitch + b] = convert<To>(own[k]);
    }
    __syncthreads();
    CLD_UNROLL
    for (uint32_t k = 0; k < TILE / TILE_THREADS; k++) {
        uint32_t i = k * TILE_THREADS + threadIdx.x, a = i & ((1u << t.bits_a) - 1), b = i >> t.bits_a;
        if (i < count && a < width_a && b < width_b) out[b * t.out_b + a] = tile[a * t.pitch + b];
    }
}

/* The dimension that is x's innermost and not out's, or -1. Short ones are not worth the trip. */
static int transposed_dim(const cld_walk *w) {
    int inner = w->ndim - 1;
    if (w->strides[0][inner] != 1 || w->strides[1][inner] == 1 || w->strides[1][inner] == 0) return -1;
    for (int d = 0; d < inner; d++)
        if (w->strides[1][d] == 1 && w->shape[d] > 1 && w->shape[d] * w->shape[inner] >= 64) return d;
    return -1;
}

static int bits_for(int64_t extent, int most) {
    int bits = 2;
    while (bits < most && ((int64_t)1 << bits) < extent) bits++;
    return bits;
}

static tiling tiling_of(const cld_walk *w, int b, size_t size) {
    tiling t = {};
    t.others.total = 1;
    int a = w->ndim - 1, whole = 12; /* bits of TILE */
    t.extent_a = (uint32_t)w->shape[a];
    t.extent_b = (uint32_t)w->shape[b];
    t.bits_a = bits_for(w->shape[a], whole / 2);
    t.bits_b = bits_for(w->shape[b], whole - t.bits_a);
    t.bits_a = bits_for(w->shape[a], whole - t.bits_b);
    /* Lanes that write read a column of the tile: an odd number of 4-byte words apart they meet no bank twice. */
    t.pitch = (1 << t.bits_b) + (size < 4 ? 4 / (int)size : 1);
    t.tiles_a = cld_divisor_of((w->shape[a] + (1 << t.bits_a) - 1) >> t.bits_a);
    t.tiles_b = cld_divisor_of((w->shape[b] + (1 << t.bits_b) - 1) >> t.bits_b);
    t.out_b = w->strides[0][b];
    t.x_a = w->strides[1][a];
    for (int d = 0; d < a; d++) {
        if (d == b) continue;
        push_dim<2>(&t.others, w->shape[d], {w->strides[0][d], w->strides[1][d]});
    }
    return t;
}

/* Kernels for the casts of training and of images alone: others are rare, and walk. */
template <typename To, typename From> constexpr bool has_transpose() {
    const bool pixels = std::is_same<From, uint8_t>::value, wide = sizeof(To) > 4 || sizeof(From) > 4;
    return std::is_same<To, From>::value ||
           (!cld_is_integer<To>::value && !wide && (pixels || !cld_is_integer<From>::value));
}

template <typename To, typename From> static cld_status run_copy(const cld_walk *w) {
    if (w->numel > CLD_WALK_MOST) {
        cld_walk halves[2];
        cld_walk_halve(w, halves);
        CLD_TRY((run_copy<To, From>(&halves[0])));
        return run_copy<To, From>(&halves[1]);
    }
    int b = has_transpose<To, From>() ? transposed_dim(w) : -1;
    if (b < 0) return run_walk<copy_job<To, From>, CLD_WIDTH(To, From)>(copy_job<To, From>(), w);
    if constexpr (has_transpose<To, From>()) {
        tiling t = tiling_of(w, b, sizeof(To));
        int64_t tiles = t.others.total * t.tiles_a.divisor * t.tiles_b.divisor;
        size_t shared = ((size_t)t.pitch << t.bits_a) * sizeof(To);
        return CLD_LAUNCH((transpose<To, From>), (int)tiles, TILE_THREADS, shared, (To *)w->data[0],
                          (const From *)w->data[1], t);
    }
    return CLD_OK;
}

template <typename From> static cld_status copy_from(cld_dtype to, const cld_walk *w) {
    CLD_BY_DTYPE(to, To, return (run_copy<To, From>(w)));
}

cld_status cld_cuda_copy_array(const cld_array *out, const cld_array *x) {
    const cld_array *arrays[] = {out, x};
    if (cld_numel(out) == 0) return CLD_OK;
    cld_walk w = cld_walk_of(arrays, 2);
    CLD_BY_DTYPE(x->dtype, From, return copy_from<From>(out->dtype, &w));
}

/* ---- fill --------------------------------------------------------------------------------------------------------- */

template <typename T> struct fill_job {
    static const int ARRAYS = 1;
    T *out;
    cld_scalar value;
    template <int V, int U> struct registers {};
    void point_at(char *const data[]) { out = (T *)data[0]; }
    template <int V, typename R> __device__ void load(R &, int, const int64_t *, const bool *, int) const {}
    template <typename R> __device__ void compute(R &) const {}
    template <int V, typename R> __device__ void save(R &, int, int64_t at, int left) const {
        T y[V], element;
        if constexpr (cld_is_integer<T>::value)
            element = value.is_integer ? convert<T>(value.i) : convert<T>(value.d);
        else
            element = convert<T>(value.d);
        CLD_UNROLL
        for (int j = 0; j < V; j++) y[j] = element;
        save_step<V>(out + at, y, left);
    }
};

cld_status cld_cuda_fill_array(const cld_array *out, cld_scalar value) {
    if (cld_numel(out) == 0) return CLD_OK;
    cld_walk w = cld_walk_of(&out, 1);
    CLD_BY_DTYPE(out->dtype, T, {
        fill_job<T> job = {NULL, value};
        return run_walk<fill_job<T>, CLD_WIDTH(T, T)>(job, &w);
    });
}
