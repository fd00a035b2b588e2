/* A disk that does not answer, for one directory: preloaded, it holds whatever would reach the disk.
 *
 * As long as the file named by STALLED_DISK exists, calls on files below the directory whose path it holds wait; when it
 * is gone, they go on. Reads and what goes to sockets and pipes is left alone. Linux with glibc.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

static int held(const char *control, const char *path) {
    char prefix[PATH_MAX];
    int fd = open(control, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return 0;
    ssize_t length = read(fd, prefix, sizeof prefix);
    close(fd);
    return length > 0 && strncmp(path, prefix, (size_t)length) == 0;
}

static void wait_for_path(const char *path) {
    const char *control = getenv("STALLED_DISK");
    const struct timespec pause = {0, 2000000};
    while (control && access(control, F_OK) == 0 && held(control, path)) nanosleep(&pause, NULL);
}

static void wait_for(int fd) {
    const char *control = getenv("STALLED_DISK");
    if (!control || access(control, F_OK) != 0) return;
    char link[64], path[PATH_MAX];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length <= 0) return;
    path[length] = 0;
    wait_for_path(path);
}

#define NEXT(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

int fsync(int fd) { wait_for(fd); return NEXT(fsync)(fd); }
int fdatasync(int fd) { wait_for(fd); return NEXT(fdatasync)(fd); }

ssize_t pwrite(int fd, const void *b, size_t n, off_t o) { wait_for(fd); return NEXT(pwrite)(fd, b, n, o); }
ssize_t pwrite64(int fd, const void *b, size_t n, off64_t o) { wait_for(fd); return NEXT(pwrite64)(fd, b, n, o); }
ssize_t pwritev(int fd, const struct iovec *v, int n, off_t o) { wait_for(fd); return NEXT(pwritev)(fd, v, n, o); }
ssize_t pwritev64(int fd, const struct iovec *v, int n, off64_t o) { wait_for(fd); return NEXT(pwritev64)(fd, v, n, o); }
ssize_t pwritev2(int fd, const struct iovec *v, int n, off_t o, int f) {
    wait_for(fd);
    return NEXT(pwritev2)(fd, v, n, o, f);
}
ssize_t pwritev64v2(int fd, const struct iovec *v, int n, off64_t o, int f) {
    wait_for(fd);
    return NEXT(pwritev64v2)(fd, v, n, o, f);
}

int ftruncate(int fd, off_t size) { wait_for(fd); return NEXT(ftruncate)(fd, size); }
int ftruncate64(int fd, off64_t size) { wait_for(fd); return NEXT(ftruncate64)(fd, size); }
int posix_fallocate(int fd, off_t o, off_t n) { wait_for(fd); return NEXT(posix_fallocate)(fd, o, n); }
int posix_fallocate64(int fd, off64_t o, off64_t n) { wait_for(fd); return NEXT(posix_fallocate64)(fd, o, n); }
int rename(const char *from, const char *to) { wait_for_path(from); return NEXT(rename)(from, to); }
