/* How batch norm updates its running statistics (norm.cu, norm_sums.cu; kernels/parts.h). */
#ifndef CLD_CUDA_NORM_RUNNING_CUH
#define CLD_CUDA_NORM_RUNNING_CUH

#include "kernels/cuda/norm.cuh"

/* The running statistics, each of which may be NULL, and how they are updated. */
template <typename A> struct running {
    A *mean, *var;
    int64_t *batches;
    double momentum;
    cld_running_move move;
    bool by_share; /* all views make one update (cld_move_by_share), */
    bool counts;   /* and whether it counts them */
};

/* A channel's statistic of a view: the mean over its blocks, weighted with their rows. */
template <typename A>
__device__ inline double of_view(const A *of_parts, const part_rows &p, int view, int c) {
    int blocks = p.cut.blocks, first = view * blocks;
    if (blocks == 1) return (double)of_parts[(int64_t)first * p.m.channels + c];
    double sum = 0, rows = 0;
    for (int part = first; part < first + blocks; part++) {
        double here = (double)cld_cut_rows(&p.cut, part);
        sum += here * (double)of_parts[(int64_t)part * p.m.channels + c];
        rows += here;
    }
    return sum / rows;
}

/* Updates r from s, unless r is NULL. */
template <typename A> __device__ inline void move_one(A *r, int c, const cld_running_move &move, double s) {
    if (r) r[c] = (A)(move.keep * (double)r[c] + move.gain * s);
}

/* Over all views: sum of m (1 - m)^(V - v) s_v. */
template <typename A>
__device__ inline double of_views(const A *of_parts, const part_rows &p, double momentum, int c) {
    double sum = 0;
    for (int view = 0; view < p.cut.views; view++)
        sum = (1 - momentum) * sum + momentum * of_view(of_parts, p, view, c);
    return sum;
}

/* Updates from mean and var (parts, channels). Skips a view that is not finite: the optimizer then skips the step, but
 * what is written here would stay. */
template <typename A>
__device__ static void move_running(const running<A> &r, const A *mean, const A *var, const part_rows &p) {
    int at = (int)(threadIdx.y * blockDim.x + threadIdx.x), step = (int)(blockDim.x * blockDim.y);
    int channels = p.m.channels, views = p.cut.views, counted = 0;
    for (int view = 0; view < views; view++) {
        int odd = 0;
        for (int c = at; c < channels; c += step) {
            double m = of_view(mean, p, view, c), v = of_view(var, p, view, c);
            odd |= !(m - m == 0 && v - v == 0);
        }
        odd = __syncthreads_or(odd);
        if (odd && r.by_share) return;
        if (odd || r.by_share) continue;
        counted++;
        for (int c = at; c < channels; c += step) {
            move_one(r.mean, c, r.move, of_view(mean, p, view, c));
            move_one(r.var, c, r.move, of_view(var, p, view, c));
        }
    }
    for (int c = at; r.by_share && c < channels; c += step) {
        move_one(r.mean, c, r.move, of_views(mean, p, r.momentum, c));
        move_one(r.var, c, r.move, of_views(var, p, r.momentum, c));
    }
    if (r.by_share) counted = r.counts ? views : 0;
    if (r.batches && at == 0) *r.batches += counted;
}

template <typename A>
static running<A> running_of(const cld_array *running_mean, const cld_array *running_var,
                             const cld_array *batches, const cld_norm_params *p) {
    running<A> r = {};
    r.mean = vector_of<A>(running_mean);
    r.var = vector_of<A>(running_var);
    r.batches = vector_of<int64_t>(batches);
    r.momentum = p->momentum;
    r.by_share = p->share.total > 0;
    r.counts = p->share.done == 0;
    r.move.keep = 1 - p->momentum;
    r.move.gain = p->momentum;
    if (r.by_share) r.move = cld_move_by_share(p->momentum, cld_parts_views(&p->parts), &p->share);
    return r;
}

/* ---- norm_sums.cu ------------------------------------------------------------------------------------------------------ */

/* Computes mean and invstd of the local parts, and updates the running statistics from all parts of the whole batch. */
cld_status cld_cuda_norm_use_sums(const cld_array *mean, const cld_array *invstd, const cld_array *sums,
                                  const cld_array *x, const cld_array *running_mean,
                                  const cld_array *running_var, const cld_array *batches,
                                  const cld_norm_params *p);

#endif
