#include "runtime/core/digest.h"
#include "runtime/dist/dist.h"

cld_status cld_tensor_checksum(uint64_t *out, cld_tensor *x) {
    CLD_AUTO cld_tensor *host = cld_tensor_on_host(x);
    if (!host) return cld_error_code();
    *out = cld_digest(host->a.data, (size_t)cld_numel(&host->a) * cld_dtype_size(host->a.dtype));
    return CLD_OK;
}
