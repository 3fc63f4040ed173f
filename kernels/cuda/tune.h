/* Which of several plans that compute the same is taken: their times and results decide, and what making and trying them may
 * cost. Knows nothing of cuDNN and of the device, so that a spec can say what each plan does. */
#ifndef CLD_CUDA_TUNE_H
#define CLD_CUDA_TUNE_H

#include <stdbool.h>
#include <stdint.h>

enum { CLD_MOST_CANDIDATES = 64 };

/* Candidates by position, the one that is expected to be best first. */
typedef struct cld_tuner {
    int count;
    const int64_t *engines; /* of each: candidates of one engine differ in tiles and the like */
    bool may_wait;          /* for the device: else the first that can be made is taken */
    double seconds;         /* for all of it, at most; the first is tried whatever it takes */
    int64_t workspace;      /* bytes that one may want; more only if none can do with as much */
    double tolerance;       /* of differ */
    void *context;
    bool (*make)(void *context, int candidate, int64_t *workspace); /* false: it cannot be */
    /* Milliseconds of a run, after one that is not timed; false: it fails. */
    bool (*time)(void *context, int candidate, int runs, double *milliseconds);
    bool (*keep)(void *context); /* what was last written is what others are compared with; false: no room */
    double (*differ)(void *context); /* what was last written from what was kept, relative to the largest */
    double (*clock)(void *context);  /* seconds */
} cld_tuner;

/* The position of the candidate, or -1 if none can be made and run. */
int cld_tune(const cld_tuner *t);

#endif
