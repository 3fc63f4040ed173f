/* Philox4x32-10 (Salmon et al., "Parallel Random Numbers: As Easy as 1, 2, 3", SC 2011).
 *
 * Counter based: a number is a pure function of (seed, purpose, epoch, sample, view, draw), so that the same image gets
 * the same crop whatever the number of threads, the device or the rank. No state is shared or locked.
 *
 *     cld_philox r = cld_philox_at(seed, CLD_RNG_AUGMENT, epoch, sample, view);
 *     float u = cld_philox_uniform(&r);
 *
 * If several functions draw for one view, each has its own part of the stream (cld_philox_part), so the number of draws
 * of one does not change the numbers of the others.
 */
#ifndef CLD_CORE_PHILOX_H
#define CLD_CORE_PHILOX_H

#include <stdint.h>

#ifdef __CUDACC__ /* kernels draw the same numbers */
#    define CLD_HOST_DEVICE __host__ __device__
#else
#    define CLD_HOST_DEVICE
#endif

typedef enum cld_rng_purpose {
    CLD_RNG_GENERATOR = 0, /* cld.rand and friends: the position is the generator's */
    CLD_RNG_SHUFFLE,
    CLD_RNG_AUGMENT,
    CLD_RNG_NEGATIVES,
    CLD_RNG_REPLACE /* an image that cannot be read */
} cld_rng_purpose;

typedef struct cld_philox {
    uint32_t key[2];
    uint32_t counter[4]; /* counter[0] counts blocks of four numbers */
    uint32_t block[4];
    int used; /* numbers of the block that were already handed out; 4 = make a new block */
} cld_philox;

/* The bijection itself: ten rounds. Known answers: spec/ops_random_spec.lua. */
CLD_HOST_DEVICE static inline void cld_philox_block(const uint32_t key_in[2], const uint32_t counter_in[4],
                                                    uint32_t out[4]) {
    uint32_t k0 = key_in[0], k1 = key_in[1];
    uint32_t c0 = counter_in[0], c1 = counter_in[1], c2 = counter_in[2], c3 = counter_in[3];
    for (int round = 0; round < 10; round++) {
        uint64_t p0 = (uint64_t)0xD2511F53u * c0, p1 = (uint64_t)0xCD9E8D57u * c2;
        uint32_t n0 = (uint32_t)(p1 >> 32) ^ c1 ^ k0, n2 = (uint32_t)(p0 >> 32) ^ c3 ^ k1;
        c1 = (uint32_t)p1;
        c3 = (uint32_t)p0;
        c0 = n0;
        c2 = n2;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    out[0] = c0;
    out[1] = c1;
    out[2] = c2;
    out[3] = c3;
}

/* The stream for a purpose, epoch, sample and view. Epoch < 2^22, view < 2^6, sample < 2^36. */
CLD_HOST_DEVICE static inline cld_philox cld_philox_at(uint64_t seed, cld_rng_purpose purpose, uint64_t epoch,
                                                       uint64_t sample, uint64_t view) {
    cld_philox r = {{(uint32_t)seed, (uint32_t)(seed >> 32)}, {0, 0, 0, 0}, {0, 0, 0, 0}, 4};
    r.counter[1] = (uint32_t)sample;
    r.counter[2] = (uint32_t)epoch | (uint32_t)(view << 22) | (uint32_t)(purpose << 28);
    r.counter[3] = (uint32_t)(sample >> 32);
    return r;
}

/* Another stream with the same arguments, with a part number, 1 to 2^28 - 1; cld_philox_at is part 0. */
CLD_HOST_DEVICE static inline cld_philox cld_philox_part(cld_philox whole, uint32_t part) {
    whole.counter[0] = 0;
    whole.counter[3] = (whole.counter[3] & 0xFu) | part << 4;
    whole.used = 4;
    return whole;
}

CLD_HOST_DEVICE static inline uint32_t cld_philox_u32(cld_philox *r) {
    if (r->used == 4) {
        cld_philox_block(r->key, r->counter, r->block);
        r->counter[0]++;
        r->used = 0;
    }
    return r->block[r->used++];
}

/* A float in [0, 1), with 24 random bits. */
CLD_HOST_DEVICE static inline float cld_philox_uniform(cld_philox *r) {
    return (float)(cld_philox_u32(r) >> 8) * 0x1p-24f;
}

/* An integer in [0, n), n < 2^32; the bias of the multiplication is below 2^-32 * n. */
CLD_HOST_DEVICE static inline uint32_t cld_philox_below(cld_philox *r, uint32_t n) {
    return (uint32_t)(((uint64_t)cld_philox_u32(r) * n) >> 32);
}

#endif
