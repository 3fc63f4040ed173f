/* The cross-level discrimination loss, composed of differentiable ops: each view's features are classified
 * against the other view's groups. Equation in losses.h. */
#include "runtime/losses/losses.h"
#include "runtime/ops/ops.h"

/* g (batch, dim) C^T / T */
static cld_tensor *logits_of(cld_tensor *g, cld_tensor *centroids, double temperature) {
    CLD_AUTO cld_tensor *transposed = cld_transpose(centroids, 0, 1);
    if (!transposed) return NULL;
    CLD_AUTO cld_tensor *similarity = cld_matmul(g, transposed);
    return similarity ? cld_mul_scalar(similarity, 1 / temperature) : NULL;
}

/* The share of rows whose largest logit is their label. */
static cld_tensor *accuracy_of(cld_tensor *logits, cld_tensor *labels) {
    CLD_AUTO cld_tensor *values = cld_tensor_detach(logits);
    if (!values) return NULL;
    CLD_AUTO cld_tensor *largest = cld_argmax(values, 1, false);
    if (!largest) return NULL;
    CLD_AUTO cld_tensor *equal = cld_binary_op(CLD_EQ, largest, labels);
    if (!equal) return NULL;
    CLD_AUTO cld_tensor *hits = cld_cast(equal, CLD_F32);
    return hits ? cld_mean(hits, NULL, 0, false) : NULL;
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
    if (!cld_same_shape(&g1->a, &g2->a))
        return cld_fail_null(CLD_INVALID, "cld: g1 is %s, g2 %s; expected the same shape",
                             cld_describe(&g1->a), cld_describe(&g2->a));
    CLD_AUTO cld_tensor *labels1 = NULL, *labels2 = NULL;
    CLD_AUTO cld_tensor *centroids1 = clusters_of(&labels1, g1, p);
    if (!centroids1) return NULL;
    CLD_AUTO cld_tensor *centroids2 = clusters_of(&labels2, g2, p);
    if (!centroids2) return NULL;
    CLD_AUTO cld_tensor *logits1 = logits_of(g1, centroids2, p->temperature);
    if (!logits1) return NULL;
    CLD_AUTO cld_tensor *logits2 = logits_of(g2, centroids1, p->temperature);
    if (!logits2) return NULL;
    CLD_AUTO cld_tensor *loss1 = cld_cross_entropy(logits1, labels2);
    CLD_AUTO cld_tensor *loss2 = cld_cross_entropy(logits2, labels1);
    if (!loss1 || !loss2) return NULL;
    CLD_AUTO cld_tensor *sum = cld_add(loss1, loss2);
    CLD_AUTO cld_tensor *share = accuracy_of(logits1, labels2);
    CLD_AUTO cld_tensor *loss = sum ? cld_mul_scalar(sum, 0.5) : NULL;
    if (!loss || !share) return NULL;
    *accuracy = cld_tensor_steal(&share);
    return cld_tensor_steal(&loss);
}
