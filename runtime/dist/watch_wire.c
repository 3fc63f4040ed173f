/* The watch's sockets: non-blocking, closed on exec. A message is a header and a text, and carries the job's key, which
 * a port scanner, or a job that reuses the port of an earlier one, does not have. All processes run the same program on
 * the same kind of machine, so structs are sent as they are. */
#define _GNU_SOURCE
#include "runtime/dist/watch_parts.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

typedef union any_address {
    struct sockaddr any;
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;
} any_address;

static int new_socket(int family) {
    int fd = socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), on = 1;
    if (fd >= 0) setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    return fd;
}

static socklen_t size_of(const any_address *a) {
    return a->any.sa_family == AF_INET6 ? sizeof a->v6 : sizeof a->v4;
}

/* ---- who listens ---- */

static int listener_of(any_address address, uint16_t *port) {
    int fd = new_socket(address.any.sa_family), off = 0;
    socklen_t size = size_of(&address);
    if (fd < 0) return -1;
    if (address.any.sa_family == AF_INET6) setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off);
    if (bind(fd, &address.any, size) != 0 || listen(fd, SOMAXCONN) != 0 ||
        getsockname(fd, &address.any, &size) != 0) {
        int reason = errno;
        close(fd);
        errno = reason;
        return -1;
    }
    *port = ntohs(address.any.sa_family == AF_INET6 ? address.v6.sin6_port : address.v4.sin_port);
    return fd;
}

int cld__watch_listener(uint16_t *port) {
    any_address v6 = {.v6 = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_ANY_INIT}};
    any_address v4 = {.v4 = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_ANY)}};
    int fd = listener_of(v6, port); /* answers IPv4 too */
    return fd >= 0 ? fd : listener_of(v4, port);
}

int cld__watch_accept(int listener) {
    int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC), on = 1;
    if (fd >= 0) setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    return fd;
}

/* The running system and its network, since a container may have its own. */
static void machine_name(char *out, size_t size) {
    char boot[64] = "", network[48] = "";
    int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
    if (fd >= 0) {
        ssize_t got = read(fd, boot, sizeof boot - 1);
        boot[got > 0 ? strcspn(boot, "\n") : 0] = 0;
        close(fd);
    }
    ssize_t got = readlink("/proc/self/ns/net", network, sizeof network - 1);
    network[got > 0 ? got : 0] = 0;
    snprintf(out, size, "%s %s", boot, network);
}

/* An address that another machine may reach: up, neither the loopback's nor that of a point-to-point link. */
static const void *reachable(const struct ifaddrs *i, int family) {
    const any_address *a = (const any_address *)(const void *)i->ifa_addr;
    if (!a || a->any.sa_family != family || !(i->ifa_flags & IFF_UP) || (i->ifa_flags & IFF_LOOPBACK))
        return NULL;
    if (family == AF_INET) return &a->v4.sin_addr;
    return IN6_IS_ADDR_LINKLOCAL(&a->v6.sin6_addr) ? NULL : (const void *)&a->v6.sin6_addr;
}

void cld__watch_whereabouts(cld_watch_address *out) {
    static const int families[] = {AF_INET, AF_INET6};
    struct ifaddrs *all = NULL;
    int count = 0;
    if (gethostname(out->host, sizeof out->host) != 0) strcpy(out->host, "unknown");
    out->host[sizeof out->host - 1] = 0;
    machine_name(out->machine, sizeof out->machine);
    if (getifaddrs(&all) != 0) return; /* this machine's ranks can still find it */
    for (int f = 0; f < 2; f++)
        for (struct ifaddrs *i = all; i && count < CLD_WATCH_ADDRESSES; i = i->ifa_next) {
            const void *number = reachable(i, families[f]);
            if (number && inet_ntop(families[f], number, out->numbers[count], sizeof out->numbers[count]))
                count++;
        }
    freeifaddrs(all);
}

bool cld__watch_same_machine(const cld_watch_address *a, const cld_watch_address *b) {
    return strcmp(a->machine, b->machine) == 0 && strcmp(a->host, b->host) == 0;
}

/* ---- who connects ---- */

static bool address_of(any_address *out, const cld_watch_address *peer, int way) {
    const char *number = way == 0 ? "127.0.0.1" : peer->numbers[way - 1];
    *out = (any_address){.v4 = {.sin_family = AF_INET, .sin_port = htons(peer->port)}};
    if (inet_pton(AF_INET, number, &out->v4.sin_addr) == 1) return true;
    *out = (any_address){.v6 = {.sin6_family = AF_INET6, .sin6_port = htons(peer->port)}};
    return inet_pton(AF_INET6, number, &out->v6.sin6_addr) == 1;
}

int cld__watch_connect(const cld_watch_address *self, const cld_watch_address *peer, int way) {
    any_address address;
    if (way == 0 && !cld__watch_same_machine(self, peer)) return -1;
    if (!address_of(&address, peer, way)) return -1;
    int fd = new_socket(address.any.sa_family);
    if (fd < 0) return -1;
    if (connect(fd, &address.any, size_of(&address)) == 0 || errno == EINPROGRESS) return fd;
    close(fd);
    return -1;
}

/* ---- messages ---- */

bool cld__watch_send(int fd, const cld_watch_message *m) {
    size_t size = sizeof m->head + (size_t)m->head.length;
    return send(fd, m, size, MSG_NOSIGNAL | MSG_DONTWAIT) == (ssize_t)size;
}

int cld__watch_receive(cld_watch_link *link, uint64_t key, cld_watch_message *out) {
    const size_t head = sizeof link->in.head;
    for (;;) {
        size_t size = head;
        if (link->have >= head) {
            int length = link->in.head.length;
            if (link->in.head.key != key || length < 0 || length >= CLD_WATCH_TEXT) return -1;
            size = head + (size_t)length;
            if (link->have == size) {
                link->have = 0;
                memcpy(out, &link->in, size);
                out->text[length] = 0;
                return 1;
            }
        }
        ssize_t got = recv(link->fd, (char *)&link->in + link->have, size - link->have, MSG_DONTWAIT);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) return 0;
        if (got <= 0) return -1;
        link->have += (size_t)got;
    }
}
