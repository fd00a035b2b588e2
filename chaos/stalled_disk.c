/* A disk that does not answer, is slow, or fails, for some directories: preloaded, it holds whatever would reach the disk.
 *
 * As long as the file named by STALLED_DISK exists, each of its lines says what befalls files below a directory:
 *
 *     stall /data/node-1/        writes and syncs wait, and go on when the line is gone
 *     fail /data/node-1/         writes and syncs fail with EIO
 *     unreadable /data/node-1/   reads fail with EIO
 *     slow:250 /data/node-1/     a sync takes so many milliseconds longer
 *
 * What goes to sockets and pipes is left alone. Linux with glibc.
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

enum { CONTENT_MAX = 16384 };
enum kind { READ, WRITE, SYNC };
enum verdict { GO_ON, WAIT, FAIL };

static void sleep_ms(long ms) {
    const struct timespec pause = {ms / 1000, ms % 1000 * 1000000};
    nanosleep(&pause, NULL);
}

/* What the control file says of that path; `slow_ms` is how long a sync is to take at least. */
static enum verdict verdict(const char *control, const char *path, enum kind kind, long *slow_ms) {
    char content[CONTENT_MAX + 1];
    int fd = open(control, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return GO_ON;
    ssize_t length = read(fd, content, CONTENT_MAX);
    close(fd);
    if (length <= 0) return GO_ON;
    content[length] = 0;
    char *rest = content, *line;
    while ((line = strsep(&rest, "\n"))) {
        char *prefix = strchr(line, ' ');
        if (!prefix) continue;
        *prefix++ = 0;
        if (strncmp(path, prefix, strlen(prefix)) != 0) continue;
        if (strcmp(line, "stall") == 0 && kind != READ) return WAIT;
        if (strcmp(line, "fail") == 0 && kind != READ) return FAIL;
        if (strcmp(line, "unreadable") == 0 && kind == READ) return FAIL;
        if (strncmp(line, "slow:", 5) == 0 && kind == SYNC) *slow_ms = atol(line + 5);
    }
    return GO_ON;
}

/* Nonzero: the call is to fail. */
static int reach_path(const char *path, enum kind kind) {
    const char *control = getenv("STALLED_DISK");
    long slow_ms = 0;
    while (control && access(control, F_OK) == 0) {
        switch (verdict(control, path, kind, &slow_ms)) {
            case GO_ON:
                if (slow_ms > 0) sleep_ms(slow_ms);
                return 0;
            case FAIL: errno = EIO; return -1;
            case WAIT: sleep_ms(2);
        }
    }
    return 0;
}

static int reach(int fd, enum kind kind) {
    const char *control = getenv("STALLED_DISK");
    if (!control || access(control, F_OK) != 0) return 0;
    char link[64], path[PATH_MAX];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length <= 0) return 0;
    path[length] = 0;
    return reach_path(path, kind);
}

#define NEXT(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))
#define CALL(kind, name, ...) (reach(fd, kind) ? -1 : NEXT(name)(__VA_ARGS__))

int fsync(int fd) { return CALL(SYNC, fsync, fd); }
int fdatasync(int fd) { return CALL(SYNC, fdatasync, fd); }

ssize_t pwrite(int fd, const void *b, size_t n, off_t o) { return CALL(WRITE, pwrite, fd, b, n, o); }
ssize_t pwrite64(int fd, const void *b, size_t n, off64_t o) { return CALL(WRITE, pwrite64, fd, b, n, o); }
ssize_t pwritev(int fd, const struct iovec *v, int n, off_t o) { return CALL(WRITE, pwritev, fd, v, n, o); }
ssize_t pwritev64(int fd, const struct iovec *v, int n, off64_t o) { return CALL(WRITE, pwritev64, fd, v, n, o); }
ssize_t pwritev2(int fd, const struct iovec *v, int n, off_t o, int f) { return CALL(WRITE, pwritev2, fd, v, n, o, f); }
ssize_t pwritev64v2(int fd, const struct iovec *v, int n, off64_t o, int f) {
    return CALL(WRITE, pwritev64v2, fd, v, n, o, f);
}

ssize_t pread(int fd, void *b, size_t n, off_t o) { return CALL(READ, pread, fd, b, n, o); }
ssize_t pread64(int fd, void *b, size_t n, off64_t o) { return CALL(READ, pread64, fd, b, n, o); }
ssize_t preadv(int fd, const struct iovec *v, int n, off_t o) { return CALL(READ, preadv, fd, v, n, o); }
ssize_t preadv64(int fd, const struct iovec *v, int n, off64_t o) { return CALL(READ, preadv64, fd, v, n, o); }
ssize_t preadv2(int fd, const struct iovec *v, int n, off_t o, int f) { return CALL(READ, preadv2, fd, v, n, o, f); }
ssize_t preadv64v2(int fd, const struct iovec *v, int n, off64_t o, int f) {
    return CALL(READ, preadv64v2, fd, v, n, o, f);
}

int ftruncate(int fd, off_t size) { return CALL(WRITE, ftruncate, fd, size); }
int ftruncate64(int fd, off64_t size) { return CALL(WRITE, ftruncate64, fd, size); }
int posix_fallocate(int fd, off_t o, off_t n) { return reach(fd, WRITE) ? EIO : NEXT(posix_fallocate)(fd, o, n); }
int posix_fallocate64(int fd, off64_t o, off64_t n) {
    return reach(fd, WRITE) ? EIO : NEXT(posix_fallocate64)(fd, o, n);
}
int rename(const char *from, const char *to) { return reach_path(from, WRITE) ? -1 : NEXT(rename)(from, to); }
