/* libFuzzer's target for NumPy's archives: `make fuzz`. An input is a whole .npz. This build does not check checksums
 * (zip.c). The tensors are fuzz_tensors.h's: they may not take more than the file's bytes can hold. */
#define _GNU_SOURCE
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

#include "runtime/io/numbers.h"
#include "runtime/io/npz.h"
#include "spec/fuzz/fuzz_tensors.h"

/* npy.c's writer needs these; nothing calls it here. */
const char *cld_dtype_name(cld_dtype dtype) { return dtype == CLD_F32 ? "f32" : "another"; }
cld_status cld_write_numbers(cld_writer *w, cld_tensor *t, cld_number_type type) {
    (void)w, (void)t, (void)type;
    abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static int file = -1;
    static char path[64];
    if (file < 0) file = memfd_create("npz", 0);
    snprintf(path, sizeof path, "/proc/self/fd/%d", file);
    require(ftruncate(file, 0) == 0 && pwrite(file, data, size, 0) == (ssize_t)size);
    made = 0;
    most = 4 * 1032 * size; /* deflate makes at most 1032 bytes of one, and an i8 becomes an i32 */
    cld_npz *z = cld_npz_open(path);
    if (!z) return 0;
    for (;;) {
        const char *name;
        cld_tensor *t;
        cld_status status = cld_npz_next(z, &name, &t);
        if (status != CLD_OK) require(t == NULL);
        cld_tensor_free(t);
        if (status != CLD_OK || !name) break;
    }
    cld_npz_close(z);
    return 0;
}
