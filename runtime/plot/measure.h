/* What is computed before a plot is drawn. Tensors are f64, dense, on the cpu. */
#ifndef CLD_PLOT_MEASURE_H
#define CLD_PLOT_MEASURE_H

#include "runtime/tensor/tensor.h"

/* The smallest and the largest of x's finite elements; only of the positive ones if that is wanted. If y is given, only
 * elements count whose element of y fulfils the same conditions. False if there are none. */
typedef struct cld_plot_wanted {
    bool positive, y_positive;
} cld_plot_wanted;
bool cld_plot_range(const cld_tensor *x, const cld_tensor *y, cld_plot_wanted wanted, double *least,
                    double *most);

/* A new f64 (count): how many finite elements are in each of `count` bins of equal width from least to most. `most`
 * itself belongs to the last bin, as in numpy.histogram. */
cld_tensor *cld_plot_histogram(const cld_tensor *x, double least, double most, int64_t count);

/* A new f64 (m, 2): a line's points (n, 2) without those that nobody could see. Of neighbours in the same column, half
 * a pixel wide, the first, the lowest, the highest and the last stay (Jugel et al., "M4", VLDB 2014), and so do all
 * gaps. */
cld_tensor *cld_plot_thinned(const cld_tensor *points);

#endif
