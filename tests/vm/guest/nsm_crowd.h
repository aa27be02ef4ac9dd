/* Many threads of several processes at /dev/nsm at once, as AWS's nsm-multithread has them: each sees to it that the
 * answers it gets are its own. */
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#define CROWDED 30 /* the register that they extend */
#define PROCESSES 3
#define THREADS 30
#define ROUNDS 2

static int shared; /* the device, as this process has it open */
static int crowd; /* which process of the crowd this is */

static void *be_one_of_many(void *number)
{
	struct answer *mine = malloc(sizeof *mine);
	long bad = 0, me = (long)number;
	char nonce[64];
	size_t len;

	for (int round = 0; round < ROUNDS; round++) {
		int n = snprintf(nonce, sizeof nonce, "process %d thread %ld round %d", crowd, me, round);
		const uint8_t *p;

		bad += !(attest(shared, mine, 0, -1, nonce, n + 1, 0, -1) && (p = document(mine, &len)) && memmem(p, len, nonce, n + 1));
		bad += !(extend_with(shared, mine, CROWDED, "one more", 8) && extended(mine));
		bad += !(extend_with(shared, mine, me & 15, "x", 1) && is_error(mine, "ReadOnlyIndex"));
		bad += !(exchange(shared, mine, LITERAL("\x69GetRandom")) && random_bytes(mine));
	}
	free(mine);
	return (void *)bad;
}

static int be_a_crowd(int number)
{
	pthread_t threads[THREADS];
	long bad = 0;
	void *one;

	crowd = number;
	if (number > 0) /* a file of its own: the first process shares the inherited one among its threads */
		shared = open("/dev/nsm", O_RDWR);
	for (long i = 0; i < THREADS; i++)
		if (pthread_create(&threads[i], NULL, be_one_of_many, (void *)i))
			return 1;
	for (int i = 0; i < THREADS; i++)
		bad += pthread_join(threads[i], &one) || one;
	return bad != 0;
}

/* Returns whether every one of PROCESSES * THREADS threads had its own answers, ROUNDS times. */
static int crowd_is_served(int file)
{
	int status, good = 1;

	shared = file;
	for (int i = 0; i < PROCESSES; i++)
		if (fork() == 0)
			_exit(be_a_crowd(i));
	for (int i = 0; i < PROCESSES; i++)
		good &= wait(&status) > 0 && status == 0;
	return good;
}
