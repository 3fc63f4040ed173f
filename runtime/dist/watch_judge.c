/* What the centre concludes from the ranks' counts of collectives, and the line it prints.
 *
 * The counts can be compared because all ranks call the same collectives in the same order: a rank that waits in its
 * 7th waits for those that have reached their 6th at most. */
#define _GNU_SOURCE
#include "runtime/dist/watch_parts.h"

#include <stdio.h>
#include <string.h>

#include "runtime/core/text.h"

/* A rank that has ended is considered waiting in the very last collective. */
static uint64_t place(const cld_watch_peer *p) { return p->ended ? UINT64_MAX : p->begun; }
static bool waits(const cld_watch_peer *p) { return p->ended || p->begun > p->completed; }

static bool say(cld_watch_report *out, cld_watch_cause cause, int rank) {
    out->cause = cause;
    out->rank = rank;
    out->text[0] = 0;
    return true;
}

static bool find_silent(const cld_watch_state *w, double now, cld_watch_report *found) {
    for (int r = 0; r < w->world; r++) {
        const cld_watch_peer *p = &w->peers[r];
        if (r == w->rank || p->gone) continue;
        if (now - p->heard > (p->joined ? w->silence : CLD_WATCH_JOIN))
            return say(found, CLD_WATCH_SILENT, r);
    }
    return false;
}

/* A rank waits in a collective that one that has ended will never reach. */
static bool find_ended(const cld_watch_state *w, cld_watch_report *found) {
    int first = -1;
    for (int r = 0; r < w->world; r++)
        if (w->peers[r].ended && (first < 0 || w->peers[r].begun < w->peers[first].begun)) first = r;
    for (int r = 0; first >= 0 && r < w->world; r++) {
        const cld_watch_peer *p = &w->peers[r];
        if (!p->ended && waits(p) && p->begun > w->peers[first].begun)
            return say(found, CLD_WATCH_ENDED, first);
    }
    return false;
}

/* If a rank has waited too long, it waits for the rank with the lowest count; of several, for one that is not itself
 * waiting. */
static bool find_hanging(const cld_watch_state *w, double now, cld_watch_report *found) {
    uint64_t farthest = 0;
    int last = 0, long_waiting = 0;
    for (int r = 0; r < w->world; r++) {
        const cld_watch_peer *p = &w->peers[r], *q = &w->peers[last];
        if (place(p) < place(q) || (place(p) == place(q) && waits(q) && !waits(p))) last = r;
        if (!waits(p) || !(now - p->since > w->timeout)) continue;
        long_waiting++;
        if (place(p) > farthest) farthest = place(p);
    }
    if (long_waiting > 0 && place(&w->peers[last]) < farthest) {
        bool beats = last == w->rank ||
                     now - w->peers[last].heard < 3 * w->beat; /* else it will soon be a silent one */
        return beats && say(found, CLD_WATCH_HANGS, last);
    }
    bool stuck = long_waiting == w->world && !w->peers[last].ended;
    return stuck && say(found, CLD_WATCH_STUCK, -1);
}

bool cld__watch_judge(const cld_watch_state *w, double now, cld_watch_report *found) {
    return find_silent(w, now, found) || find_ended(w, found) || find_hanging(w, now, found);
}

/* ---- the text ---- */

#define GO_ON "; --resume goes on from the last checkpoint"

size_t cld__watch_words(const cld_watch_state *w, const cld_watch_report *report, char *line, size_t size) {
    char who[128] = "", text[CLD_WATCH_TEXT];
    const int rank = report->rank;
    if (rank >= 0) snprintf(who, sizeof who, "cldlua: rank %d on %s", rank, w->addresses[rank].host);
    switch (report->cause) {
    case CLD_WATCH_SIGNALLED:
        cld_printable(text, sizeof text, report->text, strlen(report->text), CLD_ONE_LINE);
        snprintf(line, size, "%s was ended by SIG%s" GO_ON "\n", who, text);
        break;
    case CLD_WATCH_FAILED:
        cld_printable(text, sizeof text, report->text, strlen(report->text), CLD_LINES);
        snprintf(line, size, "%s failed: %s\n", who, text);
        break;
    case CLD_WATCH_ENDED:
        snprintf(line, size,
                 "%s ended while others went on: every rank has to run the same script to its end\n", who);
        break;
    case CLD_WATCH_HANGS:
        cld_format(line, size, "%s hangs: others have waited for it for %g s (--timeout)" GO_ON "\n", who,
                   w->timeout);
        break;
    case CLD_WATCH_STUCK:
        cld_format(line, size,
                   "cldlua: all ranks have waited in the same collective for %g s (--timeout): the network "
                   "or a device "
                   "hangs" GO_ON "\n",
                   w->timeout);
        break;
    case CLD_WATCH_SILENT:
        cld_format(
            line, size,
            "%s has not been heard from for %g s (stopped, or its machine or the network is gone)" GO_ON "\n",
            who, w->peers[rank].joined || rank < w->rank ? w->silence : CLD_WATCH_JOIN);
        break;
    case CLD_WATCH_DIED:
        snprintf(line, size,
                 "%s has died (killed by a signal, out of memory, or its machine is gone)" GO_ON "\n", who);
        break;
    case CLD_WATCH_WELL: line[0] = 0;
    }
    return strlen(line);
}
