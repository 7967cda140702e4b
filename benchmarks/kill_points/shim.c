/* Preloaded: the process that armed it is killed at its n-th change of a file below a folder.
 *
 * Whatever language a change comes from, it goes through one of these functions.  A write is
 * done by half before the kill, so that what is torn is there to be found.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

static char folder[PATH_MAX];
static atomic_long points, fatal;

void kill_points_arm(const char *below, long at) {
    strncpy(folder, below, sizeof folder - 1);
    points = 0;
    fatal = at;
}

long kill_points_passed(void) { return points; }

static int starts(const char *path) {
    size_t length = strlen(folder);
    return length && strncmp(path, folder, length) == 0;
}

static int below_fd(int fd) {
    char link[64], path[PATH_MAX];
    if (!folder[0]) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0) return 0;
    path[length] = 0;
    return starts(path);
}

static int below(int fd, const char *path) {
    if (path[0] == '/') return starts(path);
    return fd != AT_FDCWD && below_fd(fd);
}

/* Whether this is the point at which to die. */
static int due(int counts) { return counts && atomic_fetch_add(&points, 1) + 1 == fatal; }

static void die(void) {
    kill(getpid(), SIGKILL);
    for (;;) pause();
}

#define REAL(result, name, ...) \
    static result (*real)(__VA_ARGS__); \
    if (!real) real = (result (*)(__VA_ARGS__))dlsym(RTLD_NEXT, #name)

#define PATH_CALL(name, fd, path, parameters, types, arguments) \
    int name parameters { \
        REAL(int, name, types); \
        if (due(below(fd, path))) die(); \
        return real arguments; \
    }
#define TYPES(...) __VA_ARGS__

PATH_CALL(rename, AT_FDCWD, b, (const char *a, const char *b), TYPES(const char *, const char *), (a, b))
PATH_CALL(renameat, e, b, (int d, const char *a, int e, const char *b),
          TYPES(int, const char *, int, const char *), (d, a, e, b))
PATH_CALL(renameat2, e, b, (int d, const char *a, int e, const char *b, unsigned flags),
          TYPES(int, const char *, int, const char *, unsigned), (d, a, e, b, flags))
PATH_CALL(unlink, AT_FDCWD, a, (const char *a), TYPES(const char *), (a))
PATH_CALL(unlinkat, d, a, (int d, const char *a, int flags), TYPES(int, const char *, int), (d, a, flags))
PATH_CALL(rmdir, AT_FDCWD, a, (const char *a), TYPES(const char *), (a))
PATH_CALL(mkdir, AT_FDCWD, a, (const char *a, mode_t mode), TYPES(const char *, mode_t), (a, mode))
PATH_CALL(mkdirat, d, a, (int d, const char *a, mode_t mode), TYPES(int, const char *, mode_t), (d, a, mode))
PATH_CALL(truncate, AT_FDCWD, a, (const char *a, off_t size), TYPES(const char *, off_t), (a, size))
PATH_CALL(truncate64, AT_FDCWD, a, (const char *a, off64_t size), TYPES(const char *, off64_t), (a, size))

#define FD_CALL(name, parameters, types, arguments) \
    int name parameters { \
        REAL(int, name, types); \
        if (due(below_fd(fd))) die(); \
        return real arguments; \
    }

FD_CALL(fsync, (int fd), TYPES(int), (fd))
FD_CALL(fdatasync, (int fd), TYPES(int), (fd))
FD_CALL(ftruncate, (int fd, off_t size), TYPES(int, off_t), (fd, size))
FD_CALL(ftruncate64, (int fd, off64_t size), TYPES(int, off64_t), (fd, size))
FD_CALL(fallocate, (int fd, int mode, off_t from, off_t size), TYPES(int, int, off_t, off_t), (fd, mode, from, size))
FD_CALL(posix_fallocate, (int fd, off_t from, off_t size), TYPES(int, off_t, off_t), (fd, from, size))

#define OPEN_CALL(name, fd, parameters, types, arguments) \
    int name parameters { \
        REAL(int, name, types, int, ...); \
        mode_t mode = 0; \
        if (flags & (O_CREAT | O_TMPFILE)) { \
            va_list rest; \
            va_start(rest, flags); \
            mode = va_arg(rest, mode_t); \
            va_end(rest); \
        } \
        if (due((flags & (O_CREAT | O_TRUNC)) && below(fd, path))) die(); \
        return real arguments; \
    }

OPEN_CALL(open, AT_FDCWD, (const char *path, int flags, ...), TYPES(const char *), (path, flags, mode))
OPEN_CALL(open64, AT_FDCWD, (const char *path, int flags, ...), TYPES(const char *), (path, flags, mode))
OPEN_CALL(openat, d, (int d, const char *path, int flags, ...), TYPES(int, const char *), (d, path, flags, mode))
OPEN_CALL(openat64, d, (int d, const char *path, int flags, ...), TYPES(int, const char *), (d, path, flags, mode))

#define WRITE_CALL(name, parameters, types, arguments, half) \
    ssize_t name parameters { \
        REAL(ssize_t, name, types); \
        if (due(below_fd(fd))) { \
            (void)!real half; \
            die(); \
        } \
        return real arguments; \
    }

WRITE_CALL(write, (int fd, const void *bytes, size_t size), TYPES(int, const void *, size_t),
           (fd, bytes, size), (fd, bytes, size / 2))
WRITE_CALL(pwrite, (int fd, const void *bytes, size_t size, off_t at),
           TYPES(int, const void *, size_t, off_t), (fd, bytes, size, at), (fd, bytes, size / 2, at))
WRITE_CALL(pwrite64, (int fd, const void *bytes, size_t size, off64_t at),
           TYPES(int, const void *, size_t, off64_t), (fd, bytes, size, at), (fd, bytes, size / 2, at))
WRITE_CALL(writev, (int fd, const struct iovec *parts, int count), TYPES(int, const struct iovec *, int),
           (fd, parts, count), (fd, parts, count / 2))
