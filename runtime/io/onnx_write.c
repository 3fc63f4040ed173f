/* Writing ONNX models with protobuf-c. The contract is in onnx_write.h. */
#include "runtime/io/onnx_write.h"

#ifndef CLD_HAVE_PROTOBUF

cld_onnx *cld_onnx_new(void) {
    return cld_fail_null(CLD_UNSUPPORTED,
                         "cldlua was built without protobuf-c, which writes ONNX files; install "
                         "libprotobuf-c-dev and protobuf-c-compiler (Debian) and run make again");
}
void cld_onnx_free(cld_onnx *o) { (void)o; }
void cld_onnx_node(cld_onnx *o, const char *op, const char *name, const char *const *inputs,
                   size_t input_count, const char *const *outputs, size_t output_count) {
    (void)o, (void)op, (void)name, (void)inputs, (void)input_count, (void)outputs, (void)output_count;
}
void cld_onnx_integer(cld_onnx *o, const char *name, int64_t value) { (void)o, (void)name, (void)value; }
void cld_onnx_integers(cld_onnx *o, const char *name, size_t count, const int64_t *values) {
    (void)o, (void)name, (void)count, (void)values;
}
void cld_onnx_number(cld_onnx *o, const char *name, double value) { (void)o, (void)name, (void)value; }
void cld_onnx_constant(cld_onnx *o, const char *name, cld_tensor *t) { (void)o, (void)name, (void)t; }
void cld_onnx_input(cld_onnx *o, const char *name, size_t ndim, const int64_t *shape, const char *free_name) {
    (void)o, (void)name, (void)ndim, (void)shape, (void)free_name;
}
void cld_onnx_output(cld_onnx *o, const char *name, size_t ndim, const int64_t *shape,
                     const char *free_name) {
    (void)o, (void)name, (void)ndim, (void)shape, (void)free_name;
}
void cld_onnx_fact(cld_onnx *o, const char *key, const char *value) { (void)o, (void)key, (void)value; }
cld_status cld_onnx_save(cld_onnx *o, const char *path, const char *producer, const char *version) {
    (void)o, (void)path, (void)producer, (void)version;
    return CLD_UNSUPPORTED;
}

#else

#    include <stdlib.h>
#    include <string.h>

#    include "proto/onnx.pb-c.h"
#    include "runtime/io/file.h"

enum { IR_VERSION = 8, OPSET = 17 };

/* Memory that lives as long as the graph. */
typedef struct block {
    struct block *next;
    max_align_t bytes[];
} block;

typedef struct list {
    void **items;
    size_t count, room;
} list;

struct cld_onnx {
    block *blocks;
    list nodes, constants, inputs, outputs, facts, tensors;
    bool starved;            /* out of memory */
    cld_error_record failed; /* another error; CLD_OK if there is none */
};

/* ---- memory -------------------------------------------------------------------------------------------- */

/* Zeroed memory; if there is none, NULL, and the graph remembers that. */
static void *take(cld_onnx *o, size_t bytes) {
    block *b = calloc(1, sizeof *b + bytes);
    if (!b) {
        o->starved = true;
        return NULL;
    }
    b->next = o->blocks;
    o->blocks = b;
    return b->bytes;
}

static char *copy_text(cld_onnx *o, const char *text) {
    char *copy = take(o, strlen(text) + 1);
    return copy ? strcpy(copy, text) : NULL;
}

static void *copy_bytes(cld_onnx *o, const void *bytes, size_t count) {
    void *copy = take(o, count + 1);
    return copy && count ? memcpy(copy, bytes, count) : copy;
}

/* False if there is no memory. */
static bool add(cld_onnx *o, list *l, void *item) {
    if (l->count == l->room) {
        size_t room = l->room ? 2 * l->room : 16;
        void **grown = realloc(l->items, room * sizeof *grown);
        if (!grown) {
            o->starved = true;
            return false;
        }
        l->items = grown;
        l->room = room;
    }
    l->items[l->count++] = item;
    return true;
}

cld_onnx *cld_onnx_new(void) {
    cld_onnx *o = calloc(1, sizeof *o);
    if (!o) return cld_fail_null(CLD_NOMEM, "out of memory for an ONNX graph");
    return o;
}

void cld_onnx_free(cld_onnx *o) {
    if (!o) return;
    for (size_t i = 0; i < o->tensors.count; i++) cld_tensor_free(o->tensors.items[i]);
    list *lists[] = {&o->nodes, &o->constants, &o->inputs, &o->outputs, &o->facts, &o->tensors};
    for (size_t i = 0; i < sizeof lists / sizeof *lists; i++) free(lists[i]->items);
    while (o->blocks) {
        block *next = o->blocks->next;
        free(o->blocks);
        o->blocks = next;
    }
    free(o);
}

/* ---- the graph ----------------------------------------------------------------------------------------- */

static char **copy_names(cld_onnx *o, const char *const *names, size_t count) {
    char **copies = take(o, (count + 1) * sizeof *copies);
    for (size_t i = 0; copies && i < count; i++) copies[i] = copy_text(o, names[i]);
    return copies;
}

enum { MOST_ATTRIBUTES = 8 };

void cld_onnx_node(cld_onnx *o, const char *op, const char *name, const char *const *inputs,
                   size_t input_count, const char *const *outputs, size_t output_count) {
    Onnx__NodeProto *n = take(o, sizeof *n);
    if (!n) return;
    onnx__node_proto__init(n);
    n->op_type = copy_text(o, op);
    n->name = copy_text(o, name);
    n->input = copy_names(o, inputs, input_count);
    n->n_input = input_count;
    n->output = copy_names(o, outputs, output_count);
    n->n_output = output_count;
    n->attribute = take(o, MOST_ATTRIBUTES * sizeof *n->attribute);
    add(o, &o->nodes, n);
}

/* A new attribute of the last node; NULL if there is no memory or no room for it. */
static Onnx__AttributeProto *new_attribute(cld_onnx *o, const char *name,
                                           Onnx__AttributeProto__AttributeType type) {
    Onnx__NodeProto *n = o->nodes.count ? o->nodes.items[o->nodes.count - 1] : NULL;
    Onnx__AttributeProto *a =
        n && !o->starved && n->n_attribute < MOST_ATTRIBUTES ? take(o, sizeof *a) : NULL;
    if (!a) return NULL;
    onnx__attribute_proto__init(a);
    a->name = copy_text(o, name);
    a->has_type = true;
    a->type = type;
    n->attribute[n->n_attribute++] = a;
    return a;
}

void cld_onnx_integer(cld_onnx *o, const char *name, int64_t value) {
    Onnx__AttributeProto *a = new_attribute(o, name, ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__INT);
    if (!a) return;
    a->has_i = true;
    a->i = value;
}

void cld_onnx_integers(cld_onnx *o, const char *name, size_t count, const int64_t *values) {
    Onnx__AttributeProto *a = new_attribute(o, name, ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__INTS);
    if (!a) return;
    a->ints = copy_bytes(o, values, count * sizeof *values);
    a->n_ints = count;
}

void cld_onnx_number(cld_onnx *o, const char *name, double value) {
    Onnx__AttributeProto *a = new_attribute(o, name, ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__FLOAT);
    if (!a) return;
    a->has_f = true;
    a->f = (float)value;
}

/* Remembers the thread's error record, if it is the first. */
static void note_failure(cld_onnx *o) {
    if (o->failed.code == CLD_OK) o->failed = cld_error_export();
}

void cld_onnx_constant(cld_onnx *o, const char *name, cld_tensor *t) {
    cld_tensor *dense = cld_tensor_on_host(t);
    if (!dense) {
        note_failure(o);
        return;
    }
    if (!add(o, &o->tensors, dense)) {
        cld_tensor_free(dense);
        return;
    }
    if (dense->a.dtype != CLD_F32 && dense->a.dtype != CLD_I64) {
        (void)cld_fail(CLD_INVALID, "an ONNX constant is f32 or i64; '%s' is %s", name,
                       cld_describe(&dense->a));
        note_failure(o);
        return;
    }
    Onnx__TensorProto *p = take(o, sizeof *p);
    if (!p) return;
    onnx__tensor_proto__init(p);
    p->name = copy_text(o, name);
    p->dims = copy_bytes(o, dense->a.shape, (size_t)dense->a.ndim * sizeof *dense->a.shape);
    p->n_dims = (size_t)dense->a.ndim;
    p->has_data_type = true;
    p->data_type = dense->a.dtype == CLD_F32 ? ONNX__TENSOR_PROTO__DATA_TYPE__FLOAT
                                             : ONNX__TENSOR_PROTO__DATA_TYPE__INT64;
    p->has_raw_data = true;
    p->raw_data.len = (size_t)cld_numel(&dense->a) * cld_dtype_size(dense->a.dtype);
    p->raw_data.data = dense->a.data;
    add(o, &o->constants, p);
}

static Onnx__TensorShapeProto *new_shape(cld_onnx *o, size_t ndim, const int64_t *shape,
                                         const char *free_name) {
    Onnx__TensorShapeProto *s = take(o, sizeof *s);
    Onnx__TensorShapeProto__Dimension *dims = s ? take(o, (ndim + 1) * sizeof *dims) : NULL;
    Onnx__TensorShapeProto__Dimension **list = dims ? take(o, (ndim + 1) * sizeof *list) : NULL;
    if (!list) return NULL;
    onnx__tensor_shape_proto__init(s);
    for (size_t i = 0; i < ndim; i++) {
        onnx__tensor_shape_proto__dimension__init(&dims[i]);
        bool is_free = shape[i] < 0;
        dims[i].value_case = is_free ? ONNX__TENSOR_SHAPE_PROTO__DIMENSION__VALUE_DIM_PARAM
                                     : ONNX__TENSOR_SHAPE_PROTO__DIMENSION__VALUE_DIM_VALUE;
        if (is_free)
            dims[i].dim_param = copy_text(o, free_name);
        else
            dims[i].dim_value = shape[i];
        list[i] = &dims[i];
    }
    s->dim = list;
    s->n_dim = ndim;
    return s;
}

static void add_value(cld_onnx *o, list *to, const char *name, size_t ndim, const int64_t *shape,
                      const char *free_name) {
    Onnx__ValueInfoProto *v = take(o, sizeof *v);
    Onnx__TypeProto *type = v ? take(o, sizeof *type) : NULL;
    Onnx__TypeProto__Tensor *tensor = type ? take(o, sizeof *tensor) : NULL;
    if (!tensor) return;
    onnx__value_info_proto__init(v);
    onnx__type_proto__init(type);
    onnx__type_proto__tensor__init(tensor);
    tensor->has_elem_type = true;
    tensor->elem_type = ONNX__TENSOR_PROTO__DATA_TYPE__FLOAT;
    tensor->shape = new_shape(o, ndim, shape, free_name);
    type->value_case = ONNX__TYPE_PROTO__VALUE_TENSOR_TYPE;
    type->tensor_type = tensor;
    v->name = copy_text(o, name);
    v->type = type;
    add(o, to, v);
}

void cld_onnx_input(cld_onnx *o, const char *name, size_t ndim, const int64_t *shape, const char *free_name) {
    add_value(o, &o->inputs, name, ndim, shape, free_name);
}

void cld_onnx_output(cld_onnx *o, const char *name, size_t ndim, const int64_t *shape,
                     const char *free_name) {
    add_value(o, &o->outputs, name, ndim, shape, free_name);
}

void cld_onnx_fact(cld_onnx *o, const char *key, const char *value) {
    Onnx__StringStringEntryProto *e = take(o, sizeof *e);
    if (!e) return;
    onnx__string_string_entry_proto__init(e);
    e->key = copy_text(o, key);
    e->value = copy_text(o, value);
    add(o, &o->facts, e);
}

/* ---- the file ------------------------------------------------------------------------------------------ */

/* A protobuf-c buffer that writes to a file. */
typedef struct file_buffer {
    ProtobufCBuffer base;
    cld_writer *file;
    size_t bytes;
} file_buffer;

static void append(ProtobufCBuffer *buffer, size_t bytes, const uint8_t *data) {
    file_buffer *b = (file_buffer *)buffer;
    b->bytes += bytes;
    cld_writer_put(b->file, data, bytes);
}

/* protobuf-c does not report that it ran out of memory: it only writes fewer bytes than it counted. */
static cld_status write_model(const char *path, const Onnx__ModelProto *model) {
    cld_writer w;
    size_t bytes = onnx__model_proto__get_packed_size(model);
    if (bytes > INT32_MAX)
        return cld_fail(CLD_UNSUPPORTED,
                        "cannot write '%s': the model would have more than 2 GiB, which readers of ONNX "
                        "files do not accept",
                        path);
    CLD_TRY(cld_writer_open(&w, path));
    file_buffer buffer = {.base.append = append, .file = &w};
    onnx__model_proto__pack_to_buffer(model, &buffer.base);
    if (buffer.bytes != bytes && w.status == CLD_OK)
        w.status = cld_fail(CLD_NOMEM, "cannot write '%s': out of memory", path);
    return cld_writer_commit(&w);
}

cld_status cld_onnx_save(cld_onnx *o, const char *path, const char *producer, const char *version) {
    if (o->failed.code != CLD_OK) return cld_error_import(&o->failed);
    Onnx__GraphProto graph = ONNX__GRAPH_PROTO__INIT;
    Onnx__OperatorSetIdProto opset = ONNX__OPERATOR_SET_ID_PROTO__INIT, *opsets[] = {&opset};
    Onnx__ModelProto model = ONNX__MODEL_PROTO__INIT;
    char *own_producer = copy_text(o, producer), *own_version = copy_text(o, version);
    if (o->starved) return cld_fail(CLD_NOMEM, "cannot write '%s': out of memory", path);
    graph.name = own_producer;
    graph.node = (Onnx__NodeProto **)o->nodes.items;
    graph.n_node = o->nodes.count;
    graph.initializer = (Onnx__TensorProto **)o->constants.items;
    graph.n_initializer = o->constants.count;
    graph.input = (Onnx__ValueInfoProto **)o->inputs.items;
    graph.n_input = o->inputs.count;
    graph.output = (Onnx__ValueInfoProto **)o->outputs.items;
    graph.n_output = o->outputs.count;
    opset.domain = "";
    opset.has_version = true;
    opset.version = OPSET;
    model.has_ir_version = true;
    model.ir_version = IR_VERSION;
    model.opset_import = opsets;
    model.n_opset_import = 1;
    model.producer_name = own_producer;
    model.producer_version = own_version;
    model.graph = &graph;
    model.metadata_props = (Onnx__StringStringEntryProto **)o->facts.items;
    model.n_metadata_props = o->facts.count;
    return write_model(path, &model);
}

#endif
