/* Asks the terminal what it can show: its answer to DA1 (ECMA-48's DA, "what are you?") is \e[?62;4;22c, for example,
 * in which 4 means Sixel. Declared in process.h. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

#include "runtime/core/process.h"

/* Reads the answer's characters up to c, or as many as come in time. */
static size_t hear(int terminal, char *answer, size_t room, double seconds) {
    double until = cld_clock() + seconds;
    size_t used = 0;
    while (used + 1 < room && (used == 0 || answer[used - 1] != 'c')) {
        int left = (int)(1000 * (until - cld_clock()));
        struct pollfd p = {.fd = terminal, .events = POLLIN};
        if (left <= 0 || poll(&p, 1, left) <= 0) break;
        ssize_t got = read(terminal, answer + used, 1);
        if (got <= 0) break;
        used++;
    }
    answer[used] = '\0';
    return used;
}

/* Asks with echo and line buffering turned off. If somebody has already typed something, it must not be read as an
 * answer, so nothing is asked. */
static bool ask(int terminal, char *answer, size_t room, double seconds) {
    static const char question[] = "\x1b[c";
    struct pollfd typed = {.fd = terminal, .events = POLLIN};
    struct termios before, now;
    if (tcgetattr(terminal, &before) != 0) return false;
    now = before;
    now.c_lflag &= (tcflag_t) ~(ICANON | ECHO);
    if (tcsetattr(terminal, TCSADRAIN, &now) != 0) return false;
    bool heard = poll(&typed, 1, 0) == 0 && write(terminal, question, 3) == 3 &&
                 hear(terminal, answer, room, seconds) > 0;
    tcsetattr(terminal, TCSADRAIN, &before);
    return heard;
}

/* Whether the number is between the ? and the c, but not as the first number, which is the terminal's class. */
static bool has_attribute(const char *answer, int wanted) {
    const char *at = strstr(answer, "\x1b[?");
    if (!at || answer[strlen(answer) - 1] != 'c') return false;
    for (at = strpbrk(at + 3, ";c"); at && *at == ';'; at = strpbrk(at + 1, ";c"))
        if (atoi(at + 1) == wanted) return true;
    return false;
}

bool cld_terminal_has_sixel(void) {
    static int known = -1; /* -1: not asked yet */
    char answer[128];
    if (known >= 0) return known;
    known = 0;
    if (!cld_terminal() || isatty(STDIN_FILENO) != 1) return false;
    int terminal = open("/dev/tty", O_RDWR | O_NOCTTY | O_CLOEXEC);
    if (terminal < 0) return false;
    bool foreground =
        tcgetpgrp(terminal) == getpgrp(); /* a process in the background would be stopped by asking */
    known = foreground && ask(terminal, answer, sizeof answer, 0.2) && has_attribute(answer, 4);
    close(terminal);
    return known;
}
