/* Connections, and how a rank finds its parent: rank 0 at the start; when that is lost, the lowest rank that still
 * answers. All addresses of a rank are tried at once (an address may belong to a network that both machines have for
 * themselves), and the first on which the right rank answers with the key is kept. */
#define _GNU_SOURCE
#include "runtime/dist/watch_parts.h"

#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* ---- the list ---- */

cld_watch_link *cld__watch_add(cld_watch_state *w, int fd, cld_watch_tie tie, int rank, double now) {
    cld_watch_link *link = w->count < w->capacity ? malloc(sizeof *link) : NULL;
    if (!link) {
        close(fd);
        return NULL;
    }
    link->fd = fd;
    link->tie = tie;
    link->rank = rank;
    link->heard = now;
    link->have = 0;
    return w->links[w->count++] = link;
}

void cld__watch_close(cld_watch_state *w, cld_watch_link *link) {
    if (link->fd < 0) return;
    close(link->fd);
    link->fd = -1;
    if (w->parent == link) w->parent = NULL;
}

void cld__watch_sweep(cld_watch_state *w) {
    int kept = 0;
    for (int i = 0; i < w->count; i++) {
        if (w->links[i]->fd >= 0)
            w->links[kept++] = w->links[i];
        else
            free(w->links[i]);
    }
    w->count = kept;
}

cld_watch_message cld__watch_message(const cld_watch_state *w, cld_watch_kind kind) {
    cld_watch_message m;
    memset(&m.head, 0, sizeof m.head);
    m.head.key = w->key;
    m.head.kind = kind;
    m.head.from = w->rank;
    return m;
}

void cld__watch_tell(cld_watch_state *w, cld_watch_link *link, const cld_watch_message *m) {
    if (link->fd < 0 || cld__watch_send(link->fd, m)) return;
    /* What it has sent is still to be read, and then the end of file: that is how a loss is noticed. */
    if (link->tie == CLD_WATCH_CHILD || link->tie == CLD_WATCH_PARENT)
        shutdown(link->fd, SHUT_WR);
    else
        cld__watch_close(w, link);
}

void cld__watch_tell_all(cld_watch_state *w, const cld_watch_message *m) {
    for (int i = 0; i < w->count; i++) {
        cld_watch_tie tie = w->links[i]->tie;
        bool hears = tie == CLD_WATCH_CHILD || tie == CLD_WATCH_ADMITTED || tie == CLD_WATCH_PARENT;
        bool last = tie == CLD_WATCH_SILENCED && m->head.kind == CLD_WATCH_VERDICT;
        if (hears || last) cld__watch_tell(w, w->links[i], m);
    }
}

/* ---- the search ---- */

static bool is_attempt(const cld_watch_link *link) {
    return link->fd >= 0 && (link->tie == CLD_WATCH_CONNECTING || link->tie == CLD_WATCH_ASKING);
}

static bool is_trying(const cld_watch_state *w) {
    for (int i = 0; i < w->count; i++)
        if (is_attempt(w->links[i])) return true;
    return false;
}

static void give_up(cld_watch_state *w) {
    for (int i = 0; i < w->count; i++)
        if (is_attempt(w->links[i])) cld__watch_close(w, w->links[i]);
}

static void try_candidate(cld_watch_state *w, double now) {
    w->reached = false;
    w->try_until = now + CLD_WATCH_TRY;
    w->retry = now + 0.3;
    for (int way = 0; way <= CLD_WATCH_ADDRESSES; way++) {
        int fd = cld__watch_connect(&w->addresses[w->rank], &w->addresses[w->candidate], way);
        if (fd >= 0) cld__watch_add(w, fd, CLD_WATCH_CONNECTING, w->candidate, now);
    }
}

void cld__watch_seek(cld_watch_state *w, int candidate) {
    give_up(w);
    w->seeking = true;
    w->candidate = candidate - 1; /* the next one tried is `candidate` */
    w->retry = 0;
}

static bool is_hopeless(const cld_watch_state *w, int candidate) {
    return w->unreachable >= 0 &&
           cld__watch_same_machine(&w->addresses[candidate], &w->addresses[w->unreachable]);
}

void cld__watch_seek_on(cld_watch_state *w, double now) {
    if (!w->seeking) return;
    if (is_trying(w)) {
        if (now < w->try_until) return;
        give_up(w);
        /* A suspended process still accepts connections. */
        if (!w->reached && w->candidate >= 0) w->unreachable = w->candidate;
    }
    if (w->first) { /* rank 0 may not be ready yet */
        if (now < w->retry) return;
        w->candidate = 0;
    } else {
        do w->candidate++;
        while (w->candidate < w->rank && is_hopeless(w, w->candidate));
    }
    if (w->candidate >= w->rank)
        w->seeking = false; /* this is the lowest rank left */
    else
        try_candidate(w, now);
}

void cld__watch_connected(cld_watch_state *w, cld_watch_link *link) {
    int error = 0;
    socklen_t size = sizeof error;
    if (getsockopt(link->fd, SOL_SOCKET, SO_ERROR, &error, &size) != 0 || error != 0) {
        cld__watch_close(w, link);
        return;
    }
    cld_watch_message hello = cld__watch_message(w, CLD_WATCH_HELLO);
    hello.head.to = w->candidate;
    link->tie = CLD_WATCH_ASKING;
    w->reached = true;
    cld__watch_tell(w, link, &hello);
}

void cld__watch_adopt(cld_watch_state *w, cld_watch_link *link, double now) {
    link->tie = CLD_WATCH_PARENT;
    link->heard = now;
    w->parent = link;
    w->seeking = w->first = false;
    give_up(w);
}
