// SPDX-License-Identifier: Apache-2.0
/* Saying what is wrong, on the console and to the parent, and ending the machine. */

#define DRAIN_MS 1000

static int console_is_open;

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

#define MAX_REASON 512

static void report_failure(const char *reason, int length);

static __attribute__((noreturn)) void fail(const char *what, const char *which, int number)
{
	static char reason[MAX_REASON + 1];

	say(what, which, number);
	say("the program was not started; ending the enclave", "", 0);
	strlcpy(reason, what, sizeof(reason));
	strlcat(reason, which, sizeof(reason));
	if (number) {
		strlcat(reason, ": ", sizeof(reason));
		strlcat(reason, describe(number), sizeof(reason));
	}
	report_failure(reason, strlen(reason));
	end_machine();
}
