/* Ranges, histograms and thinned lines. The contract is in measure.h. */
#include "runtime/plot/measure.h"

#include <math.h>

static bool counts(double value, bool positive) { return isfinite(value) && (!positive || value > 0); }

bool cld_plot_range(const cld_tensor *x, const cld_tensor *y, cld_plot_wanted wanted, double *least,
                    double *most) {
    const double *at = x->a.data, *beside = y ? y->a.data : NULL;
    *least = INFINITY;
    *most = -INFINITY;
    for (int64_t i = 0; i < cld_numel(&x->a); i++) {
        if (!counts(at[i], wanted.positive) || (beside && !counts(beside[i], wanted.y_positive))) continue;
        *least = fmin(*least, at[i]);
        *most = fmax(*most, at[i]);
    }
    return *least <= *most;
}

cld_tensor *cld_plot_histogram(const cld_tensor *x, double least, double most, int64_t count) {
    CLD_AUTO cld_tensor *bins = cld_tensor_full(CLD_F64, 1, &count, cld_cpu_backend(), 0);
    if (!bins) return NULL;
    const double *at = x->a.data, half = most / 2 - least / 2;
    double *in = bins->a.data;
    for (int64_t i = 0; i < cld_numel(&x->a); i++) {
        if (!(at[i] >= least && at[i] <= most)) continue;
        int64_t bin = (int64_t)((at[i] / 2 - least / 2) / half * (double)count);
        in[bin < count ? bin : count - 1] += 1;
    }
    return cld_tensor_steal(&bins);
}

/* ---- thinning ------------------------------------------------------------------------------------------ */

/* The points from `first` to `last`, with the lowest and the highest of them. */
typedef struct column {
    int64_t first, lowest, highest, last;
} column;

static int64_t put_column(double *out, const double *p, const column *c) {
    int64_t kept[] = {c->first, c->lowest < c->highest ? c->lowest : c->highest,
                      c->lowest < c->highest ? c->highest : c->lowest, c->last};
    int64_t count = 0;
    for (int i = 0; i < 4; i++) {
        if (i && kept[i] == kept[i - 1]) continue;
        out[2 * count] = p[2 * kept[i]];
        out[2 * count + 1] = p[2 * kept[i] + 1];
        count++;
    }
    return count;
}

static bool is_point(const double *p) { return isfinite(p[0]) && isfinite(p[1]); }

/* The points in i's column from i on; if i is a gap, i alone. */
static column column_at(const double *p, int64_t i, int64_t count) {
    column c = {i, i, i, i};
    if (!is_point(p + 2 * i)) return c;
    for (int64_t at = i + 1;
         at < count && is_point(p + 2 * at) && floor(2 * p[2 * at]) == floor(2 * p[2 * i]); at++) {
        if (p[2 * at + 1] < p[2 * c.lowest + 1]) c.lowest = at;
        if (p[2 * at + 1] > p[2 * c.highest + 1]) c.highest = at;
        c.last = at;
    }
    return c;
}

cld_tensor *cld_plot_thinned(const cld_tensor *points) {
    int64_t count = points->a.shape[0], kept = 0;
    CLD_AUTO cld_tensor *all = cld_tensor_new(CLD_F64, 2, points->a.shape, cld_cpu_backend());
    if (!all) return NULL;
    const double *p = points->a.data;
    double *out = all->a.data;
    for (int64_t i = 0; i < count;) {
        column c = column_at(p, i, count);
        kept += put_column(out + 2 * kept, p, &c);
        i = c.last + 1;
    }
    return cld_tensor_rows(all, 0, kept);
}
