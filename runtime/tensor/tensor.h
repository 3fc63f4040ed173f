/* Tensors: a reference-counted view (cld_tensor) on reference-counted bytes (cld_storage).
 *
 * Ownership. A function with `new`, or any op, returns a reference that the caller owns and releases with
 * cld_tensor_free (NULL is fine). Arguments are borrowed. CLD_AUTO frees at the end of the scope, so that error paths
 * need no labels; cld_tensor_steal moves a tensor out of it:
 *
 *     CLD_AUTO cld_tensor *y = cld_tensor_new(CLD_F32, x->a.ndim, x->a.shape, x->storage->device);
 *     if (!y) return NULL;
 *     CLD_TRY_NULL(cld_kernel(cld_device(x), math, unary, CLD_EXP, &y->a, &x->a, zero, zero));
 *     return cld_tensor_steal(&y);
 *
 * Layout. A tensor may have its device's own blocked layout (see cld_layout); logically nothing changes. An op that
 * uses strides calls cld_tensor_strided first, which reorders if it must.
 */
#ifndef CLD_TENSOR_TENSOR_H
#define CLD_TENSOR_TENSOR_H

#include <stdatomic.h>

#include "kernels/backend.h"
#include "runtime/tensor/capture.h"

typedef struct cld_node cld_node; /* runtime/autograd/tape.h */
typedef struct cld_tensor cld_tensor;

typedef struct cld_storage {
    atomic_int refs;     /* number of tensors; the bytes are freed with the last one */
    atomic_int watchers; /* and one for all tensors together; this struct is freed with the last one */
    atomic_uint version; /* counts in-place writes: a saved tensor written since is an error in backward */
    const cld_backend *device;
    void *data;
    size_t bytes;
    uint64_t born;            /* cld_capture_epoch() at that time */
    cld_recording *recording; /* the capture that allocated it, whose replays may write to it; NULL: none */
} cld_storage;

/* What a weight keeps for the next call (kept.h): its own values in another dtype or layout, valid until the weight is
 * written to. */
typedef struct cld_kept_copy {
    cld_tensor *tensor;           /* NULL: nothing is kept */
    cld_dtype rounded;            /* values were rounded to this dtype first */
    unsigned version;             /* of the weight's storage at that time */
    uint64_t epoch;               /* cld_capture_epoch() at that time */
    uint64_t used;                /* kept.c's count of renewals at that time */
    bool taken;                   /* used since a step wrote it along with the weight */
    cld_tensor *next, **previous; /* list of all weights that keep one */
} cld_kept_copy;

/* The type of the numbers in the file that a tensor was read from, if none of our dtypes is that type (io/numbers.h). A
 * tensor that is computed from this one does not have it. Valid until somebody writes to the storage. */
typedef struct cld_stored {
    char kind; /* 0: none */
    uint8_t bytes;
    unsigned version; /* of the storage at that time */
} cld_stored;

struct cld_tensor {
    cld_array a;
    cld_storage *storage;
    atomic_int refs;
    bool requires_grad;
    bool loss_scaled;       /* a gradient multiplied by an optimizer's loss scale */
    bool summed;            /* a gradient that is already the sum over the ranks (runtime/dist) */
    int edges_left;         /* leaves only: edges that a followed backward has yet to pass, else 0 */
    cld_tensor *grad;       /* leaves only: the accumulated gradient; cld_dense_gradients before reading it */
    cld_tensor *grad_came;  /* written to by replays; grad was made from it (autograd/gradient.c); or NULL */
    uint64_t grad_replays;  /* cld_recording_replays() of grad_came at that time */
    cld_node *node;         /* what produced it on the tape; NULL for leaves and constants */
    int output;             /* which of node's outputs */
    struct cld_hook *hooks; /* leaves only: called by backward with the gradient (autograd/tape.h) */
    cld_kept_copy kept;
    cld_stored stored;
};

/* ---- lifetime ---- */

/* Dense row-major, contents undefined. shape may be NULL when ndim is 0. */
cld_tensor *cld_tensor_new(cld_dtype dtype, int ndim, const int64_t *shape, const cld_backend *device);
/* Same shape, dtype, device and layout, contents undefined. */
cld_tensor *cld_tensor_new_like(const cld_tensor *x);
/* In the device's own layout for 4-d activations if it wants one, else row-major. */
cld_tensor *cld_tensor_new_activation(cld_dtype dtype, const int64_t shape[4], const cld_backend *device);
cld_tensor *cld_tensor_full(cld_dtype dtype, int ndim, const int64_t *shape, const cld_backend *device,
                            double v);
/* A 0-d tensor with one number. */
cld_tensor *cld_tensor_scalar(cld_dtype dtype, cld_scalar v, const cld_backend *device);
/* Another view on x's storage; not on the tape. Strides in elements, data inside x's storage. */
cld_tensor *cld_tensor_view(const cld_tensor *x, int ndim, const int64_t *shape, const int64_t *strides,
                            void *data);
/* `count` rows of x's first dimension from `first` on; x is dense, in any layout; off the tape. */
cld_tensor *cld_tensor_rows(const cld_tensor *x, int64_t first, int64_t count);
/* Same data, off the tape. */
cld_tensor *cld_tensor_detach(const cld_tensor *x);
cld_tensor *cld_tensor_retain(cld_tensor *x);
void cld_tensor_free(cld_tensor *x);
cld_tensor *cld_tensor_steal(cld_tensor **x); /* returns *x and sets it to NULL */
static inline void cld_tensor_free_at(cld_tensor **x) { cld_tensor_free(*x); }
#define CLD_AUTO __attribute__((cleanup(cld_tensor_free_at)))

/* ---- facts ---- */

const char *cld_dtype_name(cld_dtype dtype);
bool cld_dtype_parse(const char *name, cld_dtype *out);
static inline bool cld_dtype_is_float(cld_dtype d) { return d <= CLD_F16; }
static inline bool cld_dtype_is_half(cld_dtype d) { return d == CLD_BF16 || d == CLD_F16; }

bool cld_same_shape(const cld_array *a, const cld_array *b);
static inline const cld_backend *cld_device(const cld_tensor *x) { return x->storage->device; }

/* "f32[2, 3]" in a ring of per-thread buffers: up to eight may be used in one message. */
const char *cld_describe(const cld_array *a);

/* The number of live tensors, for leak checks. */
int64_t cld_tensors_alive(void);

/* Keeps s->version readable without keeping the bytes. Unwatch accepts NULL. */
cld_storage *cld_storage_watch(cld_storage *s);
void cld_storage_unwatch(cld_storage *s);

/* ---- kernels ---- */

/* A function of the device's table `group` (math, conv, ...); NULL if it has none. */
#define cld_slot(device, group, slot) ((device)->group ? (device)->group->slot : NULL)
/* Calls it; CLD_UNSUPPORTED, with its name, if there is none. */
#define cld_kernel(device, group, slot, ...)                                                                 \
    (cld_slot(device, group, slot) ? (device)->group->slot(__VA_ARGS__) : cld_unsupported(#slot, device))
cld_status cld_unsupported(const char *op, const cld_backend *device);

/* ---- data movement, off the tape (the differentiable forms are in runtime/ops) ---- */

/* x itself (retained) if it is strided already, else a row-major copy. */
cld_tensor *cld_tensor_strided(cld_tensor *x);
/* Moves x itself to new row-major memory, so that views can share its memory and be written through. Other tensors keep
 * the old memory and do not see x's later values. */
cld_status cld_tensor_unblock(cld_tensor *x);
/* x itself (retained) if it is dense and row-major, else a copy. */
cld_tensor *cld_tensor_contiguous(cld_tensor *x);
/* A row-major copy, cast to dtype. */
cld_tensor *cld_tensor_cast(const cld_tensor *x, cld_dtype dtype);
/* to[i] = from[i], pairwise of the same shape, in any dtypes and layouts; in few launches, if the device supports
 * that. */
cld_status cld_copy_many(const cld_backend *device, int count, const cld_array *to, const cld_array *from);
/* A row-major copy on another device, or on x's own; in a copy between two devices one must be the cpu. */
cld_tensor *cld_tensor_to(const cld_tensor *x, const cld_backend *device);
/* x itself (retained) if it has that dtype and is on that device, else a row-major copy. */
cld_tensor *cld_tensor_as(cld_tensor *x, cld_dtype dtype, const cld_backend *device);
/* x itself (retained) if it is dense, row-major and on the cpu, else such a copy: for C code that reads the
 * elements. */
cld_tensor *cld_tensor_on_host(cld_tensor *x);
/* Do the two overlap in memory in such a way that writing to out changes elements of x that are still to be read? Not
 * if they are the same view, because then element i depends only on element i. */
bool cld_tensor_overlaps(const cld_tensor *out, const cld_tensor *x);
/* Writes x into out (any strides, dtype): x broadcasts, and may overlap. Increments out's version. */
cld_status cld_tensor_copy(cld_tensor *out, const cld_tensor *x);
cld_status cld_tensor_fill(cld_tensor *out, cld_scalar value);
/* One element as a double; index has ndim entries. */
cld_status cld_tensor_read(const cld_tensor *x, const int64_t *index, double *out);
cld_status cld_tensor_item(const cld_tensor *x, double *out); /* x must have one element */
cld_status cld_tensor_from_host(cld_tensor *out, const void *host, size_t bytes); /* out contiguous */
cld_status cld_tensor_to_host(const cld_tensor *x, void *host, size_t bytes);     /* x contiguous */

#endif
