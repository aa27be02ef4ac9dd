/* Runs in QEMU's place, in QEMU's jail, with QEMU's descriptors, and tries to get out. Prints "NAME: refused WHY"
 * or "NAME: POSSIBLE" to standard error for each attempt, then "done". It gets QEMU's arguments; the word after
 * -append is "SECRET-PATH TCP-PORT ABSTRACT-NAME HOST-PID", what the test has prepared on the host. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <linux/vm_sockets.h>
#include <net/if.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

static void tell(const char *name, int possible)
{
	if (possible)
		fprintf(stderr, "%s: POSSIBLE\n", name);
	else
		fprintf(stderr, "%s: refused %s\n", name, strerrorname_np(errno));
}

static void read_file(const char *name, const char *path)
{
	char byte;
	int fd = open(path, O_RDONLY);

	tell(name, fd >= 0 && read(fd, &byte, 1) == 1);
}

static void files(const char *secret)
{
	char path[4096];

	read_file("read a host file by its path", secret);
	read_file("read /etc/passwd", "/etc/passwd");
	snprintf(path, sizeof path, "/../../../..%s", secret);
	read_file("climb above the root", path);
	snprintf(path, sizeof path, "/proc/1/root%s", secret);
	read_file("go through /proc/1/root", path);
	snprintf(path, sizeof path, "/proc/1/cwd/..%s", secret);
	read_file("go through /proc/1/cwd", path);
	tell("write to the root", open("/written", O_WRONLY | O_CREAT, 0600) >= 0);
	tell("write to /tmp", open("/tmp/cloister-written", O_WRONLY | O_CREAT, 0600) >= 0);
	unlink("/tmp/cloister-written");
	tell("replace the emulator", open("/usr/bin/qemu-system-x86_64", O_WRONLY) >= 0);
	tell("make a device node", mknod("/tmp/mem", S_IFCHR | 0600, 1 << 8 | 1) == 0);
	read_file("open /dev/kvm", "/dev/kvm");
	read_file("open /dev/kmsg", "/dev/kmsg");
	tell("set the host's name", open("/proc/sys/kernel/hostname", O_WRONLY) >= 0);
	tell("set a core pattern", open("/proc/sys/kernel/core_pattern", O_WRONLY) >= 0);
	tell("press a magic key", open("/proc/sysrq-trigger", O_WRONLY) >= 0);
	read_file("read the host kernel's memory", "/proc/kcore");
}

static void inherited(void)
{
	struct stat s;
	int directory = 0;

	for (int fd = 0; fd < 256; fd++)
		if (fstat(fd, &s) == 0 && (S_ISDIR(s.st_mode) || (fcntl(fd, F_GETFL) & O_PATH)))
			directory = 1;
	errno = ENOENT;
	tell("use an inherited directory", directory);
}

static void network(int port, const char *name)
{
	struct sockaddr_in host = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(0x7f000001)};
	struct sockaddr_un abstract = {.sun_family = AF_UNIX};
	struct sockaddr_vm other = {.svm_family = AF_VSOCK, .svm_cid = VMADDR_CID_HOST, .svm_port = 1};
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	tell("make an internet socket", fd >= 0);
	tell("connect to the host's TCP", fd >= 0 && connect(fd, (void *)&host, sizeof host) == 0);
	fd = socket(AF_UNIX, SOCK_STREAM, 0);
	strncpy(abstract.sun_path + 1, name, sizeof abstract.sun_path - 2);
	tell("make a Unix socket", fd >= 0);
	tell("connect to the host's abstract socket",
	     fd >= 0 && connect(fd, (void *)&abstract, sizeof(sa_family_t) + 1 + strlen(name)) == 0);
	fd = socket(AF_VSOCK, SOCK_STREAM, 0);
	tell("make a vsock socket", fd >= 0);
	tell("connect by vsock", fd >= 0 && connect(fd, (void *)&other, sizeof other) == 0);
	tell("make a packet socket", socket(AF_PACKET, SOCK_RAW, 0) >= 0);
	tell("make a netlink socket", socket(AF_NETLINK, SOCK_RAW, 0) >= 0);
	tell("make a crypto socket", socket(AF_ALG, SOCK_SEQPACKET, 0) >= 0);
	tell("set up an io_uring", syscall(SYS_io_uring_setup, 4, calloc(1, 256)) >= 0);
}

static void processes(int host_pid)
{
	struct dirent *entry;
	DIR *proc = opendir("/proc");
	int others = 0;

	while (proc && (entry = readdir(proc)))
		others += atoi(entry->d_name) > 1;
	errno = ESRCH;
	tell("see other processes", others);
	tell("signal a host process", kill(host_pid, 0) == 0);
	tell("trace a process", ptrace(PTRACE_ATTACH, host_pid, 0, 0) == 0);
	tell("open a process", syscall(SYS_pidfd_open, 1, 0) >= 0);
	char byte;
	long vector[2] = {(long)&byte, 1};
	tell("read a process's memory", syscall(SYS_process_vm_readv, 1, vector, 1, vector, 1, 0) >= 0);
	errno = ENOENT;
	tell("have a parent", getppid() != 0);
}

static void privileges(void)
{
	struct __user_cap_header_struct head = {_LINUX_CAPABILITY_VERSION_3, 0};
	struct __user_cap_data_struct sets[2] = {{0, 0, 0}};

	syscall(SYS_capget, &head, sets);
	errno = EPERM;
	tell("have capabilities", sets[0].permitted | sets[1].permitted | sets[0].effective | sets[1].effective);
	sets[0].effective = sets[0].permitted = 1 << CAP_SYS_ADMIN;
	tell("take a capability", syscall(SYS_capset, &head, sets) == 0);
	tell("raise an ambient capability", prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_SYS_ADMIN, 0, 0) == 0);
	tell("be root", setuid(0) == 0);
	tell("change groups", setgroups(0, NULL) == 0);
	tell("undo no-new-privileges", prctl(PR_SET_NO_NEW_PRIVS, 0, 0, 0, 0) == 0);
	tell("make a user namespace", unshare(CLONE_NEWUSER) == 0);
	tell("clone into a user namespace", syscall(SYS_clone, CLONE_NEWUSER | SIGCHLD, 0, 0, 0, 0) >= 0);
	tell("clone by clone3", syscall(SYS_clone3, calloc(1, 64), 64) >= 0);
	tell("mount", mount("none", "/tmp", "tmpfs", 0, NULL) == 0);
	tell("remount the root writable", mount(NULL, "/", NULL, MS_REMOUNT | MS_BIND, NULL) == 0);
	tell("change the root", chroot("/tmp") == 0);
	tell("load a BPF program", syscall(SYS_bpf, 5, calloc(1, 128), 128) >= 0);
	tell("watch performance events", syscall(SYS_perf_event_open, calloc(1, 128), 0, -1, -1, 0) >= 0);
	tell("handle page faults", syscall(SYS_userfaultfd, 0) >= 0);
	tell("add a key", syscall(SYS_add_key, "user", "k", "v", 1, -3) >= 0);
	tell("read the kernel's log", syscall(SYS_syslog, 3, calloc(1, 64), 64) >= 0);
	tell("push input into a terminal", ioctl(0, TIOCSTI, "x") == 0);
}

int main(int argc, char **argv)
{
	char secret[2048] = "", name[64] = "";
	int port = 0, host_pid = 0;

	for (int i = 1; i + 1 < argc; i++)
		if (strcmp(argv[i], "-append") == 0)
			sscanf(argv[i + 1], "%2047s %d %63s %d", secret, &port, name, &host_pid);
	files(secret);
	inherited();
	network(port, name);
	processes(host_pid);
	privileges();
	fprintf(stderr, "done\n");
	return 0;
}
