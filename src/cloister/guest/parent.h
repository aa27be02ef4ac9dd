// SPDX-License-Identifier: Apache-2.0
/* What is said to the parent over vsock: the heartbeat, and how the program ended or why it never began. */

#define AF_VSOCK 40
#define PARENT_CID 3
#define HEARTBEAT_PORT 9000
#define HEARTBEAT_BYTE 0xB7
#define STATUS_PORT 9001 /* "EXIT" and the wait status as u32 little-endian, or "FAIL" and up to 512 bytes of text */
#define HEARTBEAT_MS 30000
#define STATUS_MS 2000

/* struct sockaddr_vm of <linux/vm_sockets.h>, which pulls in the C library. */
struct vsock_address {
	unsigned short family, reserved;
	unsigned int port, cid;
	unsigned char zero[4];
};

/* Begins to connect; -1 with errno if that is refused at once. */
static int begin_to_dial(unsigned int port)
{
	struct vsock_address address = { .family = AF_VSOCK, .port = port, .cid = PARENT_CID };
	int error, fd = __sysret(my_syscall3(__NR_socket, AF_VSOCK, 1 | O_NONBLOCK | 02000000 /* SOCK_CLOEXEC */, 0));

	if (fd < 0 || __sysret(my_syscall3(__NR_connect, fd, &address, sizeof(address))) == 0 || errno == EINPROGRESS)
		return fd;
	error = errno;
	close(fd);
	errno = error;
	return -1;
}

/* Waits for what was begun; returns the socket, or -1 with errno. */
static int finish_dialling(int fd, int milliseconds)
{
	int error = 0, length = sizeof(error);

	if (fd < 0)
		return -1;
	if (soon(fd, POLLOUT, milliseconds) != 1)
		error = ETIMEDOUT;
	else if (__sysret(my_syscall5(__NR_getsockopt, fd, 1 /* SOL_SOCKET */, 4 /* SO_ERROR */, &error, &length)) < 0)
		error = errno;
	if (!error)
		return fd;
	close(fd);
	errno = error;
	return -1;
}

static int heartbeat_fd = -1, heartbeat_error;

/* In three steps, between which something else is done: each answer takes the parent a moment. */
static void begin_heartbeat(void)
{
	heartbeat_fd = begin_to_dial(HEARTBEAT_PORT);
	heartbeat_error = errno;
}

static void send_heartbeat(void)
{
	unsigned char byte = HEARTBEAT_BYTE;

	errno = heartbeat_error;
	heartbeat_fd = finish_dialling(heartbeat_fd, HEARTBEAT_MS);
	if (heartbeat_fd < 0)
		fail("the parent does not answer the heartbeat on CID 3 port 9000", "", errno);
	if (write(heartbeat_fd, &byte, 1) != 1)
		fail("cannot send the heartbeat", "", errno);
}

static void finish_heartbeat(void)
{
	unsigned char byte = 0;

	if (soon(heartbeat_fd, POLLIN, HEARTBEAT_MS) != 1)
		fail("the parent did not echo the heartbeat in time", "", ETIMEDOUT);
	if (read(heartbeat_fd, &byte, 1) != 1 || byte != HEARTBEAT_BYTE)
		fail("the parent answered the heartbeat with something else", "", 0);
	close(heartbeat_fd);
}

/* Best effort: nobody listening must not keep the enclave from ending. */
static void report(const char *kind, const void *content, int length)
{
	static char message[4 + MAX_REASON];
	int fd = finish_dialling(begin_to_dial(STATUS_PORT), STATUS_MS);

	if (fd < 0)
		return;
	memcpy(message, kind, 4);
	memcpy(message + 4, content, length);
	if (write(fd, message, 4 + length) == 4 + length) {
		my_syscall2(__NR_shutdown, fd, 1 /* SHUT_WR */);
		soon(fd, POLLIN, STATUS_MS); /* the supervisor closes once it has read */
	}
	close(fd);
}

static void report_failure(const char *reason, int length)
{
	report("FAIL", reason, length);
}

static void report_status(unsigned int status)
{
	unsigned char bytes[4] = { status, status >> 8, status >> 16, status >> 24 };

	report("EXIT", bytes, sizeof(bytes));
}
