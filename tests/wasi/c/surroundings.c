// Arguments, environment, time, and waiting for input with select and poll.
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/select.h>
#include <time.h>
#include <unistd.h>

extern char **environ;

static long long now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1000000000LL + time.tv_nsec;
}

int main(int argc, char **argv) {
    for (int i = 0; i < argc; i++) printf("argument %s\n", argv[i]);
    for (char **one = environ; *one; one++) printf("variable %s\n", *one);
    printf("HOME %s, NOTHING %s\n", getenv("HOME"), getenv("NOTHING") ? "set" : "not set");

    long long before = now();
    struct timespec pause = {0, 20000000};
    nanosleep(&pause, NULL);
    printf("slept %s\n", now() - before >= 20000000 ? "enough" : "too little");
    time_t today = time(NULL);
    printf("year %s\n", gmtime(&today)->tm_year > 120 ? "plausible" : "wrong");

    fd_set reading;
    FD_ZERO(&reading);
    FD_SET(0, &reading);
    struct timeval timeout = {0, 10000};
    printf("select %d\n", select(1, &reading, NULL, NULL, &timeout));
    fflush(stdout);  // whoever runs this writes its input now

    struct pollfd wanted = {.fd = 0, .events = POLLIN};
    printf("poll %d\n", poll(&wanted, 1, 60000));
    char line[100];
    while (fgets(line, sizeof line, stdin)) printf("line %s", line);
    fprintf(stderr, "done\n");
    exit(7);
}
