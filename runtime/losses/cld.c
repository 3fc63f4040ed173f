/* The cross-level discrimination loss, composed of differentiable ops: each view's features are classified
 * against the other view's groups. Equation in losses.h. */
#include "runtime/losses/losses.h"
#include "runtime/ops/ops.h"

/* Features g (batch, dim) against the groups of the other view: CE(g C^T / T, labels), and the share of rows whose
 * largest logit is their label, where that is asked for. */
static cld_tensor *loss_against(cld_tensor **accuracy, cld_tensor *g, cld_tensor *centroids,
                                cld_tensor *labels, double temperature) {
    const cld_cross_entropy_params p = {.reduction = CLD_MEAN_OF_ROWS, .temperature = temperature};
    CLD_AUTO cld_tensor *transposed = cld_transpose(centroids, 0, 1);
    CLD_AUTO cld_tensor *similarity = transposed ? cld_matmul(g, transposed) : NULL;
    return similarity ? cld_cross_entropy(accuracy, similarity, labels, &p) : NULL;
}

static cld_tensor *clusters_of(cld_tensor **labels, cld_tensor *g, const cld_group_params *p) {
    CLD_AUTO cld_tensor *centroids = cld_kmeans(labels, g, p->clusters, p->iterations);
    if (!centroids) return NULL;
    return p->detach_centroids ? cld_tensor_detach(centroids) : cld_tensor_steal(&centroids);
}

cld_tensor *cld_cross_level_loss(cld_tensor **accuracy, cld_tensor *g1, cld_tensor *g2,
                                 const cld_group_params *p) {
    CLD_TRY_NULL(cld__check_alike("cld", "g1", g1, "g2", g2));
    CLD_TRY_NULL(cld__check_temperature("cld", p->temperature));
    CLD_TRY_NULL(cld__check_kmeans("cld", g1, p->clusters, p->iterations));
    if (!cld_same_shape(&g1->a, &g2->a))
        return cld_fail_null(CLD_INVALID, "cld: g1 is %s, g2 %s; expected the same shape",
                             cld_describe(&g1->a), cld_describe(&g2->a));
    CLD_AUTO cld_tensor *labels1 = NULL, *labels2 = NULL;
    CLD_AUTO cld_tensor *centroids1 = clusters_of(&labels1, g1, p);
    if (!centroids1) return NULL;
    CLD_AUTO cld_tensor *centroids2 = clusters_of(&labels2, g2, p);
    if (!centroids2) return NULL;
    CLD_AUTO cld_tensor *share = NULL;
    CLD_AUTO cld_tensor *loss1 = loss_against(&share, g1, centroids2, labels2, p->temperature);
    if (!loss1) return NULL;
    CLD_AUTO cld_tensor *loss2 = loss_against(NULL, g2, centroids1, labels1, p->temperature);
    CLD_AUTO cld_tensor *sum = loss2 ? cld_add(loss1, loss2) : NULL;
    CLD_AUTO cld_tensor *loss = sum ? cld_mul_scalar(sum, 0.5) : NULL;
    if (!loss) return NULL;
    *accuracy = cld_tensor_steal(&share);
    return cld_tensor_steal(&loss);
}
