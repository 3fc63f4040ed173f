/* server FOLDER: an HTTP server that misbehaves on demand, for spec/download_spec.lua. It listens on 127.0.0.1, prints
 * its port, and ends when nobody reads its output any more. It writes a line to FOLDER/requests for every request:
 * "/mode/name range-start".
 *
 * GET /MODE/NAME answers with the file FOLDER/NAME:
 *
 *     ok           correctly, including ranges
 *     norange      the whole file, whatever range was requested
 *     badrange     a range with another beginning than requested
 *     longrange    a range of a longer file
 *     break        half of what was requested, then closes
 *     cut          the same without a Content-Length: it looks like the end of the file
 *     close        no answer
 *     reset        a few bytes that are not an answer
 *     stall        half of it, then silence
 *     mute         silence
 *     slow         in 20 pieces, 30 ms apart
 *     long, short  a Content-Length that is 100 too large, or too small (with as much data)
 *     nolength     no Content-Length, and the whole file
 *     endless      no Content-Length, and more than the file has
 *     other        another file of the same length
 *     page         a web page with status 200
 *     301, 302     to /ok/NAME
 *     loop         to itself
 *     away         to ftp://127.0.0.1/
 *     403, ...     that status
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

static char file[1 << 22];
static long bytes;
static const char *folder;

/* Whether nobody reads our output any more. */
static bool is_over(int wait_ms) {
    struct pollfd p = {.fd = STDOUT_FILENO};
    return poll(&p, 1, wait_ms) == 1;
}

static void say(int to, const char *data, long count) {
    while (count > 0) {
        ssize_t put = write(to, data, (size_t)count);
        if (put <= 0) exit(0); /* the client has gone */
        data += put;
        count -= put;
    }
}

static void head(int to, const char *status, const char *fields) {
    char text[1024];
    snprintf(text, sizeof text, "HTTP/1.1 %s\r\nConnection: close\r\n%s\r\n", status, fields);
    say(to, text, (long)strlen(text));
}

static void silence(void) {
    while (!is_over(1000)) continue;
    exit(0);
}

static void load(const char *name) {
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *f = fopen(path, "rb");
    if (!f) return;
    bytes = (long)fread(file, 1, sizeof file, f);
    fclose(f);
}

static void redirect(int to, const char *status, const char *where) {
    char fields[600];
    snprintf(fields, sizeof fields, "Location: %s\r\nContent-Length: 5\r\n", where);
    head(to, status, fields);
    say(to, "moved", 5);
}

/* Sends the file's bytes from start on, in the given mode. */
static void give(int to, const char *mode, long start, bool ranged) {
    char fields[256] = "", length[128];
    bool has_length = true;
    long total = bytes, left = bytes - start;
    if (!strcmp(mode, "badrange") && ranged) start += 7;
    if (!strcmp(mode, "longrange")) total += 100;
    if (!strcmp(mode, "cut") || !strcmp(mode, "nolength") || !strcmp(mode, "endless")) has_length = false;
    if (ranged)
        snprintf(fields, sizeof fields, "Content-Range: bytes %ld-%ld/%ld\r\n", start, bytes - 1, total);
    long lie = !strcmp(mode, "long") ? 100 : !strcmp(mode, "short") ? -100 : 0;
    snprintf(length, sizeof length, "Content-Length: %ld\r\n", left + lie);
    if (has_length) strcat(fields, length);
    if (!strcmp(mode, "other"))
        for (long i = 0; i < bytes; i++) file[i] ^= 1;
    head(to, ranged ? "206 Partial Content" : "200 OK", fields);
    bool half = !strcmp(mode, "break") || !strcmp(mode, "cut") || !strcmp(mode, "stall");
    if (!strcmp(mode, "slow")) {
        for (long piece = 0; piece < 20; piece++) {
            long from = left * piece / 20;
            say(to, file + start + from, left * (piece + 1) / 20 - from);
            usleep(30000);
        }
    } else
        say(to, file + start, half ? left / 2 : left + (lie < 0 ? lie : 0));
    if (lie > 0) say(to, file, lie < bytes ? lie : bytes);
    if (!strcmp(mode, "endless")) say(to, file, bytes);
    if (!strcmp(mode, "stall")) silence();
}

static void answer(int to, const char *mode, const char *name, long start) {
    char where[600];
    int status = atoi(mode);
    load(name);
    snprintf(where, sizeof where, "/ok/%s", name);
    if (!strcmp(mode, "mute")) silence();
    if (!strcmp(mode, "close")) return;
    if (!strcmp(mode, "reset"))
        say(to, "what\r\n", 6);
    else if (!strcmp(mode, "loop")) {
        snprintf(where, sizeof where, "/loop/%s", name);
        redirect(to, "302 Found", where);
    } else if (!strcmp(mode, "away"))
        redirect(to, "302 Found", "ftp://127.0.0.1/");
    else if (status == 301 || status == 302)
        redirect(to, status == 301 ? "301 Moved Permanently" : "302 Found", where);
    else if (status > 0) {
        snprintf(where, sizeof where, "%d No", status);
        head(to, where, "Content-Type: text/html\r\nContent-Length: 9\r\n");
        say(to, "<p>no</p>", 9);
    } else if (!strcmp(mode, "page")) {
        head(to, "200 OK", "Content-Type: text/html; charset=utf-8\r\n");
        say(to, "<p>log in</p>", 13);
    } else if (start > 0 && start >= bytes)
        head(to, "416 Range Not Satisfiable", "Content-Length: 0\r\n");
    else if (!strcmp(mode, "norange") || start == 0)
        give(to, mode, 0, false);
    else
        give(to, mode, start, true);
}

/* Reads a request and answers it. */
static void serve(int client) {
    char request[8192] = "", mode[64] = "", name[256] = "", line[512], path[4096];
    size_t have = 0;
    long start = 0;
    while (!strstr(request, "\r\n\r\n") && have < sizeof request - 1) {
        ssize_t got = read(client, request + have, sizeof request - 1 - have);
        if (got <= 0) return;
        have += (size_t)got;
        if (request[0] == 0x16) return say(client, "what\r\n", 6); /* TLS */
        request[have] = 0;
    }
    if (sscanf(request, "GET /%63[^/ ]/%255[^ ?]", mode, name) != 2 && /* or as a proxy */
        sscanf(request, "GET http://%*[^/ ]/%63[^/ ]/%255[^ ?]", mode, name) != 2)
        return;
    const char *range = strcasestr(request, "\r\nRange: bytes=");
    if (range) start = strtol(range + 15, NULL, 10);
    snprintf(path, sizeof path, "%s/requests", folder);
    int log = open(path, O_WRONLY | O_CREAT | O_APPEND, 0666);
    int length = snprintf(line, sizeof line, "/%s/%s %ld\n", mode, name, start);
    if (log >= 0 && write(log, line, (size_t)length) < 0) perror("requests");
    if (log >= 0) close(log);
    answer(client, mode, name, start);
}

int main(int argc, char **argv) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (argc != 2 || listener < 0) return fputs("usage: server FOLDER\n", stderr), 2;
    folder = argv[1];
    if (bind(listener, (struct sockaddr *)&address, sizeof address) != 0 || listen(listener, 16) != 0 ||
        getsockname(listener, (struct sockaddr *)&address, &size) != 0)
        return perror("server"), 1;
    signal(SIGCHLD, SIG_IGN);
    printf("%d\n", ntohs(address.sin_port));
    fflush(stdout);
    while (!is_over(0)) {
        struct pollfd both[] = {{.fd = listener, .events = POLLIN}, {.fd = STDOUT_FILENO}};
        if (poll(both, 2, -1) <= 0 || !(both[0].revents & POLLIN)) continue;
        int client = accept(listener, NULL, NULL);
        if (client < 0) continue;
        if (fork() == 0) {
            serve(client);
            exit(0);
        }
        close(client);
    }
    return 0;
}
