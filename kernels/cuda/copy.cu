/* Copy and fill, between any dtypes, strides and layouts. If out's innermost dimension is not x's, a tile of both is
 * transposed through shared memory; everything else is a walk. */
#include "kernels/cuda/convert.cuh"
#include "kernels/cuda/math.h"
#include "kernels/cuda/transpose.cuh"
#include "kernels/cuda/walk.cuh"

/* ---- without transposing ------------------------------------------------------------------------------------- */

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

struct tiling {
    tile_shape tile;
    cld_divisor tiles_a, tiles_b;
    cld_dims<2> others;
};

template <typename To, typename From>
__global__ void __launch_bounds__(TILE_THREADS) transpose(To *out, const From *x, tiling t) {
    CLD_DYNAMIC_SHARED(To, shared);
    uint32_t rest = quotient(blockIdx.x, t.tiles_a), first_a = blockIdx.x - rest * t.tiles_a.divisor;
    uint32_t other = quotient(rest, t.tiles_b), first_b = rest - other * t.tiles_b.divisor;
    int64_t at[2];
    locate<2>(at, t.others, other);
    move_tile(out + at[0], x + at[1], t.tile, first_a, first_b, shared);
}

static tiling tiling_of(const cld_walk *w, int b, size_t size) {
    tiling t = {};
    int a = w->ndim - 1;
    t.tile = tile_of(w, b, size);
    t.others.total = 1;
    t.tiles_a = cld_divisor_of(tiles_of(t.tile.extent_a, t.tile.bits_a));
    t.tiles_b = cld_divisor_of(tiles_of(t.tile.extent_b, t.tile.bits_b));
    for (int d = 0; d < a; d++) {
        if (d == b) continue;
        push_dim<2>(&t.others, w->shape[d], {w->strides[0][d], w->strides[1][d]});
    }
    return t;
}

template <typename To, typename From> static cld_status run_copy(const cld_walk *w) {
    if (w->numel > CLD_WALK_MOST) {
        cld_walk halves[2];
        cld_walk_halve(w, halves);
        CLD_TRY((run_copy<To, From>(&halves[0])));
        return run_copy<To, From>(&halves[1]);
    }
    int b = has_transpose<To, From>() ? transposed_dim(w, 64) : -1;
    if (b < 0) return run_walk<copy_job<To, From>, CLD_WIDTH(To, From)>(copy_job<To, From>(), w);
    if constexpr (has_transpose<To, From>()) {
        tiling t = tiling_of(w, b, sizeof(To));
        int64_t tiles = t.others.total * t.tiles_a.divisor * t.tiles_b.divisor;
        size_t shared = tile_bytes(t.tile, sizeof(To));
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
