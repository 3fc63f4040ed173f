/* Convolutions on the host: plain loops in float, or double for f64, over copies in that type. In each of the three,
 * the innermost loop adds a multiple of a row of adjacent channels to another row. */
#include "kernels/cuda/dnn.h"

#include <stdlib.h>
#include <vector>

#include "kernels/cuda/blas.h"
#include "kernels/cuda/number.cuh"
#include "kernels/cuda/plans.h"

cld_status cld_cuda_dnn_check(void) { return CLD_OK; }
const char *cld_cuda_dnn_version(void) { return "loops on the host"; }

template <typename T> static void add_multiple(T *out, T factor, const T *row, int64_t n) {
#pragma omp simd
    for (int64_t i = 0; i < n; i++) out[i] += factor * row[i];
}

/* body(kh, kw, ih, iw): for each element of the kernel that meets the image at output (oh, ow), with its input
 * position. */
template <typename Body>
static void for_each_tap(const cld_dnn_shape &s, int64_t oh, int64_t ow, const Body &body) {
    for (int kh = 0; kh < s.kernel[0]; kh++) {
        int64_t ih = oh * s.stride[0] - s.padding[0] + (int64_t)kh * s.dilation[0];
        if (ih < 0 || ih >= s.h) continue;
        for (int kw = 0; kw < s.kernel[1]; kw++) {
            int64_t iw = ow * s.stride[1] - s.padding[1] + (int64_t)kw * s.dilation[1];
            if (iw >= 0 && iw < s.w) body(kh, kw, ih, iw);
        }
    }
}

/* y += x * w, with w as [kh][kw][c / groups][o]. */
template <typename T> static void forward(T *y, const T *x, const T *w, const cld_dnn_shape &s) {
    int64_t inputs = s.c / s.groups, outputs = s.o / s.groups;
#pragma omp parallel for collapse(2) schedule(static)
    for (int64_t n = 0; n < s.n; n++)
        for (int64_t oh = 0; oh < s.oh; oh++)
            for (int64_t ow = 0; ow < s.ow; ow++)
                for_each_tap(s, oh, ow, [&](int kh, int kw, int64_t ih, int64_t iw) {
                    T *out = y + ((n * s.oh + oh) * s.ow + ow) * s.o;
                    const T *in = x + ((n * s.h + ih) * s.w + iw) * s.c;
                    const T *rows = w + ((int64_t)kh * s.kernel[1] + kw) * inputs * s.o;
                    for (int64_t g = 0; g < s.groups; g++)
                        for (int64_t c = 0; c < inputs; c++)
                            add_multiple(out + g * outputs, in[g * inputs + c], rows + c * s.o + g * outputs,
                                         outputs);
                });
}

/* dx += dy * w */
template <typename T> static void data(T *dx, const T *dy, const T *w, const cld_dnn_shape &s) {
    int64_t inputs = s.c / s.groups, outputs = s.o / s.groups;
#pragma omp parallel for schedule(static)
    for (int64_t n = 0; n < s.n; n++)
        for (int64_t oh = 0; oh < s.oh; oh++)
            for (int64_t ow = 0; ow < s.ow; ow++)
                for_each_tap(s, oh, ow, [&](int kh, int kw, int64_t ih, int64_t iw) {
                    T *out = dx + ((n * s.h + ih) * s.w + iw) * s.c;
                    const T *in = dy + ((n * s.oh + oh) * s.ow + ow) * s.o;
                    for (int64_t o = 0; o < s.o; o++)
                        add_multiple(out + o / outputs * inputs, in[o],
                                     w + ((o * s.kernel[0] + kh) * s.kernel[1] + kw) * inputs, inputs);
                });
}

/* dw += dy * x */
template <typename T> static void weight(T *dw, const T *dy, const T *x, const cld_dnn_shape &s) {
    int64_t inputs = s.c / s.groups, outputs = s.o / s.groups;
#pragma omp parallel for schedule(static)
    for (int64_t o = 0; o < s.o; o++)
        for (int64_t n = 0; n < s.n; n++)
            for (int64_t oh = 0; oh < s.oh; oh++)
                for (int64_t ow = 0; ow < s.ow; ow++) {
                    T factor = dy[((n * s.oh + oh) * s.ow + ow) * s.o + o];
                    for_each_tap(s, oh, ow, [&](int kh, int kw, int64_t ih, int64_t iw) {
                        add_multiple(dw + ((o * s.kernel[0] + kh) * s.kernel[1] + kw) * inputs, factor,
                                     x + ((n * s.h + ih) * s.w + iw) * s.c + o / outputs * inputs, inputs);
                    });
                }
}

template <typename T, typename S> static std::vector<T> widened(const S *data, int64_t n) {
    std::vector<T> out((size_t)n);
    for (int64_t i = 0; i < n; i++) out[(size_t)i] = load(data[i]);
    return out;
}

template <typename S, typename T> static void narrow(S *out, const std::vector<T> &values) {
    for (size_t i = 0; i < values.size(); i++) out[i] = store<S>(values[i]);
}

/* [o][tap][c] as [tap][c][o] */
template <typename T> static std::vector<T> outputs_last(const std::vector<T> &w, int64_t outputs) {
    std::vector<T> out(w.size());
    int64_t rest = (int64_t)w.size() / outputs;
    for (int64_t o = 0; o < outputs; o++)
        for (int64_t i = 0; i < rest; i++) out[(size_t)(i * outputs + o)] = w[(size_t)(o * rest + i)];
    return out;
}

/* T: the compute type. */
template <typename S, typename T>
static void convolve(cld_dnn_kind kind, S *x_data, S *w_data, S *y_data, const cld_dnn_shape &s) {
    int64_t nx = s.n * s.h * s.w * s.c, nw = s.o * s.kernel[0] * s.kernel[1] * (s.c / s.groups),
            ny = s.n * s.oh * s.ow * s.o;
    std::vector<T> x, w, y;
    if (kind == CLD_DNN_DATA)
        x.assign((size_t)nx, T(0));
    else
        x = widened<T>(x_data, nx);
    if (kind == CLD_DNN_WEIGHT)
        w.assign((size_t)nw, T(0));
    else
        w = widened<T>(w_data, nw);
    if (kind == CLD_DNN_FORWARD)
        y.assign((size_t)ny, T(0));
    else
        y = widened<T>(y_data, ny);

    switch (kind) {
    case CLD_DNN_FORWARD:
        if (nw > 0) forward(y.data(), x.data(), outputs_last(w, s.o).data(), s);
        return narrow(y_data, y);
    case CLD_DNN_DATA: data(x.data(), y.data(), w.data(), s); return narrow(x_data, x);
    case CLD_DNN_WEIGHT: weight(w.data(), y.data(), x.data(), s); return narrow(w_data, w);
    }
}

/* There are two engines: 0, and 1, which sums in double and so rounds differently. CLD_HOST_ENGINE in the environment
 * chooses one; the default is 0. */
static int64_t first_choice() {
    const char *named = getenv("CLD_HOST_ENGINE");
    return named && named[0] == '1' ? 1 : 0;
}

static cld_status find_engine(int64_t *engine, cld_dnn_kind kind, const cld_dnn_shape *s) {
    cld_conv_plan plan = cld_plan_for(kind, s, cld_cuda_tf32(), 16);
    const cld_conv_plan *given = cld_plans_given(&plan);
    *engine = given && given->engine <= 1 ? given->engine : first_choice();
    if (given && given->engine <= 1) return CLD_OK;
    plan.engine = *engine;
    return cld_plans_chosen(&plan);
}

cld_status cld_cuda_convolve(cld_dnn_kind kind, void *x, void *w, void *y, const cld_dnn_shape *s) {
    static const char *const names[] = {"conv2d", "conv2d_data", "conv2d_weight"};
    cld_dnn_shape shape = *s;
    int64_t engine;
    CLD_TRY(find_engine(&engine, kind, s));
    CLD_BY_FLOAT(s->dtype, S, return cld_host_enqueue({names[kind], CLD_HOST_LIBRARY, NULL}, [=]() {
                     (engine == 1 ? convolve<S, double>
                                  : convolve<S, typename cld_compute<S>::type>)(kind, static_cast<S *>(x),
                                                                                static_cast<S *>(w),
                                                                                static_cast<S *>(y), shape);
                 }));
}
