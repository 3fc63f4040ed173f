/* Channels last: the runtime passes activations in the layout of conv.c's layout(). So the copies here are for callers
 * of the table that pass another layout, and for weights. */
#include "kernels/cuda/activation.h"

bool cld_cuda_is_channels_last(const cld_array *a) {
    if (a->layout == CLD_BLOCKED) return true;
    return cld_is_contiguous(a) && (a->shape[1] == 1 || a->shape[2] * a->shape[3] == 1);
}

cld_status cld_cuda_channels_last(cld_array *out, cld_scratch_block *block, const cld_array *a,
                                  cld_dtype dtype, cld_access access) {
    *out = *a;
    if (a->dtype == dtype && cld_cuda_is_channels_last(a)) return CLD_OK;
    CLD_TRY(cld_cuda_scratch(block, (size_t)cld_numel(a) * cld_dtype_size(dtype)));
    out->data = block->data;
    out->dtype = dtype;
    out->layout = CLD_BLOCKED;
    return access == CLD_READ ? cld_cuda_math.copy(out, a) : CLD_OK;
}

cld_status cld_cuda_deliver(const cld_array *a, const cld_array *out) {
    return a->data == out->data ? CLD_OK : cld_cuda_math.copy(a, out);
}
