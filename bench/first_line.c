/* The program of the boot bench: says one line, then waits. It runs as an enclave's program and as a bare initramfs's /init. */
#include <fcntl.h>
#include <string.h>
#include <sys/mount.h>
#include <unistd.h>

int main(void)
{
    const char *line = "bench: first line of the program\n";

    if (getpid() == 1) { /* bare: nobody has opened a console */
        mount("devtmpfs", "/dev", "devtmpfs", 0, 0);
        int console = open("/dev/console", O_RDWR);
        dup2(console, 1);
    }
    write(1, line, strlen(line));
    for (;;)
        pause();
}
