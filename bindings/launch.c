/* `cldlua --ranks N ...`: the same command line by N processes on this machine, which Open MPI's mpirun starts.
 *
 * mpirun binds nothing: the ranks divide the cores (runtime/dist/cores.h). It says nothing of a rank that has failed,
 * the rank does. This process stays above it for the sake of signals. When mpirun itself is told to end, or a rank has
 * failed, it waits for its kill timeout, sends SIGTERM, waits that long again, and kills, be all of them gone meanwhile.
 * So that time is short here, and who wishes the job to end is heard another way: mpirun hands SIGUSR1 on at once, and
 * a training then ends with a checkpoint, in its own time.
 */
#define _GNU_SOURCE
#include "bindings/interpreter.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "runtime/core/process.h"
#include "runtime/dist/launcher.h"

enum { RANKS_PER_CORE = 16 };
#define KILL_TIMEOUT "3" /* seconds */

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

/* 0 if the text is no number of ranks, or too large a one for this machine. */
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
    for (int c = 0; c != EOF;) c = fgetc(f); /* the rest: a program that is cut off fails */
    raw[strcspn(raw, "\n")] = '\0';
    cld_printable(line, size, raw, strlen(raw), CLD_ONE_LINE);
    return pclose(f);
}

/* The first number of Open MPI's version; 0 after a message: there is none. */
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
    /* Open MPI 5 has these of its launcher, PRRTE. */
    const char *set = major >= 5 ? "--prtemca" : "--mca";
    const char *quiet = major >= 5 ? "prte_execute_quiet" : "orte_execute_quiet";
    const char *const options[] = {"mpirun",
                                   "-n",
                                   ranks,
                                   "--bind-to",
                                   "none",
                                   "--map-by", /* no refusal if there are more than cores, or Slurm's tasks */
                                   ":OVERSUBSCRIBE",
                                   set,
                                   "odls_base_sigkill_timeout",
                                   KILL_TIMEOUT,
                                   set,
                                   quiet,
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
static volatile sig_atomic_t first_wish;

/* The first wish ends the job in good order, a SIGINT after it at once; batch systems repeat the others. */
static void hand_on(int number) {
    if (!first_wish)
        kill(mpirun, SIGUSR1);
    else if (number == SIGINT)
        kill(mpirun, SIGTERM);
    if (!first_wish) first_wish = number;
}

/* In a group of its own, so that a terminal's Ctrl-C comes here alone; from there it could not read the terminal. */
static void become_mpirun(const char *const *words, pid_t parent, const sigset_t *mask) {
    int nothing = open("/dev/null", O_RDONLY);
    setpgid(0, 0);
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    if (nothing >= 0 && dup2(nothing, STDIN_FILENO) == STDIN_FILENO && getppid() == parent) {
        if (nothing > STDERR_FILENO) close(nothing);
        sigprocmask(SIG_SETMASK, mask, NULL);
        execvp(words[0], (char *const *)words);
    }
    complain("--ranks: mpirun: %s", strerror(errno));
    _exit(EXIT_FAILURE);
}

/* mpirun's exit status; killed by a signal, 128 and its number, as a shell has it. */
static int run_mpirun(const char *const *words) {
    static const int wishes[] = {SIGINT, SIGTERM, SIGHUP, SIGUSR1, SIGUSR2};
    sigset_t all, before;
    int status;
    pid_t self = getpid();
    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, &before); /* none is lost before there is someone to tell */
    mpirun = fork();
    if (mpirun == 0) become_mpirun(words, self, &before);
    if (mpirun < 0) return complain("--ranks: no new process: %s", strerror(errno));
    for (size_t i = 0; i < sizeof wishes / sizeof *wishes; i++)
        cld_handle_signal(wishes[i], hand_on, SA_RESTART, NULL);
    sigprocmask(SIG_SETMASK, &before, NULL);
    while (waitpid(mpirun, &status, 0) < 0 && errno == EINTR) continue;
    if (WIFSIGNALED(status)) /* its ranks leave without a word */
        complain("--ranks: mpirun was ended by signal %d (%s); --resume goes on from the last checkpoint",
                 WTERMSIG(status), strsignal(WTERMSIG(status)));
    status = WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
    return first_wish && status == 128 + SIGUSR1 ? 128 + first_wish
                                                 : status; /* a rank that did not catch it */
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
    if ((major = find_open_mpi()) == 0) return EXIT_FAILURE;
    if (!cldL_find_self(self)) return complain("--ranks: this executable's path is not known");
    /* A rank's output is a terminal of mpirun's own, wherever it goes. */
    if (!isatty(STDOUT_FILENO)) setenv("TERM", "dumb", 1);
    const char **words = command(self, ranks, major, argc, argv, script);
    if (!words) return complain("--ranks: not enough memory");
    int status = run_mpirun(words);
    free(words);
    return status;
}
