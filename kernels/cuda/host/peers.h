/* Processes of one machine that exchange bytes, for nccl.cpp: through shared memory, in which each has a box. Nothing here
 * waits for ever: a process that has ended is found at once, and one that does not come after CLD_HOST_PEER_SECONDS (120). */
#ifndef CLD_CUDA_HOST_PEERS_H
#define CLD_CUDA_HOST_PEERS_H

#include <functional>
#include <stddef.h>
#include <stdint.h>
#include <string>

/* A name that nobody else has, and the shared memory of that name, which the last to join takes away. */
bool cld_peers_make(char *name, size_t room);

class cld_peers {
  public:
    /* Returns when all have joined; else problem says why not. Each has a chip of its own, or it is one. */
    cld_peers(const char *name, int rank, int world, uint64_t chip);
    cld_peers(const cld_peers &) = delete;

    /* All call this, and say what they are about to do: they say the same, or it is a problem, which names both. */
    bool agree(const std::string &what);
    /* All call this. Each shows bytes (or NULL: nothing), and sees those of each, part by part: where it begins, its size,
     * and box(rank). */
    bool exchange(const char *shown, size_t bytes, const std::function<void(size_t, size_t)> &see);
    const char *box(int rank) const;

    std::string problem;    /* "" while all is well; after that everything fails */
    bool is_theirs = false; /* of another process, or of all */
    bool is_twice = false;  /* two on one chip */

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
