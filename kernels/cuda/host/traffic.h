/* Bytes that a piece of work reads from the device's memory and writes there, counted by the pages that it touches. */
#ifndef CLD_CUDA_HOST_TRAFFIC_H
#define CLD_CUDA_HOST_TRAFFIC_H

#include <map>
#include <stddef.h>
#include <stdint.h>

typedef struct cld_host_traffic {
    uint64_t read, written;
} cld_host_traffic;

/* CLD_HOST_TRAFFIC is set: each block then begins with a page, and what lies before it is on another. */
bool cld_host_counts_traffic(void);
size_t cld_host_page(void);
/* From here to the end, each first touch of a page of the blocks (data, bytes) counts. One at a time. */
void cld_host_traffic_begin(const std::map<char *, size_t> *blocks);
cld_host_traffic cld_host_traffic_end(void);

#endif
