#include "runtime/ops/ops.h"
cld_tensor *cld_binary_op(cld_binary kind, cld_tensor *a, cld_tensor *b) { (void)kind, (void)a, (void)b; return NULL; }
cld_status cld_add_(cld_tensor *x, cld_tensor *y) { (void)x, (void)y; return CLD_OK; }
