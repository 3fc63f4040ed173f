/* watch CASE WORLD RANK TIMEOUT: a job of WORLD processes under runtime/dist/watch.h, without MPI, in which something
 * happens to RANK. For spec/watch_spec.lua. The ranks use shared memory to exchange addresses and to meet. A rank that
 * waits for one that never comes waits forever, as in MPI.
 *
 * Prints how each rank ended: "2 signal 9", "0 status 1". The output of the watches goes to standard error.
 *
 *     end       all run to their end, at different times
 *     stray     the same, while somebody else connects to rank 0 and sends garbage
 *     kill      RANK is killed
 *     machine   all ranks up to RANK are killed, at the same moment
 *     launcher  RANK is killed, and as soon as it is gone all others get SIGTERM, and SIGKILL a second later
 *     exit      RANK exits without saying anything
 *     wake      RANK is suspended (SIGSTOP), and continues when the others are gone
 *     suspend   all ranks are suspended for longer than the timeout, then continue
 *     hang      the main thread of RANK does not reach the next collective
 *     stuck     all wait in the same collective
 *     early     RANK ends while the others go on
 *     fail      RANK fails
 *     fail_all  all do, with the same message, rank 0 last
 *     refused   RANK fails because another rank was killed a moment before
 *     term      RANK gets SIGTERM; "term_all": all do
 *     missing   RANK never starts its watch
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <math.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "runtime/core/process.h"
#include "runtime/dist/watch_parts.h"

enum { MOST = 64, STEPS = 6, EVENT = 3 };

static struct shared {
    cld_watch_address addresses[MOST];
    _Atomic int came[64]; /* who has come to meeting i */
} * shared;

static const char *happens;
static int world, chosen;
static double timeout;

static bool is(const char *name) { return strcmp(happens, name) == 0; }
static void nap(double seconds) { usleep((useconds_t)(1e6 * seconds)); }

static void meet(int meeting) {
    atomic_fetch_add(&shared->came[meeting], 1);
    while (atomic_load(&shared->came[meeting]) < world) nap(0.001);
}

static void fail(const char *message) {
    if (cld_watch_fail(message)) fprintf(stderr, "cldlua: %s\n", message);
    cld_watch_end();
    exit(1);
}

/* ---- a rank ---- */

static void happen(int rank) {
    bool me = rank == chosen;
    if ((is("machine") && rank <= chosen) || is("suspend")) raise(SIGSTOP);
    if (is("term_all")) raise(SIGTERM);
    if (is("fail_all")) {
        if (rank == 0) nap(0.3);
        fail("unknown option --lrr");
    }
    if (is("refused") && rank == (chosen + 1) % world) raise(SIGKILL);
    if (!me) return;
    if (is("kill") || is("launcher")) raise(SIGKILL);
    if (is("exit")) _exit(0);
    if (is("wake")) raise(SIGSTOP);
    if (is("hang")) nap(1000);
    if (is("fail")) fail("disk full");
    if (is("refused")) fail("MPI: a rank does not answer");
    if (is("term")) raise(SIGTERM);
}

static void work(int rank) {
    for (int step = 0; step < STEPS; step++) {
        if (step == EVENT) happen(rank);
        if (step == EVENT && is("early") && rank == chosen) return;
        cld_watch_begun();
        meet(1 + step);
        while (step == EVENT && is("stuck")) nap(1);
        cld_watch_completed();
    }
    nap(0.1 * rank);
}

static int be(int rank) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (cld_watch_listen(&shared->addresses[rank]) != CLD_OK) return 3;
    meet(0);
    if (is("missing") && rank == chosen) nap(1000);
    cld_watch_settings s = {.rank = rank, .world = world, .addresses = shared->addresses, .timeout = timeout};
    if (cld_watch_start(&s) != CLD_OK) return fprintf(stderr, "%s\n", cld_error_message()), 3;
    if (rank % 2) cld_leave_on_signals();
    work(rank);
    cld_watch_end();
    return 0;
}

/* ---- an outsider, and the launcher ---- */

/* What rank 1 would send, but without the key. */
static void lie(int fd) {
    cld_watch_message m;
    memset(&m, 0, sizeof m);
    m.head.key = shared->addresses[0].key + 1;
    m.head.kind = CLD_WATCH_HELLO;
    m.head.from = m.head.rank = 1;
    cld__watch_send(fd, &m);
    m.head.kind = CLD_WATCH_REPORT;
    m.head.cause = CLD_WATCH_DIED;
    cld__watch_send(fd, &m);
}

/* Silence, garbage and lies, on connections that stay open. */
static void disturb(void) {
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    char garbage[4096];
    to.sin_port = htons(shared->addresses[0].port);
    for (int i = 0; i < 40; i++) {
        int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        memset(garbage, i, sizeof garbage);
        if (connect(fd, (struct sockaddr *)&to, sizeof to) != 0) exit(3);
        if (i % 4 == 1)
            lie(fd);
        else if (i % 4 > 1 && send(fd, garbage, 10 + 100 * (size_t)i, MSG_NOSIGNAL) < 0)
            exit(3);
    }
}

static void signal_others(const pid_t *pids, int number) {
    for (int r = 0; r < world; r++)
        if (r != chosen) kill(pids[r], number);
}

static bool lies_still(pid_t pid) {
    siginfo_t info = {.si_pid = 0};
    return waitid(P_PID, (id_t)pid, &info, WSTOPPED | WNOHANG | WNOWAIT) == 0 && info.si_pid == pid;
}

static void wait_for_stillness(const pid_t *pids, int ranks) {
    for (int r = 0; r < ranks; r++)
        while (!lies_still(pids[r])) nap(0.001);
}

/* Suspends them first, so that none of them sees another one die. */
static void kill_machine(const pid_t *pids) {
    wait_for_stillness(pids, chosen + 1);
    for (int r = chosen; r >= 0; r--) kill(pids[r], SIGKILL);
}

/* Does what a batch system does when it needs the machines for a more urgent job. */
static void suspend(const pid_t *pids) {
    wait_for_stillness(pids, world);
    nap(timeout * 1.5);
    for (int r = 0; r < world; r++) kill(pids[r], SIGCONT);
}

/* Acts as a launcher or a user, until all but the chosen rank are gone. */
static void look_on(const pid_t *pids, int *status, bool *gone) {
    double killed_at = INFINITY;
    for (int left = world; left > 0; nap(0.005)) {
        for (int r = 0; r < world; r++) {
            if (gone[r] || waitpid(pids[r], &status[r], WNOHANG) != pids[r]) continue;
            gone[r] = true;
            left--;
            if (r != chosen || !is("launcher")) continue;
            signal_others(pids, SIGTERM);
            killed_at = cld_clock() + 1;
        }
        if (cld_clock() >= killed_at) signal_others(pids, SIGKILL), killed_at = INFINITY;
        if (left == 1 && !gone[chosen] && is("wake")) kill(pids[chosen], SIGCONT);
        if (left == 1 && !gone[chosen] && is("missing")) kill(pids[chosen], SIGKILL);
    }
}

int main(int argc, char **argv) {
    pid_t pids[MOST];
    int status[MOST] = {0};
    bool gone[MOST] = {0};
    if (argc != 5 || (world = atoi(argv[2])) > MOST)
        return fputs("usage: watch CASE WORLD RANK TIMEOUT\n", stderr), 2;
    happens = argv[1];
    chosen = atoi(argv[3]);
    timeout = atof(argv[4]);
    shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (shared == MAP_FAILED) return perror("watch"), 2;
    double start = cld_clock();
    for (int r = 0; r < world; r++)
        if ((pids[r] = fork()) == 0) exit(be(r));
    while (is("stray") && atomic_load(&shared->came[1]) == 0) nap(0.001);
    if (is("stray")) disturb();
    if (is("machine")) kill_machine(pids);
    if (is("suspend")) suspend(pids);
    look_on(pids, status, gone);
    for (int r = 0; r < world; r++)
        printf("%d %s %d\n", r, WIFSIGNALED(status[r]) ? "signal" : "status",
               WIFSIGNALED(status[r]) ? WTERMSIG(status[r]) : WEXITSTATUS(status[r]));
    printf("%.2f seconds\n", cld_clock() - start);
    return 0;
}
