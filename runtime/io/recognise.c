/* Which reader a file needs, from its first bytes. */
#include "runtime/io/recognise.h"

#include <string.h>

#include "runtime/io/file.h"

/* What users give instead of weights. */
static const struct {
    const char *bytes;
    size_t length, offset;
    const char *what;
} others[] = {
    {"\x1f\x8b", 2, 0, "it is compressed with gzip; unpack it first"},
    {"\x89HDF", 4, 0, "it is an HDF5 file (Keras, MATLAB)"},
    {"\x93NUMPY", 6, 0, "it is a NumPy array; cld.io.load_npy reads it"},
    {"<!DOCTYPE", 9, 0, "it is a web page; the download went wrong"},
    {"<html", 5, 0, "it is a web page; the download went wrong"},
    {"\3\0\0\0\1\0\0", 8, 0, "it is a file of Lua's Torch 7, not of PyTorch"},
    {"\4\0\0\0\1\0\0", 8, 0, "it is a file of Lua's Torch 7, not of PyTorch"},
    {"version https://git-lfs", 23, 0,
     "it is a Git LFS pointer, not the file itself; git lfs pull fetches it"},
    {"ustar", 5, 257,
     "it is a tar archive; if PyTorch before 0.1.10 wrote it, load it with PyTorch 0.1.10 to 1.5 and save it "
     "again"},
};

static bool is_zip(const uint8_t *head) {
    return memcmp(head, "PK\3\4", 4) == 0 || memcmp(head, "PK\5\6", 4) == 0;
}

/* These files begin with a number below 2^40 and a brace; the number may look like the start of any other kind. */
static bool is_safetensors(const uint8_t *head) { return head[8] == '{' && !head[5] && !head[6] && !head[7]; }

/* Of protocols 2 to 5. */
static bool is_pickle(const uint8_t *head) { return head[0] == 0x80 && head[1] >= 2 && head[1] <= 5; }

/* Whether the zip archive's first member is an .npy, or the file is called .npz: an archive may have no members. */
static bool is_npz(const cld_reader *r, const uint8_t *head, size_t room) {
    size_t length = head[26] | (size_t)head[27] << 8, path = strlen(r->path);
    if (path > 4 && strcmp(r->path + path - 4, ".npz") == 0) return true;
    if (memcmp(head, "PK\5\6", 4) == 0 || length < 4 || 30 + length > room) return false;
    return memcmp(head + 30 + length - 4, ".npy", 4) == 0;
}

static cld_status recognise(cld_reader *r, cld_file_kind *kind) {
    uint8_t head[512] = {0};
    CLD_TRY(cld_reader_get(r, head, 0, r->bytes < sizeof head ? (size_t)r->bytes : sizeof head));
    if (is_safetensors(head)) return CLD_OK;
    if (is_zip(head) && is_npz(r, head, sizeof head))
        *kind = CLD_FILE_NPZ;
    else if (is_zip(head) || is_pickle(head))
        *kind = CLD_FILE_TORCH;
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        if (memcmp(head + others[i].offset, others[i].bytes, others[i].length) == 0)
            return cld_fail(CLD_IO, "%s: not a safetensors or PyTorch file: %s", r->path, others[i].what);
    return CLD_OK;
}

cld_status cld_recognise(const char *path, cld_file_kind *kind) {
    cld_reader r;
    *kind = CLD_FILE_SAFETENSORS;
    CLD_TRY(cld_reader_open(&r, path));
    cld_status status = recognise(&r, kind);
    cld_reader_close(&r);
    return status;
}
