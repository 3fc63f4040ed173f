/* From the first report to _exit. Nothing here may wait for the main thread, which may hang in a collective, hold
 * stdio's lock or be out of memory. So the line is written by write(2), and the process ends by _exit. */
#define _GNU_SOURCE
#include "runtime/dist/board.h"
#include "runtime/dist/watch_parts.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Seconds to wait before the decision, and after it. */
#define OTHERS_ERROR 1.  /* to see whether rank 0 finds the same error, and prints it itself */
#define OWN_ERROR    0.2 /* to see whether it is because a rank is gone */
#define SIGNAL       0.5 /* to see whether it is because a rank is gone, or all got it */
#define TELLING      3.  /* until all have heard the verdict */
#define PRINTING     5.  /* until the main thread has printed, and left */
#define FIRST_WORD   0.3 /* the others leave after rank 0 has printed, so that no launcher complains first */

/* ---- reports ---- */

static double patience(const cld_watch_state *w, cld_watch_cause cause, int rank) {
    if (cause == CLD_WATCH_SIGNALLED) return SIGNAL;
    if (cause == CLD_WATCH_FAILED) return rank == w->rank ? OWN_ERROR : OTHERS_ERROR;
    return 0;
}

void cld__watch_pass_on(cld_watch_state *w) {
    const cld_watch_report *report = &w->worst;
    if (!w->parent || report->cause == CLD_WATCH_WELL) return;
    cld_watch_message m = cld__watch_message(w, CLD_WATCH_REPORT);
    m.head.rank = report->rank;
    m.head.cause = (int32_t)report->cause;
    m.head.length = (int32_t)strlen(report->text);
    memcpy(m.text, report->text, (size_t)m.head.length);
    cld__watch_tell(w, w->parent, &m);
}

void cld__watch_consider(cld_watch_state *w, cld_watch_cause cause, int rank, const char *text, double now) {
    cld_watch_report *worst = &w->worst;
    if (w->leaving || w->over) return;
    bool first = cause > worst->cause;
    /* All ranks find the same mistake in their options: then it is handled as an error of one process. */
    bool same = cause == CLD_WATCH_FAILED && worst->cause == cause && rank == w->rank &&
                strcmp(text, worst->text) == 0;
    if (!first && !same) return;
    worst->cause = cause;
    worst->rank = rank;
    strncpy(worst->text, text, sizeof worst->text - 1);
    w->decide_at = now + patience(w, cause, rank);
    cld__watch_pass_on(w);
}

static void lose_child(cld_watch_state *w, int rank, double now) {
    const cld_watch_report *worst = &w->worst;
    w->peers[rank].gone = true;
    if (!cld__watch_is_centre(w) || w->over) return;
    if (worst->rank == rank && (worst->cause == CLD_WATCH_FAILED || worst->cause == CLD_WATCH_SIGNALLED))
        return;
    cld__watch_consider(w, CLD_WATCH_DIED, rank, "", now);
}

void cld__watch_lost(cld_watch_state *w, cld_watch_link *link, cld_watch_cause cause, double now) {
    cld_watch_tie tie = link->tie;
    int rank = link->rank;
    if (cause == CLD_WATCH_SILENT && tie == CLD_WATCH_PARENT) {
        link->tie = CLD_WATCH_SILENCED;
        w->parent = NULL;
    } else
        cld__watch_close(w, link);
    if (tie == CLD_WATCH_CHILD) lose_child(w, rank, now);
    if (tie != CLD_WATCH_PARENT || w->leaving || w->over) return;
    cld__watch_consider(w, cause, rank, "", now);
    cld__watch_seek(w, rank + 1);
}

/* ---- the end ---- */

/* If the main thread waits in cld_watch_fail, it continues, and prints if it should. */
static void answer(cld_watch_state *w, bool prints) {
    pthread_mutex_lock(&w->lock);
    w->answered = true;
    w->prints = prints;
    pthread_cond_broadcast(&w->changed);
    pthread_mutex_unlock(&w->lock);
}

void cld__watch_obey(cld_watch_state *w, const cld_watch_message *verdict, double now) {
    if (w->leaving) return;
    w->leaving = true;
    w->verdict = cld__watch_message(w, CLD_WATCH_VERDICT);
    w->verdict.head.wait = verdict->head.wait;
    w->leave_from = now + verdict->head.wait * 1e-3;
    w->leave_at = now + TELLING;
    w->seeking = false;
    cld__watch_tell_all(w, &w->verdict);
    answer(w, w->own_line);
}

static void leave(const cld_watch_state *w) {
    _exit(cld_board_hand_over(w->heard_signal ? w->leave_status : EXIT_FAILURE));
}

static void print_line(const cld_watch_state *w) {
    char line[CLD_WATCH_TEXT + 512];
    line[0] = '\n'; /* standard output may be in the middle of a line */
    size_t begin = isatty(STDOUT_FILENO) ? 0 : 1;
    size_t end = 1 + cld__watch_words(w, &w->worst, line + 1, sizeof line - 1);
    cld_board_tell();
    if (write(STDERR_FILENO, line + begin, end - begin) < 0) return; /* there is nobody to tell */
}

/* Whether the user has signalled all ranks, and so knows why they end. */
static bool all_signalled(const cld_watch_state *w) {
    bool all = w->heard_signal;
    for (int r = 0; all && r < w->world; r++) all = r == w->rank || w->peers[r].signalled || w->peers[r].gone;
    return all;
}

static void decide(cld_watch_state *w, double now) {
    const cld_watch_report *worst = &w->worst;
    cld_watch_message verdict = cld__watch_message(w, CLD_WATCH_VERDICT);
    w->decided = true;
    w->own_line = worst->cause == CLD_WATCH_FAILED && worst->rank == w->rank;
    if (w->own_line)
        verdict.head.wait = (int32_t)(FIRST_WORD * 1e3);
    else if (worst->cause != CLD_WATCH_SIGNALLED || !all_signalled(w))
        print_line(w);
    cld__watch_obey(w, &verdict, now);
}

/* All that can be told have left. Once this rank has decided, ranks that have not asked yet are still to come. */
static bool all_know(const cld_watch_state *w) {
    for (int i = 0; i < w->count; i++) {
        const cld_watch_link *link = w->links[i];
        if (link->fd >= 0 && link->tie == CLD_WATCH_CHILD && link->rank != w->worst.rank) return false;
    }
    for (int r = w->rank + 1; w->decided && r < w->world; r++)
        if (!w->peers[r].gone && r != w->worst.rank) return false;
    return true;
}

/* The others know, or cannot be told. A main thread that prints leaves by itself, unless that takes too long. */
static void leave_when_told(cld_watch_state *w, double now) {
    if (now < w->leave_from || (now < w->leave_at && !all_know(w))) return;
    if (!w->own_line || now >= w->leave_from + PRINTING) leave(w);
    pthread_mutex_lock(&w->lock);
    w->told = true;
    pthread_cond_broadcast(&w->changed);
    pthread_mutex_unlock(&w->lock);
}

void cld__watch_settle(cld_watch_state *w, double now) {
    bool centre = cld__watch_is_centre(w);
    bool wrong = w->worst.cause != CLD_WATCH_WELL;
    if (!w->leaving && centre && wrong && now >= w->decide_at) decide(w, now);
    /* A rank that got a signal leaves in any case, even if the centre does not answer. */
    if (!w->leaving && !centre && w->heard_signal && now >= w->leave_at) leave(w);
    if (w->leaving) leave_when_told(w, now);
}
