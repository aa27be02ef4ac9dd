// SPDX-License-Identifier: Apache-2.0
/* The small text files of an image: /cmd, /env, /workdir, /user, and tables such as /etc/passwd. */

#define MAX_TEXT (1 << 20) /* /cmd and /env together stay below the kernel's limit for execve */
#define MAX_LINES 4096

static char cmd_text[MAX_TEXT], env_text[MAX_TEXT];
static char workdir_text[4098], user_text[258];
static char *cmd[MAX_LINES + 1], *env[MAX_LINES + 3]; /* this program adds up to two variables */

/* Reads a whole small file as text; -1 with errno if it cannot, EFBIG when it does not fit. */
static int read_text(const char *path, char *text, int size)
{
	int used = 0, got = 0, error, fd = open(path, O_RDONLY | 02000000);

	if (fd < 0)
		return -1;
	while (used < size - 1 && (got = read(fd, text + used, size - 1 - used)) > 0)
		used += got;
	error = got < 0 ? errno : used == size - 1 ? EFBIG : 0;
	close(fd);
	text[used] = 0;
	if (!error && (int)strnlen(text, size) != used)
		error = EINVAL; /* a NUL byte inside */
	errno = error;
	return error ? -1 : used;
}

static int split_lines(char *text, int used, char **lines, int keep_empty)
{
	int count = 0;
	char *end, *line, *stop = text + used;

	for (line = text; line < stop; line = end + 1) {
		end = strchr(line, '\n');
		if (!end)
			end = stop;
		*end = 0;
		if (end == line && !keep_empty)
			continue;
		if (count == MAX_LINES)
			return -1;
		lines[count++] = line;
	}
	lines[count] = NULL;
	return count;
}

static int load_lines(const char *path, char *text, char **lines, int keep_empty)
{
	int count, used = read_text(path, text, MAX_TEXT);

	if (used < 0 && errno == ENOENT)
		fail("the image did not unpack completely (too little memory?): missing ", path, 0);
	if (used < 0)
		fail("cannot read ", path, errno);
	count = split_lines(text, used, lines, keep_empty);
	if (count < 0)
		fail("more than 4096 lines in ", path, 0);
	unlink(path);
	return count;
}

/* The one line of an optional file; the text is empty when the file is absent. */
static void load_optional_line(const char *path, char *text, int size)
{
	char *end;

	if (read_text(path, text, size) < 0) {
		if (errno != ENOENT)
			fail("cannot read ", path, errno);
		text[0] = 0;
		return;
	}
	end = strchr(text, '\n');
	if (end)
		*end = 0;
	unlink(path);
}

static const char *from_environment(const char *name, int length)
{
	int i;

	for (i = 0; env[i]; i++)
		if (!strncmp(env[i], name, length) && env[i][length] == '=')
			return env[i] + length + 1;
	return NULL;
}

static void add_to_environment(char *assignment)
{
	int i;

	for (i = 0; env[i]; i++)
		;
	env[i] = assignment; /* the array has room for the two this program may add */
	env[i + 1] = NULL;
}
