/* Facts from /proc and the C library, and the signal handlers. */
#define _GNU_SOURCE
#include "runtime/core/process.h"

#include <stdio.h>
#include <stdlib.h>
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

bool cld_terminal(void) {
    const char *kind = getenv("TERM");
    bool capable = kind && *kind && strcmp(kind, "dumb") != 0 && strcmp(kind, "unknown") != 0;
    return capable && isatty(STDOUT_FILENO) == 1;
}

int cld_terminal_columns(void) {
    struct winsize size;
    bool known = ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0;
    return known ? size.ws_col : 80;
}

int cld_terminal_rows(void) {
    struct winsize size;
    bool known = ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_row > 0;
    return known ? size.ws_row : 24;
}

void cld_sleep(double seconds) {
    if (seconds > 1e6) seconds = 1e6; /* fits a time_t of any size */
    struct timespec t = {.tv_sec = (time_t)seconds,
                         .tv_nsec = (long)(1e9 * (seconds - (double)(time_t)seconds))};
    nanosleep(&t, NULL);
}

/* ---- signals ------------------------------------------------------------------------------------------- */

/* Signals that end a process by default, sent by people, terminals, closed pipes, batch systems (SIGUSR1, SIGUSR2 and
 * SIGXCPU warn of a time limit) and power supplies. */
static const struct {
    int number;
    const char *name;
} stops[] = {{SIGINT, "INT"},   {SIGTERM, "TERM"}, {SIGHUP, "HUP"},   {SIGPIPE, "PIPE"},
             {SIGUSR1, "USR1"}, {SIGUSR2, "USR2"}, {SIGALRM, "ALRM"}, {SIGVTALRM, "VTALRM"},
             {SIGXCPU, "XCPU"}, {SIGPWR, "PWR"}};
enum { STOPS = sizeof stops / sizeof *stops };

static volatile sig_atomic_t interrupted;
static struct sigaction before[STOPS];
static bool taken[STOPS];
static int caught; /* nesting depth */

bool cld_handle_signal(int number, void (*handler)(int), int flags, struct sigaction *was) {
    struct sigaction action = {.sa_handler = handler, .sa_flags = flags}, now;
    sigemptyset(&action.sa_mask);
    if (sigaction(number, NULL, &now) != 0) return false;
    if (was) *was = now;
    return now.sa_handler != SIG_IGN && sigaction(number, &action, NULL) == 0;
}

static int (*volatile meaning)(int number);

static int meant(int number) { return meaning ? meaning(number) : number; }

void cld_signals_mean(int (*what)(int number)) { meaning = what; }

static void note(int signal_number) {
    if (interrupted && signal_number == SIGINT) _exit(128 + SIGINT);
    if (!interrupted) interrupted = meant(signal_number);
}

static void (*volatile leave_by)(int status) = _exit;

static void leave(int signal_number) { leave_by(128 + meant(signal_number)); }

/* The host program's own handlers are left alone, except for Ctrl-C and the request to end. */
static bool is_ours(int number) {
    struct sigaction now;
    return number == SIGINT || number == SIGTERM ||
           (sigaction(number, NULL, &now) == 0 && (now.sa_handler == SIG_DFL || now.sa_handler == leave));
}

void cld_catch_signals(cld_caught which) {
    if (caught++ > 0) return;
    interrupted = 0;
    for (int i = 0; i < STOPS; i++) {
        int number = stops[i].number;
        bool wanted = is_ours(number) && !(number == SIGINT && which == CLD_ALL_BUT_SIGINT);
        taken[i] = wanted && cld_handle_signal(number, note, SA_RESTART, &before[i]);
    }
}

void cld_restore_signals(void) {
    if (caught == 0 || --caught > 0) return;
    for (int i = 0; i < STOPS; i++)
        if (taken[i]) sigaction(stops[i].number, &before[i], NULL);
}

int cld_interrupted(void) { return interrupted; }

const char *cld_signal_name(int number) {
    for (int i = 0; i < STOPS; i++)
        if (stops[i].number == number) return stops[i].name;
    return NULL;
}

void cld_leave_with(void (*how)(int status)) { leave_by = how ? how : _exit; }

void cld_leave_on_signals(void) {
    if (caught) return;
    cld_handle_signal(SIGINT, leave, 0, NULL);
    cld_handle_signal(SIGTERM, leave, 0, NULL);
}

void cld_leave_on(int number) {
    struct sigaction now;
    bool unhandled = sigaction(number, NULL, &now) == 0 && now.sa_handler == SIG_DFL;
    if (unhandled) cld_handle_signal(number, leave, SA_RESTART, NULL);
}

void cld_leave_no_more(int number) {
    struct sigaction now;
    bool leaves = sigaction(number, NULL, &now) == 0 && now.sa_handler == leave;
    if (leaves) cld_handle_signal(number, SIG_DFL, 0, NULL);
}

/* ---- the stop request ---------------------------------------------------------------------------------- */

static volatile sig_atomic_t stop_requested;

void cld_request_stop(bool wanted) { stop_requested = wanted; }

bool cld_stop_requested(void) { return stop_requested; }
