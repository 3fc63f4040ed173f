/* Processes on one machine that exchange bytes, for nccl.cpp: through shared memory, in which each has a box. Nothing
 * here waits for ever: a process that has ended is noticed at once, and one that does not come after
 * CLD_HOST_PEER_SECONDS (120). */
#ifndef CLD_CUDA_HOST_PEERS_H
#define CLD_CUDA_HOST_PEERS_H

#include <functional>
#include <stddef.h>
#include <stdint.h>
#include <string>

/* A unique name, and the shared memory with that name, which the last process to join removes. */
bool cld_peers_make(char *name, size_t room);

class cld_peers {
  public:
    /* Returns when all have joined, or when problem says why they have not. Each process needs its own chip; two with
     * the same one are a problem. */
    cld_peers(const char *name, int rank, int world, uint64_t chip);
    cld_peers(const cld_peers &) = delete;

    /* Called by all, each with what it is about to do. If these differ, the problem names both. */
    bool agree(const std::string &what);
    /* Called by all. Each shows bytes (or NULL: nothing) and sees everybody's, part by part: `see` is called with where
     * the part begins and its size, and reads it from box(rank). */
    bool exchange(const char *shown, size_t bytes, const std::function<void(size_t, size_t)> &see);
    const char *box(int rank) const;

    std::string problem;    /* "" while all is well; after a problem everything fails */
    bool is_theirs = false; /* the problem is of another process, or of all */
    bool is_twice = false;  /* two processes on one chip */

  private:
    struct shared;
    struct seat;
    shared *memory = nullptr;
    int file = -1, rank, world;
    uint64_t met = 0; /* how often all have met */
    std::string doing = "ncclCommInitRank";

    seat *seat_of(int rank) const;
    bool open(const char *name);
    bool sit(uint64_t chip);
    bool has_left(int rank) const;
    bool wait_for(int rank);
    bool meet();
    bool fail(const std::string &text);
};

#endif
