/* libFuzzer's target for PyTorch's files: `make fuzz`. An input is a whole zip archive or legacy file. This build does
 * not check the checksums of archives (zip.c).
 *
 * The tensors are fuzz_tensors.h's: they may not take more than the file's bytes can hold, and each view must lie in
 * its storage. */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "runtime/io/recognise.h"
#include "runtime/io/torch_file.h"
#include "spec/fuzz/fuzz_tensors.h"

/* ---- the walk ------------------------------------------------------------------------------------------ */

static unsigned total; /* of all bytes read, so that reading them is not optimized away */

static void read_string(cld_pickle *p, const cld_pickle_value *v) {
    uint64_t size = 0;
    char text[300];
    total += (unsigned)cld_pickle_text(p, v, text, sizeof text);
    if (cld_pickle_measure(p, v, &size) != CLD_OK) return;
    require(size <= 4 * v->string.raw);
    cld_pickle_stream *s = cld_pickle_stream_open(p, v);
    char *bytes = malloc(size ? size : 1);
    require(s && bytes);
    require(cld_pickle_stream_next(s, bytes, size) == CLD_OK);
    cld_pickle_stream_free(s);
    free(bytes);
}

static void read_value(cld_torch_file *f, uint32_t i) {
    cld_pickle *p = cld_torch_pickle(f);
    const cld_pickle_value *v = cld_pickle_at(p, i);
    uint32_t count = cld_pickle_count(p), within = i, item;
    cld_tensor *t = NULL;
    char name[512];
    if (cld_torch_read(f, &within, &t) != CLD_OK) require(t == NULL);
    require(within < count);
    cld_tensor_free(t);
    if (cld_pickle_is_string(v)) read_string(p, v);
    if (v->kind == CLD_PICKLE_NAME || v->kind == CLD_PICKLE_OBJECT)
        cld_pickle_full_name(p, v, name, sizeof name);
    if (v->kind == CLD_PICKLE_OBJECT)
        require(v->object.arguments < count && v->object.state < count && v->object.items < count &&
                v->object.entries < count);
    if (v->kind < CLD_PICKLE_LIST || v->kind > CLD_PICKLE_DICT) return;
    require(v->kind != CLD_PICKLE_DICT || v->items.count % 2 == 0);
    for (cld_pickle_cursor c = cld_pickle_items(v); cld_pickle_next(p, &c, &item);) require(item < count);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static int file = -1;
    static char path[64];
    if (file < 0) file = memfd_create("torch", 0);
    snprintf(path, sizeof path, "/proc/self/fd/%d", file);
    require(ftruncate(file, 0) == 0 && pwrite(file, data, size, 0) == (ssize_t)size);
    made = 0;
    most = 8 * (16 * size + (1 << 20)); /* an i8 becomes an i32 */
    cld_file_kind kind;
    if (cld_recognise(path, &kind) != CLD_OK || kind != CLD_FILE_TORCH) return 0;
    cld_torch_file *f = cld_torch_open(path);
    if (!f) return 0;
    for (uint32_t i = 0; i < cld_pickle_count(cld_torch_pickle(f)); i++) read_value(f, i);
    cld_torch_close(f);
    return 0;
}
