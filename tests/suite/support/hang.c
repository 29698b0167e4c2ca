/* Stops one kind of operation on files for as long as a file exists.
 *
 * Preloaded into a test. AUDIT_HANG_CALL names the kind, AUDIT_HANG_PART a part of the paths, AUDIT_HANG_NOT a part that
 * the paths must not have, and AUDIT_HANG_WHILE the file. The first call that stops makes a file with .reached after that
 * name.
 *
 * AUDIT_FAIL_READ names a part of the paths, and AUDIT_FAIL_FROM and AUDIT_FAIL_UNTIL offsets: what lies between them cannot
 * be read, as from bad sectors. */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

static void look(const char *kind, const char *path) {
    const char *call = getenv("AUDIT_HANG_CALL"), *part = getenv("AUDIT_HANG_PART");
    const char *not = getenv("AUDIT_HANG_NOT"), *file = getenv("AUDIT_HANG_WHILE");
    char reached[4096];
    if (!call || !part || !file || !path || strcmp(call, kind) != 0 || !strstr(path, part)) return;
    if (not && *not && strstr(path, not)) return;
    if (syscall(SYS_faccessat, AT_FDCWD, file, F_OK) != 0) return;
    snprintf(reached, sizeof reached, "%s.reached", file);
    int made = (int)syscall(SYS_openat, AT_FDCWD, reached, O_CREAT | O_WRONLY, 0600);
    if (made >= 0) syscall(SYS_close, made);
    while (syscall(SYS_faccessat, AT_FDCWD, file, F_OK) == 0) usleep(2000);
}

/* The caller may look at the error of its own call alone. */
static void stop(const char *kind, const char *path) {
    int error = errno;
    look(kind, path);
    errno = error;
}

static void stop_fd(const char *kind, int fd) {
    char link[64], path[4096];
    const char *call = getenv("AUDIT_HANG_CALL");
    if (!call || strcmp(call, kind) != 0) return;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    int error = errno;
    long size = syscall(SYS_readlinkat, AT_FDCWD, link, path, sizeof path - 1);
    errno = error;
    if (size < 0) return;
    path[size] = 0;
    stop(kind, path);
}

static int fails(int fd, size_t size, off64_t at) {
    char link[64], path[4096];
    const char *part = getenv("AUDIT_FAIL_READ"), *from = getenv("AUDIT_FAIL_FROM"), *until = getenv("AUDIT_FAIL_UNTIL");
    if (!part || !from || !until || at >= atoll(until) || at + (off64_t)size <= atoll(from)) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    long length = syscall(SYS_readlinkat, AT_FDCWD, link, path, sizeof path - 1);
    if (length < 0) return 0;
    path[length] = 0;
    if (!strstr(path, part)) return 0;
    errno = EIO;
    return 1;
}

static void stop_at(const char *kind, int fd, const char *path) {
    if (path && *path) stop(kind, path);
    if (!path || path[0] != '/') stop_fd(kind, fd);
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

#define OPENS(name)                                                     \
    int name(const char *path, int flags, ...) {                        \
        va_list more;                                                   \
        va_start(more, flags);                                          \
        mode_t mode = (flags & (O_CREAT | O_TMPFILE)) ? va_arg(more, mode_t) : 0; \
        va_end(more);                                                   \
        stop("open", path);                                             \
        return REAL(name)(path, flags, mode);                           \
    }
OPENS(open)
OPENS(open64)

#define OPENATS(name)                                                   \
    int name(int at, const char *path, int flags, ...) {                \
        va_list more;                                                   \
        va_start(more, flags);                                          \
        mode_t mode = (flags & (O_CREAT | O_TMPFILE)) ? va_arg(more, mode_t) : 0; \
        va_end(more);                                                   \
        stop_at("open", at, path);                                      \
        return REAL(name)(at, path, flags, mode);                       \
    }
OPENATS(openat)
OPENATS(openat64)

ssize_t read(int fd, void *to, size_t size) { stop_fd("read", fd); return REAL(read)(fd, to, size); }
ssize_t pread(int fd, void *to, size_t size, off_t at) { stop_fd("read", fd); return fails(fd, size, at) ? -1 : REAL(pread)(fd, to, size, at); }
ssize_t pread64(int fd, void *to, size_t size, off64_t at) { stop_fd("read", fd); return fails(fd, size, at) ? -1 : REAL(pread64)(fd, to, size, at); }
ssize_t write(int fd, const void *from, size_t size) { stop_fd("write", fd); return REAL(write)(fd, from, size); }
ssize_t pwrite(int fd, const void *from, size_t size, off_t at) { stop_fd("write", fd); return REAL(pwrite)(fd, from, size, at); }
ssize_t pwrite64(int fd, const void *from, size_t size, off64_t at) { stop_fd("write", fd); return REAL(pwrite64)(fd, from, size, at); }
int fsync(int fd) { stop_fd("fsync", fd); return REAL(fsync)(fd); }
int fdatasync(int fd) { stop_fd("fsync", fd); return REAL(fdatasync)(fd); }
int fallocate(int fd, int mode, off_t at, off_t size) { stop_fd("fallocate", fd); return REAL(fallocate)(fd, mode, at, size); }
int fallocate64(int fd, int mode, off64_t at, off64_t size) { stop_fd("fallocate", fd); return REAL(fallocate64)(fd, mode, at, size); }
int posix_fallocate(int fd, off_t at, off_t size) { stop_fd("fallocate", fd); return REAL(posix_fallocate)(fd, at, size); }
int posix_fallocate64(int fd, off64_t at, off64_t size) { stop_fd("fallocate", fd); return REAL(posix_fallocate64)(fd, at, size); }
int ftruncate(int fd, off_t size) { stop_fd("truncate", fd); return REAL(ftruncate)(fd, size); }
int ftruncate64(int fd, off64_t size) { stop_fd("truncate", fd); return REAL(ftruncate64)(fd, size); }
int rename(const char *from, const char *to) { stop("rename", from); return REAL(rename)(from, to); }
int unlink(const char *path) { stop("unlink", path); return REAL(unlink)(path); }
int unlinkat(int at, const char *path, int flags) { stop_at("unlink", at, path); return REAL(unlinkat)(at, path, flags); }
int mkdir(const char *path, mode_t mode) { stop("mkdir", path); return REAL(mkdir)(path, mode); }
int rmdir(const char *path) { stop("rmdir", path); return REAL(rmdir)(path); }
int stat(const char *path, struct stat *to) { stop("stat", path); return REAL(stat)(path, to); }
int stat64(const char *path, struct stat64 *to) { stop("stat", path); return REAL(stat64)(path, to); }
int lstat(const char *path, struct stat *to) { stop("stat", path); return REAL(lstat)(path, to); }
int lstat64(const char *path, struct stat64 *to) { stop("stat", path); return REAL(lstat64)(path, to); }
int fstat(int fd, struct stat *to) { stop_fd("stat", fd); return REAL(fstat)(fd, to); }
int fstat64(int fd, struct stat64 *to) { stop_fd("stat", fd); return REAL(fstat64)(fd, to); }
int statx(int at, const char *restrict path, int flags, unsigned mask, struct statx *restrict to) {
    stop_at("stat", at, path);
    return REAL(statx)(at, path, flags, mask, to);
}
int flock(int fd, int how) { stop_fd("lock", fd); return REAL(flock)(fd, how); }
int close(int fd) { stop_fd("close", fd); return REAL(close)(fd); }

#define FCNTLS(name)                                                    \
    int name(int fd, int what, ...) {                                   \
        va_list more;                                                   \
        va_start(more, what);                                           \
        void *with = va_arg(more, void *);                              \
        va_end(more);                                                   \
        if (what != F_GETFD && what != F_SETFD && what != F_DUPFD_CLOEXEC) stop_fd("lock", fd); \
        return REAL(name)(fd, what, with);                              \
    }
FCNTLS(fcntl)
FCNTLS(fcntl64)

struct dirent *readdir(DIR *directory) { stop_fd("readdir", dirfd(directory)); return REAL(readdir)(directory); }
struct dirent64 *readdir64(DIR *directory) { stop_fd("readdir", dirfd(directory)); return REAL(readdir64)(directory); }
DIR *opendir(const char *path) { stop("open", path); return REAL(opendir)(path); }
