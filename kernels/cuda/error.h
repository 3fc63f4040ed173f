/* The functions of runtime/core/error.h, for this library: they forward to the program that loaded it. */
#ifndef CLD_CUDA_ERROR_H
#define CLD_CUDA_ERROR_H

#include "kernels/backend.h"

#ifdef __cplusplus
extern "C" {
#endif

void cld_cuda_set_host(const cld_plugin_host *host); /* to be called first */

#ifdef __cplusplus
}
#endif

#endif
