/* Many copies in one launch: a network's weights in the form that its convolutions take, and the gradients that they
 * leave. Arrays that are dense in the same way, or transposed, are cut into tiles (transpose.cuh). A table that is part
 * of the kernel's parameters says which array a block's tile belongs to, as in optim.cuh. All others are copied
 * separately. */
#include "kernels/cuda/math.h"
#include "kernels/cuda/optim.cuh"
#include "kernels/cuda/transpose.cuh"

enum { COPIES = 160 };

template <typename To, typename From> struct copy_table {
    int count;
    int first[COPIES + 1]; /* the block at which copy i starts; last: the number of blocks */
    struct {
        To *out;
        const From *x;
        int64_t next_out, next_x; /* the strides of the dimensions around the two */
        uint32_t tiles_a, tiles_b;
        tile_shape tile;
    } of[COPIES];
};

template <typename To, typename From>
__global__ void __launch_bounds__(TILE_THREADS) copy_tiles(const copy_table<To, From> table) {
    CLD_DYNAMIC_SHARED(To, shared);
    int i = tensor_of(table.first, table.count, (int)blockIdx.x);
    uint32_t at = blockIdx.x - (uint32_t)table.first[i];
    uint32_t rest = at / table.of[i].tiles_a, other = rest / table.of[i].tiles_b;
    move_tile(table.of[i].out + other * table.of[i].next_out, table.of[i].x + other * table.of[i].next_x,
              table.of[i].tile, at - rest * table.of[i].tiles_a, rest - other * table.of[i].tiles_b, shared);
}

/* Arrays with the same layout are one line; a tile is a piece of it. */
static tile_shape line_of(const cld_walk *w) {
    tile_shape t = {};
    t.extent_a = (uint32_t)w->shape[0];
    t.extent_b = 1;
    t.bits_a = TILE_BITS;
    t.pitch = 1;
    t.x_a = 1;
    return t;
}

/* Adds the next copy to the table; false if it does not fit. */
template <typename To, typename From>
static bool add_copy(copy_table<To, From> *table, size_t *shared, const cld_array *out, const cld_array *x) {
    const cld_array *arrays[] = {out, x};
    cld_walk w = cld_walk_of(arrays, 2);
    bool line = w.ndim == 1 && w.strides[0][0] == 1 && w.strides[1][0] == 1;
    int b = line ? -1 : transposed_dim(&w, 4), i = table->count;
    if ((!line && b < 0) || w.ndim > 3 || w.numel > CLD_WALK_MOST) return false;
    auto &e = table->of[i];
    e.tile = line ? line_of(&w) : tile_of(&w, b, sizeof(To));
    e.out = (To *)w.data[0];
    e.x = (const From *)w.data[1];
    e.tiles_a = (uint32_t)tiles_of(e.tile.extent_a, e.tile.bits_a);
    e.tiles_b = (uint32_t)tiles_of(e.tile.extent_b, e.tile.bits_b);
    e.next_out = e.next_x = 0;
    int64_t blocks = (int64_t)e.tiles_a * e.tiles_b;
    for (int d = 0; d < w.ndim - 1; d++) {
        if (d == b) continue;
        blocks *= w.shape[d];
        e.next_out = w.strides[0][d];
        e.next_x = w.strides[1][d];
    }
    if (table->first[i] + blocks > INT32_MAX) return false;
    if (tile_bytes(e.tile, sizeof(To)) > *shared) *shared = tile_bytes(e.tile, sizeof(To));
    table->first[++table->count] = table->first[i] + (int)blocks;
    return true;
}

template <typename To, typename From>
static cld_status launch(const copy_table<To, From> &table, size_t shared) {
    static_assert(sizeof table <= MOST_PARAMETERS, "a launch takes no more");
    if (table.count == 0) return CLD_OK;
    return CLD_LAUNCH((copy_tiles<To, From>), table.first[table.count], TILE_THREADS, shared, table);
}

/* All copies between these two dtypes. */
template <typename To, typename From>
static cld_status copy_all(int count, const cld_array *outs, const cld_array *xs, cld_dtype to,
                           cld_dtype from) {
    copy_table<To, From> table;
    size_t shared = 0;
    table.count = table.first[0] = 0;
    for (int i = 0; i < count; i++) {
        if (outs[i].dtype != to || xs[i].dtype != from || cld_numel(&outs[i]) == 0) continue;
        if (table.count == COPIES) {
            CLD_TRY((launch<To, From>(table, shared)));
            table.count = 0;
            shared = 0;
        }
        if (!add_copy(&table, &shared, &outs[i], &xs[i])) CLD_TRY(cld_cuda_copy_array(&outs[i], &xs[i]));
    }
    return launch<To, From>(table, shared);
}

/* Pairs of dtypes for which there is a kernel. */
static bool is_between(cld_dtype a, cld_dtype b) {
    bool half = b == CLD_BF16 || b == CLD_F16;
    return a == CLD_F32 && (half || b == CLD_F32);
}

cld_status cld_cuda_copy_many(int count, const cld_array *outs, const cld_array *xs) {
    CLD_TRY((copy_all<float, float>(count, outs, xs, CLD_F32, CLD_F32)));
    CLD_TRY((copy_all<bf16, float>(count, outs, xs, CLD_BF16, CLD_F32)));
    CLD_TRY((copy_all<f16, float>(count, outs, xs, CLD_F16, CLD_F32)));
    CLD_TRY((copy_all<float, bf16>(count, outs, xs, CLD_F32, CLD_BF16)));
    CLD_TRY((copy_all<float, f16>(count, outs, xs, CLD_F32, CLD_F16)));
    for (int i = 0; i < count; i++)
        if (!is_between(xs[i].dtype, outs[i].dtype) && !is_between(outs[i].dtype, xs[i].dtype))
            CLD_TRY(cld_cuda_copy_array(&outs[i], &xs[i]));
    return CLD_OK;
}
