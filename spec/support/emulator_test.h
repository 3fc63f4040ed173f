/* Shared by the two test programs of the CUDA emulator: a line for each failed check, memory, main. */
#ifndef CLD_SPEC_EMULATOR_TEST_H
#define CLD_SPEC_EMULATOR_TEST_H

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <vector>

#include "kernels/cuda/number.cuh"

static int failures;

__attribute__((format(printf, 2, 3))) static void expect(bool holds, const char *format, ...) {
    if (holds) return;
    failures++;
    va_list arguments;
    va_start(arguments, format);
    vprintf(format, arguments);
    va_end(arguments);
    printf("\n");
}

/* For host and device, zeroed, never freed. */
template <typename T> static T *memory(size_t n) {
    static std::vector<void *> &kept = *new std::vector<void *>; /* still reachable for the leak checker */
    void *shared = NULL;
    if (cld_cuda_malloc_locked(&shared, n * sizeof(T)) != CLD_OK) {
        printf("%s\n", cld_error_message());
        exit(2);
    }
    kept.push_back(shared);
    return (T *)shared;
}

static cld_status test(void);

int main() {
    cld_status status = cld_cuda_open(0);
    if (status == CLD_OK) status = test();
    expect(status == CLD_OK, "%s", cld_error_message());
    return failures != 0;
}

#endif
