/* A disk that does not answer, or fails, for one directory: preloaded, it holds whatever would reach the disk.
 *
 * As long as the file named by STALLED_DISK exists, calls on files below the directory whose path it holds wait, and go on
 * when it is gone; with an exclamation mark before the path they fail with EIO. Reads, and what goes to sockets and pipes,
 * is left alone. Linux with glibc.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum { GO_ON, WAIT, FAIL };

static int verdict(const char *control, const char *path) {
    char content[PATH_MAX];
    int fd = open(control, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return GO_ON;
    ssize_t length = read(fd, content, sizeof content);
    close(fd);
    int fails = length > 0 && content[0] == '!';
    const char *prefix = content + fails;
    if (length <= fails || strncmp(path, prefix, (size_t)(length - fails)) != 0) return GO_ON;
    return fails ? FAIL : WAIT;
}

/* Nonzero: the call is to fail. */
static int reach_path(const char *path) {
    const char *control = getenv("STALLED_DISK");
    const struct timespec pause = {0, 2000000};
    while (control && access(control, F_OK) == 0) {
        switch (verdict(control, path)) {
            case GO_ON: return 0;
            case FAIL: errno = EIO; return -1;
        }
        nanosleep(&pause, NULL);
    }
    return 0;
}

static int reach(int fd) {
    const char *control = getenv("STALLED_DISK");
    if (!control || access(control, F_OK) != 0) return 0;
    char link[64], path[PATH_MAX];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length <= 0) return 0;
    path[length] = 0;
    return reach_path(path);
}

#define NEXT(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

int fsync(int fd) { return reach(fd) ? -1 : NEXT(fsync)(fd); }
int fdatasync(int fd) { return reach(fd) ? -1 : NEXT(fdatasync)(fd); }

ssize_t pwrite(int fd, const void *b, size_t n, off_t o) { return reach(fd) ? -1 : NEXT(pwrite)(fd, b, n, o); }
ssize_t pwrite64(int fd, const void *b, size_t n, off64_t o) { return reach(fd) ? -1 : NEXT(pwrite64)(fd, b, n, o); }
ssize_t pwritev(int fd, const struct iovec *v, int n, off_t o) { return reach(fd) ? -1 : NEXT(pwritev)(fd, v, n, o); }
ssize_t pwritev64(int fd, const struct iovec *v, int n, off64_t o) { return reach(fd) ? -1 : NEXT(pwritev64)(fd, v, n, o); }
ssize_t pwritev2(int fd, const struct iovec *v, int n, off_t o, int f) {
    return reach(fd) ? -1 : NEXT(pwritev2)(fd, v, n, o, f);
}
ssize_t pwritev64v2(int fd, const struct iovec *v, int n, off64_t o, int f) {
    return reach(fd) ? -1 : NEXT(pwritev64v2)(fd, v, n, o, f);
}

int ftruncate(int fd, off_t size) { return reach(fd) ? -1 : NEXT(ftruncate)(fd, size); }
int ftruncate64(int fd, off64_t size) { return reach(fd) ? -1 : NEXT(ftruncate64)(fd, size); }
int posix_fallocate(int fd, off_t o, off_t n) { return reach(fd) ? EIO : NEXT(posix_fallocate)(fd, o, n); }
int posix_fallocate64(int fd, off64_t o, off64_t n) { return reach(fd) ? EIO : NEXT(posix_fallocate64)(fd, o, n); }
int rename(const char *from, const char *to) { return reach_path(from) ? -1 : NEXT(rename)(from, to); }
