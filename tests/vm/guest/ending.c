/* Speaks, then ends as it is told: "exit N", "signal N", or not at all: "stay". */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	setvbuf(stdout, NULL, _IOLBF, 0);
	puts("the program speaks");
	if (argc == 3 && strcmp(argv[1], "exit") == 0)
		return atoi(argv[2]);
	if (argc == 3 && strcmp(argv[1], "signal") == 0)
		raise(atoi(argv[2]));
	for (;;)
		pause();
}
