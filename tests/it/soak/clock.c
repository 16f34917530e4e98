/* The time of a process, faster than the real one and set forward and back while it runs. Loaded with LD_PRELOAD.
 *
 * SOAK_CLOCK names a file with a `struct control`, which the test writes. All clocks run `speed` times as fast, and
 * all waits are as much shorter. A step changes the wall clock and not the monotonic one, as on a real host. Times of
 * files that the kernel has set since the start are converted for callers of the C library.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/futex.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define SECOND 1000000000LL
#define STEPS_MAX 1000
/* Seconds. Later deadlines are never reached: about 70 years. */
#define FAR 2200000000LL

/* All times in nanoseconds. */
struct control {
    int64_t speed;
    /* The real clocks when the test began, and the virtual wall clock then. */
    int64_t monotonic, wall, virtual_wall;
    int64_t steps;
    /* When the wall clock was set by the real one, and by how much it differs from then on. */
    struct { int64_t at, offset; } step[STEPS_MAX];
};

static const volatile struct control *control;
static long (*real_syscall)(long, ...);
static int (*real_statx)(int, const char *, int, unsigned, struct statx *);
static int (*real_fstat)(int, struct stat *);
static int (*real_stat)(const char *, struct stat *);
static int (*real_lstat)(const char *, struct stat *);

__attribute__((constructor)) static void begin(void) {
    real_syscall = dlsym(RTLD_NEXT, "syscall");
    real_statx = dlsym(RTLD_NEXT, "statx");
    real_fstat = dlsym(RTLD_NEXT, "fstat64");
    real_stat = dlsym(RTLD_NEXT, "stat64");
    real_lstat = dlsym(RTLD_NEXT, "lstat64");
    int fd = open(getenv("SOAK_CLOCK"), O_RDONLY | O_CLOEXEC);
    void *at = mmap(NULL, sizeof(struct control), PROT_READ, MAP_SHARED, fd, 0);
    if (fd < 0 || at == MAP_FAILED)
        abort();
    close(fd);
    control = at;
}

static int64_t nanoseconds(const struct timespec *t) { return t->tv_sec * SECOND + t->tv_nsec; }

static struct timespec timespec(int64_t ns) {
    return (struct timespec){.tv_sec = ns / SECOND, .tv_nsec = ns % SECOND};
}

static int64_t real(clockid_t clock) {
    struct timespec now;
    real_syscall(SYS_clock_gettime, clock, &now);
    return nanoseconds(&now);
}

static int64_t virtual_monotonic(int64_t ns) {
    return control->monotonic + (ns - control->monotonic) * control->speed;
}

static int64_t real_monotonic(int64_t ns) {
    return control->monotonic + (ns - control->monotonic) / control->speed;
}

static int64_t virtual_wall(int64_t ns) {
    int64_t offset = 0;
    for (int64_t i = control->steps; i-- > 0;)
        if (control->step[i].at <= ns) {
            offset = control->step[i].offset;
            break;
        }
    return control->virtual_wall + (ns - control->wall) * control->speed + offset;
}

/* A wait; less than nothing stays nothing, and it never becomes endless. */
static struct timespec shorter(const struct timespec *t) {
    if (t->tv_sec > FAR)
        return *t;
    return timespec((nanoseconds(t) + control->speed - 1) / control->speed);
}

int clock_gettime(clockid_t clock, struct timespec *out) {
    switch (clock) {
    case CLOCK_REALTIME:
    case CLOCK_REALTIME_COARSE:
        *out = timespec(virtual_wall(real(CLOCK_REALTIME)));
        return 0;
    case CLOCK_MONOTONIC:
    case CLOCK_MONOTONIC_RAW:
    case CLOCK_MONOTONIC_COARSE:
    case CLOCK_BOOTTIME:
        *out = timespec(virtual_monotonic(real(CLOCK_MONOTONIC)));
        return 0;
    default:
        return real_syscall(SYS_clock_gettime, clock, out);
    }
}

int gettimeofday(struct timeval *restrict out, void *restrict zone) {
    (void)zone;
    int64_t now = virtual_wall(real(CLOCK_REALTIME));
    *out = (struct timeval){.tv_sec = now / SECOND, .tv_usec = now % SECOND / 1000};
    return 0;
}

time_t time(time_t *out) {
    time_t now = virtual_wall(real(CLOCK_REALTIME)) / SECOND;
    if (out)
        *out = now;
    return now;
}

int clock_nanosleep(clockid_t clock, int flags, const struct timespec *wait, struct timespec *left) {
    struct timespec until = shorter(wait);
    if (flags & TIMER_ABSTIME)
        until = timespec(real_monotonic(nanoseconds(wait)));
    if (real_syscall(SYS_clock_nanosleep, clock, flags, &until, NULL) == 0)
        return 0;
    if (left && !(flags & TIMER_ABSTIME))
        *left = (struct timespec){0};
    return errno;
}

int nanosleep(const struct timespec *wait, struct timespec *left) {
    int error = clock_nanosleep(CLOCK_MONOTONIC, 0, wait, left);
    errno = error;
    return error ? -1 : 0;
}

int ppoll(struct pollfd *fds, nfds_t count, const struct timespec *wait, const sigset_t *mask) {
    struct timespec limit = wait ? shorter(wait) : (struct timespec){0};
    return real_syscall(SYS_ppoll, fds, count, wait ? &limit : NULL, mask, (long)(NSIG / 8));
}

int poll(struct pollfd *fds, nfds_t count, int ms) {
    struct timespec wait = timespec(ms * 1000000LL);
    return ppoll(fds, count, ms < 0 ? NULL : &wait, NULL);
}

int epoll_pwait(int fd, struct epoll_event *events, int count, int ms, const sigset_t *mask) {
    struct timespec wait = timespec(ms * 1000000LL);
    wait = shorter(&wait);
    return real_syscall(SYS_epoll_pwait2, fd, events, (long)count, ms < 0 ? NULL : &wait, mask, (long)(NSIG / 8));
}

int epoll_wait(int fd, struct epoll_event *events, int count, int ms) {
    return epoll_pwait(fd, events, count, ms, NULL);
}

/* Locks and condition variables of Rust wait with a system call of their own. */
long syscall(long number, ...) {
    long a[6];
    va_list list;
    va_start(list, number);
    for (int i = 0; i < 6; i++)
        a[i] = va_arg(list, long);
    va_end(list);
    struct timespec until;
    int command = a[1] & FUTEX_CMD_MASK;
    const struct timespec *wait = (const struct timespec *)a[3];
    if (number == SYS_futex && wait && (command == FUTEX_WAIT || command == FUTEX_WAIT_BITSET)) {
        if (a[1] & FUTEX_CLOCK_REALTIME)
            abort();
        until = command == FUTEX_WAIT ? shorter(wait)
                : wait->tv_sec > FAR  ? *wait
                                      : timespec(real_monotonic(nanoseconds(wait)));
        a[3] = (long)&until;
    }
    return real_syscall(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}

/* The test sets the times of its own files: they are before the start of the real time. */
static int is_of_kernel(int64_t seconds) { return seconds >= control->wall / SECOND; }

static void convert(struct stat *found) {
    if (is_of_kernel(found->st_mtim.tv_sec))
        found->st_mtim = timespec(virtual_wall(nanoseconds(&found->st_mtim)));
}

static void convert64(struct stat64 *found) { convert((struct stat *)found); }

int statx(int dir, const char *restrict path, int flags, unsigned mask, struct statx *restrict found) {
    int result = real_statx(dir, path, flags, mask, found);
    if (result == 0 && is_of_kernel(found->stx_mtime.tv_sec)) {
        int64_t at = virtual_wall(found->stx_mtime.tv_sec * SECOND + found->stx_mtime.tv_nsec);
        found->stx_mtime.tv_sec = at / SECOND;
        found->stx_mtime.tv_nsec = at % SECOND;
    }
    return result;
}

int fstat64(int fd, struct stat64 *found) {
    int result = real_fstat(fd, (struct stat *)found);
    if (result == 0)
        convert64(found);
    return result;
}

int stat64(const char *restrict path, struct stat64 *restrict found) {
    int result = real_stat(path, (struct stat *)found);
    if (result == 0)
        convert64(found);
    return result;
}

int lstat64(const char *restrict path, struct stat64 *restrict found) {
    int result = real_lstat(path, (struct stat *)found);
    if (result == 0)
        convert64(found);
    return result;
}
