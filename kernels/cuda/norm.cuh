/* Shared by batch norm's forward and backward (norm.cu, norm_backward.cu): the rows of a batch's parts, the line that
 * normalizes a channel, and the number of blocks of a launch. */
#ifndef CLD_CUDA_NORM_CUH
#define CLD_CUDA_NORM_CUH

#include "kernels/cuda/activation.h"
#include "kernels/cuda/channels.cuh"
#include "kernels/cuda/conv.h"

/* Vectors over the channels; NULL if not given. */
template <typename A> struct affine { const A *mean, *invstd, *weight, *bias; };

/* The vectors of one part: mean and invstd are (parts, channels). */
template <typename A> __device__ inline affine<A> of_part(affine<A> f, int part, int channels) {
    f.mean += (int64_t)part * channels;
    f.invstd += (int64_t)part * channels;
    return f;
}

/* The rows of each part. */
typedef struct part_rows {
    channel_rows m; /* for the largest part */
    cld_cut cut;    /* of rows: images times positions */
    int count;      /* of parts */
} part_rows;

/* A thread's share in block `block` of all parts' blocks; each part has p.m.chunks chunks. *part: the part it belongs
 * to. The chunk's number counts over all parts. */
__device__ inline channel_part part_of(const part_rows &p, int block, int width, int *part) {
    *part = 0;
    if (p.count == 1) return part_of(p.m, block, width);
    int blocks = p.m.chunks * p.m.slices;
    *part = block / blocks;
    channel_part share = part_of(p.m, block % blocks, width);
    share.chunk += *part * p.m.chunks;
    int64_t begin = cld_cut_begin(&p.cut, *part), rows = cld_cut_rows(&p.cut, *part);
    share.first += begin;
    share.end = begin + (share.end < rows ? share.end : rows);
    return share;
}

/* The first channel of a part in sums (parts of the whole batch, 2, channels). */
__device__ inline double *sums_of_part(double *sums, const part_rows &p, int part) {
    return sums + (int64_t)cld_cut_whole_part(&p.cut, part) * 2 * p.m.channels;
}

/* A group is a slice of a part; its partial results come from its blocks. If this block, with its partial result
 * written, completes all groups that share its ticket, returns the first of them (they are CLD_TICKETS apart), else
 * -1. */
__device__ inline int completed_groups(const part_rows &p, unsigned *tickets, int part, int slice) {
    int group = part * p.m.slices + slice, ticket = group % CLD_TICKETS;
    int expected = p.m.chunks * groups_of_ticket(group, p.count * p.m.slices);
    return comes_last(tickets + ticket, (unsigned)expected) ? ticket : -1;
}

/* y = (x - mean) * scale + shift */
template <typename A> struct line { A mean, scale, shift; };

/* Loads the lines of COUNT adjacent channels from c on. */
template <typename A, int COUNT> __device__ inline void load_lines(line<A> *l, const affine<A> &f, int c) {
    A mean[COUNT], scale[COUNT], factor[COUNT], shift[COUNT];
    load_run<A, COUNT>(mean, f.mean + c);
    load_run<A, COUNT>(scale, f.invstd + c);
    for (int v = 0; v < COUNT; v++) factor[v] = 1, shift[v] = 0;
    if (f.weight) load_run<A, COUNT>(factor, f.weight + c);
    if (f.bias) load_run<A, COUNT>(shift, f.bias + c);
    for (int v = 0; v < COUNT; v++) {
        l[v].mean = mean[v];
        l[v].scale = scale[v] * factor[v];
        l[v].shift = shift[v];
    }
}

/* ---- launches ---------------------------------------------------------------------------------------------------------- */

typedef struct part_launch {
    part_rows rows;
    unsigned blocks; /* of all parts */
    dim3 threads;
} part_launch;

/* The cut of rows that are the positions of `images` images. */
static inline cld_cut cut_of_positions(const cld_parts *parts, int64_t images, int64_t positions) {
    cld_cut cut = cld_cut_of(parts, images);
    cut.view *= positions;
    cut.block *= positions;
    cut.image *= positions;
    cut.before *= positions;
    return cut;
}

static inline part_launch launch_parts(const cld_array *x, const cld_parts *parts, int width) {
    part_launch l = {};
    int64_t positions = x->shape[2] * x->shape[3];
    cld_cut *cut = &l.rows.cut;
    *cut = cut_of_positions(parts, x->shape[0], positions);
    l.rows.count = cld_part_count(parts);
    channel_launch of_part = launch_of(cld_cut_most(cut), x->shape[1], width, l.rows.count);
    l.rows.m = of_part.m;
    l.blocks = of_part.blocks;
    l.threads = of_part.threads;
    return l;
}

template <typename A> static inline A *vector_of(const cld_array *a) { return a ? (A *)a->data : NULL; }

template <typename A>
static inline affine<A> affine_of(const cld_array *mean, const cld_array *invstd, const cld_array *weight,
                                  const cld_array *bias) {
    affine<A> f = {vector_of<A>(mean), vector_of<A>(invstd), vector_of<A>(weight), vector_of<A>(bias)};
    return f;
}

static inline size_t partial_bytes(const part_rows &p, size_t element) {
    return (size_t)p.count * (size_t)p.m.chunks * 2 * (size_t)p.m.channels * element;
}

/* Shared memory of a block that reduces 2 WIDTH values per thread, and later WIDTH doubles. */
static inline size_t shared_bytes(const part_launch &l, int width, size_t element) {
    return (size_t)l.threads.x * l.threads.y * 2 * (size_t)width * element;
}

static inline const void *address(const cld_array *a) { return a ? a->data : NULL; }

/* For an array that may be NULL: *which is then NULL too. */
static inline cld_status read_activation(cld_array *out, const cld_array **which, cld_scratch_block *block,
                                         const cld_array *a) {
    *which = a ? out : NULL;
    return a ? cld_cuda_channels_last(out, block, a, a->dtype, CLD_READ) : CLD_OK;
}

static inline cld_status write_activation(cld_array *out, const cld_array **which, cld_scratch_block *block,
                                          const cld_array *a) {
    *which = a ? out : NULL;
    return a ? cld_cuda_channels_last(out, block, a, a->dtype, CLD_WRITE) : CLD_OK;
}

#endif
