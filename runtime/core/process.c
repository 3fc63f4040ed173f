/* Facts from /proc and the C library, and the two signal handlers. */
#define _GNU_SOURCE
#include "runtime/core/process.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

/* ---- facts --------------------------------------------------------------------------------------------- */

cld_resident cld_resident_memory(void) {
    cld_resident r = {0, 0};
    char line[256];
    unsigned long long kib;
    FILE *f = fopen("/proc/self/status", "re");
    if (!f) return r;
    while (fgets(line, sizeof line, f)) {
        if (sscanf(line, "VmRSS: %llu kB", &kib) == 1) r.now = (size_t)kib << 10;
        if (sscanf(line, "VmHWM: %llu kB", &kib) == 1) r.peak = (size_t)kib << 10;
    }
    fclose(f);
    return r;
}

double cld_clock(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

cld_host cld_host_facts(void) {
    cld_host h = {.pid = (long)getpid(), .cores = cld_usable_cores(), .cpu = "unknown"};
    char line[512];
    if (gethostname(h.name, sizeof h.name) != 0) strcpy(h.name, "unknown");
    h.name[sizeof h.name - 1] = '\0';
    FILE *f = fopen("/proc/cpuinfo", "re");
    while (f && fgets(line, sizeof line, f))
        if (sscanf(line, "model name : %127[^\n]", h.cpu) == 1) break;
    if (f) fclose(f);
    return h;
}

bool cld_terminal(void) { return isatty(STDOUT_FILENO) == 1; }

int cld_terminal_columns(void) {
    struct winsize size;
    bool known = ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0;
    return known ? size.ws_col : 80;
}

/* ---- signals ------------------------------------------------------------------------------------------- */

static volatile sig_atomic_t interrupted;
static struct sigaction before_int, before_term;
static int caught; /* depth */

static void note(int signal_number) {
    if (interrupted && signal_number == SIGINT) _exit(128 + SIGINT);
    if (!interrupted) interrupted = signal_number;
}

cld_status cld_catch_signals(void) {
    struct sigaction action = {.sa_handler = note, .sa_flags = SA_RESTART};
    if (caught++ > 0) return CLD_OK;
    interrupted = 0;
    sigemptyset(&action.sa_mask);
    if (sigaction(SIGINT, &action, &before_int) == 0 && sigaction(SIGTERM, &action, &before_term) == 0)
        return CLD_OK;
    caught = 0;
    return cld_fail(CLD_IO, "cannot catch SIGINT and SIGTERM: %s", strerror(errno));
}

void cld_restore_signals(void) {
    if (caught == 0 || --caught > 0) return;
    sigaction(SIGINT, &before_int, NULL);
    sigaction(SIGTERM, &before_term, NULL);
}

int cld_interrupted(void) { return interrupted; }

static void leave(int signal_number) { _exit(128 + signal_number); }

void cld_leave_on_signals(void) {
    struct sigaction action = {.sa_handler = leave};
    if (caught) return;
    sigemptyset(&action.sa_mask);
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
}

/* ---- the wish to stop ---------------------------------------------------------------------------------- */

static volatile sig_atomic_t stop_requested;

void cld_request_stop(bool wanted) { stop_requested = wanted; }

bool cld_stop_requested(void) { return stop_requested; }
