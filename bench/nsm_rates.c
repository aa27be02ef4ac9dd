/* The program of the documents bench: at each "go" of the parent (a byte on port 6011) asks /dev/nsm for documents
 * for a while, then for random bytes, and tells how many of each it got in how many nanoseconds. */
#include <fcntl.h>
#include <linux/vm_sockets.h>
#include <stdio.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "nsm.h"

#define PARENT 3
#define PORT 6011
#define WHILE 500000000ll /* nanoseconds */

static struct answer got;
static int nsm;

static long long now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000ll + t.tv_nsec;
}

static int ask_document(void)
{
	static uint8_t data[294];

	return attest(nsm, &got, data, 64, data, 32, data, sizeof data) && got.len > 1000;
}

static int ask_random(void)
{
	return exchange(nsm, &got, LITERAL("\x69GetRandom")) && got.len > 256;
}

static void measure(FILE *parent, int (*once)(void))
{
	long long start = now(), over;
	long count = 0;

	do {
		if (!once())
			_exit(1);
		count++;
		over = now() - start;
	} while (over < WHILE);
	fprintf(parent, "%ld %lld\n", count, over);
}

int main(void)
{
	struct sockaddr_vm a = {.svm_family = AF_VSOCK, .svm_cid = PARENT, .svm_port = PORT};
	int s = socket(AF_VSOCK, SOCK_STREAM, 0);
	FILE *parent;
	char go;

	nsm = open("/dev/nsm", O_RDWR);
	if (nsm < 0 || connect(s, (void *)&a, sizeof a) || !(parent = fdopen(s, "w")))
		return 1;
	while (read(s, &go, 1) == 1) {
		measure(parent, ask_document);
		measure(parent, ask_random);
		fflush(parent);
	}
	return 0;
}
