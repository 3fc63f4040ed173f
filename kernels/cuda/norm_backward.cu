/* The gradients of batch normalization (norm.cu): a pass over x and dy for two sums per channel of each part, and a pass that
 * writes dx. */
#include "kernels/cuda/norm.cuh"

#define BACKWARD_UNROLL 2 /* rows of two or three arrays that a thread has in flight */

enum mask { MASK_NONE, MASK_FROM_X, MASK_BITS };

/* What both passes of backward read: BACKWARD_UNROLL rows, a step apart. All loads come before the first use. */
template <typename T, int WIDTH, int MASK> struct ahead {
    typedef typename cld_compute<T>::type A;
    pack<T, WIDTH> dy[BACKWARD_UNROLL], more[BACKWARD_UNROLL], x[BACKWARD_UNROLL];
    unsigned bits[BACKWARD_UNROLL];
    bool has_more;

    __device__ void load_rows(const T *from_dy, const T *from_more, const T *from_x,
                              const unsigned char *gate, int64_t at, int64_t rows, int64_t step,
                              int64_t channels) {
        has_more = from_more != NULL;
        for (int u = 0; u < BACKWARD_UNROLL; u++)
            if (u * step < rows) {
                int64_t here = at + u * step * channels;
                x[u] = load_pack<T, WIDTH>(from_x + here);
                dy[u] = load_pack<T, WIDTH>(from_dy + here);
                if (has_more) more[u] = load_pack<T, WIDTH>(from_more + here);
                if (MASK == MASK_BITS) bits[u] = bits_at(gate, here);
            }
    }
    /* The mask's bits from element `at` on (cld_norm_mask_bytes). */
    __device__ static unsigned bits_at(const unsigned char *gate, int64_t at) {
        enum { IN_BYTE = 16 / sizeof(T) };
        return (unsigned)gate[at / IN_BYTE] >> (WIDTH == 1 ? (int)(at % IN_BYTE) : 0);
    }
    /* dy where relu let the value through, else 0. For a mask from x, the value is computed as in apply. */
    __device__ A masked_dy(int u, int v, const line<A> &l) const {
        A sum = load(dy[u].at[v]);
        if (has_more) sum += (A)load(more[u].at[v]);
        if (MASK == MASK_BITS) return bits[u] >> v & 1 ? sum : 0;
        if (MASK == MASK_NONE) return sum;
        return multiply_add((A)load(x[u].at[v]) - l.mean, l.scale, l.shift) <= 0 ? 0 : sum;
    }
};

/* dweight and dbias: sums over the parts, in the parts' order. */
template <typename A> struct weight_gradients {
    A *dweight, *dbias;
    double *of_parts; /* (parts, 2, channels), if there are several */
};

/* Adds up the parts' values for the channels of this slice. */
template <typename A, int WIDTH>
__device__ static void add_parts(const weight_gradients<A> &w, const part_rows &p, int slice) {
    int width = (int)blockDim.x * WIDTH, begin = slice * width, channels = p.m.channels;
    int end = begin + width < channels ? begin + width : channels;
    for (int c = begin + (int)(threadIdx.y * blockDim.x + threadIdx.x); c < end;
         c += (int)(blockDim.x * blockDim.y)) {
        double dbias = 0, dweight = 0;
        for (int part = 0; part < p.count; part++) {
            const double *from = w.of_parts + (int64_t)part * 2 * channels + c;
            dbias += from[0];
            dweight += from[channels];
        }
        if (w.dbias) w.dbias[c] = (A)dbias;
        if (w.dweight) w.dweight[c] = (A)dweight;
    }
}

/* With xhat = (x - mean) invstd and M rows of the part's block, in training:
 *     dx = weight invstd (dy - sum(dy) / M - xhat sum(dy xhat) / M)
 * The last two terms come from mean and invstd, which depend on x; running statistics do not. through (parts, 2,
 * channels):
 *     dx = scale dy + through[0] (x - mean) + through[1]
 * For one channel; f belongs to its part. */
template <typename A>
__device__ inline void write_through(A *through, const affine<A> &f, const part_rows &p, int part, int c,
                                     double sum, double sum_x, bool training) {
    line<A> l;
    load_lines<A, 1>(&l, f, c);
    double rows = (double)cld_cut_whole_rows(&p.cut, part), invstd = f.invstd[c], scale = l.scale;
    int64_t at = (int64_t)part * 2 * p.m.channels + c;
    through[at] = training ? (A)(-scale * invstd * invstd * sum_x / rows) : (A)0;
    through[at + p.m.channels] = training ? (A)(-scale * sum / rows) : (A)0;
}

/* Computes through from the sums of all ranks, for a batch that ranks share. */
template <typename A> __global__ void shared_through(A *through, double *sums, affine<A> f, part_rows p) {
    int64_t at = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    int part = (int)(at / p.m.channels), c = (int)(at % p.m.channels);
    if (part >= p.count) return;
    const double *from = sums_of_part(sums, p, part) + c;
    write_through(through, of_part(f, part, p.m.channels), p, part, c, from[0], from[p.m.channels], true);
}

/* The result of the first pass is one of these; the other is NULL. sums (parts of the whole batch, 2, channels): sums
 * of the masked dy, and of its products with x - mean. */
template <typename A> struct sums_out {
    A *through;
    double *sums;
};

/* Computes a group's results from the partial results of its chunks. */
template <typename A, int WIDTH>
__device__ static void finish_sums(const sums_out<A> &out, const weight_gradients<A> &w, const A *partial,
                                   affine<A> f, const part_rows &p, bool training, int group,
                                   double *shared) {
    const channel_rows &m = p.m;
    enum { COUNT = ending<WIDTH>::COUNT, ROWS = ending<WIDTH>::ROWS };
    ending<WIDTH> e(group % m.slices);
    int part = group / m.slices;
    bool any = e.column < m.channels;
    double sum[COUNT], sum_x[COUNT];
    for (int v = 0; v < COUNT; v++) sum[v] = sum_x[v] = 0;
    partial += (int64_t)part * m.chunks * 2 * m.channels + e.column;
    for (int chunk = e.first; any && chunk < m.chunks; chunk += e.step) {
        A in[COUNT], in_x[COUNT];
        const A *from = partial + (int64_t)chunk * 2 * m.channels;
        load_run<A, COUNT>(in, from);
        load_run<A, COUNT>(in_x, from + m.channels);
        for (int v = 0; v < COUNT; v++) sum[v] += (double)in[v], sum_x[v] += (double)in_x[v];
    }
    sum_down<double, COUNT, ROWS>(sum, shared);
    sum_down<double, COUNT, ROWS>(sum_x, shared);
    if (!any || threadIdx.y >= ROWS) return;
    f = of_part(f, part, m.channels);
    for (int v = 0; v < COUNT; v++) {
        int c = e.column + v;
        double invstd = f.invstd[c];
        int64_t at = (int64_t)part * 2 * m.channels + c;
        if (out.sums) {
            double *to = sums_of_part(out.sums, p, part) + c;
            to[0] = sum[v];
            to[m.channels] = sum_x[v];
        } else {
            write_through(out.through, f, p, part, c, sum[v], sum_x[v], training);
        }
        if (p.count > 1) {
            w.of_parts[at] = sum[v];
            w.of_parts[at + m.channels] = sum_x[v] * invstd;
        } else {
            if (w.dbias) w.dbias[c] = (A)sum[v];
            if (w.dweight) w.dweight[c] = (A)(sum_x[v] * invstd);
        }
    }
}

/* Computes through or sums, dweight, dbias and, unless it is NULL, dresidual. partial (chunks of all parts, 2,
 * channels): sums of the masked dy and of its products with x - mean. */
template <typename T, int WIDTH, int MASK>
__global__ void sums(sums_out<typename cld_compute<T>::type> result,
                     weight_gradients<typename cld_compute<T>::type> w,
                     typename cld_compute<T>::type *partial, unsigned *tickets, T *dresidual, const T *dy,
                     const T *more_dy, const T *x, const unsigned char *gate,
                     affine<typename cld_compute<T>::type> f, part_rows p, bool training) {
    typedef typename cld_compute<T>::type A;
    CLD_DYNAMIC_SHARED(double, shared);
    const channel_rows &m = p.m;
    int which;
    channel_part part = part_of(p, (int)blockIdx.x, WIDTH, &which);
    A sum[2 * WIDTH];
    for (int v = 0; v < 2 * WIDTH; v++) sum[v] = 0;
    if (part.any) {
        line<A> l[WIDTH];
        load_lines<A, WIDTH>(l, of_part(f, which, m.channels), part.column);
        int64_t step = blockDim.y, at = part.first * m.channels + part.column;
        for (int64_t row = part.first; row < part.end; row += BACKWARD_UNROLL * step) {
            ahead<T, WIDTH, MASK> in;
            in.load_rows(dy, more_dy, x, gate, at, part.end - row, step, m.channels);
            for (int u = 0; u < BACKWARD_UNROLL; u++)
                if (row + u * step < part.end) {
                    pack<T, WIDTH> out;
                    for (int v = 0; v < WIDTH; v++) {
                        A value = load(in.x[u].at[v]), d = in.masked_dy(u, v, l[v]);
                        sum[v] += d;
                        sum[WIDTH + v] = multiply_add(d, value - l[v].mean, sum[WIDTH + v]);
                        out.at[v] = store<T>(d);
                    }
                    if (dresidual) store_pack<T, WIDTH>(dresidual + at + u * step * m.channels, out);
                }
            at += BACKWARD_UNROLL * step * m.channels;
        }
    }
    sum_down<A, 2 * WIDTH>(sum, (A *)shared);
    if (threadIdx.y == 0 && part.any) {
        A *to = partial + (int64_t)part.chunk * 2 * m.channels + part.column;
        store_run<A, WIDTH>(to, sum);
        store_run<A, WIDTH>(to + m.channels, sum + WIDTH);
    }
    int first = completed_groups(p, tickets, which, part.slice), groups = p.count * m.slices;
    for (int group = first; group >= 0 && group < groups; group += CLD_TICKETS) {
        finish_sums<A, WIDTH>(result, w, partial, f, p, training, group, shared);
        if (p.count == 1 || !(w.dweight || w.dbias)) continue;
        int slice = group % m.slices, ticket = slice % CLD_TICKETS;
        int expected = p.count * groups_of_ticket(slice, m.slices);
        if (!comes_last(tickets + CLD_TICKETS + ticket, (unsigned)expected)) continue;
        for (slice = ticket; slice < m.slices; slice += CLD_TICKETS) add_parts<A, WIDTH>(w, p, slice);
    }
}

template <typename T, int WIDTH, int MASK>
__global__ void gradient(T *dx, const T *dy, const T *more_dy, const T *x, const unsigned char *gate,
                         const typename cld_compute<T>::type *through,
                         affine<typename cld_compute<T>::type> f, part_rows p) {
    typedef typename cld_compute<T>::type A;
    const channel_rows &m = p.m;
    int which;
    channel_part part = part_of(p, (int)(gridDim.x - 1 - blockIdx.x), WIDTH, &which);
    if (!part.any) return;
    line<A> l[WIDTH];
    A slope[WIDTH], level[WIDTH];
    f = of_part(f, which, m.channels);
    through += (int64_t)which * 2 * m.channels;
    load_lines<A, WIDTH>(l, f, part.column);
    load_run<A, WIDTH>(slope, through + part.column);
    load_run<A, WIDTH>(level, through + m.channels + part.column);
    int64_t step = blockDim.y, at = part.first * m.channels + part.column;
    for (int64_t row = part.first; row < part.end; row += BACKWARD_UNROLL * step) {
        ahead<T, WIDTH, MASK> in;
        in.load_rows(dy, more_dy, x, gate, at, part.end - row, step, m.channels);
        for (int u = 0; u < BACKWARD_UNROLL; u++)
            if (row + u * step < part.end) {
                pack<T, WIDTH> out;
                for (int v = 0; v < WIDTH; v++) {
                    A value = load(in.x[u].at[v]), d = in.masked_dy(u, v, l[v]);
                    A rest = multiply_add(slope[v], value - l[v].mean, level[v]);
                    out.at[v] = store<T>(multiply_add(l[v].scale, d, rest));
                }
                store_pack<T, WIDTH>(dx + at + u * step * m.channels, out);
            }
        at += BACKWARD_UNROLL * step * m.channels;
    }
}

/* ---- launches ------------------------------------------------------------------------------------------------------ */

typedef struct gradients {
    const cld_array *dx, *dresidual, *dweight, *dbias, *dy, *more_dy, *x, *gate, *weight, *bias, *mean,
        *invstd;
    const cld_norm_params *params;
    const cld_array *given, *wanted; /* sums of the whole batch's parts, or NULL; at most one is not NULL */
} gradients;

/* The second pass. If the first one wrote the masked dy as dresidual, it is read in place of dy, more_dy and gate. */
template <typename T, int WIDTH, int MASK>
static cld_status write_dx(const gradients &g, const part_launch &l,
                           const affine<typename cld_compute<T>::type> &f,
                           const typename cld_compute<T>::type *through) {
    T *dx = (T *)g.dx->data;
    const T *x = (const T *)g.x->data;
    if (g.dresidual)
        return CLD_LAUNCH((gradient<T, WIDTH, MASK_NONE>), l.blocks, l.threads, 0, dx,
                          (const T *)g.dresidual->data, (const T *)NULL, x, (const unsigned char *)NULL,
                          through, f, l.rows);
    return CLD_LAUNCH((gradient<T, WIDTH, MASK>), l.blocks, l.threads, 0, dx, (const T *)g.dy->data,
                      (const T *)vector_of<T>(g.more_dy), x,
                      (const unsigned char *)vector_of<unsigned char>(g.gate), through, f, l.rows);
}

/* The first pass. */
template <typename T, int WIDTH, int MASK>
static cld_status add_up(const gradients &g, const part_launch &l,
                         const affine<typename cld_compute<T>::type> &f,
                         const sums_out<typename cld_compute<T>::type> &out) {
    typedef typename cld_compute<T>::type A;
    weight_gradients<A> w = {vector_of<A>(g.dweight), vector_of<A>(g.dbias), NULL};
    CLD_SCRATCH partial, of_parts;
    CLD_TRY(cld_cuda_scratch(&partial, partial_bytes(l.rows, sizeof(A))));
    if (l.rows.count > 1) {
        size_t vectors = 2 * (size_t)l.rows.count * (size_t)l.rows.m.channels;
        CLD_TRY(cld_cuda_scratch(&of_parts, vectors * sizeof(double)));
        w.of_parts = (double *)of_parts.data;
    }
    return CLD_LAUNCH((sums<T, WIDTH, MASK>), l.blocks, l.threads, shared_bytes(l, WIDTH, sizeof(A)), out, w,
                      (A *)partial.data, cld_cuda_tickets(), vector_of<T>(g.dresidual), (const T *)g.dy->data,
                      (const T *)vector_of<T>(g.more_dy), (const T *)g.x->data,
                      (const unsigned char *)vector_of<unsigned char>(g.gate), f, l.rows, g.params->training);
}

/* If there are no rows, dweight and dbias are 0. */
template <typename A> static cld_status clear_gradients(const gradients &g, size_t channels) {
    if (g.dweight) CLD_TRY(cld_cuda_clear(g.dweight->data, channels * sizeof(A)));
    return g.dbias ? cld_cuda_clear(g.dbias->data, channels * sizeof(A)) : CLD_OK;
}

template <typename T, int WIDTH, int MASK> static cld_status write_gradients(const gradients &g) {
    typedef typename cld_compute<T>::type A;
    part_launch l = launch_parts(g.x, &g.params->parts, WIDTH);
    affine<A> f = affine_of<A>(g.mean, g.invstd, g.weight, g.bias);
    size_t vectors = 2 * (size_t)l.rows.count * (size_t)l.rows.m.channels;
    if (l.blocks == 0) return clear_gradients<A>(g, (size_t)l.rows.m.channels);
    CLD_SCRATCH through;
    sums_out<A> out = {NULL, vector_of<double>(g.wanted)};
    if (!g.wanted) {
        CLD_TRY(cld_cuda_scratch(&through, vectors * sizeof(A)));
        out.through = (A *)through.data;
    }
    if (g.given)
        CLD_TRY(CLD_LAUNCH((shared_through<A>), (unsigned)((vectors / 2 + 255) / 256), 256, 0, out.through,
                           vector_of<double>(g.given), f, l.rows));
    else
        CLD_TRY((add_up<T, WIDTH, MASK>(g, l, f, out)));
    return g.dx ? write_dx<T, WIDTH, MASK>(g, l, f, out.through) : CLD_OK;
}

template <typename T, int WIDTH>
static cld_status write_masked_gradients(const gradients &g, enum mask mask) {
    switch (mask) {
    case MASK_FROM_X: return write_gradients<T, WIDTH, MASK_FROM_X>(g);
    case MASK_BITS: return write_gradients<T, WIDTH, MASK_BITS>(g);
    default: return write_gradients<T, WIDTH, MASK_NONE>(g);
    }
}

/* ---- the table's entries ------------------------------------------------------------------------------------------- */

/* Takes arrays in any layout. */
static cld_status compute_gradients(gradients g) {
    if (g.x->shape[1] == 0) return CLD_OK;
    CLD_SCRATCH blocks[5];
    cld_array arrays[5];
    const cld_array *dx = g.dx, *dresidual = g.dresidual;
    CLD_TRY(write_activation(&arrays[0], &g.dx, &blocks[0], dx));
    if (g.given)
        CLD_TRY(read_activation(&arrays[1], &g.dresidual, &blocks[1], dresidual));
    else
        CLD_TRY(write_activation(&arrays[1], &g.dresidual, &blocks[1], dresidual));
    CLD_TRY(read_activation(&arrays[2], &g.dy, &blocks[2], g.dy));
    CLD_TRY(read_activation(&arrays[3], &g.x, &blocks[3], g.x));
    CLD_TRY(read_activation(&arrays[4], &g.more_dy, &blocks[4], g.more_dy));
    enum mask mask = !g.params->relu ? MASK_NONE : g.gate ? MASK_BITS : MASK_FROM_X;
    const void *all[] = {address(g.dx),      address(g.dresidual), address(g.dy),
                         address(g.more_dy), address(g.x),         address(g.mean),
                         address(g.invstd),  address(g.weight),    address(g.bias)};
    CLD_BY_WIDTH(write_masked_gradients, g.x, all, g, mask);
    if (dx) CLD_TRY(cld_cuda_deliver(dx, g.dx));
    return dresidual && !g.given ? cld_cuda_deliver(dresidual, g.dresidual) : CLD_OK;
}

cld_status cld_cuda_norm_backward(const cld_array *dx, const cld_array *dresidual, const cld_array *dweight,
                                  const cld_array *dbias, const cld_array *dy, const cld_array *more_dy,
                                  const cld_array *x, const cld_array *gate, const cld_array *weight,
                                  const cld_array *bias, const cld_array *mean, const cld_array *invstd,
                                  const cld_array *sums, const cld_norm_params *p) {
    gradients g = {dx,     dresidual, dweight, dbias,  dy, more_dy, x,   gate,
                   weight, bias,      mean,    invstd, p,  sums,    NULL};
    return compute_gradients(g);
}

cld_status cld_cuda_norm_backward_sums(const cld_array *sums, const cld_array *dresidual,
                                       const cld_array *dweight, const cld_array *dbias, const cld_array *dy,
                                       const cld_array *more_dy, const cld_array *x, const cld_array *gate,
                                       const cld_array *weight, const cld_array *bias, const cld_array *mean,
                                       const cld_array *invstd, const cld_norm_params *p) {
    CLD_TRY(cld_cuda_clear(sums->data, (size_t)cld_numel(sums) * sizeof(double)));
    gradients g = {NULL,   dresidual, dweight, dbias,  dy, more_dy, x,   gate,
                   weight, bias,      mean,    invstd, p,  NULL,    sums};
    return compute_gradients(g);
}
