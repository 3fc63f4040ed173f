#include "kernels/cuda/host/peers.h"

#include <atomic>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

static const size_t BOX = 1 << 18; /* bytes */

/* Zero at first. */
struct cld_peers::seat {
    std::atomic<uint64_t> met; /* how often this process has come to a meeting */
    std::atomic<bool> taken;
    uint64_t chip;
    char doing[232];
};

struct cld_peers::shared {
    std::atomic<int> world; /* set by the first to come */
    alignas(64) char rest[];
};

cld_peers::seat *cld_peers::seat_of(int r) const { return reinterpret_cast<seat *>(memory->rest) + r; }

const char *cld_peers::box(int r) const {
    return memory->rest + (size_t)world * sizeof(seat) + (size_t)r * BOX;
}

bool cld_peers::fail(const std::string &text) {
    if (problem.empty()) problem = text;
    return false;
}

/* ---- coming together ---------------------------------------------------------------------------------------------- */

bool cld_peers_make(char *name, size_t room) {
    static int made;
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    snprintf(name, room, "/cld-peers-%d-%d-%lx", (int)getpid(), made++, (unsigned long)now.tv_nsec);
    int file = shm_open(name, O_CREAT | O_EXCL | O_RDWR, 0600);
    if (file < 0) return false;
    close(file);
    return true;
}

bool cld_peers::open(const char *name) {
    size_t bytes = sizeof(shared) + (size_t)world * (sizeof(seat) + BOX);
    file = shm_open(name, O_RDWR, 0600);
    if (file < 0 || ftruncate(file, (off_t)bytes) != 0)
        return fail("the shared memory " + std::string(name) + " cannot be opened: " + strerror(errno));
    void *data = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    if (data == MAP_FAILED) return fail(std::string("shared memory cannot be mapped: ") + strerror(errno));
    memory = static_cast<shared *>(data);
    int first = 0;
    if (!memory->world.compare_exchange_strong(first, world) && first != world)
        return fail("another rank joins a job of " + std::to_string(first) + " ranks, and rank " +
                    std::to_string(rank) + " one of " + std::to_string(world));
    return true;
}

/* A lock on a byte of the file lasts as long as its process. */
static struct flock lock_of(int rank) {
    struct flock l = {};
    l.l_type = F_WRLCK;
    l.l_whence = SEEK_SET;
    l.l_start = rank;
    l.l_len = 1;
    return l;
}

bool cld_peers::sit(uint64_t chip) {
    struct flock l = lock_of(rank);
    seat *own = seat_of(rank);
    if (own->taken || fcntl(file, F_SETLK, &l) != 0)
        return fail("there is a rank " + std::to_string(rank) + " already");
    own->chip = chip;
    own->taken = true;
    if (!meet()) return false;
    for (int r = 0; r < world; r++) {
        if (r == rank || seat_of(r)->chip != chip) continue;
        char text[96];
        snprintf(text, sizeof text, "Duplicate GPU detected : rank %d and rank %d both on CUDA device %llx",
                 rank, r, (unsigned long long)chip);
        is_twice = true;
        return fail(text);
    }
    return true;
}

cld_peers::cld_peers(const char *name, int rank, int world, uint64_t chip) : rank(rank), world(world) {
    if (open(name)) sit(chip);
    shm_unlink(name); /* by the first to get here: by then all have it open, or it is of no use */
}

/* ---- meeting ------------------------------------------------------------------------------------------------------ */

bool cld_peers::has_left(int r) const {
    struct flock l = lock_of(r);
    return seat_of(r)->taken && fcntl(file, F_GETLK, &l) == 0 && l.l_type == F_UNLCK;
}

static double seconds() {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

static double patience() {
    const char *named = getenv("CLD_HOST_PEER_SECONDS");
    return named && *named ? atof(named) : 120;
}

/* Checks now and then whether r has ended. */
bool cld_peers::wait_for(int r) {
    const seat *other = seat_of(r);
    double until = seconds() + patience();
    for (int turn = 0; other->met < met; turn++) {
        if (turn < 100) {
            sched_yield();
            continue;
        }
        usleep(turn < 1000 ? 50 : 1000);
        if (turn % 16 != 0) continue;
        bool left = r != rank && has_left(r);
        if (other->met >= met) break; /* it came and then left */
        if (!left && seconds() < until) continue;
        is_theirs = true;
        return fail(doing + ": rank " + std::to_string(r) + (left ? " has ended" : " does not come"));
    }
    return true;
}

bool cld_peers::meet() {
    if (!problem.empty()) return false;
    seat_of(rank)->met = ++met;
    for (int r = 0; r < world; r++)
        if (!wait_for(r)) return false;
    return true;
}

bool cld_peers::agree(const std::string &what) {
    if (!problem.empty()) return false;
    doing = what;
    seat *own = seat_of(rank);
    snprintf(own->doing, sizeof own->doing, "%s", what.c_str());
    if (!meet()) return false;
    for (int r = 1; r < world; r++) {
        const char *first = seat_of(0)->doing, *other = seat_of(r)->doing;
        if (strcmp(first, other) == 0) continue;
        return fail("rank 0 calls " + std::string(first) + ", and rank " + std::to_string(r) + " " + other);
    }
    return true;
}

bool cld_peers::exchange(const char *shown, size_t bytes, const std::function<void(size_t, size_t)> &see) {
    for (size_t at = 0, n; at < bytes; at += n) {
        n = bytes - at < BOX ? bytes - at : BOX;
        if (shown) memcpy(const_cast<char *>(box(rank)), shown + at, n);
        if (!meet()) return false;
        see(at, n);
        if (!meet()) return false;
    }
    return true;
}
