/* The cross-level discrimination loss, composed of differentiable ops: each view's features are classified
 * against the other view's groups. Equation in losses.h. */
#include "runtime/losses/losses.h"
#include "runtime/ops/ops.h"

/* The blocks of a batch: the first `larger` have one row more than the rest. */
typedef struct blocks {
    int64_t count, rows, larger;
} blocks;

static blocks blocks_of(int64_t rows, int64_t block) {
    int64_t count = cld_block_count(rows, block);
    return (blocks){count, rows / count, rows % count};
}

/* For blocks first .. first + count - 1, each of `rows` rows, starting at row `begin`: the products of g's rows with
 * the centroids of their own block, (count * rows, k). */
static cld_tensor *products(cld_tensor *g, cld_tensor *centroids, int64_t k, int64_t first, int64_t count,
                            int64_t begin, int64_t rows) {
    int64_t dim = g->a.shape[1];
    CLD_AUTO cld_tensor *here = cld_narrow(g, 0, begin, count * rows);
    CLD_AUTO cld_tensor *theirs = cld_narrow(centroids, 0, first * k, count * k);
    CLD_AUTO cld_tensor *a = here ? cld_reshape(here, 3, (int64_t[]){count, rows, dim}) : NULL;
    CLD_AUTO cld_tensor *b = theirs ? cld_reshape(theirs, 3, (int64_t[]){count, k, dim}) : NULL;
    CLD_AUTO cld_tensor *transposed = b ? cld_transpose(b, 1, 2) : NULL;
    CLD_AUTO cld_tensor *out = a && transposed ? cld_matmul(a, transposed) : NULL;
    return out ? cld_reshape(out, 2, (int64_t[]){count * rows, k}) : NULL;
}

/* The same for all rows: (batch, k). */
static cld_tensor *similarities(cld_tensor *g, cld_tensor *centroids, int64_t k, const blocks *b) {
    if (b->count == 1) {
        CLD_AUTO cld_tensor *transposed = cld_transpose(centroids, 0, 1);
        return transposed ? cld_matmul(g, transposed) : NULL;
    }
    int64_t begin = b->larger * (b->rows + 1);
    if (b->larger == 0) return products(g, centroids, k, 0, b->count, 0, b->rows);
    CLD_AUTO cld_tensor *first = products(g, centroids, k, 0, b->larger, 0, b->rows + 1);
    CLD_AUTO cld_tensor *rest =
        first ? products(g, centroids, k, b->larger, b->count - b->larger, begin, b->rows) : NULL;
    return rest ? cld_cat((cld_tensor *[]){first, rest}, 2, 0) : NULL;
}

/* Features g (batch, dim) against the groups of the other view: CE(g C^T / T, labels), and, if asked for, the share of
 * rows whose largest logit is at their label. */
static cld_tensor *loss_against(cld_tensor **accuracy, cld_tensor *g, cld_tensor *centroids,
                                cld_tensor *labels, const cld_group_params *p, const blocks *b) {
    const cld_cross_entropy_params settings = {.reduction = CLD_MEAN_OF_ROWS, .temperature = p->temperature};
    CLD_AUTO cld_tensor *similarity = similarities(g, centroids, p->clusters, b);
    return similarity ? cld_cross_entropy(accuracy, similarity, labels, &settings) : NULL;
}

static cld_tensor *clusters_of(cld_tensor **labels, cld_tensor **empty, cld_tensor *g,
                               const cld_group_params *p, const blocks *b) {
    int count = (int)b->count;
    CLD_AUTO cld_tensor *centroids =
        p->grouping == CLD_BY_KMEANS
            ? cld_kmeans(labels, empty, g, p->clusters, p->iterations, count)
            : cld_normalized_cuts(labels, empty, NULL, g, p->eigenvectors, p->clusters, p->iterations, count);
    if (!centroids) return NULL;
    return p->detach_centroids ? cld_tensor_detach(centroids) : cld_tensor_steal(&centroids);
}

/* Both views' empty groups (blocks), for blocks first .. first + count - 1 of `rows` rows each, as a share of the
 * groups that these blocks can have, times the rows' share of the batch. */
static cld_tensor *weighted_share(cld_tensor *both, int64_t k, const blocks *b, int64_t first, int64_t count,
                                  int64_t rows) {
    double batch = (double)(b->larger + b->count * b->rows), groups = (double)(2 * (k < rows ? k : rows));
    if (b->count == 1) return cld_mul_scalar(both, 1 / groups);
    CLD_AUTO cld_tensor *here = cld_narrow(both, 0, first, count);
    CLD_AUTO cld_tensor *sum = here ? cld_sum(here, NULL, 0, false) : NULL;
    return sum ? cld_mul_scalar(sum, (double)rows / batch / groups) : NULL;
}

static cld_tensor *share_of_empty(cld_tensor *empty1, cld_tensor *empty2, int64_t k, const blocks *b) {
    CLD_AUTO cld_tensor *both = cld_add(empty1, empty2);
    CLD_AUTO cld_tensor *share =
        both ? weighted_share(both, k, b, b->larger, b->count - b->larger, b->rows) : NULL;
    if (share && b->larger > 0) {
        CLD_AUTO cld_tensor *first = weighted_share(both, k, b, 0, b->larger, b->rows + 1);
        cld_tensor *sum = first ? cld_add(first, share) : NULL;
        cld_tensor_free(share);
        share = sum;
    }
    return share ? cld_reshape(share, 0, NULL) : NULL;
}

cld_tensor *cld_cross_level_loss(cld_tensor **accuracy, cld_tensor **empty, cld_tensor *g1, cld_tensor *g2,
                                 const cld_group_params *p) {
    CLD_TRY_NULL(cld__check_alike("cld", "g1", g1, "g2", g2));
    CLD_TRY_NULL(cld__check_temperature("cld", p->temperature));
    CLD_TRY_NULL(cld__check_kmeans("cld", g1, p->clusters, p->iterations));
    CLD_TRY_NULL(cld__check_eigenvectors("cld", p->eigenvectors));
    if (!cld_same_shape(&g1->a, &g2->a))
        return cld_fail_null(CLD_INVALID, "cld: g1 is %s, g2 %s; expected the same shape",
                             cld_describe(&g1->a), cld_describe(&g2->a));
    if (p->block < 0)
        return cld_fail_null(CLD_INVALID, "cld: a block of %lld rows; expected at least 1, or 0 for all",
                             (long long)p->block);
    blocks b = blocks_of(g1->a.shape[0], p->block);
    CLD_AUTO cld_tensor *labels1 = NULL, *labels2 = NULL, *empty1 = NULL, *empty2 = NULL;
    CLD_AUTO cld_tensor *centroids1 = clusters_of(&labels1, &empty1, g1, p, &b);
    if (!centroids1) return NULL;
    CLD_AUTO cld_tensor *centroids2 = clusters_of(&labels2, &empty2, g2, p, &b);
    if (!centroids2) return NULL;
    CLD_AUTO cld_tensor *share = NULL;
    CLD_AUTO cld_tensor *loss1 = loss_against(&share, g1, centroids2, labels2, p, &b);
    if (!loss1) return NULL;
    CLD_AUTO cld_tensor *loss2 = loss_against(NULL, g2, centroids1, labels1, p, &b);
    CLD_AUTO cld_tensor *sum = loss2 ? cld_add(loss1, loss2) : NULL;
    CLD_AUTO cld_tensor *loss = sum ? cld_mul_scalar(sum, 0.5) : NULL;
    CLD_AUTO cld_tensor *without = loss ? share_of_empty(empty1, empty2, p->clusters, &b) : NULL;
    if (!without) return NULL;
    *accuracy = cld_tensor_steal(&share);
    *empty = cld_tensor_steal(&without);
    return cld_tensor_steal(&loss);
}
