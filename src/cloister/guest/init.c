// SPDX-License-Identifier: Apache-2.0
/*
 * The first program of an enclave. It does what the init of AWS's enclaves does: /dev and the console, nsm.ko
 * if the image brings one, heartbeat to CID 3 port 9000, /env and /cmd, /rootfs becomes /, mounts, the program,
 * reaping, reboot; but it goes on while the parent answers the heartbeat, and needs the answer only to start the
 * program. Beyond that: loopback is up, /tmp may hold programs, cgroup v2, optional /workdir and /user, and CID 3
 * port 9001 is told the program's wait status, or why there is no program.
 *
 * Freestanding: built with -include nolibc.h against the kernel's own tools/include/nolibc.
 */
#include "speak.h" /* first: the others end the machine through it */

#include "image.h"
#include "identity.h" /* after image.h */
#include "parent.h"

#define DEFAULT_PATH "/sbin:/usr/sbin:/bin:/usr/bin"

/* What is used of struct ifreq of <linux/if.h>, which pulls in the C library. */
struct interface_request {
	char name[16];
	short flags;
	char rest[22];
};

/* ---- the world of the program ---- */

static void mount_or_fail(const char *type, const char *where, unsigned long flags, const char *options)
{
	mkdir(where, 0755);
	if (mount(type, where, type, flags, options) < 0 && errno != EBUSY)
		fail("cannot mount ", where, errno);
}

static void open_console(void)
{
	int fd = open("/dev/console", O_RDWR);

	console_is_open = fd >= 0;
	if (fd < 0) /* production: there may be no console at all */
		fd = open("/dev/null", O_RDWR);
	if (fd < 0)
		return;
	dup2(fd, 0);
	dup2(fd, 1);
	dup2(fd, 2);
	if (fd > 2)
		close(fd);
}

static void load_nsm_module(void)
{
	int fd = open("/nsm.ko", O_RDONLY | 02000000);

	if (fd < 0)
		return; /* our kernel has the driver built in */
	if (__sysret(my_syscall3(__NR_finit_module, fd, "", 0)) < 0)
		fail("cannot load ", "/nsm.ko", errno);
	close(fd);
	unlink("/nsm.ko");
}

static void enter_rootfs(void)
{
	if (mount("/rootfs", "/rootfs", NULL, MS_BIND, NULL) < 0)
		fail("the image has no usable ", "/rootfs", errno);
	if (chdir("/rootfs") < 0 || mount(".", "/", NULL, MS_MOVE, NULL) < 0 || chroot(".") < 0 || chdir("/") < 0)
		fail("cannot make /rootfs the root file system", "", errno);
}

static void mount_filesystems(void)
{
	mount_or_fail("devtmpfs", "/dev", MS_NOSUID | MS_NOEXEC, "mode=0755");
	mount_or_fail("proc", "/proc", MS_NODEV | MS_NOSUID | MS_NOEXEC, NULL);
	symlink("/proc/self/fd", "/dev/fd");
	symlink("/proc/self/fd/0", "/dev/stdin");
	symlink("/proc/self/fd/1", "/dev/stdout");
	symlink("/proc/self/fd/2", "/dev/stderr");
	mount_or_fail("tmpfs", "/run", MS_NODEV | MS_NOSUID, "mode=0755");
	mount_or_fail("tmpfs", "/tmp", MS_NODEV | MS_NOSUID, "mode=1777");
	mount_or_fail("tmpfs", "/dev/shm", MS_NODEV | MS_NOSUID, "mode=1777");
	mount_or_fail("devpts", "/dev/pts", MS_NOSUID | MS_NOEXEC, "gid=5,mode=0620,ptmxmode=0666");
	mount_or_fail("sysfs", "/sys", MS_NODEV | MS_NOSUID | MS_NOEXEC, NULL);
	mount_or_fail("cgroup2", "/sys/fs/cgroup", MS_NODEV | MS_NOSUID | MS_NOEXEC, NULL);
}

static void raise_loopback(void)
{
	struct interface_request request;
	int fd = __sysret(my_syscall3(__NR_socket, 2 /* AF_INET */, 2 /* SOCK_DGRAM */ | 02000000, 0));

	if (fd < 0)
		return;
	memset(&request, 0, sizeof(request));
	strlcpy(request.name, "lo", sizeof(request.name));
	request.flags = 0x41 /* IFF_UP | IFF_RUNNING */;
	if (ioctl(fd, 0x8914 /* SIOCSIFFLAGS */, &request) < 0)
		say("loopback stays down", "", errno);
	close(fd);
}

/* ---- the program ---- */

static void set_signals(unsigned long mask)
{
	my_syscall4(__NR_rt_sigprocmask, 2 /* SIG_SETMASK */, &mask, NULL, sizeof(mask));
}

static void enter_workdir(void)
{
	char *slash;

	if (!workdir_text[0])
		return;
	for (slash = strchr(workdir_text + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
		*slash = 0;
		mkdir(workdir_text, 0755);
		*slash = '/';
	}
	mkdir(workdir_text, 0755);
	if (chdir(workdir_text) < 0)
		fail("cannot enter the image's working directory ", workdir_text, errno);
}

/* Looks the command up as execvpe(3) does: what exists but may not run is remembered, the search goes on. */
static int run_program(const char *path)
{
	static char full[4096 + 256];
	const char *end, *name = cmd[0];
	int error = ENOENT, length;

	if (!*name)
		return ENOENT;
	if (strchr(name, '/')) {
		execve(name, cmd, env);
		return errno;
	}
	if (strlen(name) > 255)
		return ENAMETOOLONG;
	for (; path; path = *end ? end + 1 : NULL) {
		for (end = path; *end && *end != ':'; end++)
			;
		length = end - path;
		if (length > 4095)
			continue;
		memcpy(full, path, length);
		full[length] = 0;
		if (length)
			strlcat(full, "/", sizeof(full));
		strlcat(full, name, sizeof(full)); /* an empty element is the working directory */
		execve(full, cmd, env);
		if (errno != ENOENT && errno != ENOTDIR && errno != EACCES)
			return errno;
		if (errno == EACCES)
			error = EACCES;
	}
	return error;
}

static __attribute__((noreturn)) void be_program(const struct identity *who, const char *path)
{
	int error;
	struct stat there;

	setsid(); /* no controlling terminal: the hang-up at its leader's exit would drop what it said last */
	if (console_is_open) /* /dev/stdout is opened by path */
		my_syscall3(__NR_fchown, 0, who->uid, who->gid);
	become(who);
	set_signals(0);
	error = run_program(path);
	if (error == ENOENT && strchr(cmd[0], '/') && stat(cmd[0], &there) == 0)
		say("its interpreter is missing from the image: ", cmd[0], 0);
	say("cannot run ", cmd[0], error);
	exit(error == ENOENT ? 127 : 126); /* as shells answer */
}

static int wait_for_program(int program)
{
	int status = 0, ended;

	while ((ended = wait4(-1, &status, 0, NULL)) != program)
		if (ended < 0 && errno != EINTR)
			fail("lost the program", "", errno);
	return status;
}

static void announce(int status)
{
	if (WIFEXITED(status) && WEXITSTATUS(status))
		fprintf(stderr, "cloister init: the program exited with status %d\n", WEXITSTATUS(status));
	else if (!WIFEXITED(status))
		fprintf(stderr, "cloister init: the program was killed by signal %d\n", WTERMSIG(status));
}

static void prepare_environment(const struct identity *who)
{
	static char path[] = "PATH=" DEFAULT_PATH;
	static char home[5 + 256] = "HOME=";

	if (!from_environment("PATH", 4))
		add_to_environment(path);
	if (!from_environment("HOME", 4)) {
		strlcat(home, who->home, sizeof(home));
		add_to_environment(home);
	}
}

int main(void)
{
	struct identity who;
	int program, status;

	if (getpid() != 1) {
		say("this program is the first process of an enclave", "", 0);
		return 1;
	}
	set_signals(~0UL);
	mount_or_fail("devtmpfs", "/dev", MS_NOSUID | MS_NOEXEC, "mode=0755");
	open_console();
	begin_heartbeat();
	load_nsm_module();
	raise_loopback();
	load_lines("/env", env_text, env, 0);
	if (load_lines("/cmd", cmd_text, cmd, 1) == 0)
		fail("the image names no program: /cmd is empty", "", 0);
	load_optional_line("/workdir", workdir_text, sizeof(workdir_text));
	load_optional_line("/user", user_text, sizeof(user_text));
	enter_rootfs();
	send_heartbeat();
	mount_filesystems();
	resolve_user(&who);
	prepare_environment(&who);
	enter_workdir();
	finish_heartbeat();
	my_syscall3(__NR_syslog, 8 /* SYSLOG_ACTION_CONSOLE_LEVEL */, NULL, 4); /* the console is the program's now */
	program = fork();
	if (program < 0)
		fail("cannot start a process", "", errno);
	if (program == 0)
		be_program(&who, from_environment("PATH", 4));
	status = wait_for_program(program);
	announce(status);
	report_status(status);
	end_machine();
}
