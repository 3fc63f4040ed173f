/* Collectives of tensors: what is sent is dense, and many small tensors are sent as one. */
#include <stdlib.h>
#include <string.h>

#include "runtime/core/process.h"
#include "runtime/dist/plugin.h"
#include "runtime/dist/watch.h"

/* A library may wait for the other ranks when a call is queued: NCCL connects two ranks at their first exchange. */
static cld_status has_queued(cld_status status) {
    cld_watch_completed();
    return status;
}
#define WATCHED(call) (cld_watch_begun(), has_queued(call))

/* ---- which library --------------------------------------------------------------------------------------- */

typedef struct carrier {
    const cld_comm_ops *comm;
    const cld_lane_ops *lane;
} carrier;

/* A device's own communicator starts at its first collective: the CPU sends rank 0's id to all. */
static cld_status start_on(const cld_backend *device) {
    static const cld_backend *started;
    if (started == device || !device->comm->start) return CLD_OK;
    cld_ranks r = cld_dist_ranks();
    unsigned char *id = malloc(CLD_COMM_ID_BYTES);
    size_t size = CLD_COMM_ID_BYTES;
    cld_status status = id ? CLD_OK : cld_fail(CLD_NOMEM, "%s: out of memory", device->name);
    if (status == CLD_OK && r.rank == 0) status = device->comm->make_id(id);
    if (status == CLD_OK) status = cld_broadcast_bytes(&id, &size, 0);
    if (status == CLD_OK) status = WATCHED(device->comm->start(id, r.rank, r.world));
    free(id);
    if (status == CLD_OK) started = device;
    return status;
}

static cld_status find_carrier(carrier *out, const cld_backend *device) {
    if (device == cld_cpu_backend()) {
        *out = (carrier){cld__dist_plugin()->comm, cld__dist_plugin()->lane};
        return CLD_OK;
    }
    if (!device->comm || !device->lane)
        return cld_fail(CLD_UNSUPPORTED, "%s: this device cannot exchange tensors with other ranks",
                        device->name);
    *out = (carrier){device->comm, device->lane};
    return start_on(device);
}

/* ---- counts ---------------------------------------------------------------------------------------------- */

static cld_dist_traffic traffic;

cld_dist_traffic cld_dist_counted(void) { return traffic; }

static void note(const cld_array *a) {
    traffic.collectives++;
    traffic.bytes += cld_numel(a) * (int64_t)cld_dtype_size(a->dtype);
}

/* ---- in flight ------------------------------------------------------------------------------------------- */

/* Between begin and join: what is being sent, and where the results go afterwards. */
typedef struct flight {
    cld_tensor *packed;  /* dense, of a dtype that can be sent; NULL: the owners' own memory is used */
    cld_tensor **owners; /* (count) retained; the tensors that are packed one after the other */
    int count;
    int sources; /* the last `sources` owners are not written to: an exchange sends them */
    struct flight *next;
} flight;

static flight *flying;

static cld_dtype travels_as(cld_dtype dtype) { return cld_dtype_is_half(dtype) ? CLD_F32 : dtype; }

static void land(flight *f) {
    for (int i = 0; i < f->count; i++) cld_tensor_free(f->owners[i]);
    free(f->owners);
    cld_tensor_free(f->packed);
    free(f);
}

/* One array per owner: its part of the packed one. */
static cld_array *parts_of(const flight *f) {
    cld_array *parts = calloc((size_t)f->count, sizeof *parts);
    char *data = f->packed->a.data;
    for (int i = 0; parts && i < f->count; i++) {
        parts[i] = f->owners[i]->a;
        parts[i].dtype = f->packed->a.dtype;
        parts[i].layout = CLD_STRIDED;
        parts[i].data = data;
        int64_t stride = 1;
        for (int d = parts[i].ndim - 1; d >= 0; d--) {
            parts[i].strides[d] = stride;
            stride *= parts[i].shape[d];
        }
        data += (size_t)stride * cld_dtype_size(parts[i].dtype);
    }
    if (!parts) (void)cld_fail(CLD_NOMEM, "all_reduce: out of memory");
    return parts;
}

/* Copies between the owners and the packed array. */
static cld_status move(const flight *f, bool pack) {
    if (!f->packed || f->packed == f->owners[0]) return CLD_OK;
    cld_array *parts = parts_of(f), *own = calloc((size_t)f->count, sizeof *own);
    cld_status status = own && parts ? CLD_OK : cld_fail(CLD_NOMEM, "all_reduce: out of memory");
    for (int i = 0; status == CLD_OK && i < f->count; i++) own[i] = f->owners[i]->a;
    if (status == CLD_OK)
        status = cld_copy_many(cld_device(f->packed), f->count, pack ? parts : own, pack ? own : parts);
    free(parts);
    free(own);
    return status;
}

static bool travels_itself(const cld_tensor *x) {
    return cld_is_contiguous(&x->a) && travels_as(x->a.dtype) == x->a.dtype;
}

static cld_status pack(flight *f, cld_tensor *const *xs, int count) {
    int64_t elements = 0;
    f->owners = calloc((size_t)count, sizeof *f->owners);
    if (!f->owners) return cld_fail(CLD_NOMEM, "all_reduce: out of memory");
    for (; f->count < count; f->count++) {
        f->owners[f->count] = cld_tensor_retain(xs[f->count]);
        elements += cld_numel(&xs[f->count]->a);
    }
    if (count == 1 && travels_itself(xs[0])) {
        f->packed = cld_tensor_retain(xs[0]);
        return CLD_OK;
    }
    f->packed = cld_tensor_new(travels_as(xs[0]->a.dtype), 1, &elements, cld_device(xs[0]));
    return f->packed ? move(f, true) : cld_error_code();
}

/* Removes and frees the last one. */
static void take_off(flight *f) {
    flight **last = &flying;
    while (*last) last = &(*last)->next;
    *last = f;
}

/* ---- a list of tensors of one dtype ------------------------------------------------------------------------ */

static cld_status check_list(const char *op, cld_tensor *const *xs, int count) {
    for (int i = 0; i < count; i++) {
        if (xs[i]->a.dtype == xs[0]->a.dtype && cld_device(xs[i]) == cld_device(xs[0])) continue;
        return cld_fail(
            CLD_INVALID,
            "%s: the tensors of a list must share a dtype and a device, got %s on %s and %s on %s", op,
            cld_describe(&xs[0]->a), cld_device(xs[0])->name, cld_describe(&xs[i]->a),
            cld_device(xs[i])->name);
    }
    return CLD_OK;
}

typedef struct reduction {
    cld_comm_kind kind;
    double scale;
    int from; /* a broadcast from this rank, unless -1 */
} reduction;

static cld_status begin(cld_tensor *const *xs, int count, const reduction *r) {
    const char *op = r->from < 0 ? "all_reduce" : "broadcast";
    carrier by;
    if (count == 0 || cld_dist_alone()) return CLD_OK;
    CLD_TRY(check_list(op, xs, count));
    CLD_TRY(find_carrier(&by, cld_device(xs[0])));
    flight *f = calloc(1, sizeof *f);
    if (!f) return cld_fail(CLD_NOMEM, "%s: out of memory", op);
    cld_status status = pack(f, xs, count);
    if (status == CLD_OK) status = by.lane->fork();
    if (status == CLD_OK)
        status = WATCHED(r->from < 0 ? by.comm->all_reduce(1, &f->packed->a, r->kind, r->scale)
                                     : by.comm->broadcast(1, &f->packed->a, r->from));
    if (status != CLD_OK) {
        land(f);
        return status;
    }
    note(&f->packed->a);
    take_off(f);
    return CLD_OK;
}

/* The watch is told while this rank waits for the others. */
static cld_status wait_for(const cld_lane_ops *lane) {
    double start = cld_clock();
    cld_watch_begun();
    cld_status status = lane->join();
    cld_watch_completed();
    traffic.waited += cld_clock() - start;
    return status;
}

cld_status cld_dist_join(const cld_backend *device) {
    carrier by;
    if (cld_dist_alone()) return CLD_OK;
    CLD_TRY(find_carrier(&by, device));
    cld_status status = wait_for(by.lane);
    for (flight **at = &flying; *at;) {
        flight *f = *at;
        if (cld_device(f->owners[0]) != device) {
            at = &f->next;
            continue;
        }
        if (status == CLD_OK) status = move(f, false);
        for (int i = 0; i < f->count - f->sources; i++) atomic_fetch_add(&f->owners[i]->storage->version, 1);
        *at = f->next;
        land(f);
    }
    return status;
}

cld_status cld_all_reduce_begin(cld_tensor *const *xs, int count, cld_comm_kind kind, double scale) {
    return begin(xs, count, &(reduction){kind, scale, -1});
}

cld_status cld_all_reduce(cld_tensor *const *xs, int count, cld_comm_kind kind, double scale) {
    CLD_TRY(cld_all_reduce_begin(xs, count, kind, scale));
    return count ? cld_dist_join(cld_device(xs[0])) : CLD_OK;
}

cld_status cld_broadcast(cld_tensor *const *xs, int count, int from) {
    CLD_TRY(begin(xs, count, &(reduction){.from = from}));
    return count ? cld_dist_join(cld_device(xs[0])) : CLD_OK;
}

cld_status cld_barrier(void) {
    CLD_AUTO cld_tensor *one = cld_tensor_full(CLD_I32, 0, NULL, cld_cpu_backend(), 1);
    return one ? cld_all_reduce(&one, 1, CLD_COMM_SUM, 1) : cld_error_code();
}

/* ---- gather, scatter --------------------------------------------------------------------------------------- */

cld_tensor *cld_all_gather(cld_tensor *x) {
    int64_t shape[CLD_MAX_DIMS] = {cld_dist_ranks().world};
    if (x->a.ndim == CLD_MAX_DIMS)
        return cld_fail_null(CLD_INVALID, "all_gather: %s has no room for another dimension",
                             cld_describe(&x->a));
    memcpy(shape + 1, x->a.shape, (size_t)x->a.ndim * sizeof *shape);
    CLD_AUTO cld_tensor *in = cld_tensor_contiguous(x);
    CLD_AUTO cld_tensor *out = in ? cld_tensor_new(x->a.dtype, x->a.ndim + 1, shape, cld_device(x)) : NULL;
    if (!out) return NULL;
    if (cld_dist_alone()) {
        cld_array only = in->a;
        only.data = out->a.data;
        CLD_TRY_NULL(cld_kernel(cld_device(x), math, copy, &only, &in->a));
        return cld_tensor_steal(&out);
    }
    /* as bytes, so that any dtype can be sent */
    cld_array from = {.data = in->a.data, .dtype = CLD_U8, .ndim = 1, .strides = {1}};
    from.shape[0] = cld_numel(&in->a) * (int64_t)cld_dtype_size(in->a.dtype);
    cld_array to = from;
    to.data = out->a.data;
    to.shape[0] *= shape[0];
    carrier by;
    CLD_TRY_NULL(find_carrier(&by, cld_device(x)));
    CLD_TRY_NULL(by.lane->fork());
    CLD_TRY_NULL(WATCHED(by.comm->all_gather(&to, &from)));
    note(&from);
    CLD_TRY_NULL(cld_dist_join(cld_device(x)));
    return cld_tensor_steal(&out);
}

cld_tensor *cld_reduce_scatter(cld_tensor *x) {
    int world = cld_dist_ranks().world;
    int64_t shape[CLD_MAX_DIMS];
    memcpy(shape, x->a.shape, sizeof shape);
    if (x->a.ndim == 0 || shape[0] % world != 0)
        return cld_fail_null(CLD_INVALID,
                             "reduce_scatter: the rows of %s cannot be split equally over %d ranks",
                             cld_describe(&x->a), world);
    shape[0] /= world;
    if (cld_dist_alone()) return cld_tensor_cast(x, x->a.dtype);
    cld_dtype dtype = travels_as(x->a.dtype);
    CLD_AUTO cld_tensor *in = dtype == x->a.dtype ? cld_tensor_contiguous(x) : cld_tensor_cast(x, dtype);
    CLD_AUTO cld_tensor *out = in ? cld_tensor_new(dtype, x->a.ndim, shape, cld_device(x)) : NULL;
    if (!out) return NULL;
    carrier by;
    CLD_TRY_NULL(find_carrier(&by, cld_device(x)));
    CLD_TRY_NULL(by.lane->fork());
    CLD_TRY_NULL(WATCHED(by.comm->reduce_scatter(&out->a, &in->a)));
    note(&in->a);
    CLD_TRY_NULL(cld_dist_join(cld_device(x)));
    return dtype == x->a.dtype ? cld_tensor_steal(&out) : cld_tensor_cast(out, x->a.dtype);
}

/* ---- among neighbours ---------------------------------------------------------------------------------------- */

/* The flight that holds the received and the sent tensors. */
static flight *hold(const cld_parcel *sent, int sends, const cld_parcel *received, int receives) {
    flight *f = calloc(1, sizeof *f);
    if (f) f->owners = calloc((size_t)(sends + receives), sizeof *f->owners);
    if (!f || !f->owners) {
        free(f);
        return cld_fail_null(CLD_NOMEM, "exchange: out of memory");
    }
    for (int i = 0; i < receives; i++) f->owners[f->count++] = cld_tensor_retain(received[i].rows);
    for (int i = 0; i < sends; i++) f->owners[f->count++] = cld_tensor_retain(sent[i].rows);
    f->sources = sends;
    return f;
}

static void list_pieces(cld_comm_piece *out, const cld_parcel *parcels, int count) {
    for (int i = 0; i < count; i++) {
        const cld_array *a = &parcels[i].rows->a;
        out[i] = (cld_comm_piece){parcels[i].rank, a->data, cld_numel(a) * (int64_t)cld_dtype_size(a->dtype)};
    }
}

static void note_sent(const cld_parcel *sent, int sends) {
    traffic.collectives++;
    for (int i = 0; i < sends; i++)
        if (sent[i].rank != cld_dist_ranks().rank)
            traffic.bytes += cld_numel(&sent[i].rows->a) * (int64_t)cld_dtype_size(sent[i].rows->a.dtype);
}

cld_status cld_exchange_begin(const cld_parcel *sent, int sends, const cld_parcel *received, int receives) {
    carrier by;
    CLD_TRY(find_carrier(&by, cld_device(sent[0].rows)));
    cld_comm_piece *pieces = calloc((size_t)(sends + receives), sizeof *pieces);
    flight *f = pieces ? hold(sent, sends, received, receives) : NULL;
    cld_status status = f ? by.lane->fork() : cld_fail(CLD_NOMEM, "exchange: out of memory");
    if (status == CLD_OK) {
        list_pieces(pieces, sent, sends);
        list_pieces(pieces + sends, received, receives);
        status = WATCHED(by.comm->exchange(sends, pieces, receives, pieces + sends));
    }
    free(pieces);
    if (status == CLD_OK) {
        note_sent(sent, sends);
        take_off(f);
    } else if (f) {
        land(f);
    }
    return status;
}

/* Cuts x's rows into those that go to each rank, or come from it; parcels without rows are left out. Returns their
 * number, or -1 if there is no memory. */
static int cut_rows(cld_parcel *out, const cld_tensor *x, const int64_t *rows) {
    int64_t first = 0;
    int count = 0;
    for (int r = 0; r < cld_dist_ranks().world; first += rows[r++]) {
        if (rows[r] == 0) continue;
        out[count] = (cld_parcel){r, cld_tensor_rows(x, first, rows[r])};
        if (!out[count].rows) break;
        count++;
    }
    return first == x->a.shape[0] ? count : -1;
}

static int64_t sum_of(const int64_t *rows) {
    int64_t sum = 0;
    for (int r = 0; r < cld_dist_ranks().world; r++) sum += rows[r];
    return sum;
}

cld_tensor *cld_all_to_all(cld_tensor *x, const int64_t *sent, const int64_t *received) {
    int world = cld_dist_ranks().world;
    int64_t shape[CLD_MAX_DIMS];
    memcpy(shape, x->a.shape, sizeof shape);
    if (x->a.ndim == 0 || shape[0] != sum_of(sent))
        return cld_fail_null(CLD_INVALID, "all_to_all: %s does not have the %lld rows to be sent",
                             cld_describe(&x->a), (long long)sum_of(sent));
    shape[0] = sum_of(received);
    CLD_AUTO cld_tensor *in = cld_tensor_contiguous(x);
    CLD_AUTO cld_tensor *out = in ? cld_tensor_new(x->a.dtype, x->a.ndim, shape, cld_device(x)) : NULL;
    if (!out) return NULL;
    cld_parcel *to = calloc(2 * (size_t)world, sizeof *to);
    if (!to) return cld_fail_null(CLD_NOMEM, "all_to_all: out of memory");
    cld_parcel *from = to + world;
    int sends = cut_rows(to, in, sent), receives = cut_rows(from, out, received);
    cld_status status =
        sends < 0 || receives < 0 ? cld_error_code() : cld_exchange_begin(to, sends, from, receives);
    if (status == CLD_OK) status = cld_dist_join(cld_device(x));
    for (int i = 0; i < 2 * world; i++) cld_tensor_free(to[i].rows);
    free(to);
    return status == CLD_OK ? cld_tensor_steal(&out) : NULL;
}

/* ---- bytes on the host ------------------------------------------------------------------------------------- */

static cld_tensor *host_bytes(const void *data, size_t size, size_t room) {
    const int64_t shape = (int64_t)room;
    cld_tensor *x = cld_tensor_new(CLD_U8, 1, &shape, cld_cpu_backend());
    if (x && size) memcpy(x->a.data, data, size);
    return x;
}

static cld_tensor *host_number(int64_t v) {
    return cld_tensor_scalar(CLD_I64, cld_integer(v), cld_cpu_backend());
}

static int64_t number_of(const cld_tensor *x) { return *(const int64_t *)x->a.data; }

cld_status cld_broadcast_bytes(unsigned char **data, size_t *size, int from) {
    cld_ranks r = cld_dist_ranks();
    if (cld_dist_alone()) return CLD_OK;
    CLD_AUTO cld_tensor *count = host_number(r.rank == from ? (int64_t)*size : 0);
    if (!count) return cld_error_code();
    CLD_TRY(cld_broadcast(&count, 1, from));
    size_t bytes = (size_t)number_of(count);
    CLD_AUTO cld_tensor *x = host_bytes(r.rank == from ? *data : NULL, r.rank == from ? bytes : 0, bytes);
    if (!x) return cld_error_code();
    if (bytes > 0) CLD_TRY(cld_broadcast(&x, 1, from));
    if (r.rank == from) return CLD_OK;
    unsigned char *own = realloc(*data, bytes ? bytes : 1);
    if (!own) return cld_fail(CLD_NOMEM, "broadcast: out of memory");
    memcpy(own, x->a.data, bytes);
    *data = own;
    *size = bytes;
    return CLD_OK;
}

cld_status cld_gather_bytes(unsigned char **all, size_t *ends, const void *data, size_t size) {
    int world = cld_dist_ranks().world;
    CLD_AUTO cld_tensor *count = host_number((int64_t)size);
    CLD_AUTO cld_tensor *counts = count ? cld_all_gather(count) : NULL;
    if (!counts) return cld_error_code();
    size_t most = 0, total = 0;
    for (int r = 0; r < world; r++) {
        size_t n = (size_t)((const int64_t *)counts->a.data)[r];
        most = n > most ? n : most;
        ends[r] = total += n;
    }
    CLD_AUTO cld_tensor *own = host_bytes(data, size, most ? most : 1); /* all are padded to the longest */
    CLD_AUTO cld_tensor *gathered = own ? cld_all_gather(own) : NULL;
    *all = gathered ? malloc(total ? total : 1) : NULL;
    if (!*all) return gathered ? cld_fail(CLD_NOMEM, "gather: out of memory") : cld_error_code();
    for (int r = 0; r < world; r++) {
        size_t begin = r ? ends[r - 1] : 0;
        memcpy(*all + begin, (const char *)gathered->a.data + (size_t)r * (most ? most : 1), ends[r] - begin);
    }
    return CLD_OK;
}

/* ---- requests ---------------------------------------------------------------------------------------------- */

cld_status cld_agree(const int64_t wishes[CLD_WISHES], int64_t agreed[CLD_WISHES]) {
    static cld_tensor *last; /* in flight since the previous call, or NULL */
    const int64_t shape = CLD_WISHES;
    if (cld_dist_alone()) {
        memcpy(agreed, wishes, CLD_WISHES * sizeof *agreed);
        return CLD_OK;
    }
    memset(agreed, 0, CLD_WISHES * sizeof *agreed);
    if (last) {
        CLD_TRY(cld_dist_join(cld_cpu_backend()));
        memcpy(agreed, last->a.data, CLD_WISHES * sizeof *agreed);
        cld_tensor_free(last);
    }
    last = cld_tensor_new(CLD_I64, 1, &shape, cld_cpu_backend());
    if (!last) return cld_error_code();
    memcpy(last->a.data, wishes, CLD_WISHES * sizeof *wishes);
    return cld_all_reduce_begin(&last, 1, CLD_COMM_MAX, 1);
}
