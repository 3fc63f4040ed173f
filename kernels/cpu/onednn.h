/* oneDNN, called from C.
 *
 * When memory runs out, some of its calls return a status, others throw, and some use the memory that they did not get.
 * So on systems that can refuse memory, it is only called while a generous amount is still available. Exceptions become
 * errors.
 */
#ifndef CLD_CPU_ONEDNN_H
#define CLD_CPU_ONEDNN_H

#include <dnnl.h>

#include "runtime/core/error.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Runs call(context) and turns any exception into an error. An exception leaves `call` in the middle, so anything that
 * must be destroyed afterwards belongs in the context. `doing` tells the error message what failed. */
cld_status cld_onednn_call(cld_status (*call)(void *context), void *context, const char *doing);

/* Converts a oneDNN status to ours, with an error "<doing>: ...". */
cld_status cld_onednn_check(dnnl_status_t status, const char *doing);

/* Puts an error in this thread's record for another thread's call, which ended with this status. */
cld_status cld_onednn_fail(cld_status status, const char *doing);

/* c = alpha a b + beta c, row-major, as dnnl_sgemm. */
cld_status cld_sgemm(char transposed_a, char transposed_b, int64_t m, int64_t n, int64_t k, float alpha,
                     const float *a, int64_t lda, const float *b, int64_t ldb, float beta, float *c,
                     int64_t ldc);

#ifdef __cplusplus
}
#endif

#endif
