/* Whether the ranks start with the same parameters: summing gradients keeps them the same from then on. */
#include <stdlib.h>

#include "runtime/optim/overlap.h"

static cld_status compare(const char *name, const uint64_t *all, int count, int world) {
    for (int i = 0; i < count; i++)
        for (int rank = 1; rank < world; rank++)
            if (all[(size_t)rank * (size_t)count + (size_t)i] != all[i])
                return cld_fail(
                    CLD_INVALID,
                    "%s: parameter %d is not the same on rank 0 and on rank %d before the first step: "
                    "all ranks must make the same network, from the same seed, after the same number of "
                    "random draws",
                    name, i + 1, rank);
    return CLD_OK;
}

cld_status cld_check_params_alike(const char *name, cld_tensor *const *params, int count) {
    int world = cld_dist_ranks().world;
    if (cld_dist_alone()) return CLD_OK;
    uint64_t *own = calloc((size_t)count, sizeof *own), *all = NULL;
    size_t *ends = calloc((size_t)world, sizeof *ends);
    cld_status status = own && ends ? CLD_OK : cld_fail(CLD_NOMEM, "%s: out of memory", name);
    for (int i = 0; i < count && status == CLD_OK; i++) status = cld_tensor_checksum(&own[i], params[i]);
    if (status == CLD_OK)
        status = cld_gather_bytes((unsigned char **)&all, ends, own, (size_t)count * sizeof *own);
    if (status == CLD_OK && ends[world - 1] != (size_t)world * (size_t)count * sizeof *own)
        status = cld_fail(CLD_INVALID, "%s: the ranks have different numbers of parameters; this one has %d",
                          name, count);
    if (status == CLD_OK) status = compare(name, all, count, world);
    free(own);
    free(all);
    free(ends);
    return status;
}
