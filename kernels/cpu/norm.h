/* Batch normalization on the CPU: the entries of the backend's table (norm.c, norm_backward.c), the f32 inner loops
 * (norm_loops.c), the running statistics (norm_running.c), the sums of blocks that ranks share (norm_sums.c) and the f64
 * reference (norm_reference.c). */
#ifndef CLD_CPU_NORM_H
#define CLD_CPU_NORM_H

#include "kernels/backend.h"

cld_status cld_cpu_norm(const cld_array *y, const cld_array *mask, const cld_array *mean,
                        const cld_array *invstd, const cld_array *x, const cld_array *residual,
                        const cld_array *weight, const cld_array *bias, const cld_array *running_mean,
                        const cld_array *running_var, const cld_array *batches, const cld_array *sums,
                        const cld_norm_params *p);
cld_status cld_cpu_norm_sums(const cld_array *sums, const cld_array *x, const cld_norm_params *p);
cld_status cld_cpu_norm_apply(const cld_array *y, const cld_array *x, const cld_array *weight,
                              const cld_array *bias, const cld_array *mean, const cld_array *invstd,
                              const cld_norm_params *p);
cld_status cld_cpu_norm_backward(const cld_array *dx, const cld_array *dresidual, const cld_array *dweight,
                                 const cld_array *dbias, const cld_array *dy, const cld_array *more_dy,
                                 const cld_array *x, const cld_array *gate, const cld_array *weight,
                                 const cld_array *bias, const cld_array *mean, const cld_array *invstd,
                                 const cld_array *sums, const cld_norm_params *p);
cld_status cld_cpu_norm_backward_sums(const cld_array *sums, const cld_array *dresidual,
                                      const cld_array *dweight, const cld_array *dbias, const cld_array *dy,
                                      const cld_array *more_dy, const cld_array *x, const cld_array *gate,
                                      const cld_array *weight, const cld_array *bias, const cld_array *mean,
                                      const cld_array *invstd, const cld_norm_params *p);

/* ---- norm_loops.c -------------------------------------------------------------------------------------- */

/* How one part of an activation is split. A block is 16 channels side by side (blocked layout) or one channel
 * (row-major); block b of image n is the run of `run` floats at data + (n * blocks + b) * run. The runs of one block,
 * end to end, are cut into chunks of CLD_NORM_CHUNK floats: the unit of work of one thread, small enough for its cache.
 * The split depends on the shape alone, so sums over chunks do not depend on the number of threads. */
#define CLD_NORM_CHUNK 16384

typedef struct cld_norm_shape {
    int64_t images, blocks, run, chunks; /* chunks per block */
    int lanes;                           /* channels per block: 16 or 1 */
} cld_norm_shape;

/* A value per lane of a vector; if a block is one channel, all 16 are equal. */
typedef struct cld_norm_lanes {
    _Alignas(64) float at[16];
} cld_norm_lanes;

/* Of one chunk, per channel; m2 is the sum of squared deviations from the mean. */
typedef struct cld_norm_moments {
    cld_norm_lanes mean, m2;
} cld_norm_moments;

/* Of one chunk, per channel: sums of dy and of dy * (x - mean), dy masked by relu. */
typedef struct cld_norm_sums {
    cld_norm_lanes dy, dy_x;
} cld_norm_sums;

/* Per block. Forward:  y = (x - mean) * scale + shift
 *            Backward: dx = dy_scale * dy + x_scale * (x - mean) + dx_shift */
typedef struct cld_norm_coefficients {
    cld_norm_lanes mean, scale, shift, dy_scale, x_scale, dx_shift;
} cld_norm_coefficients;

/* (parts, channels): for each part of the whole batch; the variance is unbiased. */
typedef struct cld_batch_statistics {
    double *mean, *var;
} cld_batch_statistics;

typedef enum cld_norm_mask { CLD_MASK_NONE, CLD_MASK_FROM_X, CLD_MASK_FROM_Y } cld_norm_mask;

void cld_norm_chunk_moments(cld_norm_moments *out, const cld_norm_shape *s, int64_t block, int64_t chunk,
                            const float *x);
void cld_norm_chunk_apply(float *y, const cld_norm_shape *s, int64_t block, int64_t chunk, const float *x,
                          const float *residual, const cld_norm_coefficients *c, bool relu);
/* Also writes the masked dy to `masked`, unless `masked` is NULL. */
void cld_norm_chunk_sums(cld_norm_sums *out, float *masked, const cld_norm_shape *s, int64_t block,
                         int64_t chunk, const float *dy, const float *x, const float *y,
                         const cld_norm_coefficients *c, cld_norm_mask mask);
void cld_norm_chunk_gradient(float *dx, const cld_norm_shape *s, int64_t block, int64_t chunk,
                             const float *dy, const float *x, const float *y, const cld_norm_coefficients *c,
                             cld_norm_mask mask);

/* ---- norm_running.c ------------------------------------------------------------------------------------- */

/* Updates the running statistics that are not NULL from the statistics of x's parts, which are overwritten. */
void cld_norm_move_running(const cld_array *running_mean, const cld_array *running_var,
                           const cld_array *batches, const cld_batch_statistics *batch, const cld_array *x,
                           const cld_norm_params *p);

/* ---- norm_sums.c: (parts of the whole batch, 2, channels), f64 ------------------------------------------ */

/* The sums of a local part. */
typedef struct cld_norm_pair {
    double *first, *second; /* (channels) */
} cld_norm_pair;
cld_norm_pair cld_norm_pair_of(const cld_array *sums, const cld_cut *cut, int part);

void cld_norm_clear_sums(const cld_array *sums);
/* Computes mean and invstd of the local parts, and the statistics of all parts, from the sums of x and of x squared. */
void cld_norm_use_sums(const cld_array *mean, const cld_array *invstd, const cld_batch_statistics *batch,
                       const cld_array *sums, const cld_array *x, const cld_norm_params *p);

/* ---- norm_reference.c: f64, row-major; as in the table, but in training the batch's statistics go to batch ------- */

void cld_reference_norm(const cld_array *y, const cld_array *mean, const cld_array *invstd,
                        const cld_array *x, const cld_array *residual, const cld_array *weight,
                        const cld_array *bias, const cld_array *running_mean, const cld_array *running_var,
                        const cld_batch_statistics *batch, const cld_norm_params *p);
void cld_reference_norm_apply(const cld_array *y, const cld_array *x, const cld_array *residual,
                              const cld_array *weight, const cld_array *bias, const cld_array *mean,
                              const cld_array *invstd, const cld_norm_params *p);
void cld_reference_norm_backward(const cld_array *dx, const cld_array *dresidual, const cld_array *dweight,
                                 const cld_array *dbias, const cld_array *dy, const cld_array *x,
                                 const cld_array *y, const cld_array *weight, const cld_array *bias,
                                 const cld_array *mean, const cld_array *invstd, const cld_array *sums,
                                 const cld_norm_params *p);
void cld_reference_norm_sums(const cld_array *sums, const cld_array *x, const cld_norm_params *p);
void cld_reference_norm_backward_sums(const cld_array *sums, const cld_array *dresidual,
                                      const cld_array *dweight, const cld_array *dbias, const cld_array *dy,
                                      const cld_array *x, const cld_array *y, const cld_array *weight,
                                      const cld_array *bias, const cld_array *mean, const cld_array *invstd,
                                      const cld_norm_params *p);

#endif
