/* The program of a hostile enclave: floods vsock, /dev/nsm or the console for ever, and tells a parent that listens
 * on port 6001 of every hundred blows. As "quiet" it is the neighbour: it sends back what it gets on 7000, as it does
 * while it floods /dev/nsm. */
#include <fcntl.h>
#include <linux/vm_sockets.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#define PARENT 3
#define TOLD 6001    /* how far the flood has come */
#define DEAF 6002    /* accepts and never reads */
#define NOBODY 4999
#define SERVED 7000
#define THREADS 6

static volatile long blows;

static int dial(unsigned port, int flags)
{
	struct sockaddr_vm a = {.svm_family = AF_VSOCK, .svm_cid = PARENT, .svm_port = port};
	int s = socket(AF_VSOCK, SOCK_STREAM | flags, 0);

	if (s >= 0 && connect(s, (void *)&a, sizeof a) && !flags) {
		close(s);
		return -1;
	}
	return s;
}

/* Connections to nobody, half-made ones, and ones that a deaf program takes: one byte a packet, then all at once. */
static void *flood_vsock(void *unused)
{
	static char piece[65536];

	(void)unused;
	for (long i = 0;; i++) {
		int s = dial(i % 4 ? NOBODY : DEAF, i % 4 == 1 ? SOCK_NONBLOCK : 0);

		if (s >= 0 && i % 4 == 0) {
			fcntl(s, F_SETFL, O_NONBLOCK);
			for (int k = 0; k < 50; k++)
				if (send(s, piece, 1, MSG_NOSIGNAL) < 0)
					break;
			while (send(s, piece, sizeof piece, MSG_NOSIGNAL) > 0)
				;
			if (i % 400 == 0)
				continue; /* keeps it for ever */
		}
		if (s >= 0)
			close(s);
		__atomic_add_fetch(&blows, 1, __ATOMIC_RELAXED);
	}
	return NULL;
}

static void *flood_nsm(void *seed)
{
	struct message { uint64_t request, request_len, response, response_len; } m;
	static const unsigned char attest[] = "\xa1\x6b" "Attestation" "\xa3\x69user_data\xf6\x65nonce\xf6\x6apublic_key\xf6";
	unsigned char request[4096], response[0x3000];
	unsigned state = (uintptr_t)seed;
	int f = open("/dev/nsm", O_RDWR);

	for (long i = 0;; i++) { /* documents, noise, and documents with a byte or two bent */
		size_t n = i % 3 ? sizeof attest - 1 : rand_r(&state) % (sizeof request + 1);

		for (size_t k = 0; k < n; k++)
			request[k] = i % 3 ? attest[k] : rand_r(&state);
		for (int bends = i % 3 == 2 ? 1 + rand_r(&state) % 2 : 0; bends; bends--)
			request[rand_r(&state) % n] = rand_r(&state);
		m = (struct message){(uintptr_t)request, n, (uintptr_t)response, sizeof response};
		ioctl(f, 0xC0200A00, &m);
		__atomic_add_fetch(&blows, 1, __ATOMIC_RELAXED);
	}
	return NULL;
}

static void *flood_console(void *unused)
{
	static char line[512];
	int f = open("/dev/console", O_WRONLY);

	(void)unused;
	memset(line, 'x', sizeof line - 1);
	line[sizeof line - 2] = '\n';
	while (write(f, line, sizeof line - 1) > 0)
		__atomic_add_fetch(&blows, 1, __ATOMIC_RELAXED);
	return NULL;
}

static void *serve(void *unused)
{
	struct sockaddr_vm a = {.svm_family = AF_VSOCK, .svm_cid = VMADDR_CID_ANY, .svm_port = SERVED};
	int l = socket(AF_VSOCK, SOCK_STREAM, 0), s;
	char piece[4096];
	ssize_t n;

	(void)unused;
	if (bind(l, (void *)&a, sizeof a) || listen(l, 8))
		return NULL;
	while ((s = accept(l, NULL, NULL)) >= 0) {
		while ((n = read(s, piece, sizeof piece)) > 0)
			send(s, piece, n, MSG_NOSIGNAL);
		close(s);
	}
	return NULL;
}

int main(int argc, char **argv)
{
	void *(*flood)(void *) = NULL;
	pthread_t thread;
	long step = 100, told = 0;
	int s;

	if (argc < 2 || !strcmp(argv[1], "quiet"))
		return serve(NULL), 1; /* it serves for ever, or cannot */
	if (!strcmp(argv[1], "vsock"))
		flood = flood_vsock;
	else if (!strcmp(argv[1], "nsm"))
		flood = flood_nsm;
	else
		flood = flood_console;
	if (flood == flood_nsm)
		pthread_create(&thread, NULL, serve, NULL);
	s = dial(TOLD, 0);
	for (long i = 0; i < THREADS; i++)
		pthread_create(&thread, NULL, flood, (void *)(i + 1));
	for (;;) {
		usleep(10000);
		while (blows >= told + step) {
			told += step;
			if (send(s, "x", 1, MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
				break;
		}
	}
}
