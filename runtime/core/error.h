/* Errors: how a runtime function reports that it failed.
 *
 * A function that can fail on a user's input returns a cld_status, or a pointer that is NULL on failure. Either way the
 * calling thread's error record then holds one sentence: the op, what was wrong, and what would be right. Nothing in
 * the runtime prints, exits or jumps; the bindings turn the record into a Lua error.
 *
 *     if (x->ndim != 4)
 *         return cld_fail(CLD_INVALID, "conv2d: expected a 4-d input (N, C, H, W), got %s", shape);
 */
#ifndef CLD_CORE_ERROR_H
#define CLD_CORE_ERROR_H

#ifdef __cplusplus
extern "C" {
#endif

typedef enum cld_status {
    CLD_OK = 0,
    CLD_INVALID,     /* the caller's argument: a shape, a dtype, a number out of range */
    CLD_IO,          /* a file or folder: missing, truncated, malformed, not writable */
    CLD_NOMEM,       /* host or device memory */
    CLD_UNSUPPORTED, /* this device cannot do this */
    CLD_BACKEND,     /* a library under a backend failed: oneDNN, CUDA, ... */
    CLD_INTERRUPTED  /* a signal asked to stop */
} cld_status;

/* Fills this thread's record and returns `code`, so that `return cld_fail(...)` works. */
cld_status cld_fail(cld_status code, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Like cld_fail, for a function that returns a pointer. */
#define cld_fail_null(code, ...) ((void)cld_fail(code, __VA_ARGS__), NULL)

/* Puts "<context>: " before the record's message; returns the record's code. For callers that know the path or the step
 * in which a function below them failed. */
cld_status cld_fail_in(const char *format, ...) __attribute__((format(printf, 1, 2)));

cld_status cld_error_code(void);
const char *cld_error_message(void); /* valid until this thread's next failure */

/* Moves an error between threads: a worker exports its record, and the consumer imports it. */
typedef struct cld_error_record {
    cld_status code;
    char message[1024];
} cld_error_record;
cld_error_record cld_error_export(void);
cld_status cld_error_import(const cld_error_record *record);

#define CLD_TRY(call)                                                                                        \
    do {                                                                                                     \
        cld_status cld_try_status = (call);                                                                  \
        if (cld_try_status != CLD_OK) return cld_try_status;                                                 \
    } while (0)

/* The same in a function that returns a pointer. */
#define CLD_TRY_NULL(call)                                                                                   \
    do {                                                                                                     \
        if ((call) != CLD_OK) return NULL;                                                                   \
    } while (0)

#ifdef __cplusplus
}
#endif

#endif
