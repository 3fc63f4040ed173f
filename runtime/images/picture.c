/* Reading image files into tensors, and writing them. The contract is in picture.h. */
#include "runtime/images/picture.h"

#include <stdlib.h>
#include <string.h>

#include "runtime/io/file.h"
#include "runtime/io/slurp.h"

static int ceil_div(int a, int b) { return (a + b - 1) / b; }

/* Memory to decode into. If the image fills it, it becomes the image itself: a copy would take a twentieth of the
 * time. */
typedef struct tensor_memory {
    cld_scratch scratch; /* first */
    cld_tensor *tensor;  /* u8 (bytes) */
} tensor_memory;

static uint8_t *more(cld_scratch *s, size_t bytes) {
    tensor_memory *m = (tensor_memory *)s;
    cld_tensor *t = cld_tensor_new(CLD_U8, 1, (int64_t[]){(int64_t)bytes}, cld_cpu_backend());
    if (!t) return NULL;
    cld_tensor_free(m->tensor);
    m->tensor = t;
    s->bytes = bytes;
    return s->data = t->a.data;
}

/* The part of the pixels as a tensor, at their scale. */
static cld_tensor *tensor_of(const cld_pixels *pixels, cld_rect part, const tensor_memory *memory) {
    int top = part.top / pixels->shrink, bottom = ceil_div(part.top + part.height, pixels->shrink);
    int left = part.left / pixels->shrink, right = ceil_div(part.left + part.width, pixels->shrink);
    int64_t shape[] = {bottom - top, right - left, 3};
    size_t row = (size_t)(right - left) * 3;
    const uint8_t *first = pixels->data + (size_t)(top - pixels->there.top) * pixels->stride +
                           (size_t)(left - pixels->there.left) * 3;
    if (first == memory->scratch.data && pixels->stride == row &&
        memory->scratch.bytes == row * (size_t)(bottom - top))
        return cld_tensor_view(memory->tensor, 3, shape, (int64_t[]){(int64_t)row, 3, 1},
                               memory->scratch.data);
    cld_tensor *t = cld_tensor_new(CLD_U8, 3, shape, cld_cpu_backend());
    if (!t) return NULL;
    for (int y = 0; y < bottom - top; y++)
        memcpy((uint8_t *)t->a.data + (size_t)y * row, first + (size_t)y * pixels->stride, row);
    return t;
}

static cld_tensor *decode(const void *bytes, size_t length, const cld_rect *part, int shrink, bool upright,
                          tensor_memory *decoded, tensor_memory *turned) {
    cld_picture p;
    cld_pixels pixels, up;
    CLD_TRY_NULL(cld_picture_open(&p, bytes, length));
    cld_rect all = {0, 0, p.height, p.width};
    CLD_TRY_NULL(cld_picture_decode(&pixels, &p, part ? *part : all, shrink, &decoded->scratch));
    if (!upright || p.orientation == 1) return tensor_of(&pixels, part ? *part : all, decoded);
    if (part) return cld_fail_null(CLD_INVALID, "only a whole image can be turned upright, not a part");
    CLD_TRY_NULL(cld_picture_upright(&up, &pixels, p.orientation, &turned->scratch));
    return tensor_of(&up, (cld_rect){0, 0, up.full_height, up.full_width}, turned);
}

cld_tensor *cld_picture_tensor(const void *bytes, size_t length, const cld_rect *part, int shrink,
                               bool upright) {
    tensor_memory decoded = {.scratch.more = more}, turned = decoded;
    cld_tensor *t = decode(bytes, length, part, shrink, upright, &decoded, &turned);
    cld_tensor_free(decoded.tensor);
    cld_tensor_free(turned.tensor);
    return t;
}

cld_tensor *cld_picture_tensor_of(cld_tensor *bytes, const cld_rect *part, int shrink, bool upright) {
    if (bytes->a.dtype != CLD_U8 || bytes->a.ndim != 1)
        return cld_fail_null(CLD_INVALID, "a file's bytes are u8[n], got %s", cld_describe(&bytes->a));
    CLD_AUTO cld_tensor *dense = cld_tensor_on_host(bytes);
    if (!dense) return NULL;
    return cld_picture_tensor(dense->a.data, (size_t)dense->a.shape[0], part, shrink, upright);
}

cld_tensor *cld_picture_read(const char *path, bool upright) {
    cld_scratch file = {0};
    size_t length;
    cld_tensor *t = NULL;
    if (cld_file_slurp(&file, &length, AT_FDCWD, path) == CLD_OK)
        t = cld_picture_tensor(file.data, length, NULL, 1, upright);
    cld_scratch_free(&file);
    if (!t) cld_fail_in("'%s'", path);
    return t;
}

static cld_status encode(uint8_t **bytes, size_t *length, cld_picture_kind kind, cld_tensor *image,
                         int quality) {
    const int64_t *shape = image->a.shape;
    if (image->a.dtype != CLD_U8 || image->a.ndim != 3 || shape[2] != 3)
        return cld_fail(CLD_INVALID, "an image is u8[height, width, 3], got %s", cld_describe(&image->a));
    if (shape[0] > INT32_MAX || shape[1] > INT32_MAX)
        return cld_fail(CLD_INVALID, "an image as large as %s cannot be written", cld_describe(&image->a));
    CLD_AUTO cld_tensor *dense = cld_tensor_on_host(image);
    if (!dense) return cld_error_code();
    return cld_picture_encode(bytes, length, kind, dense->a.data, (int)shape[0], (int)shape[1], quality);
}

cld_status cld_picture_write(const char *path, cld_picture_kind kind, cld_tensor *image, int quality) {
    uint8_t *bytes;
    size_t length;
    if (encode(&bytes, &length, kind, image, quality) != CLD_OK) return cld_fail_in("'%s'", path);
    cld_writer w;
    cld_status status = cld_writer_open(&w, path);
    if (status == CLD_OK) {
        cld_writer_put(&w, bytes, length);
        status = cld_writer_commit(&w);
    }
    free(bytes);
    return status;
}

cld_tensor *cld_picture_encoded(cld_picture_kind kind, cld_tensor *image, int quality) {
    uint8_t *bytes;
    size_t length;
    CLD_TRY_NULL(encode(&bytes, &length, kind, image, quality));
    cld_tensor *t = cld_tensor_new(CLD_U8, 1, (int64_t[]){(int64_t)length}, cld_cpu_backend());
    if (t) memcpy(t->a.data, bytes, length);
    free(bytes);
    return t;
}
