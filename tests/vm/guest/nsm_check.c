/* The program of a test enclave: all that can be asked of /dev/nsm, through Linux's own driver. Each claim is told as
 * "name: ok" or "name: FAIL ...", bytes for the host to judge as "seen name hex", to the parent's port and to the
 * console. Arguments: "debug", "role", "signed" say which registers an enclave like this one has.
 * Covers what AWS's nsm-check and nsm-multithread assert (nitro-tools.md, section 5.3). */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/vm_sockets.h>
#include <sys/klog.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "nsm.h"
#include "nsm_crowd.h"

#define PARENT 3
#define TOLD 6010
#define PCRS 32
#define OPEN 16    /* the first register that is open at the start */
#define FULL 29    /* the register extended by a request as long as can be */

static FILE *parent;
static int nsm, is_debug, has_role, is_signed;
static struct answer got; /* the last answer to the main thread */

static void tell(const char *line)
{
	fprintf(parent, "%s\n", line);
	puts(line);
	fflush(stdout);
}

static void say(const char *name, int good)
{
	char line[256];
	int n = snprintf(line, sizeof line, "%s: %s", name, good ? "ok" : "FAIL");

	if (!good) {
		n += snprintf(line + n, sizeof line - n, " errno %d, %zu bytes ", errno, got.len);
		for (size_t i = 0; i < got.len && i < 60; i++)
			n += snprintf(line + n, sizeof line - n, "%02x", got.bytes[i]);
	}
	tell(line);
}

static void show(const char *name, const uint8_t *bytes, size_t len)
{
	fprintf(parent, "seen %s ", name);
	for (size_t i = 0; i < len; i++)
		fprintf(parent, "%02x", bytes[i]);
	fprintf(parent, "\n");
}

static int ask(const void *request, size_t len)
{
	return exchange(nsm, &got, request, len);
}

static int ask_number(const char *name, const char *field, unsigned number)
{
	uint8_t request[64];
	size_t n = begin(request, name, 1);

	n += text(request + n, field);
	return ask(request, n + head(request + n, 0, number));
}

static const uint8_t *described(unsigned index, int *lock)
{
	static const char open[] = "\xa1\x6b" "DescribePCR" "\xa2\x64" "lock\xf4\x64" "data\x58\x30";
	static const char locked[] = "\xa1\x6b" "DescribePCR" "\xa2\x64" "lock\xf5\x64" "data\x58\x30";

	if (!ask_number("DescribePCR", "index", index) || got.len != sizeof open - 1 + 48)
		return NULL;
	*lock = starts(&got, LITERAL(locked));
	return *lock || starts(&got, LITERAL(open)) ? got.bytes + sizeof open - 1 : NULL;
}

static int has_document(const char *name)
{
	size_t len;
	const uint8_t *p = document(&got, &len);

	if (p && name)
		show(name, p, len);
	return p != NULL;
}

static int is_zero(const uint8_t *value)
{
	static const uint8_t zero[48];

	return value && !memcmp(value, zero, 48);
}

/* --- the driver --- */

static void check_file(void)
{
	struct stat s;
	int status;
	pid_t child;

	say("/dev/nsm is for everybody", !stat("/dev/nsm", &s) && S_ISCHR(s.st_mode) && major(s.st_rdev) == 10 && (s.st_mode & 0777) == 0666);
	child = fork();
	if (child == 0) {
		int file = setgid(1000) || setuid(1000) ? -1 : open("/dev/nsm", O_RDWR);
		_exit(!(file >= 0 && exchange(file, &got, LITERAL("\x69GetRandom")) && random_bytes(&got)));
	}
	say("an ordinary user is answered", waitpid(child, &status, 0) == child && status == 0);
}

static void check_ioctl(void)
{
	static uint8_t large[0x1001];
	struct message m = {(uintptr_t)LITERAL("\x69GetRandom"), (uintptr_t)got.bytes, MOST};

	say("size of the argument", sizeof m == 32);
	say("another ioctl", ioctl(nsm, RAW + 1, &m) < 0 && errno == EINVAL && ioctl(nsm, 0xC0100A00u, &m) < 0 && errno == EINVAL);
	say("no argument", ioctl(nsm, RAW, NULL) < 0 && errno == EFAULT);
	m.request = 8;
	say("request out of reach", ioctl(nsm, RAW, &m) < 0 && errno == EFAULT);
	m.request = (uintptr_t)"\x69GetRandom", m.response = 8;
	say("response out of reach", ioctl(nsm, RAW, &m) < 0 && errno == EFAULT);
	say("read and write are not for it", read(nsm, large, 1) < 0 && errno == EINVAL && write(nsm, large, 1) < 0 && errno == EINVAL);
	say("request of 4097 bytes", !ask(large, 0x1001) && errno == EMSGSIZE);
	m = (struct message){(uintptr_t)large, 1ull << 40, (uintptr_t)got.bytes, MOST};
	say("request of a terabyte", ioctl(nsm, RAW, &m) < 0 && errno == EMSGSIZE);
	say("request of 4096 bytes of nothing", ask(large, 0x1000) && is_error(&got, "InvalidOperation"));
	memset(large, 0x5a, sizeof large);
	say("request of 4096 bytes", extend_with(nsm, &got, FULL, large, 0x1000 - 28) && extended(&got));
	say("request of 4097 bytes that would be right", !extend_with(nsm, &got, FULL, large, 0x1000 - 27) && errno == EMSGSIZE);
}

static void check_room(void)
{
	static const char describe[] = "\x6b" "DescribeNSM";
	struct message m = {(uintptr_t)LITERAL(describe), (uintptr_t)got.bytes, 10};
	struct answer whole;

	exchange(nsm, &whole, LITERAL(describe));
	memset(got.bytes, 0xee, sizeof got.bytes);
	say("an answer is cut to its room", !ioctl(nsm, RAW, &m) && m.response_len == 10 && !memcmp(got.bytes, whole.bytes, 10) && got.bytes[10] == 0xee);
	m.response_len = 0;
	say("no room at all", !ioctl(nsm, RAW, &m) && m.response_len == 0);
	m.response_len = whole.len;
	say("room for it exactly", !ioctl(nsm, RAW, &m) && m.response_len == whole.len && !memcmp(got.bytes, whole.bytes, whole.len) && got.bytes[whole.len] == 0xee);
	m.response_len = sizeof got.bytes;
	say("more room than an answer can fill", !ioctl(nsm, RAW, &m) && m.response_len == whole.len);
}

/* --- requests as they should not be --- */

static void check_malformed(void)
{
	static uint8_t deep[4096];
	static const struct { const char *name, *request; size_t len; } wrong[] = {
		{"empty request", LITERAL("")},
		{"garbage", LITERAL("\xff\x00\xff")},
		{"cut short", LITERAL("\x69GetRando")},
		{"trailing byte", LITERAL("\x69GetRandom\x00")},
		{"unknown request", LITERAL("\x66" "Reboot")},
		{"unknown request with fields", LITERAL("\xa1\x66" "Reboot\xa0")},
		{"wrong case", LITERAL("\x69getrandom")},
		{"number", LITERAL("\x00")},
		{"array", LITERAL("\x81\x69GetRandom")},
		{"two requests in one", LITERAL("\xa2\x67LockPCR\xa1\x65index\x10\x69GetRandom\xf6")},
		{"fields for a request without", LITERAL("\xa1\x69GetRandom\xa0")},
		{"no fields for a request with", LITERAL("\x67LockPCR")},
		{"missing field", LITERAL("\xa1\x69" "ExtendPCR\xa1\x65index\x10")},
		{"duplicate field", LITERAL("\xa1\x67LockPCR\xa2\x65index\x10\x65index\x11")},
		{"index as text", LITERAL("\xa1\x67LockPCR\xa1\x65index\x62" "16")},
		{"index as bytes", LITERAL("\xa1\x67LockPCR\xa1\x65index\x41\x10")},
		{"index true", LITERAL("\xa1\x67LockPCR\xa1\x65index\xf5")},
		{"index null", LITERAL("\xa1\x67LockPCR\xa1\x65index\xf6")},
		{"index negative", LITERAL("\xa1\x67LockPCR\xa1\x65index\x20")},
		{"index 65536", LITERAL("\xa1\x67LockPCR\xa1\x65index\x1a\x00\x01\x00\x00")},
		{"data as number", LITERAL("\xa1\x69" "ExtendPCR\xa2\x65index\x10\x64" "data\x01")},
		{"nonce as number", LITERAL("\xa1\x6b" "Attestation\xa1\x65nonce\x01")},
		{"tagged", LITERAL("\xc0\x69GetRandom")},
	};

	for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
		say(wrong[i].name, ask(wrong[i].request, wrong[i].len) && is_error(&got, "InvalidOperation"));
	memset(deep, 0x81, sizeof deep);
	say("4096 arrays in each other", ask(deep, sizeof deep) && is_error(&got, "InvalidOperation"));
	say("foreign field", ask(LITERAL("\xa1\x6b" "DescribePCR\xa2\x64more\x81\x01\x65index\x10")) && got.len == 75);
	say("indefinite maps, long heads", ask(LITERAL("\xbf\x78\x0b" "DescribePCR\xbf\x65index\x19\x00\x10\xff\xff")) && got.len == 75);
	say("absent optional fields", ask(LITERAL("\xa1\x6b" "Attestation\xa0")) && has_document(NULL));
	say("text for bytes", ask(LITERAL("\xa1\x6b" "Attestation\xa1\x65nonce\x64text")) && has_document("text_nonce"));
}

/* --- registers --- */

static void check_description(const char *name)
{
	say(name, ask(LITERAL("\x6b" "DescribeNSM")) && starts(&got, LITERAL("\xa1\x6b" "DescribeNSM\xa7\x6dversion_major\x01\x6dversion_minor\x00\x6dversion_patch\x00\x69module_id\x78")));
	show(name, got.bytes, got.len);
}

static void check_initial(void)
{
	int lock, sizes = 1, values = 1, others = 1, locks = 1, zeros[PCRS];

	for (unsigned i = 0; i < PCRS; i++) {
		const uint8_t *value = described(i, &lock);
		char name[16];

		sizes &= value != NULL;
		locks &= lock == (i < OPEN);
		zeros[i] = is_zero(value);
		snprintf(name, sizeof name, "initial%u", i);
		if (value)
			show(name, value, 48);
	}
	for (int i = 0; i < 3; i++)
		values &= zeros[i] == is_debug;
	for (int i = 5; i < PCRS; i++)
		others &= zeros[i] || (i == 8 && is_signed && !is_debug);
	say("32 registers of 48 bytes", sizes);
	say("PCR0, PCR1, PCR2", values);
	say("PCR3 is the role's", zeros[3] == !has_role);
	say("PCR4 is not zero", !zeros[4]);
	say("PCR8 is the signer's", zeros[8] == !(is_signed && !is_debug));
	say("the others are zero", others);
	say("0 to 15 are locked, 16 to 31 open", locks);
	say("there is no PCR32", ask_number("DescribePCR", "index", 32) && is_error(&got, "InvalidIndex"));
	say("there is no PCR65535", ask_number("DescribePCR", "index", 65535) && is_error(&got, "InvalidIndex"));
	say("none of them can be extended", extend_with(nsm, &got, 32, "x", 1) && is_error(&got, "InvalidIndex"));
	say("none of them can be locked", ask_number("LockPCR", "index", 32) && is_error(&got, "InvalidIndex"));
}

static int all(unsigned from, unsigned to, const char *name, const void *expected, size_t len)
{
	int good = 1;

	for (unsigned i = from; i < to; i++)
		good &= ask_number(name, "index", i) && is(&got, expected, len);
	return good;
}

static int each_extends(unsigned from, int may)
{
	int good = 1;

	for (unsigned i = from; i < PCRS; i++) {
		good &= extend_with(nsm, &got, i, "\x01\x02\x03", 3);
		good &= may ? extended(&got) && !is_zero(extended(&got)) : is_error(&got, "ReadOnlyIndex");
	}
	return good;
}

static void check_locks(void)
{
	static const char read_only[] = "\xa1\x65" "Error\x6d" "ReadOnlyIndex";
	unsigned first = is_debug ? OPEN + 4 : OPEN; /* the first that LockPCRs has not locked */
	int good = 1, lock;

	say("0 to 15 cannot be locked again", all(0, OPEN, "LockPCR", LITERAL(read_only)));
	for (int i = 0; i < 10; i++)
		good &= each_extends(OPEN, 1);
	say("16 to 31 can be extended", good);
	say("LockPCRs 0", ask_number("LockPCRs", "range", 0) && is(&got, LITERAL("\x68LockPCRs")));
	say("LockPCRs 16", ask_number("LockPCRs", "range", 16) && is(&got, LITERAL("\x68LockPCRs")) && described(16, &lock) && !lock);
	say("LockPCRs 33", ask_number("LockPCRs", "range", 33) && is_error(&got, "InvalidIndex") && described(16, &lock) && !lock);
	say("open registers are not shown", attest(nsm, &got, 0, -1, 0, -1, 0, -1) && has_document("open"));
	if (is_debug)
		say("LockPCRs 20", ask_number("LockPCRs", "range", first) && described(first - 1, &lock) && lock && described(first, &lock) && !lock);
	say("LockPCR", ask_number("LockPCR", "index", first) && is(&got, LITERAL("\x67LockPCR")));
	say("LockPCR again", ask_number("LockPCR", "index", first) && is(&got, LITERAL(read_only)));
	say("a locked register is shown", attest(nsm, &got, 0, -1, 0, -1, 0, -1) && has_document("some"));
	check_description("description with more locked");
	say("the others can be locked", all(first + 1, PCRS, "LockPCR", LITERAL("\x67LockPCR")));
	say("LockPCRs 32 over locked ones", ask_number("LockPCRs", "range", 32) && is(&got, LITERAL("\x68LockPCRs")));
	say("LockPCRs 33 at the end", ask_number("LockPCRs", "range", 33) && is_error(&got, "InvalidIndex"));
	say("locked registers cannot be extended", each_extends(0, 0));
	good = 1;
	for (int round = 0; round < 10; round++)
		for (unsigned i = 0; i < PCRS; i++) {
			const uint8_t *value = described(i, &lock);
			char name[16];

			snprintf(name, sizeof name, "final%u", i);
			if (value && round == 0)
				show(name, value, 48);
			good &= value && lock && (i < OPEN || !is_zero(value));
		}
	say("all are locked and have kept their values", good);
}

/* --- documents, randomness, many at once --- */

static void check_documents(void)
{
	static uint8_t data[1025];

	memset(data, 128, sizeof data);
	say("document without fields", attest(nsm, &got, 0, -1, 0, -1, 0, -1) && has_document("none"));
	say("1024 bytes of user data", attest(nsm, &got, data, 1024, 0, -1, 0, -1) && has_document("user_data"));
	say("1024 bytes of nonce", attest(nsm, &got, 0, -1, data, 1024, 0, -1) && has_document("nonce"));
	say("1024 bytes of public key", attest(nsm, &got, 0, -1, 0, -1, data, 1024) && has_document("public_key"));
	say("1024 bytes of two", attest(nsm, &got, data, 1024, data, 1024, 0, -1) && has_document("two"));
	say("1024 bytes of all three", attest(nsm, &got, data, 1024, data, 1024, data, 1024) && has_document("three"));
	say("empty fields", attest(nsm, &got, "", 0, "", 0, "", 0) && has_document("empty"));
	say("1025 bytes of user data", attest(nsm, &got, data, 1025, 0, -1, 0, -1) && is_error(&got, "InputTooLarge"));
	say("1025 bytes of nonce", attest(nsm, &got, 0, -1, data, 1025, 0, -1) && is_error(&got, "InputTooLarge"));
	say("1025 bytes of public key", attest(nsm, &got, 0, -1, 0, -1, data, 1025) && is_error(&got, "InputTooLarge"));
}

static void check_random(void)
{
	static uint8_t seen[16][256];
	uint8_t one[64] = "", two[64] = "";
	char name[64] = "", log[1 << 16] = "";
	int good = 1, file;

	for (int i = 0; i < 16; i++) {
		const uint8_t *value = ask(LITERAL("\x69GetRandom")) ? random_bytes(&got) : NULL;

		good &= value != NULL;
		if (value)
			memcpy(seen[i], value, 256);
		for (int k = 0; k < i; k++)
			good &= memcmp(seen[i], seen[k], 256) != 0;
	}
	say("16 different answers of 256 random bytes", good);
	file = open("/sys/class/misc/hw_random/rng_current", O_RDONLY);
	say("the kernel's generator is nsm-hwrng", file >= 0 && read(file, name, sizeof name - 1) == 10 && !strcmp(name, "nsm-hwrng\n"));
	close(file);
	file = open("/dev/hwrng", O_RDONLY);
	say("/dev/hwrng gives bytes", file >= 0 && read(file, one, 64) == 64 && read(file, two, 64) == 64 && memcmp(one, two, 64));
	close(file);
	good = klogctl(3, log, sizeof log - 1) > 0;
	say("the driver has complained of nothing", good && !strstr(log, "wrong request buffer") && !strstr(log, "wrong response buffer") && !strstr(log, "Invalid"));
}

static void check_crowd(void)
{
	const uint8_t *value;
	int lock;

	say("each of many has its own answers", crowd_is_served(nsm));
	value = described(CROWDED, &lock);
	say("each of many has extended", value != NULL);
	if (value)
		show("crowded", value, 48);
}

int main(int argc, char **argv)
{
	struct sockaddr_vm a = {.svm_family = AF_VSOCK, .svm_cid = PARENT, .svm_port = TOLD};
	int s = socket(AF_VSOCK, SOCK_STREAM, 0);

	for (int i = 1; i < argc; i++) {
		is_debug |= !strcmp(argv[i], "debug");
		has_role |= !strcmp(argv[i], "role");
		is_signed |= !strcmp(argv[i], "signed");
	}
	if (connect(s, (void *)&a, sizeof a) || !(parent = fdopen(s, "w")))
		return 1;
	nsm = open("/dev/nsm", O_RDWR);
	say("/dev/nsm can be opened", nsm >= 0);
	check_description("description");
	say("first document", attest(nsm, &got, 0, -1, 0, -1, 0, -1) && has_document("first"));
	check_initial();
	check_file();
	check_ioctl();
	check_room();
	check_malformed();
	check_crowd();
	check_locks();
	check_documents();
	check_random();
	tell("end");
	fclose(parent);
	return 0;
}
