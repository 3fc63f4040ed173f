/* Weak stand-ins for ops that are on their way; each gives way to the real one when that is linked. Goes with
 * the last. */
#include "runtime/ops/ops.h"

#define WEAK __attribute__((weak))
#define FAIL(name)                                                                                           \
    { return cld_fail_null(CLD_UNSUPPORTED, name ": not built"); }
WEAK cld_tensor *cld_cross_entropy(cld_tensor *a, cld_tensor *b) {
    (void)a, (void)b;
    FAIL("cross_entropy")
}
WEAK cld_tensor *cld_gather(cld_tensor *x, int d, cld_tensor *i) {
    (void)x, (void)d, (void)i;
    FAIL("gather")
}
WEAK cld_tensor *cld_index_select(cld_tensor *x, int d, cld_tensor *i) {
    (void)x, (void)d, (void)i;
    FAIL("index_select")
}
WEAK cld_tensor *cld_index_add(cld_tensor *x, int d, cld_tensor *i, cld_tensor *s) {
    (void)x, (void)d, (void)i, (void)s;
    FAIL("index_add")
}
WEAK cld_tensor *cld_index_copy(cld_tensor *x, int d, cld_tensor *i, cld_tensor *s) {
    (void)x, (void)d, (void)i, (void)s;
    FAIL("index_copy")
}
WEAK cld_tensor *cld_scatter_add(cld_tensor *x, int d, cld_tensor *i, cld_tensor *s) {
    (void)x, (void)d, (void)i, (void)s;
    FAIL("scatter_add")
}
WEAK cld_tensor *cld_softmax(cld_tensor *x, int d) {
    (void)x, (void)d;
    FAIL("softmax")
}
WEAK cld_tensor *cld_log_softmax(cld_tensor *x, int d) {
    (void)x, (void)d;
    FAIL("log_softmax")
}
WEAK cld_tensor *cld_normalize(cld_tensor *x, int d) {
    (void)x, (void)d;
    FAIL("normalize")
}
WEAK cld_tensor *cld_matmul(cld_tensor *a, cld_tensor *b) {
    (void)a, (void)b;
    FAIL("matmul")
}
WEAK cld_tensor *cld_sort(cld_tensor **i, cld_tensor *x, int d, bool f) {
    (void)i, (void)x, (void)d, (void)f;
    FAIL("sort")
}
WEAK cld_tensor *cld_topk(cld_tensor **i, cld_tensor *x, int64_t k, int d, bool f) {
    (void)i, (void)x, (void)d, (void)f, (void)k;
    FAIL("topk")
}
WEAK cld_generator cld_get_generator(void) { return (cld_generator){0}; }
WEAK void cld_set_generator(cld_generator g) { (void)g; }
WEAK cld_status cld_uniform_(cld_tensor *x, double a, double b) {
    (void)x, (void)a, (void)b;
    return cld_fail(CLD_UNSUPPORTED, "uniform_: not built");
}
WEAK cld_status cld_normal_(cld_tensor *x, double a, double b) {
    (void)x, (void)a, (void)b;
    return cld_fail(CLD_UNSUPPORTED, "normal_: not built");
}
