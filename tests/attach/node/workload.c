/*
 * What runs in the containers of these tests: does as it is told over a unix socket, and says how it went.
 *
 * A request is "VERB [ARGUMENT]", an answer "ERRNO TEXT"; both may carry a descriptor. Verbs before which "child" stands
 * are done by a child that ends then, before which "stay" stands by one that stays.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#define FLAGS (O_RDWR | O_NONBLOCK | O_NOCTTY)
#define MAX_HELD 64
#define PAGE 4096

static int held[MAX_HELD], held_count, listener, connection;
static void *mapped = MAP_FAILED;
static int first_use; /* of the stand-in for CUDA: 0 none yet, 1 it went well, -errno it did not, for good */
static struct counts { volatile unsigned long opens, refused, slipped; } *counts;
static pid_t hammer, stayer;
static int (*wait_forever)(void) = pause; /* what a child that stays does over and over */

static int hold(int fd) {
    if (held_count == MAX_HELD) return EMFILE;
    held[held_count++] = fd;
    return 0;
}

static int open_and_hold(const char *path) {
    int fd = open(path, FLAGS);
    return fd < 0 ? errno : hold(fd);
}

static int open_once(const char *path) {
    int fd = open(path, FLAGS);
    if (fd < 0) return errno;
    close(fd);
    return 0;
}

static int map_only(const char *path) {
    int fd = open(path, FLAGS);
    if (fd < 0) return errno;
    mapped = mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE, fd, 0); /* shared, zero is no device */
    int error = mapped == MAP_FAILED ? errno : 0;
    close(fd);
    return error;
}

/*
 * Opens at first use, closes only when the process ends, and fails for good where the first use failed; in Python, where
 * CUDA is a library, tests/podsla/lending/libcuda.c stands for it.
 */
static int use_as_cuda_does(const char *path) {
    if (first_use == 0) {
        int fd = open(path, FLAGS);
        first_use = fd < 0 ? -errno : 1;
    }
    return first_use < 0 ? -first_use : 0;
}

static int close_held(void) {
    while (held_count) close(held[--held_count]);
    if (mapped != MAP_FAILED) munmap(mapped, PAGE);
    mapped = MAP_FAILED;
    return 0;
}

static void stay(void) {
    close(connection);
    close(listener);
    for (;;) wait_forever();
}

/* Move the one descriptor that is held between two numbers, so that one of them is always open. */
static int hop_descriptor(void) {
    int next = held[0] == MAX_HELD ? MAX_HELD + 1 : MAX_HELD;
    dup2(held[0], next);
    close(held[0]);
    return held[0] = next;
}

/* Move the mapping between two places. */
static int hop_mapping(void) {
    static char *places;
    static int at;
    if (!places) places = mmap(NULL, 4 * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    at = 2 * PAGE - at;
    mapped = mremap(mapped, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, places + at);
    return 0;
}

/* Leave all to another thread: the process is a zombie that has descriptors and memory. */
static int end_first_thread(void) { return (int)syscall(SYS_exit, 0); }

static void *rest(void *nothing) {
    for (;;) pause();
    return nothing;
}

static int then(int error, int (*next)(void)) {
    wait_forever = next;
    return error;
}

static int open_and_end_first_thread(const char *path) {
    pthread_t thread;
    int error = pthread_create(&thread, NULL, rest, NULL);
    return then(error ? error : open_and_hold(path), end_first_thread);
}

/* End the child that stayed last, and wait until it has closed all that it had. */
static int end_stayer(void) {
    if (!stayer) return ECHILD;
    kill(stayer, SIGKILL);
    while (!kill(stayer, 0)) usleep(1000);
    stayer = 0;
    return 0;
}

/* A thread with a table of descriptors of its own: /proc/PID/fd does not show what it opened. */
static void *open_unseen(void *path) {
    long error = unshare(CLONE_FILES) ? errno : open_and_hold(path);
    *(long *)((char *)path + 256) = error + 1;
    for (;;) pause();
    return NULL;
}

static int open_in_thread(const char *path) {
    static char shared[256 + sizeof(long)] __attribute__((aligned(sizeof(long))));
    volatile long *done = (long *)(shared + 256);
    pthread_t thread;
    snprintf(shared, 256, "%s", path);
    *done = 0;
    if (pthread_create(&thread, NULL, open_unseen, shared)) return EAGAIN;
    while (!*done) usleep(100);
    return (int)*done - 1;
}

/* Open "ALLOWED DENIED" as fast as it goes, until told to stop; counts refusals of the one, successes of the other. */
static int start_hammer(char *paths) {
    char *denied = strchr(paths, ' ');
    if (!denied) return EINVAL;
    *denied++ = 0;
    counts = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    hammer = fork();
    if (hammer) return hammer < 0 ? errno : 0;
    for (;;) {
        if (open_once(paths)) counts->refused++;
        if (!open_once(denied)) counts->slipped++;
        counts->opens++;
    }
}

static int stop_hammer(char *text, size_t size) {
    kill(hammer, SIGKILL);
    waitpid(hammer, NULL, 0);
    snprintf(text, size, "%lu %lu %lu", counts->opens, counts->refused, counts->slipped);
    return 0;
}

/*
 * Fork over and over, the parent ending each time: a descriptor that is always in the youngest process, which opens the
 * device again by it. Counts successes, refusals by a rule, and other errors.
 */
static int start_hopping(void) {
    char own[64];
    if (!held_count) return EBADF;
    snprintf(own, sizeof own, "/proc/self/fd/%d", held[0]);
    counts = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (fork()) return 0;
    close(connection);
    close(listener);
    for (;;) {
        int error = open_once(own);
        if (!error) counts->slipped++; else if (error == EPERM) counts->refused++; else counts->opens++;
        usleep(300); /* the machine is not ours alone */
        if (fork()) _exit(0);
    }
}

/* Say what was counted since it was asked last. */
static int count_hops(char *text, size_t size) {
    snprintf(text, size, "%lu %lu %lu", counts->slipped, counts->refused, counts->opens);
    counts->slipped = counts->refused = counts->opens = 0;
    return 0;
}

static int serve(char *request, int received, char *text, size_t size) {
    char *argument = strchr(request, ' ');
    if (argument) *argument++ = 0; else argument = request + strlen(request);
    if (!strcmp(request, "try")) return open_once(argument);
    if (!strcmp(request, "open")) return open_and_hold(argument);
    if (!strcmp(request, "map")) return map_only(argument);
    if (!strcmp(request, "cuda")) return use_as_cuda_does(argument);
    if (!strcmp(request, "thread")) return open_in_thread(argument);
    if (!strcmp(request, "hopfd")) return then(open_and_hold(argument), hop_descriptor);
    if (!strcmp(request, "hopmap")) return then(map_only(argument), hop_mapping);
    if (!strcmp(request, "headless")) return open_and_end_first_thread(argument);
    if (!strcmp(request, "close")) return close_held();
    if (!strcmp(request, "leave")) return end_stayer();
    if (!strcmp(request, "take")) return hold(received);
    if (!strcmp(request, "give")) return held_count ? 0 : EBADF;
    if (!strcmp(request, "ignore")) return signal(atoi(argument), SIG_IGN) == SIG_ERR ? errno : 0;
    if (!strcmp(request, "hammer")) return start_hammer(argument);
    if (!strcmp(request, "hammered")) return stop_hammer(text, size);
    if (!strcmp(request, "hop")) return start_hopping();
    if (!strcmp(request, "hopped")) return count_hops(text, size);
    if (!strcmp(request, "exit")) _exit(atoi(argument));
    return ENOSYS;
}

static void answer(int error, const char *text, int fd) {
    char line[256], control[CMSG_SPACE(sizeof(int))] = {0};
    struct iovec part = {line, (size_t)snprintf(line, sizeof line, "%d %s", error, text)};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
    if (fd >= 0) {
        message.msg_control = control;
        message.msg_controllen = sizeof control;
        struct cmsghdr *header = CMSG_FIRSTHDR(&message);
        header->cmsg_level = SOL_SOCKET;
        header->cmsg_type = SCM_RIGHTS;
        header->cmsg_len = CMSG_LEN(sizeof fd);
        memcpy(CMSG_DATA(header), &fd, sizeof fd);
    }
    sendmsg(connection, &message, MSG_NOSIGNAL);
}

static void in_child(char *request, int stays) {
    pid_t child = fork();
    if (child) {
        if (stays) stayer = child; else waitpid(child, NULL, 0);
        return;
    }
    char text[128] = "";
    first_use = 0; /* as if it had been spawned: CUDA starts anew */
    answer(serve(request, -1, text, sizeof text), text, -1);
    if (stays) stay();
    _exit(0);
}

static int one_request(void) {
    char request[512], text[128] = "", control[CMSG_SPACE(sizeof(int))];
    struct iovec part = {request, sizeof request - 1};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    ssize_t length = recvmsg(connection, &message, 0);
    if (length <= 0) return 0;
    request[length] = 0;
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    int received = -1;
    if (header) memcpy(&received, CMSG_DATA(header), sizeof received);
    if (!strncmp(request, "child ", 6)) return in_child(request + 6, 0), 1;
    if (!strncmp(request, "stay ", 5)) return in_child(request + 5, 1), 1;
    int giving = !strcmp(request, "give"), error = serve(request, received, text, sizeof text);
    answer(error, text, giving && !error ? held[held_count - 1] : -1);
    return 1;
}

static void end(int number) { _exit(128 + number); }

int main(int count, char **arguments) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (count < 2) return 2;
    signal(SIGCHLD, SIG_IGN); /* it also inherits what others leave: no zombies */
    signal(SIGTERM, end); /* the first process of a PID namespace ignores what it has no handler for */
    snprintf(address.sun_path, sizeof address.sun_path, "%s", arguments[1]);
    listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    if (bind(listener, (struct sockaddr *)&address, sizeof address) || listen(listener, 4)) return 1;
    for (;;) {
        connection = accept(listener, NULL, NULL);
        while (connection >= 0 && one_request()) {}
        close(connection);
    }
}
