/* Group norm, and layer norm as a special case. A group of an image is a line (lines.cuh); its threads read it three
 * times: for the mean, for the variance, and to write. Backward reads it twice. Sums over threads are double.
 *
 * dweight and dbias are sums over images, in order: first over a channel's elements in each image, if it has several;
 * then a block adds up a slab of images for 32 channels; then the slabs are added. */
#include "kernels/cuda/block.cuh"
#include "kernels/cuda/lines.cuh"
#include "kernels/cuda/math.h"

enum { EACH = 8, THREADS = CLD_LINE_THREADS, COLUMNS = 32, LANES = THREADS / COLUMNS, MOST_SLABS = 64 };

template <typename T> struct vector_of { typedef float type; };
template <> struct vector_of<double> { typedef double type; };

/* Where the values of a channel lie; weight, bias: NULL means 1 and 0. */
template <typename T> struct norm_problem {
    typedef typename cld_compute<T>::type C;
    typedef typename vector_of<T>::type V;
    T *out; /* y, or dx */
    const T *x, *dy;
    const V *weight, *bias;
    V *mean, *invstd;
    double eps;
    int64_t images, channels, of_group, length; /* channels of a group, its elements */
    cld_divisor groups, inner;
    __device__ int64_t channel(int64_t first, int64_t i) const { return first + quotient(i, inner); }
    __device__ C weight_at(int64_t c) const { return weight ? (C)weight[c] : (C)1; }
    __device__ C bias_at(int64_t c) const { return bias ? (C)bias[c] : (C)0; }
    __device__ int64_t group_of(int64_t line) const { return line - quotient(line, groups) * groups.divisor; }
};

struct sum_of_two {
    double a, b;
};

__device__ static double sum_over(double *shared, const cld_place &p, double value) {
    return over_line(shared, p, value, [](double a, double b) { return a + b; });
}

template <typename T>
static __global__ void __launch_bounds__(THREADS) group_norm(norm_problem<T> q, cld_lines<1> l) {
    typedef typename cld_compute<T>::type C;
    CLD_SHARED(double, shared, [THREADS]);
    cld_place p = place_of(l);
    bool real = p.line < l.dims.total;
    int64_t length = real ? q.length : 0, first = real ? q.group_of(p.line) * q.of_group : 0;
    const T *x = q.x + p.line * q.length;
    T *y = q.out + p.line * q.length;
    C sum = 0, squares = 0;
    for (int64_t i = p.mine; i < length; i += p.along) sum += load(x[i]);
    double mean = sum_over(shared, p, (double)sum) / (double)q.length;
    C m = (C)mean;
    for (int64_t i = p.mine; i < length; i += p.along) {
        C d = load(x[i]) - m;
        squares += d * d;
    }
    double invstd = 1 / sqrt(sum_over(shared, p, (double)squares) / (double)q.length + q.eps);
    C r = (C)invstd;
    for (int64_t i = p.mine; i < length; i += p.along) {
        int64_t c = q.channel(first, i);
        y[i] = store<T>((load(x[i]) - m) * r * q.weight_at(c) + q.bias_at(c));
    }
    if (!real || p.mine > 0) return;
    q.mean[p.line] = (typename norm_problem<T>::V)mean;
    q.invstd[p.line] = (typename norm_problem<T>::V)invstd;
}

/* With g = dy weight: dx = (g - mean(g) - xhat mean(g xhat)) invstd. */
template <typename T>
static __global__ void __launch_bounds__(THREADS) group_norm_data(norm_problem<T> q, cld_lines<1> l) {
    typedef typename cld_compute<T>::type C;
    CLD_SHARED(sum_of_two, shared, [THREADS]);
    cld_place p = place_of(l);
    bool real = p.line < l.dims.total;
    int64_t length = real ? q.length : 0, first = real ? q.group_of(p.line) * q.of_group : 0;
    const T *x = q.x + p.line * q.length, *dy = q.dy + p.line * q.length;
    T *dx = q.out + p.line * q.length;
    C m = real ? (C)q.mean[p.line] : 0, r = real ? (C)q.invstd[p.line] : 0, sum = 0, dot = 0;
    for (int64_t i = p.mine; i < length; i += p.along) {
        C g = load(dy[i]) * q.weight_at(q.channel(first, i));
        sum += g;
        dot += g * (load(x[i]) - m);
    }
    sum_of_two own = {(double)sum, (double)dot};
    sum_of_two whole = over_line(shared, p, own, [](const sum_of_two &a, const sum_of_two &b) {
        return sum_of_two{a.a + b.a, a.b + b.b};
    });
    C b = (C)(whole.a / (double)q.length), a = (C)(whole.b / (double)q.length) * r * r;
    for (int64_t i = p.mine; i < length; i += p.along) {
        C g = load(dy[i]) * q.weight_at(q.channel(first, i));
        dx[i] = store<T>((g - b - (load(x[i]) - m) * a) * r);
    }
}

/* For each channel of each image: sums of dy xhat and of dy. */
template <typename T>
static __global__ void __launch_bounds__(THREADS)
    channel_sums(sum_of_two *sums, norm_problem<T> q, cld_lines<1> l, cld_divisor of_group) {
    typedef typename cld_compute<T>::type C;
    CLD_SHARED(sum_of_two, shared, [THREADS]);
    cld_place p = place_of(l);
    bool real = p.line < l.dims.total;
    int64_t length = real ? l.length : 0, group = real ? quotient(p.line, of_group) : 0;
    const T *x = q.x + p.line * l.length, *dy = q.dy + p.line * l.length;
    C m = real ? (C)q.mean[group] : 0, r = real ? (C)q.invstd[group] : 0, sum = 0, dot = 0;
    for (int64_t i = p.mine; i < length; i += p.along) {
        C d = load(dy[i]);
        sum += d;
        dot += d * (load(x[i]) - m);
    }
    sum_of_two own = {(double)(dot * r), (double)sum};
    sum_of_two whole = over_line(shared, p, own, [](const sum_of_two &a, const sum_of_two &b) {
        return sum_of_two{a.a + b.a, a.b + b.b};
    });
    if (real && p.mine == 0) sums[p.line] = whole;
}

/* For 32 channels (blockIdx.x) and a slab of images (blockIdx.y): slabs[blockIdx.y][channel]. of_images: the sums for
 * each image and channel, or NULL if a channel has a single element in each image. */
template <typename T>
static __global__ void __launch_bounds__(THREADS)
    slab_sums(sum_of_two *slabs, const sum_of_two *of_images, norm_problem<T> q, cld_divisor of_group) {
    typedef typename cld_compute<T>::type C;
    CLD_SHARED(sum_of_two, shared, [LANES][COLUMNS]);
    int column = threadIdx.x % COLUMNS, lane = threadIdx.x / COLUMNS;
    int64_t c = (int64_t)blockIdx.x * COLUMNS + column;
    int64_t begin = q.images * blockIdx.y / gridDim.y, end = q.images * (blockIdx.y + 1) / gridDim.y;
    sum_of_two own = {0, 0};
    if (c < q.channels) {
        int64_t group = quotient(c, of_group), groups = q.groups.divisor;
        for (int64_t n = begin + lane; n < end; n += LANES) {
            int64_t at = n * q.channels + c;
            if (of_images) {
                own.a += of_images[at].a, own.b += of_images[at].b;
                continue;
            }
            int64_t line = n * groups + group;
            C d = load(q.dy[at]);
            own.a += (double)(d * (load(q.x[at]) - (C)q.mean[line]) * (C)q.invstd[line]), own.b += (double)d;
        }
    }
    shared[lane][column] = own;
    __syncthreads();
    if (lane > 0 || c >= q.channels) return;
    for (int k = 1; k < LANES; k++) own.a += shared[k][column].a, own.b += shared[k][column].b;
    slabs[blockIdx.y * q.channels + c] = own;
}

template <typename V>
static __global__ void __launch_bounds__(THREADS)
    add_slabs(V *dweight, V *dbias, const sum_of_two *slabs, int count, int64_t channels) {
    int64_t c = (int64_t)blockIdx.x * THREADS + threadIdx.x;
    if (c >= channels) return;
    sum_of_two sum = {0, 0};
    for (int k = 0; k < count; k++) sum.a += slabs[k * channels + c].a, sum.b += slabs[k * channels + c].b;
    dweight[c] = (V)sum.a;
    dbias[c] = (V)sum.b;
}

/* A dense array as lines of that length. */
static cld_lines<1> lines_of(const cld_array *x, int64_t length) {
    cld_array lines = *x;
    lines.ndim = 2;
    lines.shape[0] = cld_numel(x) / length, lines.shape[1] = length;
    lines.strides[0] = length, lines.strides[1] = 1;
    return cld_lines_of<1>({&lines}, 1, EACH);
}

template <typename T>
static norm_problem<T> problem_of(const cld_array *out, const cld_array *x, const cld_array *weight,
                                  const cld_array *bias, const cld_array *mean, const cld_array *invstd) {
    typedef typename vector_of<T>::type V;
    int64_t groups = mean->shape[1], of_group = x->shape[1] / groups;
    norm_problem<T> q = {};
    q.out = out ? (T *)out->data : NULL, q.x = (const T *)x->data;
    q.weight = weight ? (const V *)weight->data : NULL, q.bias = bias ? (const V *)bias->data : NULL;
    q.mean = (V *)mean->data, q.invstd = (V *)invstd->data;
    q.images = x->shape[0], q.channels = x->shape[1];
    q.of_group = of_group, q.length = of_group * x->shape[2];
    q.groups = cld_divisor_of(groups), q.inner = cld_divisor_of(x->shape[2]);
    return q;
}

cld_status cld_cuda_group_norm(const cld_array *y, const cld_array *mean, const cld_array *invstd,
                               const cld_array *x, const cld_array *weight, const cld_array *bias,
                               double eps) {
    if (cld_numel(x) == 0) return CLD_OK;
    CLD_BY_FLOAT(x->dtype, T, {
        norm_problem<T> q = problem_of<T>(y, x, weight, bias, mean, invstd);
        q.eps = eps;
        cld_lines<1> l = lines_of(x, q.length);
        return CLD_LAUNCH((group_norm<T>), cld_line_blocks(l), THREADS, 0, q, l);
    });
    return CLD_OK;
}

template <typename T>
static cld_status vector_gradients(const norm_problem<T> &q, const cld_array *dweight, const cld_array *dbias,
                                   const cld_array *x) {
    typedef typename vector_of<T>::type V;
    CLD_SCRATCH slabs;
    CLD_SCRATCH of_images;
    int64_t count = ceil_div(q.images, 64), channels = q.channels;
    if (count > MOST_SLABS) count = MOST_SLABS;
    cld_divisor of_group = cld_divisor_of(q.of_group);
    if (x->shape[2] > 1) {
        cld_lines<1> l = lines_of(x, x->shape[2]);
        CLD_TRY(cld_cuda_scratch(&of_images, (size_t)(q.images * channels) * sizeof(sum_of_two)));
        CLD_TRY(CLD_LAUNCH((channel_sums<T>), cld_line_blocks(l), THREADS, 0, (sum_of_two *)of_images.data, q,
                           l, of_group));
    }
    CLD_TRY(cld_cuda_scratch(&slabs, (size_t)(count * channels) * sizeof(sum_of_two)));
    dim3 blocks((unsigned)ceil_div(channels, COLUMNS), (unsigned)count);
    CLD_TRY(CLD_LAUNCH((slab_sums<T>), blocks, THREADS, 0, (sum_of_two *)slabs.data,
                       (const sum_of_two *)of_images.data, q, of_group));
    return CLD_LAUNCH((add_slabs<V>), (int)ceil_div(channels, THREADS), THREADS, 0, (V *)dweight->data,
                      (V *)dbias->data, (const sum_of_two *)slabs.data, (int)count, channels);
}

cld_status cld_cuda_group_norm_backward(const cld_array *dx, const cld_array *dweight, const cld_array *dbias,
                                        const cld_array *dy, const cld_array *x, const cld_array *weight,
                                        const cld_array *mean, const cld_array *invstd) {
    if (cld_numel(x) == 0) return CLD_OK;
    CLD_BY_FLOAT(x->dtype, T, {
        norm_problem<T> q = problem_of<T>(dx, x, weight, NULL, mean, invstd);
        q.dy = (const T *)dy->data;
        if (dx) {
            cld_lines<1> l = lines_of(x, q.length);
            CLD_TRY(CLD_LAUNCH((group_norm_data<T>), cld_line_blocks(l), THREADS, 0, q, l));
        }
        return dweight ? vector_gradients<T>(q, dweight, dbias, x) : CLD_OK;
    });
    return CLD_OK;
}
