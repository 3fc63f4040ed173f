/* TensorBoard's event files. The contract is in event.h. */
#define _GNU_SOURCE
#include "runtime/io/event.h"

#ifndef CLD_HAVE_PROTOBUF

static cld_status unsupported(void) {
    return cld_fail(CLD_UNSUPPORTED,
                    "this build of cldlua cannot read or write TensorBoard files: it was built without "
                    "protobuf-c (make setup installs it; then make)");
}

bool cld_event_is_supported(void) { return unsupported() == CLD_OK; }
cld_status cld_event_writer_open(cld_event_writer *w, const char *folder) {
    (void)folder;
    *w = (cld_event_writer){.fd = -1};
    return unsupported();
}
void cld_event_writer_close(cld_event_writer *w) { *w = (cld_event_writer){.fd = -1}; }
cld_status cld_event_session_start(cld_event_writer *w, double wall_time, int64_t step) {
    (void)w, (void)wall_time, (void)step;
    return unsupported();
}
cld_status cld_event_scalar(cld_event_writer *w, double wall_time, int64_t step, const char *tag,
                            float value) {
    (void)w, (void)wall_time, (void)step, (void)tag, (void)value;
    return unsupported();
}
cld_status cld_event_image(cld_event_writer *w, double wall_time, int64_t step, const char *tag, int height,
                           int width, const void *encoded, size_t bytes) {
    (void)w, (void)wall_time, (void)step, (void)tag, (void)height, (void)width, (void)encoded, (void)bytes;
    return unsupported();
}
cld_event_reader *cld_event_reader_open(const char *path) {
    (void)path;
    unsupported();
    return NULL;
}
cld_status cld_event_next(cld_event_reader *r, cld_event *event, bool *found, uint64_t *torn) {
    (void)r, (void)event, (void)found, (void)torn;
    return unsupported();
}
void cld_event_value_at(const cld_event_reader *r, size_t i, cld_event_value *value) {
    (void)r, (void)i;
    *value = (cld_event_value){.tag = "", .plugin = ""};
}
const void *cld_event_string(const cld_event_reader *r, size_t i, size_t j, size_t *length) {
    (void)r, (void)i, (void)j;
    *length = 0;
    return "";
}
void cld_event_reader_close(cld_event_reader *r) { (void)r; }

#else

#    include <errno.h>
#    include <fcntl.h>
#    include <stdio.h>
#    include <stdlib.h>
#    include <string.h>
#    include <time.h>
#    include <unistd.h>

#    include "proto/event.pb-c.h"
#    include "runtime/io/crc32c.h"
#    include "runtime/io/file.h"

enum { HEAD = 12, TAIL = 4 }; /* bytes of a frame before and after its event */

bool cld_event_is_supported(void) { return true; }

static void put_u32(unsigned char *to, uint32_t value) {
    for (int i = 0; i < 4; i++) to[i] = (unsigned char)(value >> 8 * i);
}

static uint32_t get_u32(const unsigned char *from) {
    return (uint32_t)from[0] | (uint32_t)from[1] << 8 | (uint32_t)from[2] << 16 | (uint32_t)from[3] << 24;
}

/* ---- writing ------------------------------------------------------------------------------------------- */

static cld_status fail_write(const cld_event_writer *w) {
    return cld_fail(errno == ENOMEM ? CLD_NOMEM : CLD_IO, "cannot write '%s': %s", w->path, strerror(errno));
}

static cld_status write_frame(cld_event_writer *w, const unsigned char *frame, size_t bytes) {
    size_t done = 0;
    while (done < bytes) {
        ssize_t written = write(w->fd, frame + done, bytes - done);
        if (written < 0 && errno == EINTR) continue;
        if (written < 0) {
            cld_status status = fail_write(w);
            if (done && ftruncate(w->fd, (off_t)w->bytes) != 0) {
                close(w->fd); /* half an event remains: nothing after it could be read */
                w->fd = -1;
            }
            return status;
        }
        done += (size_t)written;
    }
    w->bytes += bytes;
    return CLD_OK;
}

static cld_status put(cld_event_writer *w, const Tensorboard__Event *event) {
    if (w->fd < 0) return cld_fail(CLD_INVALID, "the event file is closed");
    size_t bytes = tensorboard__event__get_packed_size(event);
    unsigned char *frame = malloc(HEAD + bytes + TAIL);
    if (!frame) return cld_fail(CLD_NOMEM, "out of memory for an event of %zu bytes", bytes);
    put_u32(frame, (uint32_t)bytes);
    put_u32(frame + 4, (uint32_t)((uint64_t)bytes >> 32));
    put_u32(frame + 8, cld_masked_crc32c(frame, 8));
    tensorboard__event__pack(event, frame + HEAD);
    put_u32(frame + HEAD + bytes, cld_masked_crc32c(frame + HEAD, bytes));
    cld_status status = write_frame(w, frame, HEAD + bytes + TAIL);
    free(frame);
    return status;
}

static Tensorboard__Event event_at(double wall_time, int64_t step) {
    Tensorboard__Event event = TENSORBOARD__EVENT__INIT;
    event.wall_time = wall_time;
    event.step = step;
    return event;
}

#    define PREFIX "events.out.tfevents."

/* The time in the name of the folder's last event file, or -1. */
static long long last_in(const char *folder, cld_status *status) {
    char **names;
    size_t count;
    long long last = -1;
    *status = cld_list_folder(folder, &names, &count);
    for (size_t i = 0; *status == CLD_OK && i < count; i++) {
        const char *at = strstr(names[i], "tfevents.");
        long long seconds = at ? strtoll(at + strlen("tfevents."), NULL, 10) : -1;
        if (seconds > last && seconds < 9999999999) last = seconds;
    }
    if (*status == CLD_OK) cld_free_names(names, count);
    return last;
}

cld_status cld_event_writer_open(cld_event_writer *w, const char *folder) {
    char host[128] = "";
    bool created;
    cld_status status = CLD_OK;
    *w = (cld_event_writer){.fd = -1};
    CLD_TRY(cld_make_folder(folder, 0777, &created));
    long long seconds = last_in(folder, &status) + 1, now = (long long)time(NULL);
    CLD_TRY(status);
    if (seconds < now) seconds = now;
    if (gethostname(host, sizeof host - 1) != 0 || !*host || strchr(host, '/')) strcpy(host, "localhost");
    for (int tries = 0; tries < 100 && w->fd < 0; tries++, seconds++) {
        free(w->path);
        if (asprintf(&w->path, "%s/" PREFIX "%010lld.%s.%ld.0", folder, seconds, host, (long)getpid()) < 0) {
            w->path = NULL;
            return cld_fail(CLD_NOMEM, "out of memory for the path '%s'", folder);
        }
        w->fd = open(w->path, O_WRONLY | O_CREAT | O_EXCL | O_APPEND | O_NOFOLLOW | O_CLOEXEC, 0666);
        if (w->fd < 0 && errno != EEXIST) break;
    }
    if (w->fd < 0) {
        status = fail_write(w);
    } else {
        Tensorboard__Event event = event_at((double)time(NULL), 0);
        Tensorboard__SourceMetadata source = TENSORBOARD__SOURCE_METADATA__INIT;
        source.writer = "cldlua";
        event.what_case = TENSORBOARD__EVENT__WHAT_FILE_VERSION;
        event.file_version = "brain.Event:2";
        event.source_metadata = &source;
        status = put(w, &event);
    }
    if (status != CLD_OK) cld_event_writer_close(w);
    return status;
}

void cld_event_writer_close(cld_event_writer *w) {
    if (w->fd >= 0) close(w->fd);
    free(w->path);
    *w = (cld_event_writer){.fd = -1};
}

cld_status cld_event_session_start(cld_event_writer *w, double wall_time, int64_t step) {
    Tensorboard__Event event = event_at(wall_time, step);
    Tensorboard__SessionLog session = TENSORBOARD__SESSION_LOG__INIT;
    session.status = TENSORBOARD__SESSION_LOG__SESSION_STATUS__START;
    event.what_case = TENSORBOARD__EVENT__WHAT_SESSION_LOG;
    event.session_log = &session;
    return put(w, &event);
}

static cld_status put_value(cld_event_writer *w, double wall_time, int64_t step,
                            Tensorboard__Summary__Value *value) {
    Tensorboard__Event event = event_at(wall_time, step);
    Tensorboard__Summary summary = TENSORBOARD__SUMMARY__INIT;
    summary.n_value = 1;
    summary.value = &value;
    event.what_case = TENSORBOARD__EVENT__WHAT_SUMMARY;
    event.summary = &summary;
    return put(w, &event);
}

cld_status cld_event_scalar(cld_event_writer *w, double wall_time, int64_t step, const char *tag,
                            float number) {
    Tensorboard__Summary__Value value = TENSORBOARD__SUMMARY__VALUE__INIT;
    value.tag = (char *)tag;
    value.value_case = TENSORBOARD__SUMMARY__VALUE__VALUE_SIMPLE_VALUE;
    value.simple_value = number;
    return put_value(w, wall_time, step, &value);
}

cld_status cld_event_image(cld_event_writer *w, double wall_time, int64_t step, const char *tag, int height,
                           int width, const void *encoded, size_t bytes) {
    Tensorboard__Summary__Value value = TENSORBOARD__SUMMARY__VALUE__INIT;
    Tensorboard__Summary__Image image = TENSORBOARD__SUMMARY__IMAGE__INIT;
    image.height = height;
    image.width = width;
    image.colorspace = 3;
    image.encoded_image_string = (ProtobufCBinaryData){.data = (uint8_t *)encoded, .len = bytes};
    value.tag = (char *)tag;
    value.value_case = TENSORBOARD__SUMMARY__VALUE__VALUE_IMAGE;
    value.image = &image;
    return put_value(w, wall_time, step, &value);
}

/* ---- reading ------------------------------------------------------------------------------------------- */

/* A fuzzer's changes would never get past the checksums. */
#    ifdef FUZZING_BUILD_MODE_UNSAFE_FOR_PRODUCTION
static bool is_sum(uint32_t given, const void *data, size_t bytes) {
    (void)given, (void)data, (void)bytes;
    return true;
}
#    else
static bool is_sum(uint32_t given, const void *data, size_t bytes) {
    return given == cld_masked_crc32c(data, bytes);
}
#    endif

struct cld_event_reader {
    cld_reader file;
    uint64_t place; /* of the next event */
    Tensorboard__Event *event;
};

cld_event_reader *cld_event_reader_open(const char *path) {
    cld_event_reader *r = calloc(1, sizeof *r);
    if (!r) return cld_fail_null(CLD_NOMEM, "out of memory to read '%s'", path);
    if (cld_reader_open(&r->file, path) != CLD_OK) {
        free(r);
        return NULL;
    }
    return r;
}

static cld_status fail_damaged(const cld_event_reader *r, const char *what) {
    return cld_fail(CLD_IO, "%s: damaged event file: %s of the event at byte %llu", r->file.path, what,
                    (unsigned long long)r->place);
}

/* The next frame's event, packed, which the caller frees; NULL at the end. */
static cld_status next_frame(cld_event_reader *r, unsigned char **packed, size_t *bytes, uint64_t *torn) {
    unsigned char head[HEAD];
    uint64_t left = r->file.bytes - r->place;
    *packed = NULL;
    *torn = left;
    if (left < HEAD) return CLD_OK;
    CLD_TRY(cld_reader_get(&r->file, head, r->place, HEAD));
    if (get_u32(head + 8) != cld_masked_crc32c(head, 8))
        return fail_damaged(r, "wrong checksum of the length");
    uint64_t length = get_u32(head) | (uint64_t)get_u32(head + 4) << 32;
    if (length > left - HEAD || left - HEAD - length < TAIL) return CLD_OK;
    unsigned char *frame = malloc(length + TAIL);
    if (!frame)
        return cld_fail(CLD_NOMEM, "%s: out of memory for an event of %llu bytes", r->file.path,
                        (unsigned long long)length);
    cld_status status = cld_reader_get(&r->file, frame, r->place + HEAD, length + TAIL);
    if (status == CLD_OK && !is_sum(get_u32(frame + length), frame, length))
        status = fail_damaged(r, "wrong checksum of the content");
    if (status != CLD_OK) {
        free(frame);
        return status;
    }
    *packed = frame;
    *bytes = length;
    *torn = 0;
    return CLD_OK;
}

static const char *text(const char *value) { return value ? value : ""; }

cld_status cld_event_next(cld_event_reader *r, cld_event *event, bool *found, uint64_t *torn) {
    unsigned char *packed;
    size_t bytes = 0;
    *event = (cld_event){.text = ""};
    *found = false;
    if (r->event) tensorboard__event__free_unpacked(r->event, NULL);
    r->event = NULL;
    CLD_TRY(next_frame(r, &packed, &bytes, torn));
    if (!packed) return CLD_OK;
    r->event = tensorboard__event__unpack(NULL, bytes, packed);
    free(packed);
    if (!r->event) return fail_damaged(r, "no message in the content");
    r->place += HEAD + bytes + TAIL;
    const Tensorboard__Event *e = r->event;
    event->wall_time = e->wall_time;
    event->step = e->step;
    if (e->what_case == TENSORBOARD__EVENT__WHAT_FILE_VERSION) {
        event->kind = CLD_EVENT_VERSION;
        event->text = text(e->file_version);
    } else if (e->what_case == TENSORBOARD__EVENT__WHAT_SESSION_LOG && e->session_log) {
        event->kind = CLD_EVENT_SESSION;
        event->session = (int)e->session_log->status;
    } else if (e->what_case == TENSORBOARD__EVENT__WHAT_SUMMARY && e->summary) {
        event->kind = CLD_EVENT_SUMMARY;
        event->values = e->summary->n_value;
    }
    *found = true;
    return CLD_OK;
}

/* A tensor's only number, from its content or its values; false if it has none or several. */
static bool read_number(const Tensorboard__TensorProto *t, double *number) {
    const ProtobufCBinaryData *content = &t->tensor_content;
    size_t ones = t->n_float_val + t->n_double_val + t->n_int_val + t->n_int64_val;
    if (t->tensor_shape)
        for (size_t i = 0; i < t->tensor_shape->n_dim; i++)
            if (t->tensor_shape->dim[i]->size != 1) return false;
    if (content->len == 4 && t->dtype == TENSORBOARD__DATA_TYPE__DT_FLOAT) {
        float value;
        memcpy(&value, content->data, sizeof value);
        *number = value;
    } else if (content->len == 8 && t->dtype == TENSORBOARD__DATA_TYPE__DT_DOUBLE) {
        memcpy(number, content->data, sizeof *number);
    } else if (content->len == 4 && t->dtype == TENSORBOARD__DATA_TYPE__DT_INT32) {
        *number = (int32_t)get_u32(content->data);
    } else if (content->len == 8 && t->dtype == TENSORBOARD__DATA_TYPE__DT_INT64) {
        *number = (double)(int64_t)(get_u32(content->data) | (uint64_t)get_u32(content->data + 4) << 32);
    } else if (content->len == 0 && ones == 1) {
        *number = t->n_float_val    ? t->float_val[0]
                  : t->n_double_val ? t->double_val[0]
                  : t->n_int_val    ? t->int_val[0]
                                    : (double)t->int64_val[0];
    } else {
        return false;
    }
    return true;
}

void cld_event_value_at(const cld_event_reader *r, size_t i, cld_event_value *value) {
    const Tensorboard__Summary__Value *v = r->event->summary->value[i];
    *value = (cld_event_value){.tag = text(v->tag), .plugin = ""};
    if (v->metadata && v->metadata->plugin_data) value->plugin = text(v->metadata->plugin_data->plugin_name);
    if (v->value_case == TENSORBOARD__SUMMARY__VALUE__VALUE_SIMPLE_VALUE) {
        value->kind = CLD_VALUE_SCALAR;
        value->scalar = v->simple_value;
    } else if (v->value_case == TENSORBOARD__SUMMARY__VALUE__VALUE_IMAGE && v->image) {
        value->kind = CLD_VALUE_IMAGE;
        value->height = v->image->height;
        value->width = v->image->width;
        value->channels = v->image->colorspace;
        value->bytes = v->image->encoded_image_string.data;
        value->length = v->image->encoded_image_string.len;
    } else if (v->value_case == TENSORBOARD__SUMMARY__VALUE__VALUE_TENSOR && v->tensor) {
        if (v->tensor->n_string_val > 0) {
            value->kind = CLD_VALUE_STRINGS;
            value->strings = v->tensor->n_string_val;
        } else if (read_number(v->tensor, &value->scalar)) {
            value->kind = CLD_VALUE_SCALAR;
        }
    }
}

const void *cld_event_string(const cld_event_reader *r, size_t i, size_t j, size_t *length) {
    const ProtobufCBinaryData *string = &r->event->summary->value[i]->tensor->string_val[j];
    *length = string->len;
    return string->data;
}

void cld_event_reader_close(cld_event_reader *r) {
    if (!r) return;
    if (r->event) tensorboard__event__free_unpacked(r->event, NULL);
    cld_reader_close(&r->file);
    free(r);
}

#endif
