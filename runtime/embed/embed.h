/* Maps of features: rows of many dimensions as points of a few, for people to look at. They run on the CPU, off the
 * tape; rows on another device are copied. */
#ifndef CLD_EMBED_H
#define CLD_EMBED_H

#include "runtime/tensor/tensor.h"

/* ---- pca.c ---- */

/* Principal components (Pearson, 1901): x (n, d), f32 or f64, n > 1 -> f32 (n, dims), the rows less their mean along
 * the `dims` directions of the largest variance, largest first; dims is at most n and d. Each direction has the sign
 * that makes its largest entry positive, as in scikit-learn. */
cld_tensor *cld_pca(cld_tensor *x, int64_t dims);

/* ---- tsne.c: t-SNE (van der Maaten and Hinton, 2008), with the Barnes-Hut gradient (van der Maaten, 2014) ---- */

typedef struct cld_tsne_params {
    double perplexity;  /* the effective number of a point's neighbours; below n */
    double angle;       /* a cell counts as one point if its width is below angle * distance; 0: no tree */
    int64_t iterations; /* in the first quarter, at most 250, the affinities are 12 times as large */
    uint64_t seed;      /* of noise added at the start, 1 % of it, so that equal rows separate */
} cld_tsne_params;

/* x (n, d), f32 or f64 -> f32 (n, 2), and in *kl the remaining Kullback-Leibler divergence, exact for the affinities of
 * 3 * perplexity + 1 neighbours. It starts at the first two principal components and takes scikit-learn's steps
 * (learning rate max(n / 48, 50), momentum 0.5 and then 0.8, gains). The result does not depend on the number of
 * threads. */
cld_tensor *cld_tsne(double *kl, cld_tensor *x, const cld_tsne_params *p);

/* The divergence of the points y (n, 2) for x's affinities, and its gradient, f64 (n, 2), which a step uses. */
cld_tensor *cld_tsne_gradient(double *kl, cld_tensor *x, cld_tensor *y, const cld_tsne_params *p);

/* ---- affinities.c ---- */

/* Joint probabilities of pairs of near points: row i's are those from begin[i] to begin[i + 1]. */
typedef struct cld_affinities {
    int64_t n;
    int64_t *begin; /* (n + 1) */
    int32_t *other; /* the second point of each pair, ascending within a row */
    float *p;       /* symmetric, with a sum of 1 */
} cld_affinities;
cld_status cld__find_affinities(cld_affinities *out, cld_tensor *x, double perplexity);
void cld__free_affinities(cld_affinities *a); /* may be all zero */

/* ---- tree.c ---- */

/* A quadtree over points in the plane. Its cells are in the order of a walk: a cell's first child follows it. */
typedef struct cld_cell {
    double x, y;         /* the mean of its points */
    double width;        /* squared */
    int32_t count, next; /* the number of its points; the cell after its children */
} cld_cell;

typedef struct cld_tree {
    cld_cell *cells;
    int64_t used, room;
    uint64_t *keys, *other; /* (n) each: a point's code and its number; other is for sorting */
    int64_t n;
} cld_tree;
cld_status cld__tree_new(cld_tree *t, int64_t n);
void cld__tree_free(cld_tree *t);
/* Builds the tree of the points y (n, 2). */
cld_status cld__tree_build(cld_tree *t, const double *y);
/* With w = 1 / (1 + |y - y_j|^2), adds the sum over j of w^2 (y - y_j) to force and returns the sum of w. Both are over
 * all points, including y itself, whose w is 1. */
double cld__tree_repulsion(const cld_tree *t, const double y[2], double angle, double force[2]);

#endif
