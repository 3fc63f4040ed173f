/* Messages from the other ranks, and their effects. */
#include "runtime/dist/watch_parts.h"

void cld__watch_take_beat(cld_watch_peer *p, const cld_watch_message *m, double now) {
    if (p->begun != m->head.begun || p->completed != m->head.completed || p->ended != m->head.ended)
        p->since = now;
    p->begun = m->head.begun;
    p->completed = m->head.completed;
    p->ended = m->head.ended;
}

/* Another rank asks to connect below this one. */
static void welcome(cld_watch_state *w, cld_watch_link *link, const cld_watch_message *m, double now) {
    int from = m->head.from;
    if (m->head.kind != CLD_WATCH_HELLO || m->head.to != w->rank || from <= w->rank || from >= w->world) {
        cld__watch_close(w, link);
        return;
    }
    cld_watch_message yes = cld__watch_message(w, CLD_WATCH_WELCOME);
    link->tie = CLD_WATCH_ADMITTED;
    link->rank = from;
    link->heard = now;
    cld__watch_tell(w, link, &yes);
    if (w->leaving) cld__watch_tell(w, link, &w->verdict);
}

/* A rank has lost one that this rank still hears: the two cannot reach each other, and the centre must end the job. If
 * the lost one is really gone, this rank will notice in a moment. */
static bool is_mistaken(const cld_watch_state *w, const cld_watch_message *m) {
    return w->parent && m->head.cause >= CLD_WATCH_SILENT && m->head.rank == w->parent->rank;
}

static void hear_report(cld_watch_state *w, const cld_watch_message *m, double now) {
    if (m->head.rank < -1 || m->head.rank >= w->world) return;
    if (m->head.cause == CLD_WATCH_SIGNALLED && m->head.rank >= 0) w->peers[m->head.rank].signalled = true;
    if (is_mistaken(w, m)) {
        cld_watch_message other = cld__watch_message(w, CLD_WATCH_REPORT);
        other.head.rank = m->head.from;
        other.head.cause = CLD_WATCH_SILENT;
        cld__watch_tell(w, w->parent, &other);
    } else
        cld__watch_consider(w, (cld_watch_cause)m->head.cause, m->head.rank, m->text, now);
}

static void hear_child(cld_watch_state *w, cld_watch_link *link, const cld_watch_message *m, double now) {
    cld_watch_peer *p = &w->peers[link->rank];
    link->tie = CLD_WATCH_CHILD;
    p->joined = true;
    p->heard = now;
    if (m->head.kind == CLD_WATCH_BEAT) cld__watch_take_beat(p, m, now);
    if (m->head.kind == CLD_WATCH_REPORT) hear_report(w, m, now);
    if (m->head.kind == CLD_WATCH_VERDICT) cld__watch_obey(w, m, now); /* we were suspended, and given up */
}

cld_watch_message cld__watch_own_beat(const cld_watch_state *w) {
    cld_watch_message m = cld__watch_message(w, CLD_WATCH_BEAT);
    m.head.begun = w->peers[w->rank].begun;
    m.head.completed = w->peers[w->rank].completed;
    m.head.ended = w->peers[w->rank].ended;
    return m;
}

/* The candidate is found: sends it what this rank knows. */
static void join(cld_watch_state *w, cld_watch_link *link, const cld_watch_message *m, double now) {
    if (m->head.kind != CLD_WATCH_WELCOME || m->head.from != link->rank) {
        cld__watch_close(w, link);
        return;
    }
    cld_watch_message beat = cld__watch_own_beat(w);
    cld__watch_adopt(w, link, now);
    cld__watch_tell(w, link, &beat);
    cld__watch_pass_on(w);
    pthread_mutex_lock(&w->lock);
    w->joined = true;
    pthread_cond_broadcast(&w->changed);
    pthread_mutex_unlock(&w->lock);
}

static void hear_parent(cld_watch_state *w, cld_watch_link *link, const cld_watch_message *m, double now) {
    link->heard = now;
    if (m->head.kind == CLD_WATCH_VERDICT) cld__watch_obey(w, m, now);
    if (m->head.kind == CLD_WATCH_OVER) w->over = true;
}

void cld__watch_hear(cld_watch_state *w, cld_watch_link *link, double now) {
    cld_watch_message m;
    int got = 0;
    if (link->tie == CLD_WATCH_CONNECTING) {
        cld__watch_connected(w, link);
        return;
    }
    while (link->fd >= 0 && (got = cld__watch_receive(link, w->key, &m)) > 0) {
        if (link->tie == CLD_WATCH_STRANGER)
            welcome(w, link, &m, now);
        else if (link->tie == CLD_WATCH_ASKING)
            join(w, link, &m, now);
        else if (link->tie == CLD_WATCH_PARENT)
            hear_parent(w, link, &m, now);
        else
            hear_child(w, link, &m, now);
    }
    if (got < 0) cld__watch_lost(w, link, CLD_WATCH_DIED, now);
}
