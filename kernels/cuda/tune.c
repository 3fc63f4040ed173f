#include "kernels/cuda/tune.h"

#include <math.h>

enum {
    ROUNDS = 3,
    RUNS = 5 /* runs of each per round; one in the first round */
};
static const double SURELY_FASTER = 0.95, HOPELESS = 8;
/* The choice may take as long as WORTH_RUNS runs of the first candidate, plus WORTH_SECONDS: short convolutions have
 * less to gain. */
static const double WORTH_RUNS = 5000, WORTH_SECONDS = 0.1;

typedef struct trials {
    const cld_tuner *tuner;
    double start, seconds;
    int order[CLD_MOST_CANDIDATES];    /* the order in which they are tried */
    double least[CLD_MOST_CANDIDATES]; /* milliseconds; infinite: not tried, or dropped */
    double least_of_all;
    int smallest;   /* of those that need too much workspace, the one that needs least, or -1; */
    int64_t wanted; /* and how much it needs */
} trials;

/* One of each engine first, then a second of each, so that a budget that ends early is not spent on variants of one
 * engine. */
static void interleave(trials *t) {
    const int64_t *engines = t->tuner->engines;
    int turn[CLD_MOST_CANDIDATES], placed = 0;
    for (int i = 0; i < t->tuner->count; i++) {
        turn[i] = 0;
        for (int j = 0; j < i; j++) turn[i] += engines[j] == engines[i];
    }
    for (int now = 0; placed < t->tuner->count; now++)
        for (int i = 0; i < t->tuner->count; i++)
            if (turn[i] == now) t->order[placed++] = i;
}

static bool is_over(const trials *t) { return t->tuner->clock(t->tuner->context) - t->start > t->seconds; }

/* Makes candidate i. False if that fails, or if it needs more workspace than allowed. */
static bool make(trials *t, int i) {
    int64_t workspace;
    if (!t->tuner->make(t->tuner->context, i, &workspace)) return false;
    if (workspace <= t->tuner->workspace) return true;
    if (t->smallest < 0 || workspace < t->wanted) {
        t->smallest = i;
        t->wanted = workspace;
    }
    return false;
}

static bool run(trials *t, int i, int runs) {
    double milliseconds;
    if (!t->tuner->time(t->tuner->context, i, runs, &milliseconds)) {
        t->least[i] = INFINITY;
        return false;
    }
    t->least[i] = fmin(t->least[i], milliseconds);
    t->least_of_all = fmin(t->least_of_all, milliseconds);
    return true;
}

/* Runs each once. Returns the one whose result was kept; differences[] are relative to it. -1: none runs, or there is
 * no room for the result. */
static int try_each(trials *t, double *differences) {
    const cld_tuner *tuner = t->tuner;
    int kept = -1;
    bool none_ran = true, can_keep = true;
    for (int k = 0; k < tuner->count && (none_ran || !is_over(t)); k++) {
        int i = t->order[k];
        if (!make(t, i) || !run(t, i, 1)) continue;
        if (none_ran) t->seconds = fmin(t->seconds, WORTH_SECONDS + WORTH_RUNS * 1e-3 * t->least[i]);
        none_ran = false;
        differences[i] = kept < 0 ? 0 : tuner->differ(tuner->context);
        if (kept < 0 && can_keep) {
            can_keep = tuner->keep(tuner->context);
            if (can_keep) kept = i;
        }
    }
    return kept;
}

/* The differences of the remaining candidates from the next of them. */
static int compare_again(trials *t, double *differences) {
    int kept = -1;
    for (int k = 0; k < t->tuner->count; k++) {
        int i = t->order[k];
        if (isinf(t->least[i]) || !run(t, i, 1)) continue;
        differences[i] = kept < 0 ? 0 : t->tuner->differ(t->tuner->context);
        if (kept < 0 && !t->tuner->keep(t->tuner->context)) return -1;
        if (kept < 0) kept = i;
    }
    return kept;
}

/* Drops candidates whose result differs from the first one's; but if most differ from the first, drops the first. */
static void drop_outliers(trials *t, int kept, double *differences) {
    while (kept >= 0) {
        int others = 0, unlike = 0;
        for (int i = 0; i < t->tuner->count; i++) {
            if (isinf(t->least[i]) || i == kept) continue;
            others++;
            unlike += !(differences[i] <= t->tuner->tolerance);
        }
        if (others < 2 || 2 * unlike <= others) break;
        t->least[kept] = INFINITY;
        kept = compare_again(t, differences);
    }
    for (int i = 0; i < t->tuner->count && kept >= 0; i++)
        if (!(differences[i] <= t->tuner->tolerance)) t->least[i] = INFINITY;
}

static double least_left(const trials *t) {
    double least = INFINITY;
    for (int i = 0; i < t->tuner->count; i++) least = fmin(least, t->least[i]);
    return least;
}

/* The first, or a later one that is faster by more than clocks vary, so that the choice, and with it every rounding, is
 * almost always the same from run to run. They run in turns, because a GPU's clock rises at first, up to sixfold. A
 * candidate that is too slow for this to be the reason is not run again: some engines take a hundred times as long as
 * others. */
static int fastest(trials *t) {
    int best = -1;
    t->least_of_all = least_left(t);
    for (int round = 1; round < ROUNDS; round++)
        for (int k = 0; k < t->tuner->count && !is_over(t); k++) {
            int i = t->order[k];
            if (isfinite(t->least[i]) && t->least[i] <= HOPELESS * t->least_of_all) run(t, i, RUNS);
        }
    for (int i = 0; i < t->tuner->count; i++)
        if (isfinite(t->least[i]) && (best < 0 || t->least[i] < SURELY_FASTER * t->least[best])) best = i;
    return best;
}

static int first_made(trials *t) {
    for (int i = 0; i < t->tuner->count; i++)
        if (make(t, i)) return i;
    return -1;
}

int cld_tune(const cld_tuner *tuner) {
    double differences[CLD_MOST_CANDIDATES] = {0};
    trials t = {.tuner = tuner, .seconds = tuner->seconds, .least_of_all = INFINITY, .smallest = -1};
    t.start = tuner->clock(tuner->context);
    for (int i = 0; i < tuner->count; i++) t.least[i] = INFINITY;
    interleave(&t);
    int best;
    if (tuner->may_wait) {
        int kept = try_each(&t, differences);
        drop_outliers(&t, kept, differences);
        best = fastest(&t);
    } else {
        best = first_made(&t);
    }
    return best >= 0 ? best : t.smallest;
}
