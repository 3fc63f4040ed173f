/* The differentiable ops, as PyTorch names and defines them. Each family has its own file with shape rule, forward and
 * gradient; every function returns a new tensor, or NULL with an error that names the op and the shapes. Dimensions
 * here are 0-based and may be negative (from the end); the bindings translate Lua's. */
#ifndef CLD_OPS_H
#define CLD_OPS_H

#include "runtime/autograd/tape.h"
#include "runtime/ops/precision.h"

/* ---- unary.c, elementwise.c: broadcast as NumPy does; differing dtypes are promoted (cld_result_dtype) ---- */
cld_tensor *cld_unary_with(cld_unary kind, cld_tensor *x, cld_scalar a, cld_scalar b);
static inline cld_tensor *cld_unary_op(cld_unary kind, cld_tensor *x, double a, double b) {
    return cld_unary_with(kind, x, cld_real(a), cld_real(b));
}
cld_tensor *cld_binary_op(cld_binary kind, cld_tensor *a, cld_tensor *b);
const char *cld_binary_name(cld_binary kind);
cld_tensor *cld_isinf(cld_tensor *x);                                       /* u8 */
cld_tensor *cld_where(cld_tensor *condition, cld_tensor *a, cld_tensor *b); /* condition u8 */
cld_tensor *cld_cast(cld_tensor *x, cld_dtype dtype);

static inline cld_tensor *cld_add(cld_tensor *a, cld_tensor *b) { return cld_binary_op(CLD_ADD, a, b); }
static inline cld_tensor *cld_sub(cld_tensor *a, cld_tensor *b) { return cld_binary_op(CLD_SUB, a, b); }
static inline cld_tensor *cld_mul(cld_tensor *a, cld_tensor *b) { return cld_binary_op(CLD_MUL, a, b); }
static inline cld_tensor *cld_div(cld_tensor *a, cld_tensor *b) { return cld_binary_op(CLD_DIV, a, b); }
static inline cld_tensor *cld_add_scalar(cld_tensor *x, double s) {
    return cld_unary_op(CLD_ADD_SCALAR, x, s, 0);
}
static inline cld_tensor *cld_mul_scalar(cld_tensor *x, double s) {
    return cld_unary_op(CLD_MUL_SCALAR, x, s, 0);
}

/* ---- scalar.c: a tensor and a number; integers are exact ---- */
typedef enum cld_side { CLD_NUMBER_RIGHT, CLD_NUMBER_LEFT } cld_side;
/* x op s, or s op x. A number that is not an integer turns integers into f32, except in comparisons, which use it as it
 * is. */
cld_tensor *cld_binary_scalar(cld_binary kind, cld_tensor *x, cld_scalar s, cld_side side);
/* The number as a tensor without dimensions: exact, or an error of op. */
cld_tensor *cld_number(const char *op, cld_scalar s, cld_dtype dtype, const cld_backend *device);
/* The same in like's dtype, or in f32 if an integer `like` cannot hold its fraction. */
cld_tensor *cld_operand(const char *op, cld_scalar s, const cld_tensor *like);

/* ---- in_place.c: on tensors off the tape (an error if recording would need the old value) ---- */
cld_status cld_add_(cld_tensor *x, cld_tensor *y); /* x += y */
/* x = x op y, in x's dtype, where the result must have x's shape; and with a number */
cld_status cld_binary_(const char *op, cld_binary kind, cld_tensor *x, cld_tensor *y);
cld_status cld_binary_scalar_(const char *op, cld_binary kind, cld_tensor *x, cld_scalar s);
/* x = y, the result of an op: it must have x's shape, and may not be float if x holds integers. */
cld_status cld_store_(const char *op, cld_tensor *x, const cld_tensor *y);
/* Every element of x becomes s. */
cld_status cld_fill_(const char *op, cld_tensor *x, cld_scalar s);
/* y is broadcast and cast, and may be on another device. */
cld_status cld_copy_(const char *op, cld_tensor *x, const cld_tensor *y);
/* What every write in place requires of its target: off the tape, and no two elements at the same place. */
cld_status cld_check_in_place(const char *op, const cld_tensor *x);
/* The first half of that, for a write into a part of x. */
cld_status cld_check_off_tape(const char *op, const cld_tensor *x);

/* In place: f(x), in x's dtype. */
cld_status cld_unary_(const char *op, cld_unary kind, cld_tensor *x);

/* ---- lerp.c: in place too; a factor is a number, or a tensor of one element that is read on the device ---- */
typedef struct cld_factor {
    cld_tensor *tensor; /* NULL: the number */
    cld_scalar number;
} cld_factor;
/* x = (1 - weight) x + weight y: exactly x at 0, and y at 1. y is broadcast and cast. */
cld_status cld_lerp_(cld_tensor *x, cld_tensor *y, cld_factor weight);
/* x += value * (a op b), for CLD_MUL and CLD_DIV; a op b broadcasts to x. */
cld_status cld_add_scaled_(const char *op, cld_binary kind, cld_tensor *x, cld_tensor *a, cld_tensor *b,
                           cld_factor value);

/* ---- view.c: share storage ---- */
/* One -1 is inferred; copies if it must. op: the name in errors. */
cld_tensor *cld_reshape_for(const char *op, cld_tensor *x, int ndim, const int64_t *shape);
static inline cld_tensor *cld_reshape(cld_tensor *x, int ndim, const int64_t *shape) {
    return cld_reshape_for("reshape", x, ndim, shape);
}
/* Dimension i of the view is x's dims[i]. */
cld_tensor *cld_permute(cld_tensor *x, const int *dims);
cld_tensor *cld_transpose(cld_tensor *x, int dim0, int dim1);
/* x's dimensions from[i] become those numbered to[i]; the others keep their order. */
cld_tensor *cld_movedim(cld_tensor *x, const int *from, const int *to, int count);
cld_tensor *cld_t(cld_tensor *x); /* of a matrix; x itself if it has fewer dimensions */
/* start and index are 0-based, or negative to count from the end; select drops dim. */
#define CLD_NOWHERE INT64_MIN /* not a position: what 0 is when counting from 1 */
cld_tensor *cld_narrow(cld_tensor *x, int dim, int64_t start, int64_t length);
cld_tensor *cld_select(cld_tensor *x, int dim, int64_t index);
/* Every step-th position from start on, `length` of them. */
cld_tensor *cld_slice(cld_tensor *x, int dim, int64_t start, int64_t length, int64_t step);
/* -1 keeps x's extent; new dimensions come first. */
cld_tensor *cld_expand_for(const char *op, cld_tensor *x, int ndim, const int64_t *shape);
static inline cld_tensor *cld_expand(cld_tensor *x, int ndim, const int64_t *shape) {
    return cld_expand_for("expand", x, ndim, shape);
}
cld_tensor *cld_squeeze(cld_tensor *x, int dim); /* x itself if the extent is not 1 */
cld_tensor *cld_squeeze_all(cld_tensor *x, const int *dims, int ndims);
cld_tensor *cld_unsqueeze(cld_tensor *x, int dim);
/* Joins the dimensions from first to last, both included, into one. */
cld_tensor *cld_flatten(cld_tensor *x, int first, int last);
cld_tensor *cld_contiguous(cld_tensor *x); /* x itself (retained) if it is dense and row-major */
cld_tensor *cld_clone(cld_tensor *x);      /* a row-major copy */

/* ---- diagonal.c ---- */
/* A view: the elements (i, i + offset) of the dimensions rows and columns, as a new last dimension in their place. */
cld_tensor *cld_diagonal(cld_tensor *x, int64_t offset, int rows, int columns);
/* Of a matrix: a copy of that diagonal. Of a vector: the square matrix with this diagonal, and zeros elsewhere. */
cld_tensor *cld_diag(cld_tensor *x, int64_t offset);

/* ---- cat.c: count >= 1 tensors of one device, whose shapes agree except in cat's dim; dtypes are promoted. As in
 * PyTorch, cat leaves out tensors of shape (0). ---- */
cld_tensor *cld_cat(cld_tensor *const *xs, int count, int dim);
cld_tensor *cld_stack(cld_tensor *const *xs, int count, int dim);

/* ---- rows.c: dimension 0 ---- */
/* Like cat along dimension 0; without a copy if the tensors are off the tape and adjacent in one memory. */
cld_tensor *cld_join_rows(cld_tensor *const *xs, int count);
/* out[0 .. count - 1]: equal parts of x's rows, as views. */
cld_status cld_split_rows(cld_tensor **out, cld_tensor *x, int count);

/* ---- gather_rows.c: rows of several ranks (runtime/dist) ---- */
/* The ranks' rows one below the other; each rank may have a different number. */
cld_tensor *cld_all_gather_rows(cld_tensor *x);
/* The rows of all ranks in the batch's order, (total * k, ...) from (rows * k, ...). The gradient is the sum over the
 * ranks of their gradients for this rank's rows. x itself, retained, if all ranks have the same rows. */
cld_tensor *cld_gather_rows(const char *op, cld_tensor *x);

/* ---- gather_group.c ---- */
/* The same for a batch that is cut into groups of `images` images (the last one may have fewer): the rows of all groups
 * that have images on this rank, which begin at image *first. x has the same number of rows for each of this rank's
 * `here` images. The rows arrive with the next join (runtime/dist); nobody may read them before. */
cld_tensor *cld_gather_group_begin(int64_t *first, const char *op, cld_tensor *x, int64_t here,
                                   int64_t images);

/* ---- reduce.c: dims NULL with ndims 0 means all ---- */
cld_tensor *cld_sum(cld_tensor *x, const int *dims, int ndims, bool keepdim);
cld_tensor *cld_mean(cld_tensor *x, const int *dims, int ndims, bool keepdim);
/* unbiased: divided by the count minus one. NaN if that is 0. */
cld_tensor *cld_var(cld_tensor *x, const int *dims, int ndims, bool unbiased, bool keepdim);
cld_tensor *cld_std(cld_tensor *x, const int *dims, int ndims, bool unbiased,
                    bool keepdim); /* no gradient at 0 */
/* The gradient is shared among equal elements; if there are NaNs, among those. */
cld_tensor *cld_amax(cld_tensor *x, const int *dims, int ndims, bool keepdim);
cld_tensor *cld_amin(cld_tensor *x, const int *dims, int ndims, bool keepdim);
cld_tensor *cld_prod(cld_tensor *x, const int *dims, int ndims, bool keepdim);
/* (sum |x|^p)^(1/p); p may be infinity (the largest |x|), and 0 (the number of nonzero elements). */
cld_tensor *cld_norm(cld_tensor *x, double p, const int *dims, int ndims, bool keepdim);
cld_tensor *cld_any(cld_tensor *x, const int *dims, int ndims, bool keepdim);
cld_tensor *cld_all(cld_tensor *x, const int *dims, int ndims, bool keepdim);
cld_tensor *cld_argmax(cld_tensor *x, int dim, bool keepdim); /* first of equals */
cld_tensor *cld_argmin(cld_tensor *x, int dim, bool keepdim);
/* The extremes along dim, and *index, the position of the first among equals, which receives the whole gradient. */
cld_tensor *cld_max_at(cld_tensor **index, cld_tensor *x, int dim, bool keepdim);
cld_tensor *cld_min_at(cld_tensor **index, cld_tensor *x, int dim, bool keepdim);

/* log(sum(exp(x))), without overflow. */
cld_tensor *cld_logsumexp(cld_tensor *x, const int *dims, int ndims, bool keepdim);

/* ---- scan.c ---- */
cld_tensor *cld_cumsum(cld_tensor *x, int dim); /* integers give i64 */

/* ---- eigenvalues.c: of symmetric matrices; only the lower triangle is read; no gradient ---- */
/* For x (n, n), or for each of (count, n, n), f32 or f64: the eigenvalues (n), ascending, and *vectors (n, k): the
 * eigenvectors of the k smallest, as columns of unit length; the first of the entries with the largest magnitude is
 * positive. A matrix with a value that is not finite gives NaN throughout. Does not wait. */
cld_tensor *cld_eigh(cld_tensor **vectors, cld_tensor *x, int64_t k);
/* The eigenvalues of one (n, n) matrix, computed on the host in f64. Waits for the device. */
cld_tensor *cld_eigvalsh(cld_tensor *x);

/* ---- mask.c: nonzero means chosen; these read the count back from the device ---- */
cld_tensor *cld_nonzero(cld_tensor *x); /* i64 (chosen, ndim): the positions, row-major, 0-based */
/* The chosen elements in one dimension; x and the mask broadcast. */
cld_tensor *cld_masked_select(cld_tensor *x, cld_tensor *mask);
/* x with the value (one element) where the mask is set; x and the mask broadcast. */
cld_tensor *cld_masked_fill(cld_tensor *x, cld_tensor *mask, cld_tensor *value);
cld_status cld_masked_fill_(cld_tensor *x, cld_tensor *mask, cld_tensor *value);
/* x[mask]: the mask has x's first dimensions; they become one dimension of the chosen positions. */
cld_tensor *cld_mask_rows(cld_tensor *x, cld_tensor *mask);
/* x[mask] = value, in place; value broadcasts to the chosen rows. */
cld_status cld_mask_assign(cld_tensor *x, cld_tensor *mask, cld_tensor *value);

/* ---- rearrange.c ---- */
/* times[i] copies along each of the last `count` dimensions; if there are more than x has, the first are new. */
cld_tensor *cld_tile(cld_tensor *x, int count, const int64_t *times);
cld_tensor *cld_flip(cld_tensor *x, const int *dims, int ndims);
/* Element i goes to i + shift, wrapping around. One shift per dimension, or ndims 0 and one shift over all elements. */
cld_tensor *cld_roll(cld_tensor *x, const int64_t *shifts, const int *dims, int ndims);
/* Zeros above (tril) or below (triu) that diagonal of the last two dimensions; 0 is the main one, 1 the one above. */
cld_tensor *cld_tril(cld_tensor *x, int64_t diagonal);
cld_tensor *cld_triu(cld_tensor *x, int64_t diagonal);
/* i64 with the classes as a last dimension, 1 at the label; classes 0: as many as the labels need. */
cld_tensor *cld_one_hot(cld_tensor *labels, int64_t classes);

/* ---- matmul.c ---- */
cld_tensor *cld_matmul(cld_tensor *a, cld_tensor *b); /* PyTorch's rules, 1-d to batched */
cld_tensor *cld_outer(cld_tensor *a, cld_tensor *b);  /* a (n), b (m): (n, m) */
/* ---- einsum.c: count >= 1 tensors of one device; dtypes are promoted. The equation as in PyTorch: "ij,jk->ik",
 * "bii->b", "...d,d->...". The tensors are taken from left to right, each pair as one product. ---- */
cld_tensor *cld_einsum(const char *equation, cld_tensor *const *xs, int count);
/* ---- distance.c ---- */
/* a (..., n, d), b (..., m, d): the Euclidean distances (..., n, m) between rows. The gradient at distance 0 is 0. */
cld_tensor *cld_cdist(cld_tensor *a, cld_tensor *b);
/* u8: |a - b| <= atol + rtol |b|, or both are the same infinity, or, with equal_nan, both are NaN. */
cld_tensor *cld_isclose(cld_tensor *a, cld_tensor *b, double rtol, double atol, bool equal_nan);

/* x W^T + b; bias may be NULL. All of one dtype; or x has 16 bits and the others, and the result, are f32: the weight
 * is then rounded as x was. Neither this nor matmul depends on the precision. */
cld_tensor *cld_linear(cld_tensor *x, cld_tensor *weight, cld_tensor *bias);

/* ---- loss.c: of two tensors of the same shape ---- */
typedef enum cld_loss_reduction {
    CLD_LOSS_MEAN,
    CLD_LOSS_SUM,
    CLD_LOSS_NONE,
    CLD_LOSS_BATCH_MEAN /* the sum divided by the first dimension: kl_div */
} cld_loss_reduction;
cld_tensor *cld_mse_loss(cld_tensor *x, cld_tensor *target, cld_loss_reduction reduction);
/* weight multiplies an element's loss, pos_weight the loss's term for target 1. Both broadcast to x, or are NULL. */
cld_tensor *cld_bce_with_logits(cld_tensor *x, cld_tensor *target, cld_tensor *weight, cld_tensor *pos_weight,
                                cld_loss_reduction reduction);
/* target (log target - x), and 0 if the target is 0. x holds log probabilities, and so does the target if
 * log_target. */
cld_tensor *cld_kl_div(cld_tensor *x, cld_tensor *target, bool log_target, cld_loss_reduction reduction);

/* ---- softmax.c, normalize.c: lines along dim ---- */
cld_tensor *cld_softmax(cld_tensor *x, int dim);
cld_tensor *cld_log_softmax(cld_tensor *x, int dim);
cld_tensor *cld_normalize(cld_tensor *x, int dim); /* x / ||x||, zero stays zero */
/* a . b / (max(|a|, eps) max(|b|, eps)) of the two, broadcast to one shape, with dim removed. */
cld_tensor *cld_cosine_similarity(cld_tensor *a, cld_tensor *b, int dim, double eps);

/* ---- group_norm.c: (x - mean) / sqrt(variance + eps), times weight, plus bias; both may be NULL. If x has 16 bits, so
 * has the result, and weight and bias are f32 ---- */
/* Statistics over the last `ndim` dimensions, which have the given shape, as weight and bias do. */
cld_tensor *cld_layer_norm(cld_tensor *x, int ndim, const int64_t *shape, cld_tensor *weight,
                           cld_tensor *bias, double eps);
/* x (N, C, ...): statistics of each image over groups of C / groups channels; weight and bias (C). */
cld_tensor *cld_group_norm(cld_tensor *x, int64_t groups, cld_tensor *weight, cld_tensor *bias, double eps);

/* ---- cross_entropy.c: logits (n, classes), labels i64 (n), each 0 .. classes - 1, or ignored. As in PyTorch, also
 * (classes) with one label, and (n, classes, ...) with labels (n, ...). Instead of labels, probabilities of the logits'
 * shape, none of which are ignored ---- */
/* *accuracy, if it is not NULL: the share of rows whose largest logit, the first among equals, is at their label; a row
 * with NaN does not count as correct. f32, 0-d, a constant. */
cld_tensor *cld_cross_entropy(cld_tensor **accuracy, cld_tensor *logits, cld_tensor *labels,
                              const cld_cross_entropy_params *p);

/* ---- index.c: index tensors are i64, 0-based ---- */
/* gather, along dim 0: y[i][j] = x[index[i][j]][j]; scatter_add: a copy of x, and source[i][j] is added there. */
cld_tensor *cld_gather(cld_tensor *x, int dim, cld_tensor *index);
cld_tensor *cld_scatter_add(cld_tensor *x, int dim, cld_tensor *index, cld_tensor *source);
/* The slices of x at index, which has one dimension. index_copy and index_add write source's slices into a copy of
 * x. */
cld_tensor *cld_index_select(cld_tensor *x, int dim, cld_tensor *index);
cld_tensor *cld_index_copy(cld_tensor *x, int dim, cld_tensor *index, cld_tensor *source);
cld_tensor *cld_index_add(cld_tensor *x, int dim, cld_tensor *index, cld_tensor *source);
/* x[index]: rows of x in the shape of the index, which may have any */
cld_tensor *cld_index_rows(cld_tensor *x, cld_tensor *index);
/* x[index] = source along dimension 0, in place; source is broadcast and cast */
cld_status cld_index_assign(cld_tensor *x, cld_tensor *index, cld_tensor *source);
/* ---- index_key.c: a key for each of x's first dimensions ---- */
typedef struct cld_key {
    enum { CLD_KEY_ALL, CLD_KEY_POSITION, CLD_KEY_RANGE, CLD_KEY_TENSOR } kind;
    int64_t first, last, step; /* 0-based, or negative from the end; last is included */
    cld_tensor *tensor;        /* i64, as first; or a mask (u8), for as many of x's dimensions as it has */
} cld_key;
cld_tensor *cld_index(cld_tensor *x, const cld_key *keys, int count);
/* In place; value is broadcast and cast. */
cld_status cld_index_put_(cld_tensor *x, const cld_key *keys, int count, cld_tensor *value);
/* Makes *position 0-based from the start, or fails. */
cld_status cld_check_position(const cld_tensor *x, int dim, int64_t *position);

/* ---- sort.c ---- */
/* values and *index; the gradient flows to values */
cld_tensor *cld_topk(cld_tensor **index, cld_tensor *x, int64_t k, int dim, bool largest);
cld_tensor *cld_sort(cld_tensor **index, cld_tensor *x, int dim, bool descending);

/* ---- conv.c, norm.c, pool.c: 4-d activations, in the device's own layout if it has one ---- */
/* x itself (retained) if it has the layout that its device wants for a 4-d activation, else a copy; off the tape. */
cld_tensor *cld_to_activation(cld_tensor *x);
/* Do the device's convolutions, norms and pools take 16-bit floats? Else these ops compute in f32 and round. */
static inline bool cld_device_accepts_half(const cld_backend *device) {
    return device->conv && device->conv->accepts_half;
}
/* The dtype of biases, statistics and gradients of parameters, given the dtype of the activations. */
static inline cld_dtype cld_vector_dtype(cld_dtype activation) {
    return activation == CLD_F64 ? CLD_F64 : CLD_F32;
}
/* x (N, C, H, W), weight (O, C / groups, kh, kw), bias (O) or NULL, of one dtype; if x has 16 bits, the other two may
 * be f32. Depends on the precision. */
cld_tensor *cld_conv2d(cld_tensor *x, cld_tensor *weight, cld_tensor *bias, const cld_conv_params *p);
/* Per channel of x (N, C, H, W); weight, bias and the running statistics (C), in f32 if x has 16 bits. residual (x's
 * shape), weight and bias may be NULL; in training also the running statistics: then none are updated. In training each
 * of p->parts has its own statistics. The running ones are updated once per view, and batches (one element, i64, or
 * NULL) counts the views. */
cld_tensor *cld_batch_norm(cld_tensor *x, cld_tensor *residual, cld_tensor *weight, cld_tensor *bias,
                           cld_tensor *running_mean, cld_tensor *running_var, cld_tensor *batches,
                           const cld_norm_params *p);
cld_tensor *cld_max_pool2d(cld_tensor *x, const cld_pool_params *p);
cld_tensor *cld_avg_pool2d(cld_tensor *x, const cld_pool_params *p);
cld_tensor *cld_global_avg_pool2d(cld_tensor *x); /* (N, C, 1, 1) */

/* ---- resize.c: the last two dimensions of x (N, C, H, W) ---- */
/* Means over windows as in PyTorch: from floor(i H / height) to ceil((i + 1) H / height). */
cld_tensor *cld_adaptive_avg_pool2d(cld_tensor *x, int64_t height, int64_t width);
typedef struct cld_resize_params {
    enum { CLD_NEAREST, CLD_BILINEAR } mode;
    int64_t size[2];    /* rows, columns; 0: computed from the factor */
    double factor[2];   /* 0: computed from the size */
    bool align_corners; /* bilinear: the corners' centres stay where they are */
    bool antialias;     /* bilinear: the window grows with the reduction */
} cld_resize_params;
cld_tensor *cld_interpolate(cld_tensor *x, const cld_resize_params *p);

/* ---- pad.c ---- */
typedef enum cld_pad_mode {
    CLD_PAD_CONSTANT,
    CLD_PAD_REFLECT,
    CLD_PAD_REPLICATE,
    CLD_PAD_CIRCULAR
} cld_pad_mode;
/* pads[2 i] elements before and pads[2 i + 1] after, in dimension -1 - i, for i < count. With a constant they may be
 * negative, to cut off that many. */
cld_tensor *cld_pad(cld_tensor *x, int count, const int64_t *pads, cld_pad_mode mode, double value);

/* ---- dropout.c: each element becomes 0 with probability p, else it is multiplied by 1 / (1 - p) ---- */

/* Which rows x has: for each of `views` views, the rows of `images` of this rank's images (0: all), from number `done`
 * on. */
typedef struct cld_dropout_rows {
    int views;
    int64_t done, images;
} cld_dropout_rows;

cld_tensor *cld_dropout(cld_tensor *x, double p, const cld_dropout_rows *of);

/* ---- random.c: a global generator, (seed, position) ---- */
typedef struct cld_generator {
    uint64_t seed, position;
} cld_generator;
cld_generator cld_get_generator(void);
void cld_set_generator(cld_generator g);
/* While a graph is recorded: draws take positions from the one element of base (i64, on the device), which is where the
 * generator will be when the graph is replayed. The end function restores it and returns how many positions were
 * taken. */
void cld_begin_recorded_draws(const cld_array *base);
uint64_t cld_end_recorded_draws(void);
/* An error if numbers from the host would be recorded, because a replay would not draw new ones. */
cld_status cld_check_draw(const char *op, const cld_backend *where);
/* In place: uniform in [low, high); normal with this mean and deviation. Both advance the generator by x's number of
 * elements. */
cld_status cld_uniform_(cld_tensor *x, double low, double high);
cld_status cld_normal_(cld_tensor *x, double mean, double deviation);
/* random_integers.c: integers in [low, high); a random permutation of 0 to n - 1 */
cld_tensor *cld_randint(cld_dtype dtype, int ndim, const int64_t *shape, int64_t low, int64_t high,
                        const cld_backend *device);
cld_tensor *cld_randperm(cld_dtype dtype, int64_t n, const cld_backend *device);

/* ---- shared by op files: check.c ---- */
typedef struct cld_shape {
    int ndim;
    int64_t extents[CLD_MAX_DIMS];
} cld_shape;
/* Makes it 0-based and checks the range; the error names the op. */
cld_status cld_check_dim(const char *op, const cld_tensor *x, int dim, int *out);
cld_status cld_check_same_device(const char *op, const cld_tensor *a, const cld_tensor *b);
cld_status cld_check_index(const char *op, const cld_tensor *index); /* i64 */
cld_status cld_check_float(const char *op, const cld_tensor *x);
/* The integers from least to most fit into the dtype, if it has 8 or 32 bits. */
cld_status cld_check_holds(const char *op, cld_dtype dtype, double least, double most);
cld_status cld_check_mask(const char *op, const cld_tensor *mask); /* u8, as comparisons give it */
/* What a write depends on: NULL, or one element of u8 on that device; the write is not done if it is 0. */
cld_status cld_check_condition(const char *op, const cld_tensor *condition, const cld_backend *device);
static inline const cld_array *cld_array_of(const cld_tensor *x) { return x ? &x->a : NULL; }
/* The dtype in which an op computes on the two. Float wins over integer, and wider over narrower; f16 with bf16 gives
 * f32. But a tensor without dimensions counts as a number: it changes the other's dtype only if it is a float and the
 * other holds integers. */
cld_dtype cld_result_dtype(const cld_array *a, const cld_array *b);
cld_shape cld_shape_of(const cld_array *a);
cld_status cld_broadcast_shapes(const char *op, const cld_array *a, const cld_array *b, cld_shape *out);
/* a as an array of that shape, with zero strides. */
cld_array cld_broadcast_array(const cld_array *a, const cld_shape *shape);
/* The elements of a dense tensor in another shape with the same number of elements, off the tape. */
cld_tensor *cld_reshaped(const cld_tensor *dense, const cld_shape *shape);
/* The gradient of a broadcast input: summed back to its shape. */
cld_tensor *cld_sum_to(cld_tensor *g, const cld_shape *shape);

#endif
