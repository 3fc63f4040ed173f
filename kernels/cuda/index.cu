/* Indexing. Reading by an index is one copy; moving whole slices goes in units of up to 16 bytes.
 *
 * If several entries may hit one output, they are applied in the order of the index, as on the CPU, so that results are
 * the same in every run to the last bit. The index is sorted first (stable). For each run of equal entries, the first
 * one adds up everything for its output, or only the last one is copied. Atomic additions would come in any order, and
 * there are none for 16 bits. An index with one entry per line cannot hit twice, and is not sorted.
 *
 * An index out of range is reported. Its element is read as 0, and is not written. */
#include "kernels/cuda/block.cuh"
#include "kernels/cuda/dims.cuh"
#include "kernels/cuda/math.h"
#include "kernels/cuda/sort.h"

enum { THREADS = 256 };

static int blocks_for(int64_t total) { return (int)((total + THREADS - 1) / THREADS); }

/* ---- dimensions, merged where all arrays allow it ----------------------------------------------------------------- */

template <int N> struct loops {
    int count;
    int64_t extent[CLD_MAX_DIMS], strides[CLD_MAX_DIMS][N]; /* in elements, later in units */
};

template <int N> static void push(loops<N> *l, int64_t extent, const int64_t (&strides)[N]) {
    bool merges = l->count > 0;
    for (int k = 0; k < N && merges; k++) merges = l->strides[l->count - 1][k] == strides[k] * extent;
    if (extent == 1) return;
    if (!merges) l->extent[l->count++] = 1;
    l->extent[l->count - 1] *= extent;
    for (int k = 0; k < N; k++) l->strides[l->count - 1][k] = strides[k];
}

template <int N> static cld_dims<N> dims_of(const loops<N> *l) {
    cld_dims<N> dims = {};
    dims.total = 1;
    for (int d = 0; d < l->count; d++) push_dim(&dims, l->extent[d], l->strides[d]);
    return dims;
}

/* The unit of moves: bytes that are adjacent in the arrays `out` and `x` of the loops. Consecutive entries of an index
 * are `stride` elements apart. */
template <int N>
static int64_t unit_of(const loops<N> *l, int out, int x, const void *const data[2], int64_t stride,
                       int64_t size) {
    int last = l->count - 1;
    if (last < 0 || l->strides[last][out] != 1 || l->strides[last][x] != 1) return size;
    for (int64_t unit = 16; unit > size; unit /= 2) {
        bool fits = l->extent[last] * size % unit == 0 && stride * size % unit == 0;
        for (int d = 0; d < last; d++)
            fits = fits && l->strides[d][out] * size % unit == 0 && l->strides[d][x] * size % unit == 0;
        for (int k = 0; k < 2; k++) fits = fits && (uintptr_t)data[k] % (uintptr_t)unit == 0;
        if (fits) return unit;
    }
    return size;
}

/* The strides of these two arrays, and the innermost extent, in units of `width` elements. */
template <int N> static void count_in_units(loops<N> *l, int out, int x, int64_t width) {
    int last = l->count - 1;
    if (width == 1) return;
    l->extent[last] /= width;
    for (int d = 0; d < last; d++) l->strides[d][out] /= width, l->strides[d][x] /= width;
}

#define BY_UNIT(bytes, unit, ...)                                                                            \
    switch (bytes) {                                                                                         \
    case 1: {                                                                                                \
        typedef uint8_t unit;                                                                                \
        __VA_ARGS__;                                                                                         \
    }                                                                                                        \
    case 2: {                                                                                                \
        typedef uint16_t unit;                                                                               \
        __VA_ARGS__;                                                                                         \
    }                                                                                                        \
    case 4: {                                                                                                \
        typedef uint32_t unit;                                                                               \
        __VA_ARGS__;                                                                                         \
    }                                                                                                        \
    case 8: {                                                                                                \
        typedef uint2 unit;                                                                                  \
        __VA_ARGS__;                                                                                         \
    }                                                                                                        \
    default: {                                                                                               \
        typedef uint4 unit;                                                                                  \
        __VA_ARGS__;                                                                                         \
    }                                                                                                        \
    }

/* ---- gather, index_select ----------------------------------------------------------------------------------------- */

/* dims: those of out, index and x, with stride 0 for x along the indexed dimension. */
template <typename unit>
static __global__ void __launch_bounds__(THREADS)
    read_by_index(unit *out, const int64_t *index, const unit *x, cld_dims<3> dims, int64_t extent,
                  int64_t stride, cld_fault *fault, cld_fault_kind kind) {
    int64_t e = (int64_t)blockIdx.x * THREADS + threadIdx.x, at[3];
    if (e >= dims.total) return;
    locate<3>(at, dims, e);
    int64_t i = index[at[1]];
    unit value = {};
    if (i >= 0 && i < extent)
        value = x[at[2] + i * stride];
    else
        report(fault, kind, i, extent);
    out[at[0]] = value;
}

/* index has out's shape, with zero strides if it is the same for a whole slice. */
static cld_status read_all(const cld_array *out, const cld_array *x, int dim, const cld_array *index,
                           cld_fault_kind kind) {
    int64_t size = (int64_t)cld_dtype_size(x->dtype), stride = x->strides[dim];
    const void *const data[2] = {out->data, x->data};
    loops<3> l = {};
    if (cld_numel(out) == 0) return CLD_OK;
    for (int d = 0; d < out->ndim; d++)
        push(&l, out->shape[d], {out->strides[d], index->strides[d], d == dim ? 0 : x->strides[d]});
    bool whole = l.count > 0 && l.strides[l.count - 1][1] == 0; /* slices, not elements */
    int64_t unit_bytes = whole ? unit_of(&l, 0, 2, data, stride, size) : size;
    count_in_units(&l, 0, 2, unit_bytes / size);
    stride = stride * size / unit_bytes;
    cld_dims<3> dims = dims_of(&l);
    BY_UNIT(unit_bytes, unit,
            return CLD_LAUNCH((read_by_index<unit>), blocks_for(dims.total), THREADS, 0, (unit *)out->data,
                              (const int64_t *)index->data, (const unit *)x->data, dims, x->shape[dim],
                              stride, cld_cuda_fault(), kind));
}

cld_status cld_cuda_gather(const cld_array *out, const cld_array *x, int dim, const cld_array *index) {
    return read_all(out, x, dim, index, CLD_FAULT_GATHER);
}

/* A 1-d index, expanded to a's shape. */
static cld_array spread(const cld_array *index, const cld_array *a, int dim) {
    cld_array s = *a;
    s.data = index->data;
    for (int d = 0; d < s.ndim; d++) s.strides[d] = 0;
    s.strides[dim] = index->ndim ? index->strides[0] : 0;
    return s;
}

cld_status cld_cuda_index_select(const cld_array *out, const cld_array *x, int dim, const cld_array *index) {
    cld_array wide_index = spread(index, out, dim);
    return read_all(out, x, dim, &wide_index, CLD_FAULT_INDEX_SELECT);
}

/* ---- runs of equal entries ---------------------------------------------------------------------------------------- */

static __device__ inline int64_t entry_of(const cld_sorted &item) {
    return (int64_t)(item.key ^ CLD_SIGN_BIT);
}
static __device__ inline bool starts_run(const cld_sorted *line, int64_t p) {
    return p == 0 || line[p - 1].key != line[p].key;
}
static __device__ inline bool ends_run(const cld_sorted *line, int64_t p, int64_t length) {
    return p + 1 == length || line[p + 1].key != line[p].key;
}

/* *out += x[index], x[index], ... for the run that starts at p, each rounded to T. */
template <typename T>
static __device__ inline void add_run(T *out, const T *x, int64_t stride, const cld_sorted *line, int64_t p,
                                      int64_t length) {
    uint64_t key = line[p].key;
    T sum = *out;
    do sum = store<T>(load(sum) + load(x[line[p].index * stride]));
    while (++p < length && line[p].key == key);
    *out = sum;
}

/* ---- scatter_add: an index for every element ---------------------------------------------------------------------- */

/* Lines of one element. dims: of out (with stride 0 along the dimension), index and x. */
template <typename T>
static __global__ void __launch_bounds__(THREADS)
    add_single(T *out, const int64_t *index, const T *x, cld_dims<3> dims, int64_t extent, int64_t stride,
               cld_fault *fault) {
    int64_t e = (int64_t)blockIdx.x * THREADS + threadIdx.x, at[3];
    if (e >= dims.total) return;
    locate<3>(at, dims, e);
    int64_t i = index[at[1]];
    if (i < 0 || i >= extent) return report(fault, CLD_FAULT_SCATTER_ADD, i, extent);
    T *to = &out[at[0] + i * stride];
    *to = store<T>(load(*to) + load(x[at[2]]));
}

/* Lines of several elements. lines: those of out and x. */
template <typename T>
static __global__ void __launch_bounds__(THREADS)
    add_lines(T *out, const T *x, const cld_sorted *sorted, cld_dims<2> lines, int64_t length, int64_t extent,
              int64_t out_stride, int64_t x_stride, cld_fault *fault) {
    int64_t e = (int64_t)blockIdx.x * THREADS + threadIdx.x, p = e % length, at[2];
    if (e >= lines.total * length) return;
    const cld_sorted *line = sorted + e / length * length;
    if (!starts_run(line, p)) return;
    int64_t i = entry_of(line[p]);
    if (i < 0 || i >= extent) return report(fault, CLD_FAULT_SCATTER_ADD, i, extent);
    locate<2>(at, lines, e / length);
    add_run(out + at[0] + i * out_stride, x + at[1], x_stride, line, p, length);
}

cld_status cld_cuda_scatter_add(const cld_array *out, int dim, const cld_array *index, const cld_array *x) {
    int64_t total = cld_numel(index), length = index->shape[dim], extent = out->shape[dim];
    if (total == 0) return CLD_OK;
    if (length == 1) {
        loops<3> l = {};
        for (int d = 0; d < index->ndim; d++)
            push(&l, index->shape[d], {out->strides[d], index->strides[d], x->strides[d]});
        cld_dims<3> dims = dims_of(&l);
        CLD_BY_DTYPE(x->dtype, T,
                     return CLD_LAUNCH((add_single<T>), blocks_for(total), THREADS, 0, (T *)out->data,
                                       (const int64_t *)index->data, (const T *)x->data, dims, extent,
                                       out->strides[dim], cld_cuda_fault()));
        return CLD_OK;
    }
    CLD_SCRATCH sorted;
    CLD_TRY(cld_cuda_sort_lines(&sorted, index, dim, length, false));
    loops<2> l = {};
    for (int d = 0; d < index->ndim; d++)
        if (d != dim) push(&l, index->shape[d], {out->strides[d], x->strides[d]});
    cld_dims<2> lines = dims_of(&l);
    CLD_BY_DTYPE(x->dtype, T,
                 return CLD_LAUNCH((add_lines<T>), blocks_for(total), THREADS, 0, (T *)out->data,
                                   (const T *)x->data, (const cld_sorted *)sorted.data, lines, length, extent,
                                   out->strides[dim], x->strides[dim], cld_cuda_fault()));
    return CLD_OK;
}

/* ---- index_add, index_copy: an index for every slice -------------------------------------------------------------- */

/* rest: the dimensions of out and x except the indexed one; one thread per entry and element of its slice. */
template <typename T>
static __global__ void __launch_bounds__(THREADS)
    add_slices(T *out, const T *x, const cld_sorted *sorted, cld_dims<2> rest, int64_t length, int64_t extent,
               int64_t out_stride, int64_t x_stride, cld_fault *fault) {
    int64_t e = (int64_t)blockIdx.x * THREADS + threadIdx.x, p = e / rest.total, at[2];
    if (p >= length || !starts_run(sorted, p)) return;
    int64_t i = entry_of(sorted[p]);
    if (i < 0 || i >= extent) return report(fault, CLD_FAULT_INDEX_ADD, i, extent);
    locate<2>(at, rest, e % rest.total);
    add_run(out + at[0] + i * out_stride, x + at[1], x_stride, sorted, p, length);
}

/* The last of equal entries wins. */
template <typename unit>
static __global__ void __launch_bounds__(THREADS)
    copy_slices(unit *out, const unit *x, const cld_sorted *sorted, cld_dims<2> rest, int64_t length,
                int64_t extent, int64_t out_stride, int64_t x_stride, cld_fault *fault) {
    int64_t e = (int64_t)blockIdx.x * THREADS + threadIdx.x, p = e / rest.total, at[2];
    if (p >= length || !ends_run(sorted, p, length)) return;
    int64_t i = entry_of(sorted[p]);
    if (i < 0 || i >= extent) return report(fault, CLD_FAULT_INDEX_COPY, i, extent);
    locate<2>(at, rest, e % rest.total);
    out[at[0] + i * out_stride] = x[at[1] + sorted[p].index * x_stride];
}

/* The dimensions of out and x except dim, and the index as a line that can be sorted. */
static loops<2> slices_of(cld_array *line, const cld_array *out, int dim, const cld_array *index,
                          const cld_array *x) {
    loops<2> l = {};
    for (int d = 0; d < x->ndim; d++)
        if (d != dim) push(&l, x->shape[d], {out->strides[d], x->strides[d]});
    *line = *index;
    if (line->ndim == 0) line->ndim = 1, line->shape[0] = line->strides[0] = 1;
    return l;
}

cld_status cld_cuda_index_add(const cld_array *out, int dim, const cld_array *index, const cld_array *x) {
    cld_array line;
    loops<2> l = slices_of(&line, out, dim, index, x);
    CLD_SCRATCH sorted;
    if (cld_numel(x) == 0) return CLD_OK;
    int64_t length = line.shape[0];
    CLD_TRY(cld_cuda_sort_lines(&sorted, &line, 0, length, false));
    cld_dims<2> rest = dims_of(&l);
    CLD_BY_DTYPE(x->dtype, T,
                 return CLD_LAUNCH((add_slices<T>), blocks_for(rest.total * length), THREADS, 0,
                                   (T *)out->data, (const T *)x->data, (const cld_sorted *)sorted.data, rest,
                                   length, out->shape[dim], out->strides[dim], x->strides[dim],
                                   cld_cuda_fault()));
    return CLD_OK;
}

cld_status cld_cuda_index_copy(const cld_array *out, int dim, const cld_array *index, const cld_array *x) {
    cld_array line;
    loops<2> l = slices_of(&line, out, dim, index, x);
    int64_t size = (int64_t)cld_dtype_size(x->dtype), to = out->strides[dim], from = x->strides[dim];
    const void *const data[2] = {out->data, x->data};
    CLD_SCRATCH sorted;
    if (cld_numel(x) == 0) return CLD_OK;
    int64_t length = line.shape[0], unit_bytes = unit_of(&l, 0, 1, data, to, size);
    while (unit_bytes > size && from * size % unit_bytes != 0) unit_bytes /= 2;
    CLD_TRY(cld_cuda_sort_lines(&sorted, &line, 0, length, false));
    count_in_units(&l, 0, 1, unit_bytes / size);
    to = to * size / unit_bytes, from = from * size / unit_bytes;
    cld_dims<2> rest = dims_of(&l);
    BY_UNIT(unit_bytes, unit,
            return CLD_LAUNCH((copy_slices<unit>), blocks_for(rest.total * length), THREADS, 0,
                              (unit *)out->data, (const unit *)x->data, (const cld_sorted *)sorted.data, rest,
                              length, out->shape[dim], to, from, cld_cuda_fault()));
}
