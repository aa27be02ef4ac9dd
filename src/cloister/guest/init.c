// SPDX-License-Identifier: Apache-2.0
/*
 * The first program of an enclave. It does what the init of AWS's enclaves does, in the same order: /dev and
 * the console, nsm.ko if the image brings one, heartbeat to CID 3 port 9000, /env and /cmd, /rootfs becomes /,
 * mounts, the program, reaping, reboot. Beyond that: loopback is up, /tmp may hold programs, cgroup v2,
 * optional /workdir and /user, the program's wait status goes to CID 3 port 9001, and whatever fails says so.
 *
 * Freestanding: built with -include nolibc.h against the kernel's own tools/include/nolibc.
 */

#define AF_VSOCK 40
#define PARENT_CID 3
#define HEARTBEAT_PORT 9000
#define HEARTBEAT_BYTE 0xB7
#define STATUS_PORT 9001 /* 8 bytes: "EXIT", then the wait status as u32 little-endian */
#define HEARTBEAT_MS 30000
#define STATUS_MS 2000
#define DRAIN_MS 1000

#define MAX_TEXT (1 << 20)  /* /cmd and /env together with their pointers stay far below the kernel's limits */
#define MAX_LINES 4096
#define MAX_GROUPS 64
#define DEFAULT_PATH "/sbin:/usr/sbin:/bin:/usr/bin"

static char cmd_text[MAX_TEXT], env_text[MAX_TEXT];
static char workdir_text[4098], user_text[258];
static char *cmd[MAX_LINES + 1], *env[MAX_LINES + 3];
static int console_is_open;

/* struct sockaddr_vm of <linux/vm_sockets.h> and what is used of struct ifreq of <linux/if.h>: those headers
 * pull in the C library's. */
struct vsock_address {
	unsigned short family, reserved;
	unsigned int port, cid;
	unsigned char zero[4];
};

struct interface_request {
	char name[16];
	short flags;
	char rest[22];
};

struct identity {
	unsigned int uid, gid, groups[MAX_GROUPS];
	int group_count;
	char home[256];
};

/* ---- saying what is wrong ---- */

static const char *describe(int number)
{
	switch (number) {
	case EPERM: return "operation not permitted";
	case ENOENT: return "no such file or directory";
	case EIO: return "input/output error";
	case E2BIG: return "arguments and environment too long";
	case ENOEXEC: return "not an executable format of this kernel";
	case ENOMEM: return "out of memory";
	case EACCES: return "permission denied";
	case ENOTDIR: return "not a directory";
	case EISDIR: return "is a directory";
	case EINVAL: return "invalid argument";
	case ENODEV: return "no such device";
	case EFBIG: return "too long";
	case ENOSPC: return "no space left";
	case ELOOP: return "too many symbolic links";
	case ENAMETOOLONG: return "name too long";
	case ENOSYS: return "not supported by this kernel";
	case ECONNREFUSED: return "connection refused";
	case ECONNRESET: return "connection reset";
	case ETIMEDOUT: return "timed out";
	default: return "unexpected error";
	}
}

static void say(const char *what, const char *which, int number)
{
	if (number)
		fprintf(stderr, "cloister init: %s%s: %s (errno %d)\n", what, which, describe(number), number);
	else
		fprintf(stderr, "cloister init: %s%s\n", what, which);
}

static int soon(int fd, short events, int milliseconds)
{
	struct pollfd one = { .fd = fd, .events = events };

	return poll(&one, 1, milliseconds);
}

/* What the program wrote last must reach the console before the machine goes away. */
static void drain_console(void)
{
	int waiting = 0, waited;

	for (waited = 0; console_is_open && waited < DRAIN_MS; waited += 5) {
		if (ioctl(1, 0x5411 /* TIOCOUTQ */, &waiting) < 0 || waiting == 0)
			return;
		poll(NULL, 0, 5);
	}
}

static __attribute__((noreturn)) void end_machine(void)
{
	drain_console();
	reboot(RB_AUTOBOOT);
	for (;;) /* not reached: pid 1 must never return */
		poll(NULL, 0, 1000);
}

static __attribute__((noreturn)) void fail(const char *what, const char *which, int number)
{
	say(what, which, number);
	say("the program was not started; ending the enclave", "", 0);
	end_machine();
}

/* ---- the parent, over vsock ---- */

static int dial_parent(unsigned int port, int milliseconds)
{
	struct vsock_address address = { .family = AF_VSOCK, .port = port, .cid = PARENT_CID };
	int error = 0, length = sizeof(error);
	int fd = __sysret(my_syscall3(__NR_socket, AF_VSOCK, 1 | O_NONBLOCK | 02000000 /* SOCK_CLOEXEC */, 0));

	if (fd < 0)
		return -1;
	if (__sysret(my_syscall3(__NR_connect, fd, &address, sizeof(address))) == 0)
		return fd;
	if (errno != EINPROGRESS)
		goto failed;
	if (soon(fd, POLLOUT, milliseconds) != 1) {
		errno = ETIMEDOUT;
		goto failed;
	}
	if (__sysret(my_syscall5(__NR_getsockopt, fd, 1 /* SOL_SOCKET */, 4 /* SO_ERROR */, &error, &length)) == 0 && !error)
		return fd;
	errno = error;
failed:
	error = errno;
	close(fd);
	errno = error;
	return -1;
}

static void send_heartbeat(void)
{
	unsigned char byte = HEARTBEAT_BYTE;
	int fd = dial_parent(HEARTBEAT_PORT, HEARTBEAT_MS);

	if (fd < 0)
		fail("the parent does not answer the heartbeat on CID 3 port 9000", "", errno);
	if (write(fd, &byte, 1) != 1)
		fail("cannot send the heartbeat", "", errno);
	byte = 0;
	if (soon(fd, POLLIN, HEARTBEAT_MS) != 1)
		fail("the parent did not echo the heartbeat in time", "", ETIMEDOUT);
	if (read(fd, &byte, 1) != 1 || byte != HEARTBEAT_BYTE)
		fail("the parent answered the heartbeat with something else", "", 0);
	close(fd);
}

/* Best effort: nobody listening must not keep the enclave from ending. */
static void report_status(unsigned int status)
{
	unsigned char message[8] = { 'E', 'X', 'I', 'T', status, status >> 8, status >> 16, status >> 24 };
	int fd = dial_parent(STATUS_PORT, STATUS_MS);

	if (fd < 0)
		return;
	if (write(fd, message, sizeof(message)) == sizeof(message)) {
		my_syscall2(__NR_shutdown, fd, 1 /* SHUT_WR */);
		soon(fd, POLLIN, STATUS_MS); /* the supervisor closes once it has read */
	}
	close(fd);
}

/* ---- files of the image ---- */

/* Reads a whole small file as text; -1 with errno if it cannot, EFBIG when it does not fit. */
static int read_text(const char *path, char *text, int size)
{
	int used = 0, got = 0, error, fd = open(path, O_RDONLY | 02000000);

	if (fd < 0)
		return -1;
	while (used < size - 1 && (got = read(fd, text + used, size - 1 - used)) > 0)
		used += got;
	error = got < 0 ? errno : used == size - 1 ? EFBIG : 0;
	close(fd);
	text[used] = 0;
	if (!error && (int)strnlen(text, size) != used)
		error = EINVAL; /* a NUL byte inside */
	errno = error;
	return error ? -1 : used;
}

static int split_lines(char *text, int used, char **lines, int keep_empty)
{
	int count = 0;
	char *end, *line, *stop = text + used;

	for (line = text; line < stop; line = end + 1) {
		end = strchr(line, '\n');
		if (!end)
			end = stop;
		*end = 0;
		if (end == line && !keep_empty)
			continue;
		if (count == MAX_LINES)
			return -1;
		lines[count++] = line;
	}
	lines[count] = NULL;
	return count;
}

static int load_lines(const char *path, char *text, char **lines, int keep_empty)
{
	int count, used = read_text(path, text, MAX_TEXT);

	if (used < 0 && errno == ENOENT)
		fail("the image did not unpack completely (too little memory?): missing ", path, 0);
	if (used < 0)
		fail("cannot read ", path, errno);
	count = split_lines(text, used, lines, keep_empty);
	if (count < 0)
		fail("more than 4096 lines in ", path, 0);
	unlink(path);
	return count;
}

/* The one line of an optional file; the text is empty when the file is absent. */
static void load_optional_line(const char *path, char *text, int size)
{
	char *end;

	if (read_text(path, text, size) < 0) {
		if (errno != ENOENT)
			fail("cannot read ", path, errno);
		text[0] = 0;
		return;
	}
	end = strchr(text, '\n');
	if (end)
		*end = 0;
	unlink(path);
}

static const char *from_environment(const char *name, int length)
{
	int i;

	for (i = 0; env[i]; i++)
		if (!strncmp(env[i], name, length) && env[i][length] == '=')
			return env[i] + length + 1;
	return NULL;
}

static void add_to_environment(char *assignment)
{
	int i;

	for (i = 0; env[i]; i++)
		;
	env[i] = assignment; /* the array has room for the two this program may add */
	env[i + 1] = NULL;
}

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

/* ---- USER: name or number, optionally :group ---- */

/* Fields of one line of /etc/passwd or /etc/group, cut in place. */
static int split_fields(char *line, char **fields, int most)
{
	int count = 0;

	while (line && count < most) {
		fields[count++] = line;
		line = strchr(line, ':');
		if (line)
			*line++ = 0;
	}
	return count;
}

static int parse_number(const char *text, unsigned int *number)
{
	unsigned long value = 0;

	if (!*text)
		return 0;
	for (; *text; text++) {
		if (*text < '0' || *text > '9' || value > 0xFFFFFFFFUL)
			return 0;
		value = value * 10 + (*text - '0');
	}
	*number = value;
	return value < 0xFFFFFFFFUL; /* (uid_t)-1 means "unchanged" */
}

static int is_member(const char *members, const char *name)
{
	int length = strlen(name);

	for (; members; members = strchr(members, ','), members += members != NULL)
		if (!strncmp(members, name, length) && (members[length] == ',' || !members[length]))
			return 1;
	return 0;
}

static char table_text[MAX_TEXT];
static char *table[MAX_LINES + 1];

static int load_table(const char *path)
{
	int used = read_text(path, table_text, sizeof(table_text));

	return used < 0 ? 0 : split_lines(table_text, used, table, 0);
}

static void find_user(const char *name, struct identity *who, char *login)
{
	char *field[7];
	unsigned int uid = 0, number = 0;
	int i, found = 0, numeric = parse_number(name, &number), count = load_table("/etc/passwd");

	for (i = 0; i < count && !found; i++) {
		if (split_fields(table[i], field, 7) < 6 || !parse_number(field[2], &uid))
			continue;
		if (numeric ? uid != number : strcmp(field[0], name) != 0)
			continue;
		found = 1;
		who->uid = uid;
		if (!parse_number(field[3], &who->gid))
			who->gid = 0;
		strlcpy(login, field[0], 256);
		strlcpy(who->home, field[5][0] ? field[5] : "/", sizeof(who->home));
	}
	if (!found && !numeric)
		fail("the image's user is not in /etc/passwd: ", name, 0);
	if (!found)
		who->uid = number;
}

static void find_groups(const char *group, const char *login, struct identity *who)
{
	char *field[4];
	unsigned int gid = 0;
	int i, found = 0, numeric = group && parse_number(group, &who->gid), count = load_table("/etc/group");

	for (i = 0; i < count && !numeric; i++) {
		if (split_fields(table[i], field, 4) < 3 || !parse_number(field[2], &gid))
			continue;
		if (group && !strcmp(field[0], group)) {
			who->gid = gid;
			found = 1;
		}
		if (!group && *login && is_member(field[3], login) && who->group_count < MAX_GROUPS)
			who->groups[who->group_count++] = gid;
	}
	if (group && !numeric && !found)
		fail("the image's group is not in /etc/group: ", group, 0);
}

static void resolve_user(struct identity *who)
{
	char login[256] = "";
	char *group = strchr(user_text, ':');

	memset(who, 0, sizeof(*who));
	strlcpy(who->home, "/", sizeof(who->home));
	if (group)
		*group++ = 0;
	find_user(user_text[0] ? user_text : "0", who, login);
	if (user_text[0] || group)
		find_groups(group && *group ? group : NULL, login, who);
}

static void become(const struct identity *who)
{
	if (__sysret(my_syscall2(__NR_setgroups, who->group_count, who->groups)) < 0 ||
	    __sysret(my_syscall1(__NR_setgid, who->gid)) < 0 || __sysret(my_syscall1(__NR_setuid, who->uid)) < 0)
		fail("cannot become the image's user ", user_text, errno);
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

	setsid();
	ioctl(0, 0x540E /* TIOCSCTTY */, NULL);
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
	load_nsm_module();
	send_heartbeat();
	load_lines("/env", env_text, env, 0);
	if (load_lines("/cmd", cmd_text, cmd, 1) == 0)
		fail("the image names no program: /cmd is empty", "", 0);
	load_optional_line("/workdir", workdir_text, sizeof(workdir_text));
	load_optional_line("/user", user_text, sizeof(user_text));
	enter_rootfs();
	mount_filesystems();
	raise_loopback();
	resolve_user(&who);
	prepare_environment(&who);
	enter_workdir();
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
