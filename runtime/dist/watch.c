/* The watch's thread, and its interface to the main thread. */
#define _GNU_SOURCE
#include "runtime/dist/watch.h"

#include <errno.h>
#include <math.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <unistd.h>

#include "runtime/core/process.h"
#include "runtime/core/workers.h"
#include "runtime/dist/board.h"
#include "runtime/dist/watch_parts.h"

enum { SPARE = 64 }; /* connections in addition to one per rank: attempts, strangers */
#define STRANGER_SECONDS 5.
#define ANSWER_SECONDS   2. /* for the centre's answer to a main thread that has failed */
#define SIGNAL_SECONDS   1.

static cld_watch_state w = {.listener = -1, .wake = -1};
static bool running;
static pthread_t thread;

/* Set by the main thread, at no cost. */
static _Atomic uint64_t begun, completed;
static _Atomic int signalled; /* the status to leave with */
static _Atomic bool given_up; /* rank 0 was not found */

void cld_watch_begun(void) { atomic_fetch_add_explicit(&begun, 1, memory_order_relaxed); }

void cld_watch_completed(void) {
    atomic_store_explicit(&completed, atomic_load_explicit(&begun, memory_order_relaxed),
                          memory_order_relaxed);
}

/* ---- the thread ---- */

/* Reads what the main thread has set since. Returns whether the others should know it at once. */
static bool hear_main(double now) {
    cld_watch_peer *own = &w.peers[w.rank];
    char failure[CLD_WATCH_TEXT] = "";
    cld_watch_message m = cld__watch_own_beat(&w);
    pthread_mutex_lock(&w.lock);
    bool ended = w.ended, failing = w.failing;
    if (failing) memcpy(failure, w.failure, sizeof failure);
    pthread_mutex_unlock(&w.lock);
    m.head.completed = atomic_load_explicit(&completed, memory_order_relaxed);
    m.head.begun = atomic_load_explicit(&begun, memory_order_relaxed);
    m.head.ended = ended;
    bool news = ended && !own->ended;
    cld__watch_take_beat(own, &m, now);
    w.leave_status = atomic_load(&signalled);
    if (w.leave_status && !w.heard_signal) {
        w.heard_signal = true;
        if (!w.leaving) w.leave_at = now + SIGNAL_SECONDS;
        const char *name = cld_signal_name(w.leave_status - 128);
        cld__watch_consider(&w, CLD_WATCH_SIGNALLED, w.rank, name ? name : "", now);
    }
    if (failing && !w.heard_failure) cld__watch_consider(&w, CLD_WATCH_FAILED, w.rank, failure, now);
    w.heard_failure = failing;
    return news;
}

static void wait_for_news(double until, double now) {
    uint64_t count;
    struct pollfd *p = w.polled;
    p[0] = (struct pollfd){.fd = w.wake, .events = POLLIN};
    p[1] = (struct pollfd){.fd = w.listener, .events = POLLIN};
    int polled = w.count;
    for (int i = 0; i < polled; i++) {
        cld_watch_tie tie = w.links[i]->tie;
        p[2 + i] = (struct pollfd){.fd = tie == CLD_WATCH_SILENCED ? -1 : w.links[i]->fd,
                                   .events = tie == CLD_WATCH_CONNECTING ? POLLOUT : POLLIN};
    }
    bool busy = w.seeking || w.leaving || w.worst.cause != CLD_WATCH_WELL;
    double seconds = busy ? 0.02 : until > now ? until - now : 0;
    int ready = poll(p, (nfds_t)polled + 2, (int)ceil(1e3 * seconds));
    if (ready <= 0) return;
    now = cld_clock();
    if (p[0].revents && read(w.wake, &count, sizeof count) < 0) return; /* nothing to read: fine */
    for (int i = 0; i < polled; i++)
        if (p[2 + i].revents && w.links[i]->fd >= 0) cld__watch_hear(&w, w.links[i], now);
    int fd = p[1].revents ? cld__watch_accept(w.listener) : -1;
    if (fd >= 0) cld__watch_add(&w, fd, CLD_WATCH_STRANGER, -1, now);
}

/* If this process did not run, or not enough, missing messages are nobody else's fault. */
static void excuse(double now) {
    for (int r = 0; r < w.world; r++) w.peers[r].heard = w.peers[r].since = now;
    for (int i = 0; i < w.count; i++) w.links[i]->heard = now;
}

static void look_at_clock(double now) {
    cld_watch_report found;
    for (int i = 0; i < w.count; i++) {
        cld_watch_link *link = w.links[i];
        bool unknown = link->tie == CLD_WATCH_STRANGER || link->tie == CLD_WATCH_ADMITTED;
        if (unknown && now - link->heard > STRANGER_SECONDS) cld__watch_close(&w, link);
    }
    if (w.parent && now - w.parent->heard > w.silence) cld__watch_lost(&w, w.parent, CLD_WATCH_SILENT, now);
    if (w.rank == 0 && !w.over && w.worst.cause < CLD_WATCH_ENDED && cld__watch_judge(&w, now, &found))
        cld__watch_consider(&w, found.cause, found.rank, "", now);
}

/* Rank 0 tells all ranks that all have ended. */
static void end_together(double now) {
    bool all = w.rank == 0 && !w.over && w.worst.cause == CLD_WATCH_WELL;
    for (int r = 0; all && r < w.world; r++) all = w.peers[r].ended;
    if (!all) return;
    cld_watch_message over = cld__watch_message(&w, CLD_WATCH_OVER);
    w.over = true;
    w.leave_at = now + CLD_WATCH_TRY;
    cld__watch_tell_all(&w, &over);
}

/* Nobody is left who would take this rank's exit for a loss. */
static bool is_over(double now) {
    bool alone = w.rank > 0 || now >= w.leave_at;
    if (!w.over || alone) return w.over;
    for (int i = 0; i < w.count; i++)
        if (w.links[i]->tie == CLD_WATCH_CHILD) return false;
    return true;
}

static void *keep_watch(void *unused) {
    (void)unused;
    double now = cld_clock(), beat_at = now, before;
    excuse(now);
    w.first = true;
    if (w.rank > 0) cld__watch_seek(&w, 0);
    while (!is_over(now) && !atomic_load(&given_up)) {
        wait_for_news(beat_at, now);
        before = now;
        now = cld_clock();
        if (now - before > w.beat + w.silence / 2) excuse(now);
        bool urgent = hear_main(now);
        if (urgent || now >= beat_at) {
            cld_watch_message beat = cld__watch_own_beat(&w);
            cld__watch_tell_all(&w, &beat);
            beat_at = now + w.beat;
        }
        cld__watch_seek_on(&w, now);
        look_at_clock(now);
        end_together(now);
        cld__watch_settle(&w, now);
        cld__watch_sweep(&w);
    }
    pthread_mutex_lock(&w.lock);
    w.finished = true;
    pthread_cond_broadcast(&w.changed);
    pthread_mutex_unlock(&w.lock);
    return NULL;
}

/* ---- the main thread ---- */

static void wake_up(void) {
    uint64_t one = 1;
    if (write(w.wake, &one, sizeof one) < 0) return; /* it is awake already */
}

/* From a signal handler: the watch will end the process in a moment. */
static void leave(int status) {
    int none = 0, error = errno;
    atomic_compare_exchange_strong(&signalled, &none, status);
    wake_up();
    errno = error;
}

/* `cldlua --ranks` passes the user's request on as SIGUSR1. */
static void take_signals(void) {
    cld_leave_with(leave);
    cld_leave_on(SIGTERM);
    if (cld_board_found()) cld_leave_on(SIGUSR1);
}

static void give_back_signals(void) {
    cld_leave_no_more(SIGTERM);
    cld_leave_no_more(SIGUSR1);
    cld_leave_with(NULL);
}

static void release(void) {
    for (int i = 0; i < w.count; i++) cld__watch_close(&w, w.links[i]);
    cld__watch_sweep(&w);
    free(w.addresses);
    free(w.peers);
    free(w.links);
    free(w.polled);
    if (w.listener >= 0) close(w.listener);
    if (w.wake >= 0) close(w.wake);
    w = (cld_watch_state){.listener = -1, .wake = -1};
}

cld_status cld_watch_listen(cld_watch_address *mine) {
    memset(mine, 0, sizeof *mine);
    cld__watch_whereabouts(mine);
    if (getrandom(&mine->key, sizeof mine->key, 0) != sizeof mine->key)
        return cld_fail(CLD_BACKEND, "ranks: cannot get random numbers from the system: %s", strerror(errno));
    w.listener = cld__watch_listener(&mine->port);
    if (w.listener < 0)
        return cld_fail(CLD_BACKEND, "ranks: no TCP port can be opened for the heartbeat: %s",
                        strerror(errno));
    return CLD_OK;
}

/* Rank 0 is connected to all, and any other rank may have to take its place. */
static void allow_descriptors(int world) {
    struct rlimit limit;
    rlim_t wanted = (rlim_t)world + 1024;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur >= wanted) return;
    limit.rlim_cur = limit.rlim_max < wanted ? limit.rlim_max : wanted;
    setrlimit(RLIMIT_NOFILE, &limit);
}

static void set_timeout(double seconds) {
    w.timeout = seconds > 0 ? seconds : INFINITY;
    w.silence = fmin(w.timeout, CLD_WATCH_SILENCE);
    w.beat = fmin(1, w.silence / 4);
}

void cld_watch_set_timeout(double seconds) {
    if (!running) return;
    pthread_mutex_lock(&w.lock);
    set_timeout(seconds);
    pthread_mutex_unlock(&w.lock);
}

double cld_watch_timeout(void) {
    if (!running) return 0;
    pthread_mutex_lock(&w.lock);
    double seconds = isinf(w.timeout) ? 0 : w.timeout;
    pthread_mutex_unlock(&w.lock);
    return seconds;
}

static cld_status prepare(const cld_watch_settings *s) {
    size_t world = (size_t)s->world;
    w.rank = s->rank;
    w.world = s->world;
    w.key = s->addresses[0].key;
    w.unreachable = -1;
    w.worst.rank = -1;
    set_timeout(s->timeout);
    w.capacity = s->world + SPARE;
    w.addresses = malloc(world * sizeof *w.addresses);
    w.peers = calloc(world, sizeof *w.peers);
    w.links = calloc((size_t)w.capacity, sizeof *w.links);
    w.polled = calloc((size_t)w.capacity + 2, sizeof *w.polled);
    w.wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (!w.addresses || !w.peers || !w.links || !w.polled || w.wake < 0)
        return cld_fail(CLD_NOMEM, "ranks: out of memory for the connections of %d ranks", s->world);
    memcpy(w.addresses, s->addresses, world * sizeof *w.addresses);
    pthread_mutex_init(&w.lock, NULL);
    cld_condition_init(&w.changed);
    allow_descriptors(s->world);
    return CLD_OK;
}

/* Waits until it is there, or `seconds` have passed. Called with the lock held. */
static bool wait_until(const bool *there, double seconds) {
    for (double now = cld_clock(), end = now + seconds; !*there && now < end; now = cld_clock())
        cld_wait_for(&w.changed, &w.lock, end - now);
    return *there;
}

static void stop(void) {
    pthread_join(thread, NULL);
    give_back_signals();
    running = false;
    release();
}

cld_status cld_watch_start(const cld_watch_settings *s) {
    if (s->world == 1) return release(), CLD_OK;
    cld_status status = prepare(s);
    int refused = status == CLD_OK ? cld_start_worker(&thread, keep_watch, NULL) : 0;
    if (refused)
        status = cld_fail(CLD_NOMEM, "ranks: cannot start a thread for the heartbeat: %s", strerror(refused));
    if (status != CLD_OK) return release(), status;
    running = true;
    take_signals();
    pthread_mutex_lock(&w.lock);
    bool joined = s->rank == 0 || wait_until(&w.joined, CLD_WATCH_JOIN);
    pthread_mutex_unlock(&w.lock);
    if (joined) return CLD_OK;
    atomic_store(&given_up, true);
    stop();
    const cld_watch_address *to = &s->addresses[0];
    return cld_fail(CLD_BACKEND,
                    "ranks: rank %d cannot reach rank 0 on %s (%s, TCP port %d) for the heartbeat: the "
                    "machines of a job "
                    "must be able to connect to each other by TCP on any port",
                    s->rank, to->host, to->numbers[0], to->port);
}

bool cld_watch_fail(const char *message) {
    if (!running) return true;
    pthread_mutex_lock(&w.lock);
    if (!w.failing) strncpy(w.failure, message, sizeof w.failure - 1);
    w.failing = true;
    wake_up();
    bool prints = !wait_until(&w.answered, ANSWER_SECONDS) || w.prints;
    pthread_mutex_unlock(&w.lock);
    return prints;
}

/* With the lock held. Returns whether all ranks have come to their end; this one waits for that. */
static bool await_end(double seconds) {
    w.ended = true;
    wake_up();
    if (seconds < INFINITY) return wait_until(&w.finished, seconds);
    while (!w.finished) pthread_cond_wait(&w.changed, &w.lock);
    return true;
}

bool cld_watch_end_within(double seconds) {
    if (!running) return true;
    pthread_mutex_lock(&w.lock);
    bool failing = w.failing, together = failing || await_end(seconds);
    if (failing && w.answered) wait_until(&w.told, ANSWER_SECONDS);
    if (!together) w.ended = false;
    pthread_mutex_unlock(&w.lock);
    if (!failing && together) stop(); /* if this fails, the process is about to end */
    return together;
}

void cld_watch_end(void) { (void)cld_watch_end_within(INFINITY); }
