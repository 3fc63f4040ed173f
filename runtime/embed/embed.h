/* Maps of features: rows of many dimensions as points of a few, for people to look at. On the CPU, off the tape; rows of
 * another device are fetched. */
#ifndef CLD_EMBED_H
#define CLD_EMBED_H

#include "runtime/tensor/tensor.h"

/* ---- pca.c ---- */

/* Principal components (Pearson, 1901): x (n, d), f32 or f64, n > 1 -> its rows less their mean, in the coordinates of the
 * `dims` directions of the largest variance, largest first: f32 (n, dims), dims at most n and d. Of both signs that an axis
 * can have it has the one in which the largest entry of its direction is positive, as scikit-learn's. */
cld_tensor *cld_pca(cld_tensor *x, int64_t dims);

/* ---- tsne.c: t-SNE (van der Maaten and Hinton, 2008), its gradient by the Barnes-Hut tree (van der Maaten, 2014) ---- */

typedef struct cld_tsne_params {
    double perplexity; /* effective neighbours of a point; below n */
    double
        angle; /* a cell of the tree is one point if its width is less than so much of its distance; 0: no tree */
    int64_t iterations; /* the first quarter, at most 250, with the affinities 12 times as large */
    uint64_t seed;      /* of what is added to the beginning, 1 % of it, so that equal rows part */
} cld_tsne_params;

/* x (n, d), f32 or f64 -> f32 (n, 2), and in *kl the Kullback-Leibler divergence that is left, exact for the affinities
 * of 3 * perplexity + 1 neighbours. It begins at the first two principal components, steps as scikit-learn does (learning
 * rate max(n / 48, 50), momentum 0.5 and then 0.8, gains), and does not depend on the number of threads. */
cld_tensor *cld_tsne(double *kl, cld_tensor *x, const cld_tsne_params *p);

/* The divergence of the points y (n, 2) for x's affinities, and its gradient, f64 (n, 2): what a step goes by. */
cld_tensor *cld_tsne_gradient(double *kl, cld_tensor *x, cld_tensor *y, const cld_tsne_params *p);

/* ---- affinities.c ---- */

/* Joint probabilities of pairs of points, of near ones alone: row i's are those from begin[i] to begin[i + 1]. */
typedef struct cld_affinities {
    int64_t n;
    int64_t *begin; /* (n + 1) */
    int32_t *other; /* the second of each pair, ascending in a row */
    float *p;       /* symmetric, and 1 together */
} cld_affinities;
cld_status cld__find_affinities(cld_affinities *out, cld_tensor *x, double perplexity);
void cld__free_affinities(cld_affinities *a); /* of one that is all zero, too */

/* ---- tree.c ---- */

/* A quadtree over points in the plane, its cells in the order of a walk: the first child follows its cell. */
typedef struct cld_cell {
    double x, y;         /* the mean of its points */
    double width;        /* squared */
    int32_t count, next; /* its points; where the walk goes on without its children */
} cld_cell;

typedef struct cld_tree {
    cld_cell *cells;
    int64_t used, room;
    uint64_t *keys, *other; /* (n) each: a point's code, and its number */
    int64_t n;
} cld_tree;
cld_status cld__tree_new(cld_tree *t, int64_t n);
void cld__tree_free(cld_tree *t);
/* Of points y (n, 2). */
cld_status cld__tree_build(cld_tree *t, const double *y);
/* With w = 1 / (1 + |y - y_j|^2): adds the sum over j of w^2 (y - y_j) to force, and returns that of w; over all points, the
 * one itself among them, whose share is 1. */
double cld__tree_repulsion(const cld_tree *t, const double y[2], double angle, double force[2]);

#endif
