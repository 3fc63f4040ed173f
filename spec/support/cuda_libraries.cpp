/* blas.h and dnn.h of kernels/cuda against the sums that define them, in double: the loops on the host, and on a GPU
 * cuBLASLt and cuDNN. Prints what differs, and how much was checked; the exit code is 1 if anything differs, 77 if
 * there is no device. spec/cuda_libraries_spec.lua runs it. */
#include <math.h>
#include <stdio.h>
#include <vector>

#include "kernels/cuda/blas.h"
#include "kernels/cuda/cuda.h"
#include "kernels/cuda/dnn.h"
#include "kernels/cuda/number.cuh"

const char *cld_cuda_name(void) { return "this device"; } /* for the errors of memory.c */

static int checked_values, cases, failures;

static void fail(const char *what, const char *why) {
    if (failures++ < 20) printf("%s: %s\n", what, why);
}

/* ---- arrays of one dtype on the device, as doubles here ---- */

static double from_bits(cld_dtype dtype, const unsigned char *data) {
    switch (dtype) {
    case CLD_F64: return *reinterpret_cast<const double *>(data);
    case CLD_F32: return *reinterpret_cast<const float *>(data);
    case CLD_BF16: return load(*reinterpret_cast<const bf16 *>(data));
    default: return load(*reinterpret_cast<const f16 *>(data));
    }
}

static void to_bits(cld_dtype dtype, unsigned char *data, double value) {
    switch (dtype) {
    case CLD_F64: *reinterpret_cast<double *>(data) = value; break;
    case CLD_F32: *reinterpret_cast<float *>(data) = (float)value; break;
    case CLD_BF16: *reinterpret_cast<bf16 *>(data) = store<bf16>(value); break;
    default: *reinterpret_cast<f16 *>(data) = store<f16>(value); break;
    }
}

/* Half the relative distance between neighbouring numbers. */
static double rounding(cld_dtype dtype) {
    return dtype == CLD_F64 ? 0x1p-53 : dtype == CLD_F32 ? 0x1p-24 : dtype == CLD_BF16 ? 0x1p-9 : 0x1p-12;
}

static uint64_t state = 1;
static double random_value() { /* in [-1, 1) */
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (double)(int64_t)(state >> 11) / (double)((int64_t)1 << 52) - 1;
}

struct array {
    cld_dtype dtype;
    std::vector<double> values;
    void *data = nullptr;

    array(cld_dtype dtype, int64_t n) : dtype(dtype), values((size_t)n) {
        size_t size = cld_dtype_size(dtype);
        std::vector<unsigned char> bytes((size_t)n * size + 1);
        for (size_t i = 0; i < values.size(); i++) {
            to_bits(dtype, &bytes[i * size], random_value());
            values[i] = from_bits(dtype, &bytes[i * size]);
        }
        if (cld_cuda_malloc(&data, bytes.size()) != CLD_OK ||
            cld_cuda_copy_from_host(data, bytes.data(), (size_t)n * size) != CLD_OK)
            fail("memory", cld_error_message());
    }
    array(const array &) = delete;
    ~array() { cld_cuda_free(data); }

    std::vector<double> now() const {
        size_t size = cld_dtype_size(dtype);
        std::vector<unsigned char> bytes(values.size() * size + 1);
        std::vector<double> out(values.size());
        if (cld_cuda_copy_to_host(bytes.data(), data, values.size() * size) != CLD_OK)
            fail("memory", cld_error_message());
        for (size_t i = 0; i < out.size(); i++) out[i] = from_bits(dtype, &bytes[i * size]);
        return out;
    }
};

/* Sums, the sizes of their terms, and the number of terms. */
struct expected {
    std::vector<double> sum, size;
    std::vector<int> terms;
    explicit expected(const std::vector<double> &start)
        : sum(start), size(start.size(), 0), terms(start.size(), 0) {}
    void add(int64_t i, double term) {
        sum[(size_t)i] += term;
        size[(size_t)i] += fabs(term);
        terms[(size_t)i]++;
    }
    void clear(int64_t i) { sum[(size_t)i] = 0; }
    void scale(int64_t i, double by) {
        sum[(size_t)i] *= by;
        size[(size_t)i] += fabs(sum[(size_t)i]);
        terms[(size_t)i]++;
    }
};

static void compare(const char *what, const array &got_array, const expected &want, cld_dtype factors) {
    std::vector<double> got = got_array.now();
    double unit = factors == CLD_F64 ? 0x1p-53 : 0x1p-24;
    cases++;
    for (size_t i = 0; i < got.size(); i++) {
        /* The rounding of each sum, in any order, and of the result (f16's smallest step included). */
        double error = fabs(got[i] - want.sum[i]);
        double most = (want.terms[i] + 2) * unit * want.size[i] +
                      2 * rounding(got_array.dtype) * fabs(want.sum[i]) +
                      (got_array.dtype == CLD_F16 ? 0x1p-25 : 0);
        checked_values++;
        if (!(error <= most)) {
            char why[200];
            snprintf(why, sizeof why, "element %zu of %zu: expected %.9g, got %.9g", i, got.size(),
                     want.sum[i], got[i]);
            return fail(what, why);
        }
    }
}

static const char *name_of(cld_dtype dtype) {
    return dtype == CLD_F64 ? "f64" : dtype == CLD_F32 ? "f32" : dtype == CLD_BF16 ? "bf16" : "f16";
}

/* ---- products ---- */

struct product_case {
    int64_t m, n, k, batch;
    bool transpose_a, transpose_b;
    int64_t gap;         /* between rows */
    bool shared_a, bias; /* one A for the whole batch */
    double alpha, beta;
};

static void check_product(const product_case &t, cld_dtype factors, cld_dtype result) {
    cld_product p = {};
    p.m = t.m, p.n = t.n, p.k = t.k, p.batch = t.batch;
    p.transpose_a = t.transpose_a, p.transpose_b = t.transpose_b;
    p.lda = (t.transpose_a ? t.m : t.k) + t.gap;
    p.ldb = (t.transpose_b ? t.k : t.n) + t.gap;
    p.ldc = t.n + t.gap;
    int64_t rows_a = t.transpose_a ? t.k : t.m, rows_b = t.transpose_b ? t.n : t.k;
    p.stride_a = t.shared_a ? 0 : rows_a * p.lda;
    p.stride_b = rows_b * p.ldb;
    p.stride_c = t.m * p.ldc;
    p.factors = factors, p.result = result;
    p.alpha = t.alpha, p.beta = t.beta;
    array a(factors, (t.shared_a ? 1 : t.batch) * rows_a * p.lda), b(factors, t.batch * p.stride_b),
        c(result, t.batch * p.stride_c), bias(result, t.n);
    if (t.bias) p.bias = bias.data;

    expected want(c.values);
    for (int64_t i = 0; i < t.batch; i++)
        for (int64_t row = 0; row < t.m; row++)
            for (int64_t column = 0; column < t.n; column++) {
                int64_t at = i * p.stride_c + row * p.ldc + column;
                if (t.beta == 0)
                    want.clear(at);
                else
                    want.scale(at, t.beta);
                for (int64_t k = 0; k < t.k; k++)
                    want.add(at,
                             t.alpha *
                                 a.values[(size_t)(i * p.stride_a +
                                                   (t.transpose_a ? k * p.lda + row : row * p.lda + k))] *
                                 b.values[(size_t)(i * p.stride_b + (t.transpose_b ? column * p.ldb + k
                                                                                   : k * p.ldb + column))]);
                if (t.bias) want.add(at, bias.values[(size_t)column]);
            }
    char what[200];
    snprintf(what, sizeof what, "%d x (%d, %d, %d)%s%s gap %d%s alpha %g beta %g %s to %s", (int)t.batch,
             (int)t.m, (int)t.n, (int)t.k, t.transpose_a ? " A'" : "", t.transpose_b ? " B'" : "", (int)t.gap,
             t.bias ? " bias" : "", t.alpha, t.beta, name_of(factors), name_of(result));
    if (cld_cuda_product(c.data, a.data, b.data, &p) == CLD_OK)
        compare(what, c, want, factors);
    else if (!(factors == CLD_F64 && t.bias && cld_error_code() == CLD_UNSUPPORTED))
        fail(what, cld_error_message());
}

/* How many descriptors of cuBLASLt are made and not destroyed: from spec/support/cuda_blas.c, if that is linked. */
extern "C" __attribute__((weak)) int cuda_blas_descriptors(void);

static void check_products() {
    static const product_case tests[] = {
        {1, 1, 1, 1, false, false, 0, false, false, 1, 0},
        {7, 5, 9, 1, false, false, 0, false, false, 1, 0},
        {7, 5, 9, 1, true, false, 0, false, true, 0.5, 0},
        {7, 5, 9, 1, false, true, 3, false, true, -2, 0.5},
        {7, 5, 9, 1, true, true, 1, false, false, 1, 1},
        {1, 33, 17, 1, false, true, 0, false, true, 1, 0},
        {33, 1, 17, 1, true, false, 0, false, true, 1, 0},
        {64, 48, 32, 1, false, false, 0, false, true, 1, 2},
        {16, 24, 40, 3, false, true, 0, false, false, 2, 0},
        {16, 24, 40, 3, true, false, 8, true, true, 1, -1},
        {5, 3, 2, 4, false, false, 1, false, false, 1, 0},
        {6, 4, 0, 1, false, false, 0, false, false, 1, 0},
        {6, 4, 0, 2, true, false, 0, false, true, 1, 0.5},
        {0, 4, 3, 1, false, false, 0, false, false, 1, 0},
        {4, 0, 3, 1, false, false, 0, false, true, 1, 0},
        {130, 70, 90, 1, false, true, 0, false, false, 1, 0},
    };
    int kept = 0;
    for (int round = 0; round < 2; round++) {
        for (const product_case &t : tests) {
            for (cld_dtype dtype : {CLD_F32, CLD_F64, CLD_BF16, CLD_F16}) check_product(t, dtype, dtype);
            for (cld_dtype dtype : {CLD_BF16, CLD_F16}) check_product(t, dtype, CLD_F32);
        }
        /* The second time each shape already has its own descriptors, and failed products have left none. */
        int now = cuda_blas_descriptors ? cuda_blas_descriptors() : 0;
        if (round > 0 && now != kept) fail("descriptors", "a product that was made before has made more");
        kept = now;
    }
}

/* ---- convolutions ---- */

/* (n, c, h, w) is stored as [n][h][w][c] */
static int64_t at(int64_t n, int64_t c, int64_t h, int64_t w, int64_t channels, int64_t height,
                  int64_t width) {
    return ((n * height + h) * width + w) * channels + c;
}

static void check_convolution(const cld_dnn_shape &s, cld_dnn_kind kind) {
    int64_t inputs = s.c / s.groups, outputs = s.o / s.groups;
    array x(s.dtype, s.n * s.c * s.h * s.w), y(s.dtype, s.n * s.o * s.oh * s.ow),
        w(s.dtype, s.o * inputs * s.kernel[0] * s.kernel[1]);
    array &out = kind == CLD_DNN_FORWARD ? y : kind == CLD_DNN_DATA ? x : w;
    expected want(std::vector<double>(out.values.size(), 0.0));
    for (int64_t n = 0; n < s.n; n++)
        for (int64_t o = 0; o < s.o; o++)
            for (int64_t c = 0; c < inputs; c++)
                for (int64_t oh = 0; oh < s.oh; oh++)
                    for (int64_t ow = 0; ow < s.ow; ow++)
                        for (int kh = 0; kh < s.kernel[0]; kh++)
                            for (int kw = 0; kw < s.kernel[1]; kw++) {
                                int64_t h = oh * s.stride[0] + kh * s.dilation[0] - s.padding[0];
                                int64_t v = ow * s.stride[1] + kw * s.dilation[1] - s.padding[1];
                                if (h < 0 || h >= s.h || v < 0 || v >= s.w) continue;
                                int64_t ix = at(n, o / outputs * inputs + c, h, v, s.c, s.h, s.w);
                                int64_t iw = at(o, c, kh, kw, inputs, s.kernel[0], s.kernel[1]);
                                int64_t iy = at(n, o, oh, ow, s.o, s.oh, s.ow);
                                double vx = x.values[(size_t)ix], vw = w.values[(size_t)iw],
                                       vy = y.values[(size_t)iy];
                                if (kind == CLD_DNN_FORWARD) want.add(iy, vx * vw);
                                if (kind == CLD_DNN_DATA) want.add(ix, vy * vw);
                                if (kind == CLD_DNN_WEIGHT) want.add(iw, vy * vx);
                            }
    static const char *const kinds[] = {"forward", "data", "weight"};
    char what[200];
    snprintf(what, sizeof what, "%s x (%d, %d, %d, %d) w (%d, %d, %d, %d) stride %d %d padding %d %d %s",
             kinds[kind], (int)s.n, (int)s.c, (int)s.h, (int)s.w, (int)s.o, (int)inputs, s.kernel[0],
             s.kernel[1], s.stride[0], s.stride[1], s.padding[0], s.padding[1], name_of(s.dtype));
    if (cld_cuda_convolve(kind, x.data, w.data, y.data, &s) == CLD_OK)
        compare(what, out, want, s.dtype);
    else
        fail(what, cld_error_message());
}

static void check_convolutions() {
    /* n, c, h, w, o; kernel, stride, padding, dilation (rows, columns); groups */
    static const struct {
        int n, c, h, w, o, kernel[2], stride[2], padding[2], dilation[2], groups;
    } tests[] = {
        {2, 3, 7, 5, 4, {3, 3}, {1, 1}, {1, 1}, {1, 1}, 1},
        {1, 8, 6, 6, 16, {1, 1}, {1, 1}, {0, 0}, {1, 1}, 1},
        {2, 8, 9, 7, 8, {3, 3}, {2, 2}, {1, 1}, {1, 1}, 1},
        {2, 8, 8, 8, 16, {1, 1}, {2, 2}, {0, 0}, {1, 1}, 1},
        {1, 4, 10, 11, 6, {5, 3}, {2, 1}, {2, 0}, {1, 1}, 1},
        {2, 6, 8, 9, 4, {3, 2}, {1, 3}, {0, 1}, {2, 1}, 1},
        {2, 8, 7, 7, 12, {3, 3}, {1, 1}, {2, 2}, {2, 2}, 4},
        {1, 6, 5, 5, 6, {3, 3}, {1, 1}, {1, 1}, {1, 1}, 6},
        {3, 1, 4, 4, 1, {2, 2}, {2, 2}, {0, 0}, {1, 1}, 1},
        {1, 2, 3, 3, 2, {3, 3}, {1, 1}, {2, 2}, {1, 1}, 1},
        {0, 3, 5, 5, 4, {3, 3}, {1, 1}, {1, 1}, {1, 1}, 1},
    };
    for (const auto &t : tests)
        for (cld_dtype dtype : {CLD_F32, CLD_F64, CLD_BF16, CLD_F16})
            for (cld_dnn_kind kind : {CLD_DNN_FORWARD, CLD_DNN_DATA, CLD_DNN_WEIGHT}) {
                cld_dnn_shape s = {};
                s.dtype = dtype, s.n = t.n, s.c = t.c, s.h = t.h, s.w = t.w, s.o = t.o, s.groups = t.groups;
                for (int i = 0; i < 2; i++) {
                    s.kernel[i] = t.kernel[i], s.stride[i] = t.stride[i];
                    s.padding[i] = t.padding[i], s.dilation[i] = t.dilation[i];
                    (i ? s.ow : s.oh) =
                        ((i ? t.w : t.h) + 2 * t.padding[i] - t.dilation[i] * (t.kernel[i] - 1) - 1) /
                            t.stride[i] +
                        1;
                }
                check_convolution(s, kind);
            }
}

int main() {
    int devices;
    if (cld_cuda_count(&devices) != CLD_OK || cld_cuda_open(0) != CLD_OK) {
        printf("%s\n", cld_error_message());
        return 77;
    }
    printf("%s, %s\n", cld_cuda_blas_version(), cld_cuda_dnn_version());
    check_products();
    check_convolutions();
    printf("%d cases, %d values, %d failures\n", cases, checked_values, failures);
    return failures > 0;
}
