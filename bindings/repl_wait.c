/* Waiting for a key. While a line is edited, signals are blocked except while waiting for a key: they are
 * handled between two keys, when the editor and the terminal are in order.
 */
#define _GNU_SOURCE /* ppoll */
#include "bindings/interpreter.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <unistd.h>

#include "runtime/core/process.h"

static const int expected[] = {SIGINT, SIGTSTP, SIGCONT, SIGWINCH, SIGTERM, SIGHUP, SIGQUIT};
enum { COUNT = sizeof expected / sizeof *expected };

static volatile sig_atomic_t came[COUNT];
static struct sigaction before[COUNT];
static sigset_t mask_before;
static pthread_t interpreter;

static int position_of(int number) {
    int i = 0;
    while (expected[i] != number) i++;
    return i;
}

static void note(int number) {
    if (pthread_equal(pthread_self(), interpreter))
        came[position_of(number)] = 1;
    else /* a worker thread got it */
        pthread_kill(interpreter, number);
}

static void listen_to(int i) {
    came[i] = 0;
    cld_handle_signal(expected[i], note, 0, &before[i]);
}

void cldL_wait_begin(void) {
    sigset_t mask;
    sigemptyset(&mask);
    for (int i = 0; i < COUNT; i++) sigaddset(&mask, expected[i]);
    pthread_sigmask(SIG_BLOCK, &mask, &mask_before);
    interpreter = pthread_self();
    for (int i = 0; i < COUNT; i++) listen_to(i);
}

void cldL_wait_end(void) {
    for (int i = 0; i < COUNT; i++) sigaction(expected[i], &before[i], NULL);
    pthread_sigmask(SIG_SETMASK, &mask_before, NULL);
}

int cldL_wait_key(void) {
    struct pollfd input = {.fd = STDIN_FILENO, .events = POLLIN};
    for (;;) {
        for (int i = 0; i < COUNT; i++)
            if (came[i]) {
                came[i] = 0;
                return expected[i];
            }
        if (ppoll(&input, 1, NULL, &mask_before) >= 0 || errno != EINTR) return 0;
    }
}

void cldL_wait_obey(int number) {
    int i = position_of(number);
    sigset_t mask;
    sigemptyset(&mask);
    sigaddset(&mask, number);
    sigaddset(&mask, SIGCONT); /* ends a stop, and is consumed by that */
    sigaction(number, &before[i], NULL);
    raise(number);
    pthread_sigmask(SIG_UNBLOCK, &mask, NULL);
    pthread_sigmask(SIG_BLOCK, &mask, NULL);
    listen_to(i);
    came[position_of(SIGCONT)] = 0;
}
