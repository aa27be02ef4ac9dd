/* The program of a test enclave: tells the parent, over vsock, what can be seen of the machine from inside.
 * Each file is sent as "=== NAME\n" and its content; each directory as the names in it, one a line. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/vm_sockets.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/io.h>
#include <sys/socket.h>
#include <unistd.h>

#define PARENT 3
#define PORT 6000

static FILE *parent;

static void tell_file(const char *path)
{
	char piece[4096];
	size_t n;
	FILE *f = fopen(path, "r");

	fprintf(parent, "=== %s\n", path);
	if (!f) {
		fprintf(parent, "(cannot be opened)\n");
		return;
	}
	while ((n = fread(piece, 1, sizeof piece, f)) > 0)
		fwrite(piece, 1, n, parent);
	fclose(f);
}

static int not_hidden(const struct dirent *entry)
{
	return entry->d_name[0] != '.';
}

static void tell_names(const char *path)
{
	struct dirent **names;
	int n = scandir(path, &names, not_hidden, alphasort);

	fprintf(parent, "=== %s\n", path);
	for (int i = 0; i < n; i++)
		fprintf(parent, "%s\n", names[i]->d_name);
}

/* Every directory below `top` has the names in `inside` told. */
static void tell_each(const char *top, const char *inside)
{
	struct dirent **names;
	char path[512];
	int n = scandir(top, &names, not_hidden, alphasort);

	for (int i = 0; i < n; i++) {
		snprintf(path, sizeof path, "%s/%s%s", top, names[i]->d_name, inside);
		tell_names(path);
	}
}

static void tell_virtio(void)
{
	struct dirent **names;
	char path[512];
	int n = scandir("/sys/bus/virtio/devices", &names, not_hidden, alphasort);

	for (int i = 0; i < n; i++) {
		snprintf(path, sizeof path, "/sys/bus/virtio/devices/%s/device", names[i]->d_name);
		tell_file(path);
	}
}

/* What the guest prints goes nowhere in production: the test looks on the host for the word, which is printed
 * backwards, so that it is not found in the image. */
static void print_everywhere(char *word)
{
	static const char *const places[] = {"/dev/console", "/dev/kmsg", "/dev/ttyS0"};

	for (char *a = word, *b = word + strlen(word) - 1; a < b; a++, b--) {
		char c = *a;
		*a = *b, *b = c;
	}
	printf("%s printed\n", word);
	fflush(stdout);
	for (int i = 0; i < 3; i++) {
		char line[256];
		int fd = open(places[i], O_WRONLY), n = snprintf(line, sizeof line, "%s to %s\n", word, places[i]);

		fprintf(parent, "=== printed to %s\n%s\n", places[i], write(fd, line, n) == n ? "yes" : strerror(errno));
		close(fd);
	}
	fprintf(parent, "=== ports for programs\n%s\n", iopl(3) == 0 || ioperm(0x3f8, 8, 1) == 0 ? "yes" : "no");
}

static void look(void)
{
	static const char *const files[] = {
		"/proc/ioports", "/proc/iomem", "/proc/interrupts", "/proc/devices", "/proc/misc", "/proc/cmdline",
		"/proc/net/dev", "/proc/swaps", "/proc/filesystems", "/proc/mounts", "/proc/modules", "/proc/consoles",
		"/sys/class/misc/hw_random/rng_current", "/sys/class/misc/hw_random/rng_available",
		"/sys/devices/system/clocksource/clocksource0/current_clocksource",
	};

	for (size_t i = 0; i < sizeof files / sizeof *files; i++)
		tell_file(files[i]);
	tell_virtio();
	tell_names("/sys/bus");
	tell_each("/sys/bus", "/devices");
	tell_names("/sys/class");
	tell_each("/sys/class", "");
	tell_names("/sys/devices");
	tell_names("/sys/devices/virtual/misc");
	tell_names("/sys/firmware");
	tell_names("/dev");
}

int main(int argc, char **argv)
{
	struct sockaddr_vm address = {.svm_family = AF_VSOCK, .svm_cid = PARENT, .svm_port = PORT};
	int s = socket(AF_VSOCK, SOCK_STREAM, 0);

	if (argc < 2 || s < 0 || connect(s, (void *)&address, sizeof address))
		return 1;
	parent = fdopen(s, "w");
	print_everywhere(argv[1]);
	look();
	fprintf(parent, "=== end\n");
	fflush(parent);
	shutdown(s, SHUT_WR);
	pause(); /* the parent looks at the host meanwhile */
	return 0;
}
