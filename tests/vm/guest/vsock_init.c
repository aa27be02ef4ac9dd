/* The first program of a test guest: exercises vsock and /dev/nsm and prints "name: ok" or "name: FAIL why". */
#include <errno.h>
#include <fcntl.h>
#include <linux/vm_sockets.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define PARENT 3
#define ECHO 5000    /* sends back what it gets */
#define COUNT 5001   /* reads to the end, then answers the number of bytes */
#define SINK 5003    /* reads for ever */
#define SOURCE 5004  /* writes 32 MiB and closes */
#define NOBODY 4999
#define SERVED 7000  /* the guest's own echo server */

static unsigned char out[4 << 20], in[4 << 20];

static double now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + t.tv_nsec / 1e9;
}

static int dial(unsigned cid, unsigned port)
{
	struct sockaddr_vm a = {.svm_family = AF_VSOCK, .svm_cid = cid, .svm_port = port};
	int s = socket(AF_VSOCK, SOCK_STREAM, 0);
	if (s >= 0 && connect(s, (void *)&a, sizeof a)) {
		int e = errno;
		close(s);
		errno = e;
		return -1;
	}
	return s;
}

static int send_all(int s, const unsigned char *p, size_t n)
{
	while (n) {
		ssize_t k = send(s, p, n, MSG_NOSIGNAL);
		if (k <= 0)
			return -1;
		p += k, n -= k;
	}
	return 0;
}

static ssize_t read_all(int s, unsigned char *p, size_t n)
{
	size_t got = 0;
	while (got < n) {
		ssize_t k = read(s, p + got, n - got);
		if (k < 0)
			return -1;
		if (k == 0)
			break;
		got += k;
	}
	return got;
}

static void say(const char *name, int good)
{
	if (good)
		printf("%s: ok\n", name);
	else
		printf("%s: FAIL errno %d (%s)\n", name, errno, strerror(errno));
	fflush(stdout);
}

static void echo(size_t n)
{
	char name[64];
	int s = dial(PARENT, ECHO), good = s >= 0;
	snprintf(name, sizeof name, "echo %zu", n);
	if (good) {
		pid_t child = fork();
		if (child == 0)
			_exit(send_all(s, out, n) != 0);
		memset(in, 0, n);
		good = read_all(s, in, n) == (ssize_t)n && !memcmp(in, out, n);
		waitpid(child, NULL, 0);
		close(s);
	}
	say(name, good);
}

static void refused(void)
{
	double t = now();
	int s = dial(PARENT, NOBODY);
	say("refused at once", s < 0 && errno == ECONNRESET && now() - t < 1.0);
	s = dial(17, ECHO);
	say("another enclave refused", s < 0 && errno == ECONNRESET);
}

static void half_close(void)
{
	char answer[32] = "";
	int s = dial(PARENT, COUNT);
	int good = s >= 0 && !send_all(s, out, 300000) && !shutdown(s, SHUT_WR);
	good = good && read_all(s, (unsigned char *)answer, sizeof answer - 1) == 6 && !strcmp(answer, "300000");
	close(s);
	say("half close", good);
}

static void many(void)
{
	int good = 1;
	double t = now();
	for (int i = 0; i < 300 && good; i++) {
		int s = dial(PARENT, ECHO);
		good = s >= 0 && !send_all(s, out, 64) && read_all(s, in, 64) == 64;
		close(s);
	}
	say("300 connections", good);
	printf("figure: %.0f connections/s\n", 300 / (now() - t));
}

static void serve(void)
{
	struct sockaddr_vm a = {.svm_family = AF_VSOCK, .svm_cid = VMADDR_CID_ANY, .svm_port = SERVED};
	struct sockaddr_vm peer;
	socklen_t len = sizeof peer;
	int l = socket(AF_VSOCK, SOCK_STREAM, 0), s, good;
	if (bind(l, (void *)&a, sizeof a) || listen(l, 8)) {
		say("listen", 0);
		return;
	}
	printf("listening\n");
	fflush(stdout);
	struct pollfd waiting = {.fd = l, .events = POLLIN};
	if (poll(&waiting, 1, 20000) != 1) {
		errno = ETIMEDOUT;
		say("accept", 0);
		return;
	}
	s = accept(l, (void *)&peer, &len);
	good = s >= 0 && peer.svm_cid == PARENT;
	say("peer is CID 3", good);
	ssize_t n;
	while ((n = read(s, in, sizeof in)) > 0)
		if (send_all(s, in, n))
			break;
	say("served until the end", n == 0);
	close(s);
	close(l);
}

static void nsm(void)
{
	struct message { uint64_t request, request_len, response, response_len; } m;
	static const unsigned char random_request[] = "\x69GetRandom", describe[] = "\x6b" "DescribeNSM";
	int f = open("/dev/nsm", O_RDWR), good;
	char name[64] = "";
	if (f < 0) {
		say("open /dev/nsm", 0);
		return;
	}
	m = (struct message){(uintptr_t)random_request, 10, (uintptr_t)in, 0x3000};
	good = !ioctl(f, 0xC0200A00, &m) && m.response_len > 200 && in[0] == 0xa1 && !memcmp(in + 1, "\x69GetRandom", 10);
	say("nsm random", good);
	m = (struct message){(uintptr_t)describe, 12, (uintptr_t)in, 0x3000};
	good = !ioctl(f, 0xC0200A00, &m) && in[0] == 0xa1 && !memcmp(in + 1, "\x6b" "DescribeNSM", 12);
	say("nsm describe", good);
	m = (struct message){(uintptr_t)out, 0x1001, (uintptr_t)in, 0x3000};
	say("nsm too large", ioctl(f, 0xC0200A00, &m) < 0 && errno == EMSGSIZE);
	close(f);
	f = open("/sys/class/misc/hw_random/rng_current", O_RDONLY);
	if (f >= 0 && read(f, name, sizeof name - 1) > 0)
		say("hwrng is nsm", !strncmp(name, "nsm-hwrng", 9));
	close(f);
}

static void figures(void)
{
	int s = dial(PARENT, ECHO);
	double t = now();
	for (int i = 0; i < 1000 && s >= 0; i++)
		if (send_all(s, out, 64) || read_all(s, in, 64) != 64)
			break;
	printf("figure: round trip of 64 B %.0f us\n", (now() - t) * 1e6 / 1000);
	close(s);
	static const size_t sizes[] = {1024, 65536, 1 << 20, 4 << 20};
	for (int k = 0; k < 4; k++) {
		size_t total = sizes[k] < 65536 ? 8 << 20 : 64 << 20, sent;
		s = dial(PARENT, COUNT);
		t = now();
		for (sent = 0; sent < total; sent += sizes[k])
			if (send_all(s, out, sizes[k]))
				break;
		shutdown(s, SHUT_WR);
		read_all(s, in, 32);
		printf("figure: to the host, %zu B messages: %.0f MB/s\n", sizes[k], sent / 1e6 / (now() - t));
		close(s);
	}
	s = dial(PARENT, SOURCE);
	t = now();
	ssize_t n, got = 0;
	while ((n = read(s, in, sizeof in)) > 0)
		got += n;
	printf("figure: from the host: %.0f MB/s\n", got / 1e6 / (now() - t));
	say("source to its end", got == 64 << 20);
	close(s);
}

int main(void)
{
	static const size_t sizes[] = {1, 100, 4096, 65536, 70001, 1 << 20, 4 << 20};
	mkdir("/dev", 0755), mkdir("/sys", 0755);
	mount("dev", "/dev", "devtmpfs", 0, NULL);
	mount("sys", "/sys", "sysfs", 0, NULL);
	int console = open("/dev/console", O_RDWR);
	dup2(console, 0), dup2(console, 1), dup2(console, 2);
	for (size_t i = 0; i < sizeof out; i++)
		out[i] = i * 2654435761u >> 13;
	printf("guest: up\n");
	for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
		echo(sizes[i]);
	refused();
	half_close();
	nsm();
	serve();
	many();
	if (getenv("FIGURES"))
		figures();
	printf("guest: done\n");
	fflush(stdout);
	sync();
	reboot(RB_AUTOBOOT);
	return 0;
}
