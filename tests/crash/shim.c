/* Stands between a process and libc: records what it does to the files of a folder, in order and
 * with the bytes, and can let a chosen call fail. Loaded with LD_PRELOAD, driven by tests/crash/shim.py
 * through the crash_* functions. SQLite writes through libc as Python does, so both are seen.
 *
 * One lock is held over a call and its record: what is logged happened in that order. Shared maps
 * are not seen (SQLite's -shm files are the only ones written so, and nothing durable is in them). */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

enum { CREATE = 1, WRITE, TRUNCATE, ALLOCATE, SYNC, SYNC_FOLDER, RENAME, UNLINK, MKDIR, RMDIR };
enum { FAIL_EIO = 1, FAIL_ENOSPC, FAIL_SHORT, FAIL_TORN, FAIL_KILL };
enum { MOST_DESCRIPTORS = 1 << 16 };

struct record { /* followed by the path, then by the data */
    uint32_t operation, path_bytes;
    uint64_t inode, offset, length, data_bytes;
};

static pthread_mutex_t guard = PTHREAD_MUTEX_INITIALIZER;
static char root[PATH_MAX];
static size_t root_bytes;
static int log_descriptor = -1;
static unsigned char tracked[MOST_DESCRIPTORS];
static long calls, fail_at, fail_count;
static int fail_mode;

#define REAL(name) ((__typeof__(&name))real(#name))

static void *real(const char *name) {
    void *found = dlsym(RTLD_NEXT, name);
    if (!found) {
        fprintf(stderr, "libc has no %s\n", name);
        abort();
    }
    return found;
}

static void put(const void *bytes, size_t count) {
    for (const char *at = bytes; count;) {
        ssize_t done = REAL(write)(log_descriptor, at, count);
        if (done <= 0) {
            perror("the crash log");
            abort();
        }
        at += done;
        count -= (size_t)done;
    }
}

static void note(uint32_t operation, uint64_t inode, const char *path, uint64_t offset,
                 uint64_t length, const void *data, uint64_t data_bytes) {
    if (log_descriptor < 0) return;
    int kept = errno;
    struct record record = {operation, path ? (uint32_t)strlen(path) : 0, inode, offset,
                            length, data_bytes};
    put(&record, sizeof record);
    if (path) put(path, record.path_bytes);
    if (data) put(data, data_bytes);
    errno = kept;
}

/* The absolute name of a file whose folder exists, or 0 when it is not under the root. */
static int inside(int folder, const char *name, char path[PATH_MAX]) {
    char whole[2 * PATH_MAX], parent[PATH_MAX];
    if (!root_bytes || !name) return 0;
    if (name[0] == '/') {
        snprintf(whole, sizeof whole, "%s", name);
    } else if (folder == AT_FDCWD) {
        if (!getcwd(parent, sizeof parent)) return 0;
        snprintf(whole, sizeof whole, "%s/%s", parent, name);
    } else {
        char link[64];
        snprintf(link, sizeof link, "/proc/self/fd/%d", folder);
        ssize_t count = readlink(link, parent, sizeof parent - 1);
        if (count < 0) return 0;
        parent[count] = 0;
        snprintf(whole, sizeof whole, "%s/%s", parent, name);
    }
    size_t count = strlen(whole);
    while (count > 1 && whole[count - 1] == '/') whole[--count] = 0;
    if (count >= PATH_MAX) return 0;
    strcpy(path, whole);
    return !strncmp(whole, root, root_bytes) && (whole[root_bytes] == '/' || !whole[root_bytes]);
}

static uint64_t inode_of(int descriptor) {
    struct stat found;
    return fstat(descriptor, &found) ? 0 : found.st_ino;
}

static int is_tracked(int descriptor) {
    return descriptor >= 0 && descriptor < MOST_DESCRIPTORS && tracked[descriptor];
}

static void track(int descriptor, int value) {
    if (descriptor >= 0 && descriptor < MOST_DESCRIPTORS) tracked[descriptor] = (unsigned char)value;
}

/* Whether this call is one that fails; says how. Calls that a short write says nothing about pass. */
static int fails(int is_write) {
    calls++;
    if (!fail_at || calls < fail_at || calls >= fail_at + fail_count) return 0;
    if ((fail_mode == FAIL_SHORT || fail_mode == FAIL_TORN) && !is_write) return 0;
    if (fail_mode == FAIL_KILL) raise(SIGKILL);
    if (fail_mode == FAIL_EIO) errno = EIO;
    if (fail_mode == FAIL_ENOSPC) errno = ENOSPC;
    return fail_mode;
}

#define LOCK pthread_mutex_lock(&guard)
#define UNLOCK pthread_mutex_unlock(&guard)

void crash_record(const char *folder, int descriptor) {
    LOCK;
    snprintf(root, sizeof root, "%s", folder);
    root_bytes = strlen(root);
    log_descriptor = descriptor;
    UNLOCK;
}

void crash_fail(long at, int mode, long count) { /* the call `at` from now on, and those after it */
    LOCK;
    fail_at = at ? calls + at : 0;
    fail_mode = mode;
    fail_count = count;
    UNLOCK;
}

long crash_calls(void) { return calls; }

static int opened(int folder, const char *name, int flags, mode_t mode) {
    char path[PATH_MAX];
    LOCK;
    int ours = inside(folder, name, path), made = 0;
    if (ours && flags & O_CREAT) {
        struct stat found;
        made = lstat(path, &found) != 0;
    }
    if (made && fails(0)) {
        UNLOCK;
        return -1;
    }
    int descriptor = REAL(openat)(folder, name, flags, mode);
    if (ours && descriptor >= 0) {
        track(descriptor, 1);
        if (made) note(CREATE, inode_of(descriptor), path, 0, 0, 0, 0);
        else if (flags & O_TRUNC) note(TRUNCATE, inode_of(descriptor), 0, 0, 0, 0, 0);
    }
    UNLOCK;
    return descriptor;
}

#define MODE                                                        \
    mode_t mode = 0;                                                \
    if (flags & (O_CREAT | __O_TMPFILE)) {                          \
        va_list rest;                                               \
        va_start(rest, flags);                                      \
        mode = (mode_t)va_arg(rest, int);                           \
        va_end(rest);                                               \
    }

int open(const char *name, int flags, ...) { MODE return opened(AT_FDCWD, name, flags, mode); }
int open64(const char *name, int flags, ...) { MODE return opened(AT_FDCWD, name, flags, mode); }
int openat(int folder, const char *name, int flags, ...) { MODE return opened(folder, name, flags, mode); }
int openat64(int folder, const char *name, int flags, ...) { MODE return opened(folder, name, flags, mode); }
int creat(const char *name, mode_t mode) { return opened(AT_FDCWD, name, O_CREAT | O_WRONLY | O_TRUNC, mode); }

int close(int descriptor) {
    LOCK;
    track(descriptor, 0);
    int done = REAL(close)(descriptor);
    UNLOCK;
    return done;
}

static int copied(int from, int to) {
    if (to >= 0) track(to, is_tracked(from));
    return to;
}

int dup(int from) { return copied(from, REAL(dup)(from)); }
int dup2(int from, int to) { return copied(from, REAL(dup2)(from, to)); }
int dup3(int from, int to, int flags) { return copied(from, REAL(dup3)(from, to, flags)); }

/* All the ways to write. `offset` is -1 for the descriptor's own. */
static ssize_t written(int descriptor, const struct iovec *parts, int count, off_t offset, int flags) {
    LOCK;
    size_t total = 0;
    for (int n = 0; n < count; n++) total += parts[n].iov_len;
    char *bytes;
    if (posix_memalign((void **)&bytes, 4096, total + 1)) abort(); /* as O_DIRECT wants it */
    size_t at = 0;
    for (int n = 0; n < count; n++) {
        memcpy(bytes + at, parts[n].iov_base, parts[n].iov_len);
        at += parts[n].iov_len;
    }
    int mode = fails(1);
    ssize_t done = -1;
    if (mode != FAIL_EIO && mode != FAIL_ENOSPC) {
        size_t wanted = mode ? (total + 1) / 2 : total;
        off_t place = offset;
        if (offset < 0) {
            struct stat found;
            int append = fcntl(descriptor, F_GETFL) & O_APPEND;
            place = append && !fstat(descriptor, &found) ? found.st_size : lseek(descriptor, 0, SEEK_CUR);
            done = REAL(write)(descriptor, bytes, wanted);
        } else {
            struct iovec whole = {bytes, wanted};
            done = REAL(pwritev2)(descriptor, &whole, 1, offset, flags);
        }
        if (done > 0)
            note(WRITE, inode_of(descriptor), 0, (uint64_t)place, 0, bytes, (uint64_t)done);
        if (mode == FAIL_TORN) raise(SIGKILL);
    }
    int kept = errno;
    free(bytes);
    UNLOCK;
    errno = kept;
    return done;
}

#define ONE struct iovec part = {(void *)bytes, count}
ssize_t write(int descriptor, const void *bytes, size_t count) {
    ONE;
    return is_tracked(descriptor) ? written(descriptor, &part, 1, -1, 0) : REAL(write)(descriptor, bytes, count);
}
ssize_t pwrite(int descriptor, const void *bytes, size_t count, off_t offset) {
    ONE;
    return is_tracked(descriptor) ? written(descriptor, &part, 1, offset, 0) : REAL(pwrite)(descriptor, bytes, count, offset);
}
ssize_t pwrite64(int descriptor, const void *bytes, size_t count, off_t offset) { return pwrite(descriptor, bytes, count, offset); }
ssize_t writev(int descriptor, const struct iovec *parts, int count) {
    return is_tracked(descriptor) ? written(descriptor, parts, count, -1, 0) : REAL(writev)(descriptor, parts, count);
}
ssize_t pwritev2(int descriptor, const struct iovec *parts, int count, off_t offset, int flags) {
    return is_tracked(descriptor) ? written(descriptor, parts, count, offset, flags) : REAL(pwritev2)(descriptor, parts, count, offset, flags);
}
ssize_t pwritev64v2(int descriptor, const struct iovec *parts, int count, off_t offset, int flags) { return pwritev2(descriptor, parts, count, offset, flags); }
ssize_t pwritev(int descriptor, const struct iovec *parts, int count, off_t offset) { return pwritev2(descriptor, parts, count, offset, 0); }
ssize_t pwritev64(int descriptor, const struct iovec *parts, int count, off_t offset) { return pwritev2(descriptor, parts, count, offset, 0); }

static int truncated(int descriptor, off_t size) {
    if (!is_tracked(descriptor)) return REAL(ftruncate)(descriptor, size);
    LOCK;
    int done = fails(0) ? -1 : REAL(ftruncate)(descriptor, size);
    if (!done) note(TRUNCATE, inode_of(descriptor), 0, 0, (uint64_t)size, 0, 0);
    UNLOCK;
    return done;
}
int ftruncate(int descriptor, off_t size) { return truncated(descriptor, size); }
int ftruncate64(int descriptor, off_t size) { return truncated(descriptor, size); }

static int truncated_by_name(const char *name, off_t size) {
    int descriptor = open(name, O_WRONLY | O_CLOEXEC);
    if (descriptor < 0) return -1;
    int done = truncated(descriptor, size), kept = errno;
    close(descriptor);
    errno = kept;
    return done;
}
int truncate(const char *name, off_t size) { return truncated_by_name(name, size); }
int truncate64(const char *name, off_t size) { return truncated_by_name(name, size); }

static int allocated(int descriptor, int mode, off_t offset, off_t length) {
    if (!is_tracked(descriptor)) return REAL(fallocate)(descriptor, mode, offset, length);
    if (mode & ~FALLOC_FL_KEEP_SIZE & ~FALLOC_FL_PUNCH_HOLE & ~FALLOC_FL_ZERO_RANGE) abort();
    LOCK;
    int done = fails(0) ? -1 : REAL(fallocate)(descriptor, mode, offset, length);
    if (!done) {
        char how[2] = {(mode & FALLOC_FL_KEEP_SIZE) != 0,
                       (mode & (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE)) != 0};
        note(ALLOCATE, inode_of(descriptor), 0, (uint64_t)offset, (uint64_t)length, how, 2);
    }
    UNLOCK;
    return done;
}
int fallocate(int descriptor, int mode, off_t offset, off_t length) { return allocated(descriptor, mode, offset, length); }
int fallocate64(int descriptor, int mode, off_t offset, off_t length) { return allocated(descriptor, mode, offset, length); }
int posix_fallocate(int descriptor, off_t offset, off_t length) {
    int kept = errno, done = allocated(descriptor, 0, offset, length) ? errno : 0;
    errno = kept;
    return done;
}
int posix_fallocate64(int descriptor, off_t offset, off_t length) { return posix_fallocate(descriptor, offset, length); }

static int synced(int descriptor, int data_only) {
    int (*call)(int) = data_only ? REAL(fdatasync) : REAL(fsync);
    if (!is_tracked(descriptor)) return call(descriptor);
    LOCK;
    /* Not done: the power of this machine is not cut, and a sync takes longer than all the rest. */
    int done = fails(0) ? -1 : 0;
    if (!done) {
        struct stat found;
        char link[64], path[PATH_MAX];
        if (!fstat(descriptor, &found) && S_ISDIR(found.st_mode)) {
            snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
            ssize_t count = readlink(link, path, sizeof path - 1);
            if (count < 0) abort();
            path[count] = 0;
            note(SYNC_FOLDER, found.st_ino, path, 0, 0, 0, 0);
        } else {
            note(SYNC, found.st_ino, 0, 0, 0, 0, 0);
        }
    }
    UNLOCK;
    return done;
}
int fsync(int descriptor) { return synced(descriptor, 0); }
int fdatasync(int descriptor) { return synced(descriptor, 1); }

int renameat(int old_folder, const char *old, int new_folder, const char *new) {
    char from[PATH_MAX], to[PATH_MAX];
    LOCK;
    int ours = inside(old_folder, old, from) | inside(new_folder, new, to);
    int done = ours && fails(0) ? -1 : REAL(renameat)(old_folder, old, new_folder, new);
    if (ours && !done) note(RENAME, 0, from, 0, 0, to, strlen(to));
    UNLOCK;
    return done;
}
int rename(const char *old, const char *new) { return renameat(AT_FDCWD, old, AT_FDCWD, new); }

int unlinkat(int folder, const char *name, int flags) {
    char path[PATH_MAX];
    struct stat found;
    LOCK;
    int ours = inside(folder, name, path) && !lstat(path, &found);
    int done = ours && fails(0) ? -1 : REAL(unlinkat)(folder, name, flags);
    if (ours && !done) note(flags & AT_REMOVEDIR ? RMDIR : UNLINK, 0, path, 0, 0, 0, 0);
    UNLOCK;
    return done;
}
int unlink(const char *name) { return unlinkat(AT_FDCWD, name, 0); }
int rmdir(const char *name) { return unlinkat(AT_FDCWD, name, AT_REMOVEDIR); }

int mkdirat(int folder, const char *name, mode_t mode) {
    char path[PATH_MAX];
    struct stat found;
    LOCK;
    int ours = inside(folder, name, path) && lstat(path, &found);
    int done = ours && fails(0) ? -1 : REAL(mkdirat)(folder, name, mode);
    if (ours && !done) note(MKDIR, 0, path, 0, 0, 0, 0);
    UNLOCK;
    return done;
}
int mkdir(const char *name, mode_t mode) { return mkdirat(AT_FDCWD, name, mode); }
