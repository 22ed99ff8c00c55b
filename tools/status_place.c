/* SPDX-License-Identifier: Apache-2.0 */
/*
 * status_place.c - where a job's store is, and what proves the asker a member.
 *
 * A job of `gradpush run` has a random token and a port that nobody else knows,
 * so run leaves a note: a file of this user's, named by user and process, in
 * the folder for temporary files. Notes of others, and of processes that are
 * gone, do not count.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "status.h"

#define NOTE_MAX  2048
#define NOTES_MAX 16

static const char *
note_folder(void)
{
    const char *folder = getenv("TMPDIR");

    return folder && *folder ? folder : "/tmp";
}

static void
note_prefix(char *out, size_t capacity)
{
    snprintf(out, capacity, "gradpush-run-%lu-", (unsigned long)geteuid());
}

void
gp_place_note_path(char *out, size_t capacity)
{
    char prefix[64];

    note_prefix(prefix, sizeof(prefix));
    snprintf(out, capacity, "%s/%s%d", note_folder(), prefix, (int)getpid());
}

gp_status
gp_place_note(const char *path, const char *store, const char *job,
              const char *token_file)
{
    char text[NOTE_MAX];
    int n, fd;
    bool written;

    n = snprintf(text, sizeof(text), "store=%s\njob=%s\ntoken_file=%s\n", store,
                 job, token_file);
    (void)unlink(path); /* of a process that had this number before */
    fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0 || n < 0 || (size_t)n >= sizeof(text)) {
        gp_status status =
            gp_fail_errno(GP_ERR_SYSTEM, errno, "cannot create '%s'", path);

        if (fd >= 0)
            close(fd);
        return status;
    }
    written = write(fd, text, (size_t)n) == n;
    if (close(fd) || !written)
        return gp_fail_errno(GP_ERR_SYSTEM, errno, "cannot write '%s'", path);
    return GP_OK;
}

/* Whether a file can only be this user's own. */
static bool
is_ours(int fd)
{
    struct stat info;

    return fstat(fd, &info) == 0 && S_ISREG(info.st_mode) &&
           info.st_uid == geteuid() && (info.st_mode & 077) == 0;
}

static bool
read_note_text(const char *name, char text[NOTE_MAX])
{
    char path[512];
    ssize_t n = -1;
    int fd;

    snprintf(path, sizeof(path), "%s/%s", note_folder(), name);
    fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd < 0)
        return false;
    if (is_ours(fd))
        n = read(fd, text, NOTE_MAX - 1);
    close(fd);
    if (n <= 0)
        return false;
    text[n] = '\0';
    return true;
}

static bool
take_line(const char *text, const char *key, char *out, size_t capacity)
{
    const char *at = strstr(text, key);
    size_t length;

    if (!at)
        return false;
    at += strlen(key);
    length = strcspn(at, "\n");
    if (length >= capacity)
        return false;
    memcpy(out, at, length);
    out[length] = '\0';
    return true;
}

/* The token that a note's file holds, read as members do. */
static bool
load_token(const char *file, gp_place *out)
{
    gp_config *config;
    bool good;

    out->token[0] = '\0';
    if (!file[0])
        return true;
    if (gp_config_create(&config) != GP_OK)
        return false;
    good = gp_config_set(config, "token", "") == GP_OK &&
           gp_config_set(config, "token_file", file) == GP_OK &&
           gp_token_load(config, out->token, sizeof(out->token)) == GP_OK;
    gp_config_destroy(config);
    return good;
}

/* A note of a process that still runs. Without a token of its own the job has
 * the user's. */
static bool
read_note(const char *name, const char *prefix, gp_place *out, bool *own_token)
{
    char text[NOTE_MAX], file[512];
    pid_t pid = (pid_t)strtol(name + strlen(prefix), NULL, 10);

    if (pid <= 0 || (kill(pid, 0) != 0 && errno == ESRCH) ||
        !read_note_text(name, text) ||
        !take_line(text, "store=", out->store, sizeof(out->store)) ||
        !take_line(text, "\njob=", out->job, sizeof(out->job)) ||
        !take_line(text, "\ntoken_file=", file, sizeof(file)))
        return false;
    *own_token = file[0] != '\0';
    return load_token(file, out);
}

/* Notes that fit; the last of them in *out. `names` lists their stores. */
static size_t
search_notes(const gp_place *wanted, gp_place *out, char *names,
             size_t capacity)
{
    DIR *folder = opendir(note_folder());
    struct dirent *entry;
    char prefix[64];
    size_t count = 0, at = 0;

    note_prefix(prefix, sizeof(prefix));
    while (folder && count < NOTES_MAX && (entry = readdir(folder))) {
        gp_place place;
        bool own_token;

        if (strncmp(entry->d_name, prefix, strlen(prefix)) != 0 ||
            !read_note(entry->d_name, prefix, &place, &own_token) ||
            (wanted->store[0] && strcmp(wanted->store, place.store) != 0))
            continue;
        if (!own_token)
            memcpy(place.token, wanted->token, sizeof(place.token));
        *out = place;
        count++;
        if (at < capacity)
            at += (size_t)snprintf(names + at, capacity - at, "\n  %s  job %s",
                                   place.store, place.job);
    }
    if (folder)
        closedir(folder);
    return count;
}

/* The place in a job that the environment describes, as far as it does. Who
 * asks has no rank: a size without one would be a mistake of a worker's. */
static gp_status
detect(gp_config *config, gp_place *out)
{
    gp_job job;
    gp_status status = GP_OK;

    if (gp_config_int(config, "rank") < 0)
        status = gp_config_set(config, "size", "-1");
    if (status == GP_OK)
        status = gp_job_detect(config, NULL, &job);
    if (status == GP_OK)
        status = gp_token_load(config, out->token, sizeof(out->token));
    if (status != GP_OK)
        return status;
    if (strcmp(job.launcher, "none") != 0 || gp_config_get(config, "store")[0])
        snprintf(out->store, sizeof(out->store), "%s", job.store);
    snprintf(out->job, sizeof(out->job), "%s", job.job);
    return GP_OK;
}

static bool
is_named(const gp_config *config, const char *field)
{
    return strcmp(gp_config_origin(config, field), "default") != 0;
}

gp_status
gp_place_find(gp_config *config, gp_place *out)
{
    gp_place place = {0}, noted;
    char names[1024] = "";
    size_t count;
    gp_status status = detect(config, &place);

    if (status != GP_OK)
        return status;
    count = search_notes(&place, &noted, names, sizeof(names));
    if (!place.store[0] && count == 0)
        return gp_fail(GP_ERR_NOT_FOUND,
                       "no job: none of `gradpush run` is running here for "
                       "this user (as far as %s knows); else give the address "
                       "of the job's store, and its GRADPUSH_JOB and token as "
                       "to its members",
                       note_folder());
    if (!place.store[0] && count > 1)
        return gp_fail(GP_ERR_CONFIG,
                       "several jobs run here; give the address of one:%s",
                       names);
    if (count > 0 && is_named(config, "job"))
        memcpy(noted.job, place.job, sizeof(noted.job));
    *out = count > 0 ? noted : place;
    return GP_OK;
}
