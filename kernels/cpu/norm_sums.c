/* Batch norm for blocks that several ranks share: statistics from the sums of all ranks. */
#include "kernels/cpu/norm.h"

#include <math.h>
#include <string.h>

static cld_norm_pair pair_at(const cld_array *sums, int part) {
    int64_t channels = sums->shape[2];
    double *first = (double *)sums->data + part * 2 * channels;
    return (cld_norm_pair){first, first + channels};
}

cld_norm_pair cld_norm_pair_of(const cld_array *sums, const cld_cut *cut, int part) {
    return pair_at(sums, cld_cut_whole_part(cut, part));
}

void cld_norm_clear_sums(const cld_array *sums) {
    memset(sums->data, 0, (size_t)cld_numel(sums) * sizeof(double));
}

static void set(const cld_array *a, int64_t at, double v) {
    if (a->dtype == CLD_F64)
        ((double *)a->data)[at] = v;
    else
        ((float *)a->data)[at] = (float)v;
}

/* The biased variance of n values. For equal values it may come out below 0. */
static double variance(const cld_norm_pair *s, int64_t c, double n) {
    double mean = s->first[c] / n, v = s->second[c] / n - mean * mean;
    return v < 0 ? 0 : v;
}

void cld_norm_use_sums(const cld_array *mean, const cld_array *invstd, const cld_batch_statistics *batch,
                       const cld_array *sums, const cld_array *x, const cld_norm_params *p) {
    int64_t channels = x->shape[1], positions = x->shape[2] * x->shape[3];
    cld_cut here = cld_cut_of(&p->parts, x->shape[0]);
    for (int part = 0; part < cld_part_count(&p->parts); part++) {
        cld_norm_pair s = cld_norm_pair_of(sums, &here, part);
        double n = (double)(cld_cut_whole_rows(&here, part) * positions);
        for (int64_t c = 0; c < channels; c++) {
            set(mean, part * channels + c, s.first[c] / n);
            set(invstd, part * channels + c, 1 / sqrt(variance(&s, c, n) + p->eps));
        }
    }
    cld_parts whole = cld_parts_whole(&p->parts);
    cld_cut all = cld_cut_of(&whole, cld_parts_whole_rows(&p->parts, x->shape[0]));
    for (int part = 0; part < cld_part_count(&whole); part++) {
        cld_norm_pair s = pair_at(sums, part);
        double n = (double)(cld_cut_rows(&all, part) * positions);
        for (int64_t c = 0; c < channels; c++) {
            batch->mean[part * channels + c] = s.first[c] / n;
            batch->var[part * channels + c] = variance(&s, c, n) * n / (n - 1);
        }
    }
}
