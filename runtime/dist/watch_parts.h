/* Shared by the files of the watch. Everything belongs to the watch's thread, except what is under `lock`, and the
 * atomics. */
#ifndef CLD_DIST_WATCH_PARTS_H
#define CLD_DIST_WATCH_PARTS_H

#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stddef.h>

#include "runtime/dist/watch.h"

enum { CLD_WATCH_TEXT = 2048 };

/* Seconds. */
#define CLD_WATCH_SILENCE 30. /* without a heartbeat, at most: a lost rank */
#define CLD_WATCH_JOIN    30. /* until all ranks are there */
#define CLD_WATCH_TRY     2.  /* for a rank to answer when asked whether it is alive */

/* Why a job ends. Of several causes noticed together, the last in this list is the reason for the others. */
typedef enum cld_watch_cause {
    CLD_WATCH_WELL,
    CLD_WATCH_SIGNALLED, /* asked to end by a signal */
    CLD_WATCH_FAILED,    /* with its own error */
    CLD_WATCH_ENDED,     /* its script is over, others are not */
    CLD_WATCH_HANGS,     /* the others wait for it */
    CLD_WATCH_STUCK,     /* all wait, and none makes progress */
    CLD_WATCH_SILENT,    /* no heartbeat: stopped, or its machine or the network is gone */
    CLD_WATCH_DIED       /* its connection is closed */
} cld_watch_cause;

typedef struct cld_watch_report {
    cld_watch_cause cause;
    int rank;
    char text[CLD_WATCH_TEXT]; /* the error's, or the signal's name */
} cld_watch_report;

/* ---- watch_wire.c: sockets and messages ---- */

typedef enum cld_watch_kind {
    CLD_WATCH_HELLO,   /* asks to be connected below you */
    CLD_WATCH_WELCOME, /* accepts: the first message after it makes the connection valid */
    CLD_WATCH_BEAT,
    CLD_WATCH_REPORT,  /* to the centre */
    CLD_WATCH_VERDICT, /* from the centre: the line is printed, leave */
    CLD_WATCH_OVER     /* from the centre: all have ended */
} cld_watch_kind;

typedef struct cld_watch_message {
    struct {
        uint64_t key, begun, completed; /* of the sender's collectives */
        int32_t kind, from, to;
        int32_t rank, cause; /* of a report */
        int32_t ended, wait; /* in a heartbeat; in a verdict: milliseconds before leaving */
        int32_t length;      /* of the text */
    } head;
    char text[CLD_WATCH_TEXT];
} cld_watch_message;

/* The state of a connection. A rank only asks lower ranks, so no two ask each other. */
typedef enum cld_watch_tie {
    CLD_WATCH_CONNECTING, /* we ask: TCP is not connected yet */
    CLD_WATCH_ASKING,     /* HELLO was sent */
    CLD_WATCH_PARENT,     /* welcomed */
    CLD_WATCH_SILENCED,   /* was the parent; hears the verdict if it ever wakes up */
    CLD_WATCH_STRANGER,   /* it asks us: nothing valid received yet */
    CLD_WATCH_ADMITTED,   /* WELCOME was sent */
    CLD_WATCH_CHILD
} cld_watch_tie;

typedef struct cld_watch_link {
    int fd; /* -1: closed, to be removed */
    cld_watch_tie tie;
    int rank; /* -1: a stranger's */
    double heard;
    size_t have; /* bytes of `in` */
    cld_watch_message in;
} cld_watch_link;

/* Listens on a port that the system chooses, IPv6 and IPv4; -1 with errno. */
int cld__watch_listener(uint16_t *port);
/* Fills in this process's host, machine and numbers. */
void cld__watch_whereabouts(cld_watch_address *out);
bool cld__watch_same_machine(const cld_watch_address *a, const cld_watch_address *b);
/* Starts a connection to the peer's loopback (way 0, if it is on this machine) or to one of its numbers; -1: not
 * possible. */
int cld__watch_connect(const cld_watch_address *self, const cld_watch_address *peer, int way);
int cld__watch_accept(int listener);
/* False: the connection is no longer usable. A socket's buffer holds some hundred messages, so this never blocks. */
bool cld__watch_send(int fd, const cld_watch_message *m);
/* 1: *out is a whole message with the key; 0: there is none yet; -1: closed, or an invalid message. */
int cld__watch_receive(cld_watch_link *link, uint64_t key, cld_watch_message *out);

/* ---- the state ---- */

/* What the centre knows about a rank. */
typedef struct cld_watch_peer {
    uint64_t begun, completed;
    double since, heard; /* when these last changed, and when anything was received */
    bool joined, ended, signalled, gone;
} cld_watch_peer;

typedef struct cld_watch_state {
    int rank, world, listener, wake;
    double timeout, silence, beat;
    uint64_t key;
    cld_watch_address *addresses;
    cld_watch_peer *peers;
    cld_watch_link **links;
    struct pollfd *polled; /* wake, listener, links */
    int count, capacity;   /* of links */

    cld_watch_link *parent;  /* NULL: the centre, or seeking one */
    bool seeking, first;     /* first: at the start, when it must be rank 0 */
    int candidate;           /* the rank that is asked */
    int unreachable;         /* a rank whose machine does not answer, or -1 */
    bool reached;            /* the candidate's machine does answer */
    double try_until, retry; /* for the candidate */

    cld_watch_report worst; /* what is known; the centre prints it at decide_at */
    double decide_at;
    bool leaving, over, decided, own_line; /* decided: here; own_line: the main thread prints */
    double leave_from, leave_at;           /* leave_at: even if not all know it */
    int leave_status;
    cld_watch_message verdict;
    bool heard_end, heard_failure, heard_signal; /* from the main thread */

    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool joined, finished, ended, failing, answered, prints, told;
    char failure[CLD_WATCH_TEXT];
} cld_watch_state;

static inline bool cld__watch_is_centre(const cld_watch_state *w) { return !w->parent && !w->seeking; }

/* ---- watch_links.c: who is connected, and which rank to ask ---- */

/* The new link, or NULL: closed, because there is no memory or no room. */
cld_watch_link *cld__watch_add(cld_watch_state *w, int fd, cld_watch_tie tie, int rank, double now);
void cld__watch_close(cld_watch_state *w, cld_watch_link *link);
void cld__watch_sweep(cld_watch_state *w); /* removes the closed ones */
/* An empty message from this rank. */
cld_watch_message cld__watch_message(const cld_watch_state *w, cld_watch_kind kind);
/* Sends it, and closes the link if that fails. */
void cld__watch_tell(cld_watch_state *w, cld_watch_link *link, const cld_watch_message *m);
/* Sends it to all that are fully connected. */
void cld__watch_tell_all(cld_watch_state *w, const cld_watch_message *m);

/* Asks the ranks from `candidate` on, one after the other; a rank that finds none below itself is the centre. */
void cld__watch_seek(cld_watch_state *w, int candidate);
void cld__watch_seek_on(cld_watch_state *w, double now);
/* Called when TCP has connected, or has failed to. */
void cld__watch_connected(cld_watch_state *w, cld_watch_link *link);
/* The candidate has welcomed us on this link. */
void cld__watch_adopt(cld_watch_state *w, cld_watch_link *link, double now);

/* ---- watch_hear.c: messages from the others ---- */

cld_watch_message cld__watch_own_beat(const cld_watch_state *w);
void cld__watch_take_beat(cld_watch_peer *p, const cld_watch_message *m, double now);
/* Handles everything received on this link, which may then be closed. */
void cld__watch_hear(cld_watch_state *w, cld_watch_link *link, double now);

/* ---- watch_end.c: from the first report to _exit ---- */

/* Something is wrong: the centre waits a moment for what may be the cause; others pass it on to the centre. */
void cld__watch_consider(cld_watch_state *w, cld_watch_cause cause, int rank, const char *text, double now);
/* Sends what this rank knows, if anything, to its parent, if it has one. */
void cld__watch_pass_on(cld_watch_state *w);
/* The other side has closed a link. */
void cld__watch_lost(cld_watch_state *w, cld_watch_link *link, cld_watch_cause cause, double now);
/* A verdict was received: passes it on to those below, and leaves, after a moment if it says so. */
void cld__watch_obey(cld_watch_state *w, const cld_watch_message *verdict, double now);
/* Does what is due by now; does not return if that ends the process. */
void cld__watch_settle(cld_watch_state *w, double now);

/* ---- watch_judge.c: what is wrong, and how to say it ---- */

/* Whether a rank is lost, hangs or has ended too early; *found says which. */
bool cld__watch_judge(const cld_watch_state *w, double now, cld_watch_report *found);
/* The line to print, with its newline; returns its length. */
size_t cld__watch_words(const cld_watch_state *w, const cld_watch_report *report, char *line, size_t size);

#endif
