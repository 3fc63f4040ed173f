/* Prints which NCCL the real kernels/cuda/nccl.c finds, or its error: spec/cuda_comm_spec.lua reads it. */
#include "kernels/cuda/nccl.h"

#include <stdio.h>

int main(void) {
    const cld_nccl *nccl = cld__nccl();
    int version = 0;
    if (!nccl)
        printf("%s\n", cld_error_message());
    else if (nccl->GetVersion(&version) == ncclSuccess)
        printf("found %d: %s\n", version, nccl->GetErrorString(ncclInvalidUsage));
    return 0;
}
