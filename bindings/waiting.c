/* How OpenMP's threads wait for each other. libgomp's threads wait in a loop for about 3 ms before they sleep. On
 * cores that other programs use too, a thread then spends its turn waiting for one that is not running, and training
 * is ten times slower. Sleeping at once (OMP_WAIT_POLICY=passive) is slow on an idle machine, where the next piece of
 * work comes within microseconds. So threads wait for a short time and then sleep. `make bench` measures all three.
 *
 * libgomp reads its environment before main, and has no function for this. Functions in .preinit_array run before
 * everything else: there the program starts itself once more, with GOMP_SPINCOUNT set, and main removes the variable
 * again. If GOMP_SPINCOUNT or OMP_WAIT_POLICY is set already, it is obeyed, and nothing is started twice. (A tool
 * that does not follow exec, such as valgrind without --trace-children=yes, needs one of them set.)
 */
#define _GNU_SOURCE
#include "bindings/interpreter.h"

#include <limits.h>
#include <stdlib.h>
#include <sys/auxv.h>
#include <unistd.h>

#define SPINS  "GOMP_SPINCOUNT=3000" /* iterations of libgomp's loop, 10 to 50 ns each */
#define MARK   "CLD_RESTARTED"       /* this program has set it */
#define NATIVE __attribute__((no_sanitize("address", "undefined")))

/* Neither the C library nor the sanitizers are ready yet: only system calls are allowed. */
NATIVE static bool begins_with(const char *text, const char *start) {
    while (*start && *text == *start) text++, start++;
    return *start == '\0';
}

NATIVE static void restart(int argc, char **argv, char **environment) {
    enum { MOST = 4096 };
    char *changed[MOST + 3], program[PATH_MAX];
    int count = 0;
    (void)argc;
    for (; environment[count]; count++) {
        const char *entry = environment[count];
        if (count == MOST || begins_with(entry, "GOMP_SPINCOUNT=") ||
            begins_with(entry, "OMP_WAIT_POLICY=") || begins_with(entry, MARK "="))
            return;
        changed[count] = environment[count];
    }
    changed[count++] = (char *)SPINS;
    changed[count++] = (char *)MARK "=1";
    changed[count] = NULL;
    if (getauxval(AT_BASE) == 0) return; /* `ld.so cldlua`: the executable is ld.so */
    ssize_t length = readlink("/proc/self/exe", program, sizeof program - 1);
    if (length <= 0) return;
    program[length] = '\0';
    execve(program, argv, changed); /* if it fails, libgomp waits as it likes */
}

__attribute__((section(".preinit_array"), used)) static void (*const before_all)(int, char **,
                                                                                 char **) = restart;

void cldL_forget_restart(void) {
    if (!getenv(MARK)) return;
    unsetenv(MARK);
    unsetenv("GOMP_SPINCOUNT");
}
