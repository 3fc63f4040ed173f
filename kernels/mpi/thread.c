/* The thread that owns MPI: it joins the job, runs queued orders first in, first out, and leaves the job. */
#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "kernels/mpi/mpi_comm.h"

static struct {
    pthread_mutex_t lock;
    pthread_cond_t work, done;
    cld_mpi_order *first, *last;
    int64_t queued, finished;
    int waiting;  /* how many wait for a result: poll without pause */
    bool started; /* or has failed to */
    bool failed;
    char problem[512];
    cld_ranks ranks;
    pthread_t thread;
} mpi = {
    .lock = PTHREAD_MUTEX_INITIALIZER, .work = PTHREAD_COND_INITIALIZER, .done = PTHREAD_COND_INITIALIZER};

/* ---- one order ------------------------------------------------------------------------------------------- */

static MPI_Datatype type_of(cld_dtype dtype) {
    switch (dtype) {
    case CLD_F32: return MPI_FLOAT;
    case CLD_F64: return MPI_DOUBLE;
    case CLD_I64: return MPI_INT64_T;
    case CLD_I32: return MPI_INT32_T;
    default: return MPI_UINT8_T;
    }
}

static void scale(const cld_mpi_order *o) {
    if (o->scale == 1) return;
    if (o->dtype == CLD_F32)
        for (int i = 0; i < o->count; i++) ((float *)o->out)[i] *= (float)o->scale;
    else if (o->dtype == CLD_F64)
        for (int i = 0; i < o->count; i++) ((double *)o->out)[i] *= o->scale;
}

static int begin_exchange(const cld_mpi_order *o, MPI_Request *requests) {
    enum { TAG = 1 };
    int code = MPI_SUCCESS;
    for (int i = 0; i < o->sends + o->receives; i++) {
        const cld_comm_piece *p = &o->pieces[i];
        int bytes = (int)p->bytes;
        if (code != MPI_SUCCESS)
            requests[i] = MPI_REQUEST_NULL;
        else if (i < o->sends)
            code = MPI_Isend(p->data, bytes, MPI_BYTE, p->rank, TAG, MPI_COMM_WORLD, &requests[i]);
        else
            code = MPI_Irecv(p->data, bytes, MPI_BYTE, p->rank, TAG, MPI_COMM_WORLD, &requests[i]);
    }
    return code;
}

/* An exchange has one request per piece, everything else has one. */
static int requests_of(const cld_mpi_order *o) {
    return o->kind == CLD_MPI_EXCHANGE ? o->sends + o->receives : 1;
}

static int begin(const cld_mpi_order *o, MPI_Request *requests) {
    MPI_Datatype type = type_of(o->dtype);
    switch (o->kind) {
    case CLD_MPI_EXCHANGE: return begin_exchange(o, requests);
    case CLD_MPI_REDUCE:
        scale(o);
        return MPI_Iallreduce(MPI_IN_PLACE, o->out, o->count, type, o->op, MPI_COMM_WORLD, requests);
    case CLD_MPI_GATHER:
        return MPI_Iallgather(o->in, o->count, type, o->out, o->count, type, MPI_COMM_WORLD, requests);
    case CLD_MPI_REDUCE_SCATTER:
        return MPI_Ireduce_scatter_block(o->in, o->out, o->count, type, o->op, MPI_COMM_WORLD, requests);
    default: return MPI_Ibcast(o->out, o->count, type, o->from, MPI_COMM_WORLD, requests);
    }
}

enum { SPINS = 2000, PAUSE_NS = 50000 };

/* MPI_Testall would do, but its error only says that some request has failed. */
static int test_each(int count, MPI_Request *requests, bool *complete) {
    *complete = true;
    for (int i = 0; i < count; i++) {
        int done = 0, code = MPI_Test(&requests[i], &done, MPI_STATUS_IGNORE);
        if (code != MPI_SUCCESS) return code;
        *complete = *complete && done;
    }
    return MPI_SUCCESS;
}

/* Polls until the requests are complete. While the main thread waits for them, the core has no other use, so there is
 * no pause between two looks; after SPINS of them there is one, in case another process needs the core. */
static int await(int count, MPI_Request *requests) {
    for (int looks = 0;;) {
        bool complete;
        int code = test_each(count, requests, &complete);
        if (code != MPI_SUCCESS || complete) return code;
        bool waiting = __atomic_load_n(&mpi.waiting, __ATOMIC_RELAXED) > 0;
        looks = waiting ? looks + 1 : 0;
        if (waiting && looks < SPINS)
            sched_yield();
        else
            nanosleep(&(struct timespec){.tv_nsec = PAUSE_NS}, NULL);
    }
}

static int serve_with(const cld_mpi_order *o, MPI_Request *requests) {
    int code = begin(o, requests);
    return code == MPI_SUCCESS ? await(requests_of(o), requests) : code;
}

static void serve(const cld_mpi_order *o) {
    enum { FEW = 16 };
    MPI_Request few[FEW], *many = requests_of(o) > FEW ? calloc((size_t)requests_of(o), sizeof *many) : few;
    int code = many ? serve_with(o, many) : MPI_ERR_NO_MEM, length = 0;
    if (many != few) free(many);
    if (code == MPI_SUCCESS || mpi.failed) return;
    char text[MPI_MAX_ERROR_STRING];
    MPI_Error_string(code, text, &length);
    pthread_mutex_lock(&mpi.lock);
    snprintf(
        mpi.problem, sizeof mpi.problem,
        "a collective of MPI failed (are the ranks at different calls, or do their tensors have different "
        "shapes?): %.*s",
        length, text);
    mpi.failed = true;
    pthread_mutex_unlock(&mpi.lock);
}

/* ---- the thread ------------------------------------------------------------------------------------------ */

static cld_mpi_order *take(void) {
    pthread_mutex_lock(&mpi.lock);
    while (!mpi.first) pthread_cond_wait(&mpi.work, &mpi.lock);
    cld_mpi_order *o = mpi.first;
    mpi.first = o->next;
    if (!mpi.first) mpi.last = NULL;
    pthread_mutex_unlock(&mpi.lock);
    return o;
}

static void finish(cld_mpi_order *o) {
    free(o->pieces);
    free(o);
    pthread_mutex_lock(&mpi.lock);
    mpi.finished++;
    pthread_cond_broadcast(&mpi.done);
    pthread_mutex_unlock(&mpi.lock);
}

static void *run(void *unused) {
    bool joined = cld_mpi_join_job(&mpi.ranks, mpi.problem, sizeof mpi.problem), stop = !joined;
    pthread_mutex_lock(&mpi.lock);
    mpi.failed = !joined;
    mpi.started = true;
    pthread_cond_broadcast(&mpi.done);
    pthread_mutex_unlock(&mpi.lock);
    while (!stop) {
        cld_mpi_order *o = take();
        stop = o->kind == CLD_MPI_STOP;
        if (stop)
            MPI_Finalize();
        else
            serve(o);
        finish(o);
    }
    return unused;
}

/* ---- from the main thread -------------------------------------------------------------------------------- */

cld_status cld_mpi_check(void) {
    pthread_mutex_lock(&mpi.lock);
    bool failed = mpi.failed;
    pthread_mutex_unlock(&mpi.lock);
    return failed ? cld_mpi_fail(CLD_BACKEND, "%s", mpi.problem) : CLD_OK;
}

cld_status cld_mpi_queue(const cld_mpi_order *order) {
    cld_mpi_order *o = malloc(sizeof *o);
    if (!o) return cld_mpi_fail(CLD_NOMEM, "MPI: out of memory");
    *o = *order;
    o->next = NULL;
    pthread_mutex_lock(&mpi.lock);
    if (mpi.last)
        mpi.last->next = o;
    else
        mpi.first = o;
    mpi.last = o;
    mpi.queued++;
    pthread_cond_signal(&mpi.work);
    pthread_mutex_unlock(&mpi.lock);
    return CLD_OK;
}

cld_status cld_mpi_wait(void) {
    pthread_mutex_lock(&mpi.lock);
    __atomic_add_fetch(&mpi.waiting, 1, __ATOMIC_RELAXED);
    while (mpi.finished < mpi.queued) pthread_cond_wait(&mpi.done, &mpi.lock);
    __atomic_sub_fetch(&mpi.waiting, 1, __ATOMIC_RELAXED);
    pthread_mutex_unlock(&mpi.lock);
    return cld_mpi_check();
}

/* Signals are handled by the main thread. */
static int start_thread(void) {
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int code = pthread_create(&mpi.thread, NULL, run, NULL);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return code;
}

cld_status cld_mpi_thread_start(cld_ranks *out) {
    int code = start_thread();
    if (code) return cld_mpi_fail(CLD_NOMEM, "MPI: cannot start its thread: %s", strerror(code));
    pthread_mutex_lock(&mpi.lock);
    while (!mpi.started) pthread_cond_wait(&mpi.done, &mpi.lock);
    pthread_mutex_unlock(&mpi.lock);
    *out = mpi.ranks;
    return cld_mpi_check();
}

void cld_mpi_thread_stop(void) {
    if (cld_mpi_queue(&(cld_mpi_order){.kind = CLD_MPI_STOP}) == CLD_OK) pthread_join(mpi.thread, NULL);
}
