/*
 * What stands in front of the command of a container that is a GPU phase; podsla/phase.py, in a container beside it,
 * borrows the GPU. Static, for it runs in images of others, where there may be neither a shell nor a library.
 *
 *     podsla-phase put FOLDER COMMAND...  copies itself to FOLDER/run, makes the pipe FOLDER/here, becomes COMMAND
 *     FOLDER/run there                    ends with 0: by that a probe sees that it can be executed here
 *     FOLDER/run -- COMMAND...            says that it is here, runs COMMAND once it is told to, ends as COMMAND does
 *
 * It has the pipe open for as long as it lives, and the command has not: the kernel tells the other side of its end,
 * whatever the command and its children do with descriptors. What it says is a number of its own, again and again until
 * FOLDER/answer begins with a line of that number. The second line is "wait", "go", "no" or "end", the rest what belongs
 * to it: variables for COMMAND, or a sentence.
 *
 * As the first process of its container it hands signals on, buries orphans, and takes all others with it at its end.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { NO_GPU = 75, NOT_EXECUTABLE = 126, NOT_FOUND = 127, KILLED = 128 };
enum { SAY_AGAIN_S = 1, KILL_S = 5, WAITS_MS = 20, RUNS_MS = 200 };
enum { NUMBER = 16, ANSWER_BYTES = 16384 };

static char here[4096], answer[4096], number[NUMBER + 2];
static int pipe_fd = -1;
static time_t said_s, ends_s;
static pid_t child;
static sigset_t before;

/* Say something for a person: in the log of the container, and where `kubectl describe` shows it. */
static void tell(const char *format, ...) {
  char line[4096];
  va_list rest;
  va_start(rest, format);
  int length = vsnprintf(line, sizeof line, format, rest);
  va_end(rest);
  if (length >= (int)sizeof line) length = sizeof line - 1;
  int fds[] = {STDERR_FILENO, open("/dev/termination-log", O_WRONLY | O_TRUNC | O_CLOEXEC)};
  for (int i = 0; i < 2; i++)
    if (fds[i] >= 0 && write(fds[i], line, length) < 0) continue;
  if (fds[1] >= 0) close(fds[1]);
}

static int fail(const char *what, const char *on) {
  tell("podsla-phase: %s %s: %s\n", what, on, strerror(errno));
  return NO_GPU;
}

static time_t now_s(void) {
  struct timespec now;
  clock_gettime(CLOCK_BOOTTIME, &now);
  return now.tv_sec;
}

static int become(char **command) {
  execvp(command[0], command);
  int code = errno == ENOENT ? NOT_FOUND : NOT_EXECUTABLE;
  fail("cannot execute", command[0]);
  return code;
}

static int put(const char *folder, char **command) {
  char part[4096], whole[4096];
  snprintf(part, sizeof part, "%s/.run", folder);
  snprintf(whole, sizeof whole, "%s/run", folder);
  int from = open("/proc/self/exe", O_RDONLY | O_CLOEXEC), to = open(part, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0755);
  struct stat self;
  if (from < 0 || to < 0 || fstat(from, &self) < 0) return fail("cannot write", part);
  for (off_t left = self.st_size; left > 0;) {
    ssize_t sent = sendfile(to, from, NULL, left);
    if (sent <= 0) return fail("cannot write", part);
    left -= sent;
  }
  if (fchmod(to, 0755) < 0 || close(to) < 0) return fail("cannot write", part);
  if ((mkfifo(here, 0622) < 0 && errno != EEXIST) || chmod(here, 0622) < 0) return fail("cannot make", here);
  if (rename(part, whole) < 0) return fail("cannot make", whole); /* last: then all of it is there */
  return become(command);
}

/* Open the pipe as soon as somebody reads it, and say the number until it is answered. */
static void announce(void) {
  if (pipe_fd < 0) pipe_fd = open(here, O_WRONLY | O_NONBLOCK | O_CLOEXEC);
  if (pipe_fd < 0 || now_s() < said_s + SAY_AGAIN_S) return;
  said_s = now_s();
  if (write(pipe_fd, number, NUMBER + 1) < 0 && errno == EPIPE) { /* whoever read it has ended, and begins again */
    close(pipe_fd);
    pipe_fd = -1;
    said_s = 0;
  }
}

static void spawn(char **command, char *variables) {
  child = fork();
  if (child != 0) return;
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  for (char *line = strtok(variables, "\n"); line; line = strtok(NULL, "\n")) putenv(line);
  sigprocmask(SIG_SETMASK, &before, NULL);
  _exit(become(command));
}

/* Read the answer, and do as it says; what is answered to another number is old. */
static void look(char **command) {
  static char text[ANSWER_BYTES];
  int fd = open(answer, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return;
  ssize_t length = read(fd, text, sizeof text - 1);
  close(fd);
  if (length <= NUMBER || memcmp(text, number, NUMBER + 1) != 0) return;
  text[length] = 0;
  char *word = text + NUMBER + 1, *rest = strchr(word, '\n');
  if (!rest) return;
  *rest++ = 0;
  if (!child && strcmp(word, "go") == 0) {
    spawn(command, rest);
    if (child < 0) exit(fail("cannot run", command[0]));
  } else if (!child && (strcmp(word, "no") == 0 || strcmp(word, "end") == 0)) {
    tell("podsla-phase: no GPU: %s\n", rest);
    exit(NO_GPU);
  } else if (child && !ends_s && strcmp(word, "end") == 0) {
    tell("podsla-phase: %s; the command gets SIGTERM, and SIGKILL after %d s\n", rest, KILL_S);
    kill(child, SIGTERM);
    ends_s = now_s() + KILL_S;
  }
}

/* Bury whoever has ended; with the command, this ends too. */
static void bury(void) {
  int status;
  for (pid_t pid; (pid = waitpid(-1, &status, WNOHANG)) > 0;)
    if (pid == child) exit(WIFSIGNALED(status) ? KILLED + WTERMSIG(status) : WEXITSTATUS(status));
}

static int run(char **command) {
  unsigned char random[NUMBER / 2];
  if (getrandom(random, sizeof random, 0) != sizeof random) return fail("cannot get", "a number");
  for (int i = 0; i < NUMBER / 2; i++) sprintf(number + 2 * i, "%02x", random[i]);
  number[NUMBER] = '\n';
  static const int own[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT, SIGTRAP, SIGSYS, SIGTTIN, SIGTTOU};
  sigset_t all;
  sigfillset(&all);
  for (size_t i = 0; i < sizeof own / sizeof *own; i++) sigdelset(&all, own[i]);
  sigprocmask(SIG_SETMASK, &all, &before); /* none is lost: they are taken one by one */
  signal(SIGCHLD, SIG_DFL); /* whoever started this may have ignored it, and then nothing is to be waited for */
  prctl(PR_SET_CHILD_SUBREAPER, 1);
  for (;;) {
    if (!child) announce();
    look(command);
    if (ends_s && now_s() >= ends_s) kill(child, SIGKILL);
    struct timespec pause = {.tv_nsec = (child ? RUNS_MS : WAITS_MS) * 1000000L};
    int taken = sigtimedwait(&all, NULL, &pause);
    if (taken == SIGCHLD) bury();
    else if (taken > 0 && taken != SIGPIPE && child) kill(child, taken);
    else if (taken == SIGTERM || taken == SIGINT || taken == SIGHUP || taken == SIGQUIT) return KILLED + taken;
  }
}

int main(int count, char **words) {
  char *end = strrchr(words[0], '/');
  if (count == 2 && strcmp(words[1], "there") == 0) return 0;
  const char *folder = count > 2 && strcmp(words[1], "put") == 0 ? words[2] : words[0];
  if (folder == words[0] && end) *end = 0;
  snprintf(here, sizeof here, "%s/here", folder);
  snprintf(answer, sizeof answer, "%s/answer", folder);
  if (folder != words[0] && count > 3) return put(folder, words + 3);
  if (end && count > 2 && strcmp(words[1], "--") == 0) return run(words + 2);
  tell("usage: podsla-phase put FOLDER COMMAND... | FOLDER/run there | FOLDER/run -- COMMAND...\n");
  return 2;
}
