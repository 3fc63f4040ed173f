/* Chooses among several plans that compute the same, by their times and results, and limits what making and trying them
 * may cost. Knows nothing about cuDNN or the device, so that a spec can say what each plan does. */
#ifndef CLD_CUDA_TUNE_H
#define CLD_CUDA_TUNE_H

#include <stdbool.h>
#include <stdint.h>

enum { CLD_MOST_CANDIDATES = 64 };

/* Candidates by position, the one expected to be best first. */
typedef struct cld_tuner {
    int count;
    const int64_t *engines; /* of each candidate; candidates of one engine differ in tiles and the like */
    bool may_wait;          /* may wait for the device; else the first that can be made is taken */
    double seconds;         /* for everything, at most; the first is tried however long it takes */
    int64_t workspace;      /* bytes that one may need; more only if none can do with this */
    double tolerance;       /* the largest value of differ that is allowed */
    void *context;
    bool (*make)(void *context, int candidate, int64_t *workspace); /* false: it cannot be made */
    /* Milliseconds per run, after an untimed one; false: it fails. */
    bool (*time)(void *context, int candidate, int runs, double *milliseconds);
    bool (*keep)(void *context);     /* keeps the last output, to compare others with it; false: no room */
    double (*differ)(void *context); /* last output against the kept one, relative to the largest */
    double (*clock)(void *context);  /* seconds */
} cld_tuner;

/* The position of the chosen candidate, or -1 if none can be made and run. */
int cld_tune(const cld_tuner *t);

#endif
