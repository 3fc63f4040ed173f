/* What is counted before a plot is drawn. Tensors are f64, dense, on the cpu. */
#ifndef CLD_PLOT_MEASURE_H
#define CLD_PLOT_MEASURE_H

#include "runtime/tensor/tensor.h"

/* The least and the largest of x's finite elements, of the positive ones if that is wanted, and, if y is given, of those whose
 * element of y is so as well. False if there is none. */
typedef struct cld_plot_wanted {
    bool positive, y_positive;
} cld_plot_wanted;
bool cld_plot_range(const cld_tensor *x, const cld_tensor *y, cld_plot_wanted wanted, double *least,
                    double *most);

/* How many finite elements lie in each of `count` parts of the same width from least to most, which belongs to the last:
 * numpy.histogram. A new f64 (count). */
cld_tensor *cld_plot_histogram(const cld_tensor *x, double least, double most, int64_t count);

/* A line's points (n, 2) without those that nobody could see: of neighbours within half a pixel's column the first, the lowest,
 * the highest and the last stay (Jugel et al., "M4", VLDB 2014), and all gaps. A new f64 (m, 2). */
cld_tensor *cld_plot_thinned(const cld_tensor *points);

#endif
