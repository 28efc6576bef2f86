// Makes a tree of directories, walks it, and works with one file beyond 4 GiB.
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static int fail(const char *what) {
    fprintf(stderr, "%s: %s\n", what, strerror(errno));
    return 1;
}

// Entries beneath a directory, the links not followed.
static int count(const char *path) {
    DIR *directory = opendir(path);
    if (!directory) return -1000;
    int found = 0;
    for (struct dirent *entry; (entry = readdir(directory));) {
        if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, "..")) continue;
        found++;
        char next[512];
        snprintf(next, sizeof next, "%s/%s", path, entry->d_name);
        struct stat status;
        if (lstat(next, &status)) return -1000;
        if (S_ISDIR(status.st_mode)) found += count(next);
    }
    closedir(directory);
    return found;
}

int main(void) {
    char path[256];
    for (int i = 0; i < 30; i++) {
        snprintf(path, sizeof path, "/d%d", i);
        if (mkdir(path, 0777)) return fail(path);
        for (int j = 0; j < 40; j++) {
            snprintf(path, sizeof path, "/d%d/file-with-a-longer-name-%d", i, j);
            FILE *file = fopen(path, "w");
            if (!file) return fail(path);
            fprintf(file, "%d %d\n", i, j);
            if (fclose(file)) return fail(path);
        }
    }
    if (symlink("d0", "/link")) return fail("symlink");
    printf("entries %d\n", count("/"));

    DIR *directory = opendir("/d3");
    for (int i = 0; i < 10; i++) readdir(directory);
    long place = telldir(directory);
    char name[256];
    strcpy(name, readdir(directory)->d_name);
    seekdir(directory, place);
    printf("seekdir %s\n", strcmp(name, readdir(directory)->d_name) ? "differs" : "same");
    closedir(directory);

    int fd = open("/large", O_RDWR | O_CREAT | O_EXCL, 0666);
    if (fd < 0) return fail("large");
    off_t far = 5000000000;
    if (lseek(fd, far, SEEK_SET) != far || write(fd, "end", 3) != 3) return fail("large");
    struct stat status;
    char text[4] = {0};
    if (fstat(fd, &status) || pread(fd, text, 3, far) != 3) return fail("large");
    printf("large %lld %s\n", (long long)status.st_size, text);
    if (ftruncate(fd, 10) || fstat(fd, &status)) return fail("truncate");
    printf("truncated %lld\n", (long long)status.st_size);
    struct timespec times[2] = {{1, 500}, {2000000000, 999999999}};
    if (futimens(fd, times) || fstat(fd, &status)) return fail("times");
    printf("times %lld.%ld %lld.%ld\n", (long long)status.st_atim.tv_sec, status.st_atim.tv_nsec,
           (long long)status.st_mtim.tv_sec, status.st_mtim.tv_nsec);
    close(fd);

    if (rename("/large", "/d1/moved") || link("/d1/moved", "/hard")) return fail("rename");
    if (stat("/hard", &status)) return fail("stat");
    printf("links %d\n", (int)status.st_nlink);
    printf("open removed: %s\n", open("/large", O_RDONLY) < 0 ? strerror(errno) : "there");
    printf("outside: %s\n", open("/../../etc/passwd", O_RDONLY) < 0 ? "refused" : "there");
    FILE *append = fopen("/hard", "a+");
    if (!append || fputs("more", append) < 0 || fflush(append)) return fail("append");
    printf("appended at %ld\n", ftell(append));
    fclose(append);
    return 0;
}
