/*
 * The program of the foreign image: says what world it was given, then answers vsock port 5000 until it is told
 * to leave. A caller sends one byte, the length of its nonce (24 to 64), and the nonce, and gets an attestation
 * document; or it sends a zero, and the program ends with status 7.
 */
#include <sys/socket.h> /* first: older vm_sockets.h need it */
#include <linux/vm_sockets.h>

#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/uio.h>
#include <unistd.h>

#define PORT 5000
#define NONCE_MIN 24 /* below, CBOR writes the length of a byte string in another way */
#define NONCE_MAX 64
#define RESPONSE_MAX 0x3000

struct nsm_message {
	struct iovec request, response;
};
#define NSM_IOCTL _IOWR(0x0A, 0, struct nsm_message)

static const char before_nonce[] = "\xa1\x6b" "Attestation" "\xa3\x69" "user_data\xf6\x65" "nonce\x58";
static const char after_nonce[] = "\x6a" "public_key\xf6";
static const char before_document[] = "\xa1\x6b" "Attestation" "\xa1\x68" "document\x59";

static void show(const char *name, const char *path)
{
	char line[256];
	FILE *file = fopen(path, "r");

	while (file && fgets(line, sizeof line, file))
		printf("%s=%s", name, line);
	if (file)
		fclose(file);
}

static int serve(int nsm, int caller)
{
	uint8_t length, request[256], response[RESPONSE_MAX], *end = request;
	const size_t head = sizeof before_document - 1;

	if (read(caller, &length, 1) != 1)
		return 0;
	if (!length)
		return 1;
	memcpy(end, before_nonce, sizeof before_nonce - 1);
	end += sizeof before_nonce - 1;
	*end++ = length;
	if (length < NONCE_MIN || length > NONCE_MAX || recv(caller, end, length, MSG_WAITALL) != length)
		return 0;
	end += length;
	memcpy(end, after_nonce, sizeof after_nonce - 1);
	end += sizeof after_nonce - 1;

	struct nsm_message message = {{request, end - request}, {response, sizeof response}};
	if (ioctl(nsm, NSM_IOCTL, &message) < 0 || message.response.iov_len < head + 2 ||
	    memcmp(response, before_document, head))
		return 0;
	size_t document = response[head] << 8 | response[head + 1];
	for (uint8_t *next = response + head + 2; document && document <= sizeof response - head - 2;) {
		ssize_t sent = write(caller, next, document);
		if (sent <= 0)
			break;
		next += sent;
		document -= sent;
	}
	return 0;
}

int main(int argc, char **argv)
{
	struct sockaddr_vm here = {.svm_family = AF_VSOCK, .svm_cid = VMADDR_CID_ANY, .svm_port = PORT};
	int nsm = open("/dev/nsm", O_RDWR), listener = socket(AF_VSOCK, SOCK_STREAM, 0), leave = 0;

	setvbuf(stdout, NULL, _IOLBF, 0);
	for (int i = 0; i < argc; i++)
		printf("argument=%s\n", argv[i]);
	printf("GREETING=%s\n", getenv("GREETING"));
	printf("cpus=%ld\n", sysconf(_SC_NPROCESSORS_ONLN));
	show("module", "/proc/modules");
	show("controller", "/proc/cgroups");
	show("mount", "/proc/mounts");
	show("generator", "/sys/class/misc/hw_random/rng_current");
	if (nsm < 0 || bind(listener, (struct sockaddr *)&here, sizeof here) || listen(listener, 8)) {
		perror("program: cannot serve documents");
		return 1;
	}
	puts("serving");
	while (!leave) {
		int caller = accept(listener, NULL, NULL);
		if (caller < 0)
			continue;
		leave = serve(nsm, caller);
		close(caller);
	}
	puts("leaving");
	return 7;
}
