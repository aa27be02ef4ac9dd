/*
 * A stand-in for the init of AWS's enclaves: the same steps in the same order, with the same failures
 * (nitro-tools 4). Where AWS's is harsh, so is this one: no /env ends it by a null pointer, a version 1 cgroup
 * controller that does not mount ends it, and whatever the program did, the machine is restarted. It knows
 * nothing of Cloister: no status is told, loopback stays down.
 */
#define _GNU_SOURCE
#include <sys/socket.h> /* first: older vm_sockets.h need it */
#include <linux/vm_sockets.h>

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define PARENT_CID 3
#define HEARTBEAT_PORT 9000
#define HEARTBEAT 0xB7
#define QUIET (MS_NODEV | MS_NOSUID | MS_NOEXEC)

static void die(const char *what)
{
	perror(what);
	exit(EXIT_FAILURE); /* the first process: the kernel panics */
}

static void mount_or_die(const char *type, const char *where, unsigned long flags, const void *options)
{
	mkdir(where, 0755);
	if (mount(type, where, type, flags, options) < 0 && errno != EBUSY)
		die(where);
}

static void open_console(void)
{
	if (!freopen("/dev/console", "r", stdin) || !freopen("/dev/console", "w", stdout) ||
	    !freopen("/dev/console", "w", stderr))
		exit(EXIT_FAILURE);
	setvbuf(stdout, NULL, _IOLBF, 0);
}

static void load_nsm_driver(void)
{
	int fd = open("nsm.ko", O_RDONLY | O_CLOEXEC);

	if (fd < 0 && errno == ENOENT)
		return;
	if (fd < 0 || syscall(SYS_finit_module, fd, "", 0) < 0)
		die("insmod nsm.ko");
	close(fd);
	if (unlink("nsm.ko") < 0)
		die("unlink nsm.ko");
}

static void tell_parent(void)
{
	struct sockaddr_vm parent = {.svm_family = AF_VSOCK, .svm_cid = PARENT_CID, .svm_port = HEARTBEAT_PORT};
	unsigned char byte = HEARTBEAT;
	int fd = socket(AF_VSOCK, SOCK_STREAM, 0);

	if (fd < 0 || connect(fd, (struct sockaddr *)&parent, sizeof(parent)) < 0)
		die("vsock connect");
	if (write(fd, &byte, 1) != 1)
		die("vsock write");
	byte = 0;
	if (read(fd, &byte, 1) != 1 || byte != HEARTBEAT)
		die("vsock read");
	close(fd);
}

static char **read_lines(const char *path)
{
	FILE *file = fopen(path, "r");
	char **lines = calloc(1, sizeof(*lines));
	size_t count = 0;

	if (!file)
		fprintf(stderr, "Could not open %s file\n", path);
	while (file && lines) {
		char *line = NULL;
		size_t room = 0;
		ssize_t length = getline(&line, &room, file);

		if (length < 0)
			break;
		if (length && line[length - 1] == '\n')
			line[length - 1] = 0;
		lines = realloc(lines, (count + 2) * sizeof(*lines));
		lines[count++] = line;
		lines[count] = NULL;
	}
	fclose(file); /* of nothing, where there is no such file: it is how AWS's ends */
	unlink(path);
	return lines;
}

static void enter_rootfs(void)
{
	if (mount("/rootfs", "/rootfs", NULL, MS_BIND, NULL) < 0 || chdir("/rootfs") < 0 ||
	    mount(".", "/", NULL, MS_MOVE, NULL) < 0 || chroot(".") < 0 || chdir("/") < 0)
		die("rootfs");
}

static void mount_control_groups(void)
{
	char name[64], path[128];
	int hierarchy, groups, enabled;
	FILE *list = fopen("/proc/cgroups", "r");

	mount_or_die("tmpfs", "/sys/fs/cgroup", QUIET, "mode=0755");
	if (!list)
		return;
	if (fscanf(list, "%*[^\n]\n") == EOF) /* the heading */
		die("/proc/cgroups");
	while (fscanf(list, "%63s %d %d %d\n", name, &hierarchy, &groups, &enabled) == 4) {
		if (!enabled)
			continue;
		snprintf(path, sizeof(path), "/sys/fs/cgroup/%s", name);
		if (mkdir(path, 0755) < 0 || mount("cgroup", path, "cgroup", QUIET, name) < 0)
			die(path);
	}
	fclose(list);
}

static void mount_filesystems(void)
{
	mount_or_die("devtmpfs", "/dev", MS_NOSUID | MS_NOEXEC, NULL);
	mount_or_die("proc", "/proc", QUIET, NULL);
	symlink("/proc/self/fd", "/dev/fd");
	symlink("/proc/self/fd/0", "/dev/stdin");
	symlink("/proc/self/fd/1", "/dev/stdout");
	symlink("/proc/self/fd/2", "/dev/stderr");
	mount_or_die("tmpfs", "/run", QUIET, "mode=0755");
	mount_or_die("tmpfs", "/tmp", QUIET, NULL);
	mount_or_die("tmpfs", "/dev/shm", QUIET, NULL);
	mount_or_die("devpts", "/dev/pts", MS_NOSUID | MS_NOEXEC, NULL);
	mount_or_die("sysfs", "/sys", QUIET, NULL);
	mount_control_groups();
}

static pid_t launch(char **cmd, char **env)
{
	static char *shell[] = {"sh", NULL};
	sigset_t none;
	pid_t child = fork();

	if (child)
		return child;
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	setsid();
	ioctl(0, TIOCSCTTY, 1);
	if (setenv("PATH", "/sbin:/usr/sbin:/bin:/usr/bin", 1) < 0)
		die("setenv");
	if (!*cmd)
		cmd = shell;
	execvpe(*cmd, cmd, env);
	die(*cmd);
	return -1;
}

int main(void)
{
	sigset_t all;
	char **env, **cmd;
	pid_t child, ended;
	int status;

	sigfillset(&all);
	sigprocmask(SIG_BLOCK, &all, NULL);
	mount_or_die("devtmpfs", "/dev", MS_NOSUID | MS_NOEXEC, NULL);
	open_console();
	load_nsm_driver();
	tell_parent();
	env = read_lines("/env");
	cmd = read_lines("/cmd");
	enter_rootfs();
	mount_filesystems();
	child = launch(cmd, env);
	if (child < 0)
		die("fork");
	do
		ended = waitpid(-1, &status, 0);
	while (ended >= 0 && ended != child);
	if (ended == child && WIFEXITED(status) && WEXITSTATUS(status))
		puts("child exited with error");
	if (ended == child && WIFSIGNALED(status))
		puts("child exited by signal");
	reboot(RB_AUTOBOOT);
	die("reboot");
}
