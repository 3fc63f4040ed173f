/* The memory, address space and cores that the machine, `ulimit` and control groups leave this process.
 *
 * A control group's limits hold for every group below it, so each limit is searched from this process's group up to the
 * root of the mounted tree. /proc/self/cgroup names the group in each hierarchy of version 1 and in version 2.
 * /proc/self/mountinfo says where a hierarchy is mounted, and which group that mount shows as its root: in a container
 * rarely the real root.
 */
#define _GNU_SOURCE
#include <limits.h>
#include <math.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "runtime/core/process.h"

/* ---- one group ----------------------------------------------------------------------------------------- */

/* The first line of a group's file; false if there is no such file. */
static bool first_line(char *line, int size, const char *group, const char *file) {
    char path[PATH_MAX];
    if (snprintf(path, sizeof path, "%s/%s", group, file) >= (int)sizeof path) return false;
    FILE *f = fopen(path, "re");
    bool read = f && fgets(line, size, f);
    if (f) fclose(f);
    return read;
}

static void lower_memory(cld_control_groups *c, const char *group, const char *file) {
    char line[128];
    unsigned long long bytes; /* "max" is not a number; version 1 writes one larger than any memory */
    if (first_line(line, sizeof line, group, file) && sscanf(line, "%llu", &bytes) == 1 &&
        bytes < 1ull << 62 && bytes < c->memory)
        c->memory = (size_t)bytes;
}

static void lower_cores(cld_control_groups *c, double quota, double period) {
    if (quota > 0 && period > 0 && quota / period < c->cores) c->cores = quota / period;
}

/* memory.high kills nothing, but a process beyond it is slowed down until it is useless. */
static void read_v2(cld_control_groups *c, const char *group) {
    char line[128];
    double quota, period;
    lower_memory(c, group, "memory.max");
    lower_memory(c, group, "memory.high");
    if (first_line(line, sizeof line, group, "cpu.max") && sscanf(line, "%lf %lf", &quota, &period) == 2)
        lower_cores(c, quota, period);
}

static void read_memory_v1(cld_control_groups *c, const char *group) {
    lower_memory(c, group, "memory.limit_in_bytes");
}

static void read_cpu_v1(cld_control_groups *c, const char *group) {
    char quota[128], period[128];
    if (first_line(quota, sizeof quota, group, "cpu.cfs_quota_us") &&
        first_line(period, sizeof period, group, "cpu.cfs_period_us"))
        lower_cores(c, strtod(quota, NULL), strtod(period, NULL)); /* -1: none */
}

/* ---- the hierarchies ----------------------------------------------------------------------------------- */

static const struct hierarchy {
    const char *controller; /* "": version 2, which has a single tree */
    void (*read)(cld_control_groups *, const char *group);
} hierarchies[] = {{"", read_v2}, {"memory", read_memory_v1}, {"cpu", read_cpu_v1}};

/* Whether `word` is one of the words of a comma-separated list. */
static bool lists(const char *list, const char *word) {
    size_t length = strlen(word);
    for (const char *at = list; (at = strstr(at, word)); at += length)
        if ((at == list || at[-1] == ',') && (at[length] == ',' || at[length] == '\0')) return true;
    return false;
}

/* This process's group in the hierarchy, as /proc/self/cgroup has it: "number:controllers:/group". */
static bool find_group(char *group, size_t size, const char *root, const struct hierarchy *h) {
    char line[PATH_MAX + 256], path[PATH_MAX];
    bool found = false;
    snprintf(path, sizeof path, "%s/proc/self/cgroup", root);
    FILE *f = fopen(path, "re");
    while (f && !found && fgets(line, sizeof line, f)) {
        line[strcspn(line, "\n")] = '\0';
        char *controllers = strchr(line, ':'), *name = controllers ? strchr(controllers + 1, ':') : NULL;
        if (!name) continue;
        *controllers++ = *name++ = '\0';
        found = *h->controller ? lists(controllers, h->controller) : !*controllers && !strcmp(line, "0");
        if (found) snprintf(group, size, "%s", name);
    }
    if (f) fclose(f);
    return found;
}

/* mountinfo writes a space, tab, newline and backslash as \ and three octal digits. */
static void unescape(char *text) {
    char *to = text;
    for (const char *from = text; *from; to++) {
        unsigned code;
        bool escaped = from[0] == '\\' && sscanf(from + 1, "%3o", &code) == 1;
        *to = escaped ? (char)code : *from;
        from += escaped ? 4 : 1;
    }
    *to = '\0';
}

typedef struct mount {
    char root[PATH_MAX], point[PATH_MAX]; /* the group that it shows as its root, and the mount point */
} mount;

/* The next mount of the hierarchy:
 * "36 35 98:0 /group /sys/fs/cgroup/memory rw,relatime shared:1 - cgroup cgroup rw,memory" */
static bool next_mount(FILE *f, mount *m, const struct hierarchy *h) {
    char line[3 * PATH_MAX], type[64], options[1024];
    while (fgets(line, sizeof line, f)) {
        const char *rest = strstr(line, " - ");
        if (!rest || sscanf(line, "%*s %*s %*s %4095s %4095s", m->root, m->point) != 2 ||
            sscanf(rest, " - %63s %*s %1023s", type, options) != 2)
            continue;
        if (*h->controller ? strcmp(type, "cgroup") || !lists(options, h->controller)
                           : strcmp(type, "cgroup2"))
            continue;
        unescape(m->root);
        unescape(m->point);
        return true;
    }
    return false;
}

/* The part of the group's path below the mount's root; NULL if the mount does not show the group: it was mounted for
 * another container, or the group is outside this one ("/../x"). */
static const char *below(const mount *m, const char *group) {
    size_t length = strcmp(m->root, "/") == 0 ? 0 : strlen(m->root);
    if (strncmp(group, m->root, length) != 0) return NULL;
    const char *rest = group + length;
    if (*rest && *rest != '/') return NULL;
    for (const char *at = rest; (at = strstr(at, "/..")); at += 3)
        if (at[3] == '/' || at[3] == '\0') return NULL;
    return rest;
}

/* Reads the limits of the group and of all groups above it, up to the mount point. */
static void climb(cld_control_groups *c, const struct hierarchy *h, const char *root, const char *point,
                  const char *group) {
    char path[3 * PATH_MAX];
    size_t top = (size_t)snprintf(path, sizeof path, "%s%s", root, point);
    size_t length = (size_t)snprintf(path, sizeof path, "%s%s%s", root, point, group);
    if (length >= sizeof path) return;
    for (;;) {
        h->read(c, path);
        char *slash = strrchr(path + top, '/');
        if (!slash) return;
        *slash = '\0';
    }
}

static void read_hierarchy(cld_control_groups *c, const char *root, const struct hierarchy *h) {
    char group[PATH_MAX], path[PATH_MAX], hidden[PATH_MAX] = "";
    bool seen = false;
    mount m;
    if (!find_group(group, sizeof group, root, h)) return;
    snprintf(path, sizeof path, "%s/proc/self/mountinfo", root);
    FILE *f = fopen(path, "re");
    while (f && next_mount(f, &m, h)) {
        const char *rest = below(&m, group);
        if (rest) {
            climb(c, h, root, m.point, rest);
            seen = true;
        } else if (!*hidden) {
            snprintf(hidden, sizeof hidden, "%s", m.point);
        }
    }
    if (f) fclose(f);
    /* No mount shows our group. Then the group that a container sees as its root is the nearest readable one. */
    if (!seen && *hidden) climb(c, h, root, hidden, "");
}

cld_control_groups cld_control_group_limits(const char *root) {
    cld_control_groups c = {.memory = SIZE_MAX, .cores = INFINITY};
    for (size_t i = 0; i < sizeof hierarchies / sizeof *hierarchies; i++)
        read_hierarchy(&c, root, &hierarchies[i]);
    return c;
}

/* ---- this process -------------------------------------------------------------------------------------- */

size_t cld_memory_limit(void) {
    size_t machine = (size_t)sysconf(_SC_PHYS_PAGES) * (size_t)sysconf(_SC_PAGESIZE);
    size_t groups = cld_control_group_limits("").memory;
    return groups < machine ? groups : machine;
}

static size_t left_of(int resource, size_t used) {
    struct rlimit limit;
    if (getrlimit(resource, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY) return SIZE_MAX;
    return limit.rlim_cur > used ? (size_t)limit.rlim_cur - used : 0;
}

size_t cld_addresses_left(void) {
    unsigned long long all = 0, data = 0, page = (unsigned long long)sysconf(_SC_PAGESIZE);
    FILE *f = fopen("/proc/self/statm", "re");
    if (f && fscanf(f, "%llu %*u %*u %*u %*u %llu", &all, &data) != 2) all = data = 0;
    if (f) fclose(f);
    size_t addresses = left_of(RLIMIT_AS, (size_t)(all * page)),
           writable = left_of(RLIMIT_DATA, (size_t)(data * page));
    return addresses < writable ? addresses : writable;
}

int cld_share_of(int total, int part, int parts, int *begin) {
    *begin = (int)((long long)total * part / parts);
    int end = (int)((long long)total * (part + 1) / parts);
    return end > *begin ? end : *begin + 1;
}

static int quota_part = 0, quota_parts = 1;

void cld_share_quota(int part, int parts) { quota_part = part, quota_parts = parts; }

int cld_cores_under(int cores, double quota) {
    int begin;
    if (quota < INT_MAX) { /* the parts' shares add up to the quota's whole cores */
        int end = cld_share_of((int)ceil(quota), quota_part, quota_parts, &begin);
        if (end - begin < cores) cores = end - begin;
    }
    return cores > 0 ? cores : 1;
}

int cld_usable_cores(void) {
    cpu_set_t set;
    long cores =
        sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : sysconf(_SC_NPROCESSORS_ONLN);
    return cld_cores_under((int)cores, cld_control_group_limits("").cores);
}
