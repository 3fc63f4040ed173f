/* `cldlua --ranks N ...`: runs the same command line as N processes on this machine, which Open MPI's mpirun starts.
 *
 * mpirun binds nothing: the ranks divide the cores (runtime/dist/cores.h). mpirun prints nothing about a rank that
 * has failed: the rank does. This process stays above mpirun to handle signals. When mpirun itself is told to end, or
 * a rank has failed, it waits for its kill timeout, sends SIGTERM, waits that long again, and kills, even if all
 * ranks are gone by then. So that timeout is short here, and a request to end the job goes another way: mpirun passes
 * SIGUSR1 on at once, and a training then ends with a checkpoint, in its own time. Which signal it was, and the
 * status of ranks that end the job themselves, are on the board (runtime/dist/board.h).
 */
#define _GNU_SOURCE
#include "bindings/interpreter.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <math.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "runtime/core/process.h"
#include "runtime/dist/board.h"
#include "runtime/dist/launcher.h"

enum { RANKS_PER_CORE = 16 };
#define KILL_TIMEOUT "3" /* seconds */
#define STRAGGLERS   10. /* seconds: until all ranks have left after one that ended the job */

static int complain(const char *format, ...) __attribute__((format(printf, 1, 2)));
static int complain(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    fputs("cldlua: ", stderr);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    va_end(arguments);
    return EXIT_FAILURE;
}

/* 0 if the text is not a number of ranks, or is too large for this machine. */
static int parse_ranks(const char *text, int most) {
    char *end;
    if (*text < '0' || *text > '9') return 0;
    long n = strtol(text, &end, 10);
    return *end == '\0' && n <= most ? (int)n : 0;
}

/* What `mpirun --version` prints first, made safe to show; the status as of wait(). */
static int ask_version(char *line, size_t size) {
    char raw[256] = "";
    FILE *f = popen("mpirun --version 2>&1 </dev/null", "re");
    if (!f) return -1;
    while (fgets(raw, sizeof raw, f) && raw[strspn(raw, " \n")] == '\0') continue;
    for (int c = 0; c != EOF;) c = fgetc(f); /* the rest: a program whose pipe is closed early fails */
    raw[strcspn(raw, "\n")] = '\0';
    cld_printable(line, size, raw, strlen(raw), CLD_ONE_LINE);
    return pclose(f);
}

/* Open MPI's major version; 0, after a message, if there is none. */
static int find_open_mpi(void) {
    char line[512];
    int major, status = ask_version(line, sizeof line);
    if (status == -1) return complain("--ranks: mpirun --version: %s", strerror(errno)), 0;
    if (WIFEXITED(status) && WEXITSTATUS(status) == 127)
        return complain("--ranks needs Open MPI's mpirun, and there is none on PATH: apt install openmpi-bin "
                        "(elsewhere: "
                        "dnf install openmpi, or a cluster's `module load openmpi`)"),
               0;
    if (status != 0) return complain("--ranks: `mpirun --version` failed: %s", line), 0;
    const char *version = strstr(line, "(Open MPI) ");
    if (version && sscanf(version, "(Open MPI) %d", &major) == 1 && major > 0) return major;
    complain(
        "--ranks needs Open MPI's mpirun, and the one on PATH is another MPI's: `mpirun --version` says '%s'",
        line);
    return 0;
}

/* mpirun, its options, this program and its arguments without --ranks. */
static const char **command(const char *self, const char *ranks, int major, int argc, char **argv,
                            int script) {
    /* In Open MPI 5 these options are those of its launcher, PRRTE. */
    const char *set = major >= 5 ? "--prtemca" : "--mca";
    const char *quiet = major >= 5 ? "prte_execute_quiet" : "orte_execute_quiet";
    /* A rank that has handed its status over ends with status 0 without MPI_Finalize. */
    const char *early = major >= 5 ? "prte_allowed_exit_without_sync" : "orte_allowed_exit_without_sync";
    const char *const options[] = {"mpirun",
                                   "-n",
                                   ranks,
                                   "--bind-to",
                                   "none",
                                   "--map-by", /* allow more ranks than cores or Slurm's tasks */
                                   ":OVERSUBSCRIBE",
                                   set,
                                   "odls_base_sigkill_timeout",
                                   KILL_TIMEOUT,
                                   set,
                                   quiet,
                                   "1",
                                   set,
                                   early,
                                   "1"};
    size_t count = sizeof options / sizeof *options;
    const char **words = malloc((count + (size_t)argc + 3) * sizeof *words);
    if (!words) return NULL;
    memcpy(words, options, sizeof options);
    if (geteuid() == 0) words[count++] = "--allow-run-as-root";
    words[count++] = self;
    for (int i = 1; i < argc; i++) {
        bool ours = i < script && strncmp(argv[i], "--ranks", 7) == 0;
        if (!ours)
            words[count++] = argv[i];
        else if (argv[i][7] == '\0')
            i++;
    }
    words[count] = NULL;
    return words;
}

/* ---- while mpirun runs ---- */

static pid_t mpirun;
static cld_board *board; /* NULL: none */
static volatile sig_atomic_t first_wish, has_ended;

/* The first signal ends the job in good order. After it, SIGINT ends it at once; batch systems repeat the others. */
static void hand_on(int number) {
    if (!first_wish) {
        first_wish = number;
        if (board) atomic_store(&board->wish, number);
        kill(mpirun, SIGUSR1);
    } else if (number == SIGINT)
        kill(mpirun, SIGTERM);
}

static void note_end(int number) { has_ended = number; }
static void do_nothing(int number) { (void)number; }

/* In its own process group, so that a terminal's Ctrl-C reaches only the launcher. mpirun cannot read the terminal from
 * there, so it gets no input. */
static void become_mpirun(const char *const *words, pid_t parent, const sigset_t *mask,
                          const cldL_relay *relay) {
    int nothing = open("/dev/null", O_RDONLY);
    setpgid(0, 0);
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    bool ready = nothing >= 0 && dup2(nothing, STDIN_FILENO) == STDIN_FILENO && getppid() == parent;
    if (ready && cldL_relay_enter(relay)) {
        if (nothing > STDERR_FILENO) close(nothing);
        sigprocmask(SIG_SETMASK, mask, NULL);
        execvp(words[0], (char *const *)words);
    }
    complain("--ranks: mpirun: %s", strerror(errno));
    if (board) atomic_store(&board->told, 1);
    _exit(EXIT_FAILURE);
}

static void take_signals(bool *pipes_end) {
    static const int wishes[] = {SIGINT, SIGTERM, SIGHUP, SIGUSR1, SIGUSR2};
    cld_handle_signal(SIGCHLD, note_end, SA_RESTART, NULL);
    for (size_t i = 0; i < sizeof wishes / sizeof *wishes; i++)
        cld_handle_signal(wishes[i], hand_on, SA_RESTART, NULL);
    *pipes_end = cld_handle_signal(SIGPIPE, do_nothing, SA_RESTART, NULL);
}

/* Until mpirun has ended and all output is passed on. If a rank hangs after others have left, mpirun is to kill it. */
static void attend(cldL_relay *relay, const sigset_t *mask, bool pipes_end) {
    static const struct timespec at_once = {0, 0}, second = {1, 0};
    double last = INFINITY;
    for (bool more = true; more || !has_ended;) {
        bool broken = false;
        more = cldL_relay_wait(relay, has_ended ? &at_once : &second, mask, &broken);
        if (broken && pipes_end) hand_on(SIGPIPE);
        double now = cld_clock();
        if (last == INFINITY && board && atomic_load(&board->status)) last = now + STRAGGLERS;
        if (!has_ended && now > last) {
            kill(mpirun, SIGTERM);
            last = now + STRAGGLERS;
        }
    }
}

/* For a job that failed without a message: no rank was there yet, or any longer, to print one. Returns the status. */
static int explain(int status, int ranks) {
    const char *when = atomic_load(&board->joined) < ranks ? " before the ranks had found each other"
                                                           : "; --resume goes on from the last checkpoint";
    if (status > 128)
        complain("--ranks: a rank was ended by signal %d (%s)%s", status - 128, strsignal(status - 128),
                 when);
    else
        complain("--ranks: mpirun ended with status %d%s", status, when);
    return status;
}

/* The job's exit status; if a signal killed it, 128 plus the signal's number, as in a shell. */
static int judge(int how, int ranks) {
    if (WIFSIGNALED(how) && first_wish && WTERMSIG(how) == SIGUSR1)
        return 128 + first_wish; /* it had just begun */
    if (WIFSIGNALED(how)) {      /* its ranks print nothing then */
        complain("--ranks: mpirun was ended by signal %d (%s); --resume goes on from the last checkpoint",
                 WTERMSIG(how), strsignal(WTERMSIG(how)));
        return 128 + WTERMSIG(how);
    }
    int status = WEXITSTATUS(how), told = board ? atomic_load(&board->status) : 0;
    if (first_wish && status == 128 + SIGUSR1) return 128 + first_wish; /* a rank that did not catch it */
    if (status == 0) return told;
    bool silent = board && !told && !atomic_load(&board->told) && !first_wish;
    return silent ? explain(status, ranks) : status;
}

static int run_mpirun(const char *const *words, int ranks) {
    cldL_relay relay;
    sigset_t all, before, mask;
    bool pipes_end;
    int how;
    pid_t self = getpid();
    if (!cldL_relay_open(&relay)) return complain("--ranks: cannot make a pipe: %s", strerror(errno));
    board = cld_board_new();
    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, &before); /* so that none is lost before mpirun can be told */
    mpirun = fork();
    if (mpirun == 0) become_mpirun(words, self, &before, &relay);
    if (mpirun < 0) return complain("--ranks: cannot start a process: %s", strerror(errno));
    cldL_relay_begin(&relay);
    take_signals(&pipes_end);
    mask = before;
    sigdelset(&mask, SIGCHLD);
    sigaddset(&before, SIGCHLD); /* comes only during attend's wait, and ends it */
    sigprocmask(SIG_SETMASK, &before, NULL);
    attend(&relay, &mask, pipes_end);
    while (waitpid(mpirun, &how, 0) < 0 && errno == EINTR) continue;
    cldL_relay_end(&relay);
    return judge(how, ranks);
}

int cldL_launch_ranks(const char *ranks, int argc, char **argv, int script, bool shared) {
    char self[PATH_MAX], shown[64];
    int cores = cld_usable_cores(), most = RANKS_PER_CORE * cores, n = parse_ranks(ranks, most), major;
    cld_printable(shown, sizeof shown, ranks, strlen(ranks), CLD_ONE_LINE);
    if (n == 0)
        return complain(
            "--ranks: expected an integer from 1 to %d, %d for each core that this process may use, got '%s'",
            most, RANKS_PER_CORE, shown);
    cld_launcher l = cld_launcher_around();
    if (l.name && (l.world != 1 || strcmp(l.name, "srun") != 0)) /* srun --pty gives a shell that way */
        return complain("--ranks %d inside a job: %s has started this process already; use one of the two", n,
                        l.name);
    if (n == 1) return CLD_NOT_LAUNCHED;
    if (shared) return complain("--ranks %d " CLDL_NO_COMMON_INPUT, n);
    signal(SIGCHLD, SIG_DFL); /* an inherited SIG_IGN would lose the exit statuses */
    if ((major = find_open_mpi()) == 0) return EXIT_FAILURE;
    if (!cldL_find_self(self)) return complain("--ranks: this executable's path is not known");
    /* A rank's output is a terminal made by mpirun, wherever mpirun's own output goes. */
    if (!isatty(STDOUT_FILENO)) setenv("TERM", "dumb", 1);
    const char **words = command(self, ranks, major, argc, argv, script);
    if (!words) return complain("--ranks: not enough memory");
    int status = run_mpirun(words, n);
    free(words);
    return status;
}
