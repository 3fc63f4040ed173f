/* The one record of what a kernel found wrong, in host memory that the device can write. */
#include "kernels/cuda/cuda.h"

static volatile cld_fault *seen; /* by the host */
static cld_fault *on_device;

cld_fault *cld_cuda_fault(void) { return on_device; }

cld_status cld_cuda_open_faults(void) {
    void *host, *mapped;
    CLD_TRY(cld_cuda_malloc_mapped(&host, &mapped, sizeof(cld_fault)));
    seen = host;
    on_device = mapped;
    return CLD_OK;
}

cld_status cld_cuda_check_faults(void) {
    static const char *const texts[] = {
#define CLD_TEXT(name, text) [CLD_FAULT_##name] = text,
        CLD_FAULTS(CLD_TEXT)
#undef CLD_TEXT
    };
    int kind = seen->kind;
    if (kind == CLD_FAULT_NONE) return CLD_OK;
    long long value = seen->value, extent = seen->extent;
    seen->kind = CLD_FAULT_NONE;
    if (kind == CLD_FAULT_DIVISION) return cld_fail(CLD_INVALID, "%s is %lld", texts[kind], value);
    return cld_fail(CLD_INVALID, "%s %lld is out of range: expected 0 to %lld", texts[kind], value,
                    extent - 1);
}
