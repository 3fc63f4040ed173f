/* Batch norm for a batch that ranks share (norm.cu): statistics from the sums of all ranks. */
#include "kernels/cuda/norm_running.cuh"

/* Computes statistics from the sums of all ranks. batch_mean, batch_var: (parts of the whole batch, channels). */
template <typename A>
__global__ void shared_statistics(A *mean_out, A *invstd_out, A *batch_mean, A *batch_var, const double *all,
                                  running<A> r, unsigned *tickets, part_rows here, part_rows whole,
                                  double eps) {
    int channels = here.m.channels;
    int64_t at = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    int part = (int)(at / channels), c = (int)(at % channels), view = part / whole.cut.blocks;
    if (part < whole.count) {
        const double *sums = all + (int64_t)part * 2 * channels + c;
        double rows = (double)cld_cut_rows(&whole.cut, part), mean = sums[0] / rows;
        double var = sums[channels] / rows - mean * mean;
        var = var < 0 ? 0 : var;
        batch_mean[at] = (A)mean;
        batch_var[at] = (A)(var * rows / (rows - 1));
        int block = part % whole.cut.blocks - here.cut.first;
        if (block >= 0 && block < here.cut.blocks) {
            int64_t to = ((int64_t)view * here.cut.blocks + block) * channels + c;
            mean_out[to] = (A)mean;
            invstd_out[to] = (A)(1 / sqrt(var + eps));
        }
    }
    if ((r.mean || r.var || r.batches) && comes_last(tickets, gridDim.x))
        move_running(r, batch_mean, batch_var, whole);
}

template <typename A>
static cld_status use_sums(const cld_array *mean, const cld_array *invstd, const cld_array *sums,
                           const cld_array *x, const cld_array *running_mean, const cld_array *running_var,
                           const cld_array *batches, const cld_norm_params *p) {
    int64_t positions = x->shape[2] * x->shape[3], channels = x->shape[1];
    cld_parts parts = cld_parts_whole(&p->parts);
    part_rows here = launch_parts(x, &p->parts, 1).rows, whole = here;
    whole.cut = cut_of_positions(&parts, cld_parts_whole_rows(&p->parts, x->shape[0]), positions);
    whole.count = cld_part_count(&parts);
    int64_t count = whole.count * channels, threads = 256;
    CLD_SCRATCH batch;
    CLD_TRY(cld_cuda_scratch(&batch, 2 * (size_t)count * sizeof(A)));
    A *batch_mean = (A *)batch.data;
    return CLD_LAUNCH((shared_statistics<A>), (unsigned)((count + threads - 1) / threads), (int)threads, 0,
                      vector_of<A>(mean), vector_of<A>(invstd), batch_mean, batch_mean + count,
                      (const double *)vector_of<double>(sums),
                      running_of<A>(running_mean, running_var, batches, p), cld_cuda_tickets(), here, whole,
                      p->eps);
}

cld_status cld_cuda_norm_use_sums(const cld_array *mean, const cld_array *invstd, const cld_array *sums,
                                  const cld_array *x, const cld_array *running_mean,
                                  const cld_array *running_var, const cld_array *batches,
                                  const cld_norm_params *p) {
    CLD_BY_WIDE(mean->dtype, A,
                CLD_TRY(use_sums<A>(mean, invstd, sums, x, running_mean, running_var, batches, p)));
    return CLD_OK;
}
