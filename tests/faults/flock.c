/* flock as file systems have it that only seem to lock.

   LYING=everybody: it succeeds for everybody, as on some set-ups of Lustre, GPFS and NFS.
   LYING=machine: it holds within a process only, as on a file system that keeps locks on the machine
   that asks, when each process is on a machine of its own. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>

enum { MOST = 1024 };
static struct { int held; dev_t device; ino_t number; } held[MOST];

int flock(int descriptor, int operation) {
    struct stat status;
    if (strcmp(getenv("LYING"), "everybody") == 0) return 0;
    if (descriptor < 0 || descriptor >= MOST || fstat(descriptor, &status) != 0) {
        errno = EBADF;
        return -1;
    }
    if (operation & LOCK_UN) {
        held[descriptor].held = 0;
        return 0;
    }
    for (int other = 0; other < MOST; other++) {
        if (other != descriptor && held[other].held && held[other].device == status.st_dev
            && held[other].number == status.st_ino) {
            errno = EWOULDBLOCK;
            return -1;
        }
    }
    held[descriptor].held = 1;
    held[descriptor].device = status.st_dev;
    held[descriptor].number = status.st_ino;
    return 0;
}

int close(int descriptor) {
    static int (*real)(int);
    if (!real) real = (int (*)(int))dlsym(RTLD_NEXT, "close");
    if (descriptor >= 0 && descriptor < MOST) held[descriptor].held = 0;
    return real(descriptor);
}
