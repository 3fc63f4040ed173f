/* Losses that have state beside the network or need kernels, the clustering, and the nearest-neighbour score.
 *
 * The state (a bank, a queue) is an ordinary tensor that the caller owns and passes in: these functions hold none.
 * Features are rows, f32 or f64; index and labels i64, 0-based. A loss is a 0-d tensor on the tape, the mean over the
 * batch. Errors name the function, the argument and both shapes.
 */
#ifndef CLD_LOSSES_H
#define CLD_LOSSES_H

#include "runtime/autograd/tape.h"

/* ---- memory_bank.c: NPID (Wu et al., CVPR 2018) ---- */

typedef struct cld_bank_params {
    double temperature;
    double momentum; /* of the rows: m_i <- normalize(momentum * m_i + (1 - momentum) * f_i) */
} cld_bank_params;

/* Cross entropy of f memory^T / T against class index[i]: f (batch, dim), memory (size, dim), index (batch). After a
 * backward through it, the rows index of the memory are updated with f. With several losses in one backward, the
 * updates come in the order in which backward reached them, and all gradients use the memory before the updates. */
cld_tensor *cld_bank_loss(cld_tensor *f, cld_tensor *memory, cld_tensor *index, const cld_bank_params *p);

/* The same by noise-contrastive estimation against the rows negatives (batch, K). z, one element, is Z of the very
 * first batch: 0 at first, set by the first call. */
cld_tensor *cld_bank_nce_loss(cld_tensor *f, cld_tensor *memory, cld_tensor *index, cld_tensor *negatives,
                              cld_tensor *z, const cld_bank_params *p);

/* (rows, count) numbers in 0 .. size - 1 from the global seed and draw, an i64 of one element that counts the calls. */
cld_tensor *cld_sample_negatives(int64_t rows, int64_t count, int64_t size, cld_tensor *draw);

/* ---- moco_queue.c: MoCo (He et al., CVPR 2020) ---- */

/* Cross entropy of [query . key, query queue^T] / T against class 0; the gradient flows to query (batch, dim) only. */
cld_tensor *cld_queue_loss(cld_tensor *query, cld_tensor *key, cld_tensor *queue, double temperature);
/* Replaces the oldest rows of the ring buffer; pointer (i64, one element), the next row to be written, advances and
 * wraps around. If there are more keys than rows, the last ones remain. Nothing changes if condition (u8, one element,
 * or NULL) is 0. Keys are not checked: one that is not finite makes every loss NaN until its row is replaced, so keys
 * of a step that was skipped because of its loss must not be added. */
cld_status cld_enqueue(cld_tensor *queue, cld_tensor *pointer, cld_tensor *keys, cld_tensor *condition);

/* loss may be any tensor on the tape. After a backward through the result, keys replace the oldest rows of the ring
 * buffer as above, unless the optimizer's step for it is skipped; with several in one step, in the order of their
 * backwards. Off the tape the result is loss, and nothing is enqueued. */
cld_tensor *cld_enqueue_after(cld_tensor *loss, cld_tensor *queue, cld_tensor *pointer, cld_tensor *keys);

/* ---- nt_xent.c: SimCLR (Chen et al., ICML 2020) ---- */

/* Equation 1: z1, z2 (n, dim) are two views of n images. For each of the 2 n rows, the class is the other view of its
 * image among the 2 n - 1 other rows; the loss is the mean over all rows of the cross entropy of the cosines / T. The
 * gradient flows to both. */
cld_tensor *cld_nt_xent(cld_tensor *z1, cld_tensor *z2, double temperature);

/* ---- kmeans.c ---- */

/* In each of `blocks` blocks of x's rows separately (kernels/parts.h), as defined in kernels/cpu/kmeans.c: centroids
 * (blocks * k, dim), block after block, and *labels (rows), 0 .. k - 1. The gradient through the centroids is that of
 * the last mean, with labels and counts constant. *empty (blocks), f32, a constant: groups without a row at the end,
 * not counting those that must be empty because k exceeds the block's rows. */
cld_tensor *cld_kmeans(cld_tensor **labels, cld_tensor **empty, cld_tensor *x, int64_t k, int64_t iterations,
                       int blocks);

/* The result, off the tape, for groupings that are built on it. Centroids are returned; labels and empty are as
 * above. */
typedef struct cld_groups {
    cld_tensor *labels, *own; /* own (rows): each row's own row in centroids, block * k + label */
    cld_tensor *sizes;        /* (blocks * k, 1): number of rows in a group, at least 1 */
    cld_tensor *empty;
} cld_groups;
void cld__free_groups(cld_groups *g);
#define CLD_GROUPS __attribute__((cleanup(cld__free_groups))) cld_groups /* CLD_GROUPS g = {0}; */
cld_tensor *cld__find_groups(cld_groups *out, const char *op, cld_tensor *x, int64_t k, int64_t iterations,
                             int blocks);

/* ---- normalized_cuts.c: normalized cuts (Shi and Malik, PAMI 2000), as CLD's authors use them ---- */

/* In each block of x's rows separately: W_ij = |cos(x_i, x_j)|, 0 on the diagonal; D, the diagonal matrix of W's row
 * sums; L = D^-1/2 (D - W) D^-1/2 and its eigenvectors of the smallest eigenvalues, times D^-1/2; k-means on their
 * rows. Centroids, *labels and *empty are as for kmeans, with means of x's rows; the gradient flows only through these
 * means.
 *
 * eigenvectors: at most the block's rows are used, as in the authors' code; 0: as many as there are clusters.
 * *eigenvalues, or NULL, if there is one block: those smallest ones, ascending, a constant.
 *
 * Neither the signs of the eigenvectors nor a common factor changes the labels (the authors divide by the top-left
 * entry). But if the last eigenvector belongs to a multiple eigenvalue, the solver decides which one it is. A row that
 * is similar to no other (its sum in W is 0, such as a row of zeros) has eigenvalue 1 of its own and lies at 0. A row
 * that is not finite makes all eigenvalues of its block NaN and all labels 0, and so the loss NaN. */
cld_tensor *cld_normalized_cuts(cld_tensor **labels, cld_tensor **empty, cld_tensor **eigenvalues,
                                cld_tensor *x, int64_t eigenvectors, int64_t k, int64_t iterations,
                                int blocks);

/* ---- cld.c: cross-level discrimination (Wang, Liu and Yu, CVPR 2021) ---- */

typedef enum cld_grouping { CLD_BY_KMEANS, CLD_BY_NORMALIZED_CUTS } cld_grouping;

typedef struct cld_group_params {
    cld_grouping grouping;
    int64_t eigenvectors; /* for normalized cuts */
    int64_t clusters, iterations;
    double temperature;
    bool detach_centroids; /* no gradient through the centroids */
    int64_t
        block; /* most rows of a block (cld_block_count), which has its own groups; 0: one block of all rows */
} cld_group_params;

/* (CE(g1 C2^T / T, c2) + CE(g2 C1^T / T, c1)) / 2, with labels c and centroids C from the grouping of each view's
 * features (batch, dim), in each block separately; the mean is over all rows. *accuracy: the share of rows whose
 * largest logit of g1 C2^T is c2. *empty: the share of groups without a row, relative to the min(clusters, rows) that a
 * block can have; the mean over both views and over the blocks, weighted with their rows. Both are 0-d constants,
 * *empty f32. */
cld_tensor *cld_cross_level_loss(cld_tensor **accuracy, cld_tensor **empty, cld_tensor *g1, cld_tensor *g2,
                                 const cld_group_params *p);

/* ---- weighted_knn.c: Wu et al., CVPR 2018; lua/cld/eval/neighbours.lua combines the two ---- */

/* The k rows of memory (rows, dim), k at most rows, that are most similar to each query by dot product, in the order of
 * the rows: similarities (queries, k), and *index. Exact; among equally similar rows the first ones win. If fewer than
 * k have a similarity above -infinity, the rest is -infinity with index 0. */
cld_tensor *cld_nearest(cld_tensor **index, cld_tensor *memory, cld_tensor *queries, int64_t k);

typedef struct cld_vote_params {
    int64_t k; /* at most n */
    int64_t classes;
    double temperature;
} cld_vote_params;

/* Scores (queries, classes): each of the k largest similarities (queries, n), the first among equals, adds
 * exp(similarity / T) to its class in labels (queries, n). If a query's scores could leave the dtype's range (f32, unit
 * rows: T below about 0.012), they are divided by exp of its largest similarity / T, which keeps the order of the
 * classes. */
cld_tensor *cld_vote(cld_tensor *similarities, cld_tensor *labels, const cld_vote_params *p);

/* ---- check.c: shared by these files ---- */

/* x is (rows, dim), rows > 0, f32 or f64. */
cld_status cld__check_rows(const char *op, const char *what, const cld_tensor *x);
/* The same, and y has x's dim, dtype and device. */
cld_status cld__check_alike(const char *op, const char *what, const cld_tensor *x, const char *other,
                            const cld_tensor *y);
cld_status cld__check_together(const char *op, const char *what, const cld_tensor *x, const char *other,
                               const cld_tensor *y); /* on one device */
/* index is i64 (rows of x), on its device. */
cld_status cld__check_entries(const char *op, const char *what, const cld_tensor *index, const cld_tensor *x);
cld_status cld__check_temperature(const char *op, double temperature);
cld_status cld__check_kmeans(const char *op, const cld_tensor *x, int64_t k, int64_t iterations);
cld_status cld__check_eigenvectors(const char *op, int64_t eigenvectors); /* 0 or more */
/* x is i64 with one element, on the device of y. */
cld_status cld__check_counter(const char *op, const char *what, const cld_tensor *x, const char *other,
                              const cld_tensor *y);

#endif
