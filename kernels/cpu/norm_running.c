/* Batch norm's running statistics in training: their update from the statistics of the views (kernels/parts.h). */
#include "kernels/cpu/norm.h"

#include <math.h>

static void move_one(const cld_array *running, int64_t c, cld_running_move move, double batch) {
    if (!running) return;
    if (running->dtype == CLD_F64) {
        double *v = (double *)running->data + c;
        *v = move.keep * *v + move.gain * batch;
    } else {
        float *v = (float *)running->data + c;
        *v = (float)(move.keep * *v + move.gain * batch);
    }
}

/* A view's statistics, the mean over its blocks, written over its first block's. */
static cld_batch_statistics merge_blocks(const cld_batch_statistics *batch, int64_t images, int64_t channels,
                                         const cld_parts *parts, int view) {
    int blocks = cld_parts_blocks(parts), first = view * blocks;
    int64_t begin = cld_part_begin(parts, images, first), end = cld_part_begin(parts, images, first + blocks);
    cld_batch_statistics merged = {batch->mean + first * channels, batch->var + first * channels};
    for (int block = 0; block < blocks; block++) {
        double share = (double)cld_part_rows(parts, images, first + block) / (double)(end - begin);
        for (int64_t c = 0; c < channels; c++) {
            int64_t at = block * channels + c;
            merged.mean[c] = (block ? merged.mean[c] : 0) + share * merged.mean[at];
            merged.var[c] = (block ? merged.var[c] : 0) + share * merged.var[at];
        }
    }
    return merged;
}

/* Whether all are finite in the dtype of the running statistics. */
static bool all_finite(const cld_batch_statistics *s, int64_t channels, bool wide) {
    for (int64_t c = 0; c < channels; c++) {
        double mean = s->mean[c], var = s->var[c];
        if (!isfinite(wide ? mean : (float)mean) || !isfinite(wide ? var : (float)var)) return false;
    }
    return true;
}

/* to = fade * to + gain * by */
static void gather(const cld_batch_statistics *to, double fade, double gain, const cld_batch_statistics *by,
                   int64_t channels) {
    for (int64_t c = 0; c < channels; c++) {
        to->mean[c] = fade * to->mean[c] + gain * by->mean[c];
        to->var[c] = fade * to->var[c] + gain * by->var[c];
    }
}

static void move_all(const cld_array *running_mean, const cld_array *running_var, cld_running_move move,
                     const cld_batch_statistics *by, int64_t channels) {
    for (int64_t c = 0; c < channels; c++) {
        move_one(running_mean, c, move, by->mean[c]);
        move_one(running_var, c, move, by->var[c]);
    }
}

/* Skips statistics that are not finite: the optimizer then skips the step, but what is written here would stay. */
void cld_norm_move_running(const cld_array *running_mean, const cld_array *running_var,
                           const cld_array *batches, const cld_batch_statistics *batch, const cld_array *x,
                           const cld_norm_params *p) {
    const cld_array *given = running_mean ? running_mean : running_var;
    cld_parts whole = cld_parts_whole(&p->parts);
    int64_t images = cld_parts_whole_rows(&p->parts, x->shape[0]);
    bool wide = !given || given->dtype == CLD_F64, by_share = p->share.total > 0;
    int64_t channels = x->shape[1], counted = 0;
    int views = cld_parts_views(&p->parts);
    cld_running_move of_a_view = {1 - p->momentum, p->momentum};
    for (int view = 0; view < views; view++) {
        cld_batch_statistics s = merge_blocks(batch, images, channels, &whole, view);
        bool finite = all_finite(&s, channels, wide);
        if (!finite && by_share) return;
        if (by_share) { /* all views make one update: gathered in the memory of the first one */
            gather(batch, view ? 1 - p->momentum : 0, p->momentum, &s, channels);
        } else if (finite) {
            move_all(running_mean, running_var, of_a_view, &s, channels);
            counted++;
        }
    }
    if (by_share) {
        move_all(running_mean, running_var, cld_move_by_share(p->momentum, views, &p->share), batch,
                 channels);
        counted = p->share.done == 0 ? views : 0;
    }
    if (batches) *(int64_t *)batches->data += counted;
}
