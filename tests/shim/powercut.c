/*
 * A disk that loses its power: an LD_PRELOAD shim that keeps of every file only what was synced.
 *
 * Everything under $PINFOLD_SHIM_ROOT is shadowed in $PINFOLD_SHIM_SHADOW. A file's shadow changes only in fsync or
 * fdatasync of that file, a directory's names only in fsync of that directory. `sync_file_range` promises nothing
 * after a power cut and is not counted. When the process was killed, `restore` in tests/it/journal/powercut.rs puts
 * the shadow in the place of the root: the worst disk that keeps its promises.
 *
 * Shadow: ID.data is what a file holds, ID.list what a directory names: a line "ID kind name", kind f or d. Root is 1.
 * What exists at the start counts as durable. Not simulated: torn sectors of a synced file, mmap, hard links.
 *
 * $PINFOLD_SHIM_BLIND is a pattern (fnmatch) of files (their last component) whose syncs are not counted: a planted bug.
 * $PINFOLD_SHIM_FAIL_AFTER fails every fsync and fdatasync under the root with EIO after that many.
 * $PINFOLD_SHIM_CUT_AFTER cuts the power after that many: the next one is not counted, and the process ends by SIGKILL.
 * $PINFOLD_SHIM_HANG names a file: while it exists, every fsync and fdatasync under the root waits.
 *
 * gcc -O2 -fPIC -shared -o powercut.so powercut.c -ldl -lpthread
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

struct range { off_t from, to; };

struct file {
    ino_t ino;
    dev_t dev;
    unsigned long id;
    off_t least;             /* the smallest size since the last sync */
    struct range *dirty;
    size_t count, room;
    struct file *next;
};

#define BUCKETS 4096
static struct file *table[BUCKETS];
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static char root[PATH_MAX], shadow[PATH_MAX];
static const char *blind, *hang;
static long fail_after = -1, cut_after = -1;
static unsigned long ids;

static ssize_t (*real_write)(int, const void *, size_t);
static ssize_t (*real_pwrite)(int, const void *, size_t, off_t);
static ssize_t (*real_writev)(int, const struct iovec *, int);
static ssize_t (*real_pwritev)(int, const struct iovec *, int, off_t);
static int (*real_ftruncate)(int, off_t);
static int (*real_truncate)(const char *, off_t);
static int (*real_rename)(const char *, const char *);
static int (*real_renameat)(int, const char *, int, const char *);
static int (*real_unlink)(const char *);
static int (*real_unlinkat)(int, const char *, int);
static int (*real_rmdir)(const char *);
static int (*real_openat)(int, const char *, int, ...);

static void die(const char *what)
{
    fprintf(stderr, "powercut shim: %s: %s\n", what, strerror(errno));
    _exit(99);
}

static struct file *find(dev_t dev, ino_t ino)
{
    struct file *f = table[ino % BUCKETS];
    while (f && (f->ino != ino || f->dev != dev)) f = f->next;
    return f;
}

static struct file *add(dev_t dev, ino_t ino)
{
    struct file *f = calloc(1, sizeof *f);
    if (!f) die("memory");
    f->ino = ino;
    f->dev = dev;
    f->id = ++ids;
    f->next = table[ino % BUCKETS];
    table[ino % BUCKETS] = f;
    return f;
}

/* The name is gone; a later file may get the same inode number. */
static void forget(dev_t dev, ino_t ino)
{
    struct file **p = &table[ino % BUCKETS];
    for (; *p; p = &(*p)->next) {
        if ((*p)->ino == ino && (*p)->dev == dev) {
            struct file *gone = *p;
            *p = gone->next;
            free(gone->dirty);
            free(gone);
            return;
        }
    }
}

/* The path of a descriptor under the root, or 0. */
static int path_of(int fd, char *path)
{
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t len = readlink(link, path, PATH_MAX - 1);
    if (len < 0) return 0;
    path[len] = 0;
    size_t n = strlen(root);
    return strncmp(path, root, n) == 0 && (path[n] == '/' || path[n] == 0);
}

static struct file *tracked(int fd, struct stat *st)
{
    char path[PATH_MAX];
    if (!root[0] || fstat(fd, st) != 0 || (!S_ISREG(st->st_mode) && !S_ISDIR(st->st_mode))) return NULL;
    struct file *f = find(st->st_dev, st->st_ino);
    if (f) return f;
    return path_of(fd, path) ? add(st->st_dev, st->st_ino) : NULL;
}

static void mark(struct file *f, off_t from, off_t to)
{
    if (f->count && f->dirty[f->count - 1].to == from) {
        f->dirty[f->count - 1].to = to;
        return;
    }
    if (f->count == f->room) {
        f->room = f->room ? 2 * f->room : 16;
        f->dirty = realloc(f->dirty, f->room * sizeof *f->dirty);
        if (!f->dirty) die("memory");
    }
    f->dirty[f->count++] = (struct range){from, to};
}

/* Brings the shadow of a file up to what it holds now. A kill in between leaves a part: so may a disk. */
static void keep_file(struct file *f, int fd, off_t size)
{
    static char buffer[1 << 20];
    char path[PATH_MAX + 32];
    snprintf(path, sizeof path, "%s/%lu.data", shadow, f->id);
    int to = real_openat(AT_FDCWD, path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    if (to < 0) die("shadow");
    struct stat st;
    if (fstat(to, &st) != 0) die("shadow");
    if (st.st_size > f->least && real_ftruncate(to, f->least) != 0) die("shadow");
    /* The caller's descriptor may be write-only. */
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    int from = real_openat(AT_FDCWD, path, O_RDONLY | O_CLOEXEC);
    if (from < 0) die("reopening");
    for (size_t i = 0; i < f->count; i++) {
        off_t at = f->dirty[i].from, end = f->dirty[i].to < size ? f->dirty[i].to : size;
        while (at < end) {
            size_t want = (size_t)(end - at) < sizeof buffer ? (size_t)(end - at) : sizeof buffer;
            ssize_t got = pread(from, buffer, want, at);
            if (got <= 0) break;
            if (real_pwrite(to, buffer, (size_t)got, at) != got) die("shadow");
            at += got;
        }
    }
    if (real_ftruncate(to, size) != 0) die("shadow");
    close(from);
    close(to);
    f->count = 0;
    f->least = size;
}

static void keep_names(struct file *f, int fd)
{
    char list[PATH_MAX + 32], new[PATH_MAX + 40], path[64];
    snprintf(list, sizeof list, "%s/%lu.list", shadow, f->id);
    snprintf(new, sizeof new, "%s.new", list);
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    FILE *out = fopen(new, "w");
    DIR *dir = opendir(path);
    if (!out || !dir) die("listing");
    for (struct dirent *item; (item = readdir(dir));) {
        struct stat st;
        if (!strcmp(item->d_name, ".") || !strcmp(item->d_name, "..")) continue;
        if (fstatat(fd, item->d_name, &st, AT_SYMLINK_NOFOLLOW) != 0) continue;
        struct file *child = find(st.st_dev, st.st_ino);
        if (!child) child = add(st.st_dev, st.st_ino);
        fprintf(out, "%lu %c %s\n", child->id, S_ISDIR(st.st_mode) ? 'd' : 'f', item->d_name);
    }
    closedir(dir);
    if (fclose(out) != 0 || real_rename(new, list) != 0) die("listing");
}

/* What exists at the start is durable. */
static void seed(const char *path)
{
    struct stat st;
    int fd = real_openat(AT_FDCWD, path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0 || fstat(fd, &st) != 0) die(path);
    struct file *f = find(st.st_dev, st.st_ino);
    if (!f) f = add(st.st_dev, st.st_ino);
    if (S_ISREG(st.st_mode)) {
        mark(f, 0, st.st_size);
        keep_file(f, fd, st.st_size);
    } else if (S_ISDIR(st.st_mode)) {
        keep_names(f, fd);
        DIR *dir = opendir(path);
        if (!dir) die(path);
        for (struct dirent *item; (item = readdir(dir));) {
            char below[PATH_MAX];
            if (!strcmp(item->d_name, ".") || !strcmp(item->d_name, "..")) continue;
            if ((size_t)snprintf(below, sizeof below, "%s/%s", path, item->d_name) >= sizeof below) die("path");
            seed(below);
        }
        closedir(dir);
    }
    close(fd);
}

__attribute__((constructor)) static void start(void)
{
    real_write = dlsym(RTLD_NEXT, "write");
    real_pwrite = dlsym(RTLD_NEXT, "pwrite64");
    real_writev = dlsym(RTLD_NEXT, "writev");
    real_pwritev = dlsym(RTLD_NEXT, "pwritev64");
    real_ftruncate = dlsym(RTLD_NEXT, "ftruncate64");
    real_truncate = dlsym(RTLD_NEXT, "truncate64");
    real_rename = dlsym(RTLD_NEXT, "rename");
    real_renameat = dlsym(RTLD_NEXT, "renameat");
    real_unlink = dlsym(RTLD_NEXT, "unlink");
    real_unlinkat = dlsym(RTLD_NEXT, "unlinkat");
    real_rmdir = dlsym(RTLD_NEXT, "rmdir");
    real_openat = dlsym(RTLD_NEXT, "openat64");
    const char *from = getenv("PINFOLD_SHIM_ROOT"), *to = getenv("PINFOLD_SHIM_SHADOW");
    if (!from || !to || !realpath(to, shadow)) return;
    char path[PATH_MAX];
    if (!realpath(from, path)) return;
    blind = getenv("PINFOLD_SHIM_BLIND");
    const char *after = getenv("PINFOLD_SHIM_FAIL_AFTER");
    if (after) fail_after = atol(after);
    after = getenv("PINFOLD_SHIM_CUT_AFTER");
    if (after) cut_after = atol(after);
    hang = getenv("PINFOLD_SHIM_HANG");
    pthread_mutex_lock(&mutex);
    seed(path);
    strcpy(root, path);
    pthread_mutex_unlock(&mutex);
}

#define LOCKED(type, call)                                                                                             \
    pthread_mutex_lock(&mutex);                                                                                        \
    type done = call;                                                                                                  \
    int saved = errno;
#define UNLOCKED                                                                                                       \
    pthread_mutex_unlock(&mutex);                                                                                      \
    errno = saved;                                                                                                     \
    return done;

/* Writes to pipes block; only files take the lock. */
static int is_file(int fd)
{
    struct stat st;
    return root[0] && fstat(fd, &st) == 0 && S_ISREG(st.st_mode);
}

static void wrote(int fd, off_t at, ssize_t count)
{
    struct stat st;
    struct file *f = count > 0 ? tracked(fd, &st) : NULL;
    if (f) mark(f, at, at + count);
}

ssize_t write(int fd, const void *data, size_t len)
{
    if (!is_file(fd)) return real_write ? real_write(fd, data, len) : syscall(SYS_write, fd, data, len);
    LOCKED(ssize_t, real_write(fd, data, len))
    wrote(fd, lseek(fd, 0, SEEK_CUR) - done, done);
    UNLOCKED
}

ssize_t writev(int fd, const struct iovec *data, int len)
{
    if (!is_file(fd)) return real_writev ? real_writev(fd, data, len) : syscall(SYS_writev, fd, data, len);
    LOCKED(ssize_t, real_writev(fd, data, len))
    wrote(fd, lseek(fd, 0, SEEK_CUR) - done, done);
    UNLOCKED
}

ssize_t pwrite64(int fd, const void *data, size_t len, off_t at)
{
    LOCKED(ssize_t, real_pwrite(fd, data, len, at))
    wrote(fd, at, done);
    UNLOCKED
}

ssize_t pwrite(int fd, const void *data, size_t len, off_t at) { return pwrite64(fd, data, len, at); }

ssize_t pwritev64(int fd, const struct iovec *data, int len, off_t at)
{
    LOCKED(ssize_t, real_pwritev(fd, data, len, at))
    wrote(fd, at, done);
    UNLOCKED
}

ssize_t pwritev(int fd, const struct iovec *data, int len, off_t at) { return pwritev64(fd, data, len, at); }

static void cut(int fd, off_t size)
{
    struct stat st;
    struct file *f = tracked(fd, &st);
    if (f && size < f->least) f->least = size;
}

int ftruncate64(int fd, off_t size)
{
    LOCKED(int, real_ftruncate(fd, size))
    if (done == 0) cut(fd, size);
    UNLOCKED
}

int ftruncate(int fd, off_t size) { return ftruncate64(fd, size); }

int openat64(int at, const char *path, int flags, ...)
{
    mode_t mode = 0;
    if (flags & (O_CREAT | O_TMPFILE)) {
        va_list list;
        va_start(list, flags);
        mode = va_arg(list, mode_t);
        va_end(list);
    }
    if (!real_openat) real_openat = dlsym(RTLD_NEXT, "openat64");
    int done = real_openat(at, path, flags, mode);
    if (done >= 0 && (flags & O_TRUNC) && root[0]) {
        int saved = errno;
        pthread_mutex_lock(&mutex);
        cut(done, 0);
        pthread_mutex_unlock(&mutex);
        errno = saved;
    }
    return done;
}

#define OPEN(name, params, dir, file)                                                                                  \
    int name params                                                                                                    \
    {                                                                                                                  \
        mode_t mode = 0;                                                                                               \
        if (flags & (O_CREAT | O_TMPFILE)) {                                                                           \
            va_list list;                                                                                              \
            va_start(list, flags);                                                                                     \
            mode = va_arg(list, mode_t);                                                                               \
            va_end(list);                                                                                              \
        }                                                                                                              \
        return openat64(dir, file, flags, mode);                                                                       \
    }
OPEN(openat, (int at, const char *path, int flags, ...), at, path)
OPEN(open64, (const char *path, int flags, ...), AT_FDCWD, path)
OPEN(open, (const char *path, int flags, ...), AT_FDCWD, path)

#define GONE_BEFORE(at, path)                                                                                          \
    struct stat st;                                                                                                    \
    int was = root[0] && fstatat(at, path, &st, AT_SYMLINK_NOFOLLOW) == 0;
#define GONE_AFTER if (done == 0 && was) forget(st.st_dev, st.st_ino);

int unlinkat(int at, const char *path, int flags)
{
    GONE_BEFORE(at, path)
    LOCKED(int, real_unlinkat(at, path, flags))
    GONE_AFTER
    UNLOCKED
}

int unlink(const char *path)
{
    GONE_BEFORE(AT_FDCWD, path)
    LOCKED(int, real_unlink(path))
    GONE_AFTER
    UNLOCKED
}

int rmdir(const char *path)
{
    GONE_BEFORE(AT_FDCWD, path)
    LOCKED(int, real_rmdir(path))
    GONE_AFTER
    UNLOCKED
}

int rename(const char *from, const char *to)
{
    GONE_BEFORE(AT_FDCWD, to)
    LOCKED(int, real_rename(from, to))
    GONE_AFTER
    UNLOCKED
}

int renameat(int from_at, const char *from, int to_at, const char *to)
{
    GONE_BEFORE(to_at, to)
    LOCKED(int, real_renameat(from_at, from, to_at, to))
    GONE_AFTER
    UNLOCKED
}

/* Copies within the kernel are refused: who copies falls back to reading and writing. */
ssize_t copy_file_range(int from, off64_t *from_at, int to, off64_t *to_at, size_t len, unsigned flags)
{
    (void)from, (void)from_at, (void)to, (void)to_at, (void)len, (void)flags;
    errno = ENOSYS;
    return -1;
}

ssize_t sendfile64(int to, int from, off64_t *at, size_t len)
{
    (void)to, (void)from, (void)at, (void)len;
    errno = EINVAL;
    return -1;
}

static int keep(int fd)
{
    struct stat st;
    char path[PATH_MAX];
    int result = 0;
    while (hang && access(hang, F_OK) == 0 && path_of(fd, path)) usleep(10000);
    pthread_mutex_lock(&mutex);
    struct file *f = tracked(fd, &st);
    if (f) {
        if (cut_after >= 0 && cut_after-- == 0) {
            kill(getpid(), SIGKILL);
            for (;;) pause();
        }
        const char *name = path_of(fd, path) ? strrchr(path, '/') + 1 : "";
        if (fail_after >= 0 && fail_after-- == 0) {
            fail_after = 0;
            errno = EIO;
            result = -1;
        } else if (S_ISDIR(st.st_mode)) {
            keep_names(f, fd);
        } else if (!(blind && !fnmatch(blind, name, 0))) {
            keep_file(f, fd, st.st_size);
        }
    }
    pthread_mutex_unlock(&mutex);
    return result;
}

/* The disk is this process's to simulate: nothing is waited for. */
int fsync(int fd) { return root[0] ? keep(fd) : (int)syscall(SYS_fsync, fd); }
int fdatasync(int fd) { return root[0] ? keep(fd) : (int)syscall(SYS_fdatasync, fd); }
