/*
 * The smallest enclave that says something and can prove what it is.
 *
 * It prints a line every two seconds, as AWS's hello example does, and gives an attestation document to whoever
 * asks, as docs/reference/attestation-protocol.md has it: version 1, the nonce's length, the nonce; the answer is
 * 0 and a document, or 1 and why there is none, each after its length in two bytes.
 *
 * What goes to the Nitro Secure Module and comes back is CBOR, written by hand: it has one fixed shape here.
 */
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include <linux/vm_sockets.h> /* last: older ones take for granted what sys/socket.h declares */

#define PORT 3300
#define VERSION 1
#define NONCE_MIN 16
#define NONCE_MAX 64
enum { DOCUMENT, REFUSAL };
#define RESPONSE_MAX 0x3000

struct nsm_message {
    struct iovec request, response;
};
#define NSM_IOCTL _IOWR(0x0A, 0, struct nsm_message)

static const char request_head[] = "\xa1\x6b" "Attestation" "\xa3\x69" "user_data\xf6" "\x65" "nonce";
static const char request_tail[] = "\x6a" "public_key\xf6";
static const char response_head[] = "\xa1\x6b" "Attestation" "\xa1\x68" "document\x59";

/* Ask the security module for a document; return its length, 0 on refusal, and where it starts in response. */
static size_t attest(int nsm, const uint8_t *nonce, uint8_t length, uint8_t response[RESPONSE_MAX], size_t *start)
{
    uint8_t request[sizeof request_head + 2 + NONCE_MAX + sizeof request_tail];
    uint8_t *end = request;

    memcpy(end, request_head, sizeof request_head - 1);
    end += sizeof request_head - 1;
    if (length >= 24)
        *end++ = 0x58; /* a byte string whose length is in the next byte, and not in this one */
    *end++ = length >= 24 ? length : 0x40 | length;
    memcpy(end, nonce, length);
    end += length;
    memcpy(end, request_tail, sizeof request_tail - 1);
    end += sizeof request_tail - 1;

    struct nsm_message message = {{request, end - request}, {response, RESPONSE_MAX}};
    if (ioctl(nsm, NSM_IOCTL, &message) < 0)
        return 0;
    *start = sizeof response_head - 1 + 2;
    if (message.response.iov_len < *start || memcmp(response, response_head, sizeof response_head - 1))
        return 0;
    size_t document = response[*start - 2] << 8 | response[*start - 1];
    return *start + document <= message.response.iov_len ? document : 0;
}

static int read_exactly(int fd, uint8_t *data, size_t length)
{
    while (length > 0) {
        ssize_t got = read(fd, data, length);
        if (got <= 0)
            return -1;
        data += got;
        length -= got;
    }
    return 0;
}

static void write_all(int fd, const uint8_t *data, size_t length)
{
    while (length > 0) {
        ssize_t wrote = write(fd, data, length);
        if (wrote <= 0)
            return;
        data += wrote;
        length -= wrote;
    }
}

static void refuse(int caller, const char *why)
{
    uint8_t text[3 + 128] = {REFUSAL, 0, strlen(why)};

    memcpy(text + 3, why, strlen(why));
    write_all(caller, text, 3 + strlen(why));
}

static void answer(int nsm, int caller)
{
    uint8_t head[2], nonce[NONCE_MAX], response[RESPONSE_MAX];
    size_t start, document;

    if (read_exactly(caller, head, sizeof head))
        return;
    if (head[0] != VERSION || head[1] < NONCE_MIN || head[1] > NONCE_MAX) {
        refuse(caller, "version 1 with a nonce of 16 to 64 bytes was expected");
        return;
    }
    if (read_exactly(caller, nonce, head[1]))
        return;
    document = attest(nsm, nonce, head[1], response, &start);
    if (document == 0) {
        refuse(caller, "the security module gave no document");
        return;
    }
    start -= 3; /* CBOR's 0x59 and a length in two bytes stand before the document, where ours belong */
    response[start] = DOCUMENT;
    write_all(caller, response + start, 3 + document);
}

static void serve_documents(void)
{
    struct sockaddr_vm here = {.svm_family = AF_VSOCK, .svm_cid = VMADDR_CID_ANY, .svm_port = PORT};
    struct timeval patience = {.tv_sec = 5};
    int nsm = open("/dev/nsm", O_RDWR), listener = socket(AF_VSOCK, SOCK_STREAM, 0);

    if (nsm < 0 || bind(listener, (struct sockaddr *)&here, sizeof here) || listen(listener, 8)) {
        perror("hello: cannot serve documents");
        _exit(1);
    }
    for (;;) {
        int caller = accept(listener, NULL, NULL);
        if (caller < 0)
            continue;
        setsockopt(caller, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
        setsockopt(caller, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
        answer(nsm, caller);
        close(caller);
    }
}

int main(void)
{
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (fork() == 0)
        serve_documents();
    for (unsigned count = 1;; count++) {
        printf("[%4u] Hello from the enclave side!\n", count);
        sleep(2);
    }
}
