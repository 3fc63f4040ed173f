/* f64 convolutions by plain loops: slow, obvious, and the reference for the other paths. Any strides.
 *
 *     y[n, o, i, j] = bias[o] + sum over c, u, v of
 *                     x[n, c', i * s0 - p0 + u * d0, j * s1 - p1 + v * d1] w[o, c, u, v]
 *
 * where o's group holds the channels c' = group * C/groups + c, and x is zero outside. The two gradients run over the
 * same pairs (output position, tap) and each computes one element of its result at a time.
 */
#include "kernels/cpu/conv_reference.h"

static double *at(const cld_array *a, int64_t i, int64_t j, int64_t k, int64_t l) {
    return (double *)a->data + i * a->strides[0] + j * a->strides[1] + k * a->strides[2] + l * a->strides[3];
}

static double *at1(const cld_array *a, int64_t i) { return (double *)a->data + i * a->strides[0]; }

/* The input coordinate under tap u of output position i along axis (0: height, 1: width); -1 outside. */
static int64_t input_of(const cld_conv_params *p, const cld_array *x, int axis, int64_t i, int64_t u) {
    int64_t at = i * p->stride[axis] - p->padding[axis] + u * p->dilation[axis];
    return at >= 0 && at < x->shape[2 + axis] ? at : -1;
}

/* The output position whose tap u reads the input coordinate `at`; -1 if there is none. */
static int64_t output_of(const cld_conv_params *p, const cld_array *y, int axis, int64_t at, int64_t u) {
    int64_t scaled = at + p->padding[axis] - u * p->dilation[axis];
    if (scaled < 0 || scaled % p->stride[axis] != 0) return -1;
    int64_t i = scaled / p->stride[axis];
    return i < y->shape[2 + axis] ? i : -1;
}

void cld_reference_conv2d(const cld_array *y, const cld_array *x, const cld_array *w, const cld_array *bias,
                          const cld_conv_params *p) {
    int64_t per_group_out = w->shape[0] / p->groups, per_group_in = w->shape[1];
#pragma omp parallel for collapse(2) schedule(static)
    for (int64_t n = 0; n < y->shape[0]; n++)
        for (int64_t o = 0; o < y->shape[1]; o++)
            for (int64_t i = 0; i < y->shape[2]; i++)
                for (int64_t j = 0; j < y->shape[3]; j++) {
                    int64_t first = o / per_group_out * per_group_in;
                    double sum = bias ? *at1(bias, o) : 0;
                    for (int64_t c = 0; c < per_group_in; c++)
                        for (int64_t u = 0; u < w->shape[2]; u++)
                            for (int64_t v = 0; v < w->shape[3]; v++) {
                                int64_t h = input_of(p, x, 0, i, u), l = input_of(p, x, 1, j, v);
                                if (h >= 0 && l >= 0) sum += *at(x, n, first + c, h, l) * *at(w, o, c, u, v);
                            }
                    *at(y, n, o, i, j) = sum;
                }
}

void cld_reference_conv2d_data(const cld_array *dx, const cld_array *dy, const cld_array *w,
                               const cld_conv_params *p) {
    int64_t per_group_out = w->shape[0] / p->groups, per_group_in = w->shape[1];
#pragma omp parallel for collapse(2) schedule(static)
    for (int64_t n = 0; n < dx->shape[0]; n++)
        for (int64_t c = 0; c < dx->shape[1]; c++)
            for (int64_t h = 0; h < dx->shape[2]; h++)
                for (int64_t l = 0; l < dx->shape[3]; l++) {
                    int64_t first = c / per_group_in * per_group_out;
                    double sum = 0;
                    for (int64_t o = first; o < first + per_group_out; o++)
                        for (int64_t u = 0; u < w->shape[2]; u++)
                            for (int64_t v = 0; v < w->shape[3]; v++) {
                                int64_t i = output_of(p, dy, 0, h, u), j = output_of(p, dy, 1, l, v);
                                if (i >= 0 && j >= 0)
                                    sum += *at(dy, n, o, i, j) * *at(w, o, c % per_group_in, u, v);
                            }
                    *at(dx, n, c, h, l) = sum;
                }
}

void cld_reference_conv2d_weight(const cld_array *dw, const cld_array *dbias, const cld_array *x,
                                 const cld_array *dy, const cld_conv_params *p) {
    int64_t per_group_out = dw->shape[0] / p->groups, per_group_in = dw->shape[1];
#pragma omp parallel for collapse(2) schedule(static)
    for (int64_t o = 0; o < dw->shape[0]; o++)
        for (int64_t c = 0; c < dw->shape[1]; c++)
            for (int64_t u = 0; u < dw->shape[2]; u++)
                for (int64_t v = 0; v < dw->shape[3]; v++) {
                    int64_t channel = o / per_group_out * per_group_in + c;
                    double sum = 0;
                    for (int64_t n = 0; n < x->shape[0]; n++)
                        for (int64_t i = 0; i < dy->shape[2]; i++)
                            for (int64_t j = 0; j < dy->shape[3]; j++) {
                                int64_t h = input_of(p, x, 0, i, u), l = input_of(p, x, 1, j, v);
                                if (h >= 0 && l >= 0) sum += *at(dy, n, o, i, j) * *at(x, n, channel, h, l);
                            }
                    *at(dw, o, c, u, v) = sum;
                }
    for (int64_t o = 0; dbias && o < dw->shape[0]; o++) {
        double sum = 0;
        for (int64_t n = 0; n < dy->shape[0]; n++)
            for (int64_t i = 0; i < dy->shape[2]; i++)
                for (int64_t j = 0; j < dy->shape[3]; j++) sum += *at(dy, n, o, i, j);
        *at1(dbias, o) = sum;
    }
}
