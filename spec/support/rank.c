/* A rank without MPI, for the specs: what it learns from the environment, and the cores that it takes.
 *
 *     rank launcher           "mpirun 4 1 1 4": name, world, rank, local rank, local world; "none"
 *     rank child              the same from a program that it starts after it has joined the job
 *     rank other NAME=VALUE   the same, with the program belonging to another job
 *     rank told LIBRARY [FOLDER]    "yes"; "no" if its MPI, with its files in FOLDER, will not find the other ranks
 *     rank apart | without    the errors of a wrong launch
 *     rank cores [RANK WORLD] takes its cores, according to the launcher's local rank and number of ranks, or these
 *                             two, and prints "0-1 2": the list and how many are usable
 *     rank under PART PARTS CORES QUOTA    how many are usable under a quota
 */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "runtime/core/process.h"
#include "runtime/dist/cores.h"
#include "runtime/dist/launcher.h"

static int fail(void) { return fprintf(stderr, "%s\n", cld_error_message()), 1; }

static int show(void) {
    cld_launcher l = cld_find_launcher();
    if (l.name)
        printf("%s %d %d %d %d\n", l.name, l.world, l.rank, l.local_rank, l.local_world);
    else
        puts("none");
    return 0;
}

static int start_other(char *program, char *variable) {
    if (cld_launcher_taken() != CLD_OK) return fail();
    if (variable) putenv(variable);
    execl(program, program, "launcher", (char *)NULL);
    return perror(program), 1;
}

/* The process's own affinity, in the kernel's format. */
static int show_cores(int local_rank, int local_world) {
    char line[4096];
    if (cld_take_cores(local_rank, local_world) != CLD_OK) return fail();
    FILE *f = fopen("/proc/thread-self/status", "re");
    while (f && fgets(line, sizeof line, f))
        if (strncmp(line, "Cpus_allowed_list:", 18) == 0) {
            line[strcspn(line, "\n")] = '\0';
            printf("%s %d\n", line + 19, cld_usable_cores()); /* one write, as ranks print at the same time */
        }
    return f ? fclose(f) : 1;
}

int main(int argc, char **argv) {
    const char *what = argc > 1 ? argv[1] : "";
    cld_launcher l = cld_find_launcher();
    if (!strcmp(what, "launcher")) return show();
    if (!strcmp(what, "child")) return start_other(argv[0], NULL);
    if (!strcmp(what, "other") && argc == 3) return start_other(argv[0], argv[2]);
    if (!strcmp(what, "apart")) return cld_launcher_apart(&l, "Open MPI 4.1.4"), fail();
    if (!strcmp(what, "told") && (argc == 3 || argc == 4))
        return puts(cld_launcher_told_nothing(&l, argv[2], argv[3]) ? "no" : "yes") < 0;
    if (!strcmp(what, "without")) return cld_launcher_without_mpi(&l), fail();
    if (!strcmp(what, "cores") && argc == 2) return show_cores(l.local_rank, l.local_world);
    if (!strcmp(what, "cores") && argc == 4) return show_cores(atoi(argv[2]), atoi(argv[3]));
    if (!strcmp(what, "under") && argc == 6) {
        cld_share_quota(atoi(argv[2]), atoi(argv[3]));
        return printf("%d\n", cld_cores_under(atoi(argv[4]), atof(argv[5]))) < 0;
    }
    return fprintf(stderr, "rank: see the top of spec/support/rank.c\n"), 2;
}
