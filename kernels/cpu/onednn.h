/* oneDNN, called from C.
 *
 * When memory runs out, some of its calls return a status, others throw, and some run into the memory that they did
 * not get. So where the system refuses memory nothing of it is called unless a generous amount is still to be had, and
 * what is thrown becomes an error.
 */
#ifndef CLD_CPU_ONEDNN_H
#define CLD_CPU_ONEDNN_H

#include <dnnl.h>

#include "runtime/core/error.h"

#ifdef __cplusplus
extern "C" {
#endif

/* call(context), with any exception made an error. It leaves `call` in the middle: what must be destroyed then belongs
 * in the context. `doing` says in the error what failed. */
cld_status cld_onednn_call(cld_status (*call)(void *context), void *context, const char *doing);

/* A status of oneDNN as ours, with an error "<doing>: ...". */
cld_status cld_onednn_check(dnnl_status_t status, const char *doing);

/* The status that another thread's call ended with, with an error in the record of this one. */
cld_status cld_onednn_fail(cld_status status, const char *doing);

/* c = alpha a b + beta c, row-major, as dnnl_sgemm. */
cld_status cld_sgemm(char transposed_a, char transposed_b, int64_t m, int64_t n, int64_t k, float alpha,
                     const float *a, int64_t lda, const float *b, int64_t ldb, float beta, float *c,
                     int64_t ldc);

#ifdef __cplusplus
}
#endif

#endif
