/* A libnccl.so.2 with the version FAKE_NCCL, and nothing else. */
#include <stdlib.h>

int ncclGetVersion(int *version) {
    const char *wanted = getenv("FAKE_NCCL");
    *version = wanted ? atoi(wanted) : 0;
    return 0;
}
