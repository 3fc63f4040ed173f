/* pty [-t SECONDS] COMMAND [ARGUMENT...] < SCRIPT: runs a command on a pseudo-terminal as a user would.
 *
 * The script has one step per line; \xHH in a text stands for a byte (\x0d is Return, \x03 Ctrl-C):
 *
 *     send TEXT       types it
 *     wait TEXT       waits until TEXT has appeared in the output since the last wait
 *     prompt TEXT     waits until the output since the last send ends with a line that is only TEXT
 *     signal NUMBER   sends the command that signal
 *     pause SECONDS   lets time pass
 *
 * After the last step the command has the remaining time to end. The transcript goes to stdout. The exit status is the
 * command's, or 124 with a line on stderr that names the step that took too long.
 */
#define _GNU_SOURCE /* memmem */

#include <errno.h>
#include <poll.h>
#include <pty.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static char transcript[1 << 20];
static size_t length;   /* of the transcript */
static size_t consumed; /* the part that earlier waits have consumed */
static size_t sent;     /* length at the last send */
static double deadline;
static bool ended; /* the command has closed the terminal */

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Reads the terminal's output, for at most a tenth of a second; false after the deadline. */
static bool listen_once(int terminal) {
    struct pollfd p = {.fd = terminal, .events = POLLIN};
    if (now() > deadline) return false;
    if (length == sizeof transcript - 1) {
        fprintf(stderr, "pty: more than %zu bytes of output\n", length);
        return false;
    }
    if (poll(&p, 1, 100) <= 0) return true;
    ssize_t n = read(terminal, transcript + length, sizeof transcript - 1 - length);
    if (n > 0)
        length += (size_t)n;
    else if (n == 0 || (errno != EINTR && errno != EAGAIN))
        ended = true; /* EIO: the other side is closed */
    transcript[length] = 0;
    return true;
}

static bool wait_for(int terminal, const char *text) {
    for (;;) {
        char *found = memmem(transcript + consumed, length - consumed, text, strlen(text));
        if (found) {
            consumed = (size_t)(found - transcript) + strlen(text);
            return true;
        }
        if (ended || !listen_once(terminal)) return false;
    }
}

static bool wait_for_prompt(int terminal, const char *text) {
    size_t size = strlen(text);
    for (;;) {
        const char *end = transcript + length;
        if (length > sent + size && !memcmp(end - size, text, size) && end[-1 - (ptrdiff_t)size] == '\n') {
            consumed = length;
            return true;
        }
        if (ended || !listen_once(terminal)) return false;
    }
}

/* \xHH to bytes, in place. */
static void unescape(char *text) {
    char *out = text;
    for (char *in = text; *in; out++) {
        unsigned byte;
        if (sscanf(in, "\\x%2x", &byte) == 1) {
            *out = (char)byte;
            in += 4;
        } else {
            *out = *in++;
        }
    }
    *out = 0;
}

static int fail(pid_t child, const char *what, const char *text) {
    fprintf(stderr, "pty: %s '%s'\n", what, text);
    kill(child, SIGKILL);
    return 124;
}

/* The command's status after it has ended; it is killed at the deadline. */
static int wait_for_end(pid_t child, const char *command, int *status) {
    while (waitpid(child, status, WNOHANG) == 0) {
        if (now() > deadline) {
            int failed = fail(child, "the command did not end:", command);
            waitpid(child, status, 0);
            return failed;
        }
        poll(NULL, 0, 10);
    }
    return 0;
}

/* One step of the script; 0, or the exit status of a failed one. */
static int step(int terminal, pid_t child, char *line) {
    line[strcspn(line, "\n")] = 0;
    if (!strncmp(line, "wait ", 5)) {
        unescape(line + 5);
        return wait_for(terminal, line + 5) ? 0
                                            : fail(child, ended ? "ended before" : "no sign of", line + 5);
    }
    if (!strncmp(line, "prompt ", 7)) {
        unescape(line + 7);
        return wait_for_prompt(terminal, line + 7) ? 0 : fail(child, "no prompt", line + 7);
    }
    if (!strncmp(line, "send ", 5)) {
        unescape(line + 5);
        sent = length;
        size_t size = strlen(line + 5);
        return write(terminal, line + 5, size) == (ssize_t)size ? 0 : fail(child, "cannot send", line + 5);
    }
    if (!strncmp(line, "signal ", 7)) {
        sent = length;
        return kill(child, atoi(line + 7)) == 0 ? 0 : fail(child, "cannot send signal", line + 7);
    }
    if (!strncmp(line, "pause ", 6)) {
        double end = now() + atof(line + 6);
        while (now() < end && listen_once(terminal)) continue;
        return 0;
    }
    return *line ? fail(child, "no such step:", line) : 0;
}

int main(int argc, char **argv) {
    int first = 1, terminal, status = 0, failed = 0;
    double seconds = 30;
    if (argc > 2 && !strcmp(argv[1], "-t")) seconds = atof(argv[2]), first = 3;
    if (first >= argc) return fprintf(stderr, "usage: pty [-t SECONDS] COMMAND [ARGUMENT...] < SCRIPT\n"), 2;
    deadline = now() + seconds;

    struct winsize size = {.ws_row = 24, .ws_col = 100};
    pid_t child = forkpty(&terminal, NULL, NULL, &size);
    if (child < 0) return perror("pty: forkpty"), 2;
    if (child == 0) {
        execvp(argv[first], argv + first);
        perror(argv[first]);
        _exit(127);
    }
    char line[4096];
    while (!failed && fgets(line, sizeof line, stdin)) failed = step(terminal, child, line);
    while (!failed && !ended)
        if (!listen_once(terminal)) failed = fail(child, "the command did not end:", argv[first]);
    fwrite(transcript, 1, length, stdout);
    if (!failed)
        failed = wait_for_end(child, argv[first], &status);
    else
        waitpid(child, &status, 0);
    if (failed) return failed;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}
