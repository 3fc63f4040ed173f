/* How threads of a block, or lanes of a warp, wait for one another. */
#ifndef CLD_CUDA_HOST_WARP_H
#define CLD_CUDA_HOST_WARP_H

#include <stdint.h>
#include <string.h>

/* Where a thread waits, for the report of a deadlock. */
struct cld_host_site {
    const char *what, *file;
    int line;
};
#define CLD_HOST_SITE(name) (cld_host_site{name, file, line})
#define CLD_HOST_CALLER     const char *file = __builtin_FILE(), int line = __builtin_LINE()

struct cld_host_barrier_result {
    int votes, threads; /* of the threads that came: those whose predicate holds, and all */
};
cld_host_barrier_result cld_host_barrier(cld_host_site site, bool predicate);

struct cld_host_meeting_result {
    uint64_t value;  /* of lane `source`; all ones if that lane did not come: CUDA leaves it undefined */
    unsigned ballot; /* the lanes of the mask that came with a nonzero value */
    unsigned came;   /* the lanes of the mask that came */
};
/* The lanes of mask that have not exited wait here for one another. */
cld_host_meeting_result cld_host_meet(cld_host_site site, unsigned mask, uint64_t value, int source);
int cld_host_lane(void);

/* ---- of the block ---- */

inline void __syncthreads(CLD_HOST_CALLER) { cld_host_barrier(CLD_HOST_SITE("__syncthreads"), false); }
inline int __syncthreads_count(int predicate, CLD_HOST_CALLER) {
    return cld_host_barrier(CLD_HOST_SITE("__syncthreads_count"), predicate != 0).votes;
}
inline int __syncthreads_or(int predicate, CLD_HOST_CALLER) {
    return cld_host_barrier(CLD_HOST_SITE("__syncthreads_or"), predicate != 0).votes > 0;
}
inline int __syncthreads_and(int predicate, CLD_HOST_CALLER) {
    cld_host_barrier_result r = cld_host_barrier(CLD_HOST_SITE("__syncthreads_and"), predicate != 0);
    return r.votes == r.threads;
}

/* ---- of the warp ---- */

inline void __syncwarp(unsigned mask = 0xffffffffu, CLD_HOST_CALLER) {
    cld_host_meet(CLD_HOST_SITE("__syncwarp"), mask, 0, 0);
}
inline unsigned __ballot_sync(unsigned mask, int predicate, CLD_HOST_CALLER) {
    return cld_host_meet(CLD_HOST_SITE("__ballot_sync"), mask, predicate != 0, 0).ballot;
}
inline int __any_sync(unsigned mask, int predicate, CLD_HOST_CALLER) {
    return cld_host_meet(CLD_HOST_SITE("__any_sync"), mask, predicate != 0, 0).ballot != 0;
}
inline int __all_sync(unsigned mask, int predicate, CLD_HOST_CALLER) {
    cld_host_meeting_result r = cld_host_meet(CLD_HOST_SITE("__all_sync"), mask, predicate != 0, 0);
    return r.ballot == r.came;
}

template <typename T> inline T cld_host_shuffle(cld_host_site site, unsigned mask, T value, int source) {
    static_assert(sizeof(T) <= 8, "");
    uint64_t bits = 0;
    memcpy(&bits, &value, sizeof value);
    bits = cld_host_meet(site, mask, bits, source).value;
    memcpy(&value, &bits, sizeof value);
    return value;
}
/* Lanes are shuffled within segments of `width`, a power of two. Lanes of other segments are not reached: up, down and
 * xor (for a later segment) then give a lane its own value. */
inline int cld_host_source(int lane, int width) {
    int own = cld_host_lane();
    return (own & ~(width - 1)) | (lane & (width - 1));
}
inline int cld_host_source_up(unsigned delta, int width) {
    int own = cld_host_lane();
    return (unsigned)(own & (width - 1)) < delta ? own : own - (int)delta;
}
inline int cld_host_source_down(unsigned delta, int width) {
    int own = cld_host_lane();
    return (unsigned)(own & (width - 1)) + (uint64_t)delta >= (unsigned)width ? own : own + (int)delta;
}
inline int cld_host_source_xor(int lane_mask, int width) {
    int own = cld_host_lane(), source = own ^ (lane_mask & 31);
    return source > (own | (width - 1)) ? own : source;
}

#define CLD_HOST_SHUFFLES(T)                                                                                 \
    inline T __shfl_sync(unsigned mask, T value, int lane, int width = 32, CLD_HOST_CALLER) {                \
        return cld_host_shuffle(CLD_HOST_SITE("__shfl_sync"), mask, value, cld_host_source(lane, width));    \
    }                                                                                                        \
    inline T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = 32, CLD_HOST_CALLER) {       \
        return cld_host_shuffle(CLD_HOST_SITE("__shfl_up_sync"), mask, value,                                \
                                cld_host_source_up(delta, width));                                           \
    }                                                                                                        \
    inline T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = 32, CLD_HOST_CALLER) {     \
        return cld_host_shuffle(CLD_HOST_SITE("__shfl_down_sync"), mask, value,                              \
                                cld_host_source_down(delta, width));                                         \
    }                                                                                                        \
    inline T __shfl_xor_sync(unsigned mask, T value, int lane_mask, int width = 32, CLD_HOST_CALLER) {       \
        return cld_host_shuffle(CLD_HOST_SITE("__shfl_xor_sync"), mask, value,                               \
                                cld_host_source_xor(lane_mask, width));                                      \
    }
CLD_HOST_SHUFFLES(int)
CLD_HOST_SHUFFLES(unsigned)
CLD_HOST_SHUFFLES(long)
CLD_HOST_SHUFFLES(unsigned long)
CLD_HOST_SHUFFLES(long long)
CLD_HOST_SHUFFLES(unsigned long long)
CLD_HOST_SHUFFLES(float)
CLD_HOST_SHUFFLES(double)
CLD_HOST_SHUFFLES(__half)
CLD_HOST_SHUFFLES(__half2)
CLD_HOST_SHUFFLES(__nv_bfloat16)
CLD_HOST_SHUFFLES(__nv_bfloat162)
#undef CLD_HOST_SHUFFLES

#endif
