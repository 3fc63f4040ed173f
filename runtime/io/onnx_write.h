/* Writes ONNX models: a graph is built node by node and saved as one protobuf message (ir_version 8, opset 17).
 *
 *     cld_onnx *o = cld_onnx_new();                              // NULL: cldlua was built without protobuf-c
 *     cld_onnx_input(o, "images", 4, (int64_t[]){-1, 3, 32, 32}, "N");
 *     cld_onnx_constant(o, "conv1.weight", weight);
 *     cld_onnx_node(o, "Conv", "conv1", (const char *[]){"images", "conv1.weight"}, 2, (const char *[]){"y"}, 1);
 *     cld_onnx_integers(o, "pads", 4, (int64_t[]){1, 1, 1, 1});   // of the last node
 *     cld_onnx_output(o, "y", 4, ...);
 *     CLD_TRY(cld_onnx_save(o, path, "cldlua", "0.1.0"));
 *     cld_onnx_free(o);
 *
 * Add nodes in the order in which they run. Texts are copied. Tensors are held until the graph is freed and written
 * straight from their memory. Failures are remembered, and save reports the first. onnx.proto describes each field.
 */
#ifndef CLD_IO_ONNX_WRITE_H
#define CLD_IO_ONNX_WRITE_H

#include "runtime/tensor/tensor.h"

typedef struct cld_onnx cld_onnx;

cld_onnx *cld_onnx_new(void);
void cld_onnx_free(cld_onnx *o); /* NULL is fine */

void cld_onnx_node(cld_onnx *o, const char *op, const char *name, const char *const *inputs,
                   size_t input_count, const char *const *outputs, size_t output_count);
/* Attributes of the last node. */
void cld_onnx_integer(cld_onnx *o, const char *name, int64_t value);
void cld_onnx_integers(cld_onnx *o, const char *name, size_t count, const int64_t *values);
void cld_onnx_number(cld_onnx *o, const char *name, double value);

/* An initializer: f32 or i64, of any layout, strides and device. */
void cld_onnx_constant(cld_onnx *o, const char *name, cld_tensor *t);
/* The f32 tensors that go in and come out. A dimension of -1 may have any size; its name is `free_name`. */
void cld_onnx_input(cld_onnx *o, const char *name, size_t ndim, const int64_t *shape, const char *free_name);
void cld_onnx_output(cld_onnx *o, const char *name, size_t ndim, const int64_t *shape, const char *free_name);
/* An entry of the model's metadata. */
void cld_onnx_fact(cld_onnx *o, const char *key, const char *value);

/* Written as file.h says. A model of more than 2 GiB is an error, because protobuf's readers do not accept it. */
cld_status cld_onnx_save(cld_onnx *o, const char *path, const char *producer, const char *version);

#endif
