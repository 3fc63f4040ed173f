/* What the files of the watch share. All of it belongs to the watch's thread but what is under `lock`, and the atomics. */
#ifndef CLD_DIST_WATCH_PARTS_H
#define CLD_DIST_WATCH_PARTS_H

#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stddef.h>

#include "runtime/dist/watch.h"

enum { CLD_WATCH_TEXT = 2048 };

/* Seconds. */
#define CLD_WATCH_SILENCE 30. /* without a beat, at most: a lost rank */
#define CLD_WATCH_JOIN    30. /* until all ranks are there */
#define CLD_WATCH_TRY     2.  /* until a rank answers that is asked whether it lives */

/* Why a job ends. Of several that are noticed together the last of this list is the reason for the others. */
typedef enum cld_watch_cause {
    CLD_WATCH_WELL,
    CLD_WATCH_SIGNALLED, /* asked to end by a signal */
    CLD_WATCH_FAILED,    /* by its own error */
    CLD_WATCH_ENDED,     /* its script is over, the others' is not */
    CLD_WATCH_HANGS,     /* the others wait for it */
    CLD_WATCH_STUCK,     /* all wait, for nobody */
    CLD_WATCH_SILENT,    /* no beat: stopped, or its machine or the network is gone */
    CLD_WATCH_DIED       /* its connection is closed */
} cld_watch_cause;

typedef struct cld_watch_report {
    cld_watch_cause cause;
    int rank;
    char text[CLD_WATCH_TEXT]; /* the error's, or the signal's name */
} cld_watch_report;

/* ---- watch_wire.c: sockets and messages ---- */

typedef enum cld_watch_kind {
    CLD_WATCH_HELLO,   /* may I stand below you? */
    CLD_WATCH_WELCOME, /* you may: the first message after it makes the connection count */
    CLD_WATCH_BEAT,
    CLD_WATCH_REPORT,  /* to the centre */
    CLD_WATCH_VERDICT, /* from it: the line is printed, leave */
    CLD_WATCH_OVER     /* from it: all have ended */
} cld_watch_kind;

typedef struct cld_watch_message {
    struct {
        uint64_t key, begun, completed; /* of the sender's collectives */
        int32_t kind, from, to;
        int32_t rank, cause; /* of a report */
        int32_t ended, wait; /* of a beat; of a verdict: milliseconds before one leaves */
        int32_t length;      /* of the text */
    } head;
    char text[CLD_WATCH_TEXT];
} cld_watch_message;

/* What a connection is. A rank asks a lower one, so that nobody asks each other. */
typedef enum cld_watch_tie {
    CLD_WATCH_CONNECTING, /* we ask: TCP is not there yet */
    CLD_WATCH_ASKING,     /* HELLO is sent */
    CLD_WATCH_PARENT,     /* welcomed */
    CLD_WATCH_SILENCED,   /* was the parent; hears the verdict if it ever wakes up */
    CLD_WATCH_STRANGER,   /* we are asked: nothing valid heard yet */
    CLD_WATCH_ADMITTED,   /* WELCOME is sent */
    CLD_WATCH_CHILD
} cld_watch_tie;

typedef struct cld_watch_link {
    int fd; /* -1: closed, to be swept */
    cld_watch_tie tie;
    int rank; /* -1: a stranger's */
    double heard;
    size_t have; /* bytes of `in` */
    cld_watch_message in;
} cld_watch_link;

/* Listens on a port of the system's choice, IPv6 and IPv4; -1 with errno. */
int cld__watch_listener(uint16_t *port);
/* Host, machine and numbers of this process. */
void cld__watch_whereabouts(cld_watch_address *out);
bool cld__watch_same_machine(const cld_watch_address *a, const cld_watch_address *b);
/* Begins a connection to the peer's loopback (way 0, if that is ours) or to one of its numbers; -1: not that way. */
int cld__watch_connect(const cld_watch_address *self, const cld_watch_address *peer, int way);
int cld__watch_accept(int listener);
/* False: the connection is of no use any more. A socket's buffer holds some hundred messages, so nobody waits here. */
bool cld__watch_send(int fd, const cld_watch_message *m);
/* 1: *out is a whole message with the key; 0: there is none yet; -1: closed, or not one of ours. */
int cld__watch_receive(cld_watch_link *link, uint64_t key, cld_watch_message *out);

/* ---- the state ---- */

/* What the centre knows of a rank. */
typedef struct cld_watch_peer {
    uint64_t begun, completed;
    double since, heard; /* when these last changed, when anything was heard */
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
    int candidate;           /* who is asked */
    int unreachable;         /* a rank whose machine does not answer, or -1 */
    bool reached;            /* the candidate's machine does */
    double try_until, retry; /* of the candidate */

    cld_watch_report worst; /* what is known; the centre prints it at decide_at */
    double decide_at;
    bool leaving, over, decided, own_line; /* decided: here; own_line: the main thread prints */
    double leave_from, leave_at;           /* leave_at: even if not all know it */
    int leave_status;
    cld_watch_message verdict;
    bool heard_end, heard_failure, heard_signal; /* of the main thread's */

    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool joined, finished, ended, failing, answered, prints, told;
    char failure[CLD_WATCH_TEXT];
} cld_watch_state;

static inline bool cld__watch_is_centre(const cld_watch_state *w) { return !w->parent && !w->seeking; }

/* ---- watch_links.c: who is connected, and to whom a rank turns ---- */

/* The new link, or NULL: closed, for want of memory or room. */
cld_watch_link *cld__watch_add(cld_watch_state *w, int fd, cld_watch_tie tie, int rank, double now);
void cld__watch_close(cld_watch_state *w, cld_watch_link *link);
void cld__watch_sweep(cld_watch_state *w); /* the closed ones */
/* An empty message of this rank's. */
cld_watch_message cld__watch_message(const cld_watch_state *w, cld_watch_kind kind);
/* Closes the link if it cannot be sent. */
void cld__watch_tell(cld_watch_state *w, cld_watch_link *link, const cld_watch_message *m);
/* To all that are connected for good. */
void cld__watch_tell_all(cld_watch_state *w, const cld_watch_message *m);

/* Turns to the ranks from `candidate` on, one after the other; whoever finds none below itself is the centre. */
void cld__watch_seek(cld_watch_state *w, int candidate);
void cld__watch_seek_on(cld_watch_state *w, double now);
/* TCP has made the connection, or not. */
void cld__watch_connected(cld_watch_state *w, cld_watch_link *link);
/* The candidate has welcomed us on this link. */
void cld__watch_adopt(cld_watch_state *w, cld_watch_link *link, double now);

/* ---- watch_hear.c: what the others say ---- */

cld_watch_message cld__watch_own_beat(const cld_watch_state *w);
void cld__watch_take_beat(cld_watch_peer *p, const cld_watch_message *m, double now);
/* All that has come on this link; it may be closed then. */
void cld__watch_hear(cld_watch_state *w, cld_watch_link *link, double now);

/* ---- watch_end.c: from the first report to _exit ---- */

/* Something is wrong: the centre waits a moment for what may be behind it, others pass it on to the centre. */
void cld__watch_consider(cld_watch_state *w, cld_watch_cause cause, int rank, const char *text, double now);
/* What this rank knows, to its parent, if there are both. */
void cld__watch_pass_on(cld_watch_state *w);
/* A link is closed by its other side. */
void cld__watch_lost(cld_watch_state *w, cld_watch_link *link, cld_watch_cause cause, double now);
/* A verdict was heard: on to those below, and out, after a moment if it says so. */
void cld__watch_obey(cld_watch_state *w, const cld_watch_message *verdict, double now);
/* What is due by now; does not return if that is the end of the process. */
void cld__watch_settle(cld_watch_state *w, double now);

/* ---- watch_judge.c: what is wrong, and in which words ---- */

/* Whether a rank is lost, hangs or has ended too early; *found says which. */
bool cld__watch_judge(const cld_watch_state *w, double now, cld_watch_report *found);
/* The line to print, with its newline; returns its length. */
size_t cld__watch_words(const cld_watch_state *w, const cld_watch_report *report, char *line, size_t size);

#endif
