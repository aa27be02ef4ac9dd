// SPDX-License-Identifier: Apache-2.0
/* USER of an image: a name or number, optionally with :group, as in /etc/passwd and /etc/group of the image. */

#define MAX_GROUPS 64

struct identity {
	unsigned int uid, gid, groups[MAX_GROUPS];
	int group_count;
	char home[256];
};

/* Fields of one line of /etc/passwd or /etc/group, cut in place. */
static int split_fields(char *line, char **fields, int most)
{
	int count = 0;

	while (line && count < most) {
		fields[count++] = line;
		line = strchr(line, ':');
		if (line)
			*line++ = 0;
	}
	return count;
}

static int parse_number(const char *text, unsigned int *number)
{
	unsigned long value = 0;

	if (!*text)
		return 0;
	for (; *text; text++) {
		if (*text < '0' || *text > '9' || value > 0xFFFFFFFFUL)
			return 0;
		value = value * 10 + (*text - '0');
	}
	*number = value;
	return value < 0xFFFFFFFFUL; /* (uid_t)-1 means "unchanged" */
}

static int is_member(const char *members, const char *name)
{
	int length = strlen(name);

	for (; members; members = strchr(members, ','), members += members != NULL)
		if (!strncmp(members, name, length) && (members[length] == ',' || !members[length]))
			return 1;
	return 0;
}

static char table_text[MAX_TEXT];
static char *table[MAX_LINES + 1];

static int load_table(const char *path)
{
	int used = read_text(path, table_text, sizeof(table_text));

	return used < 0 ? 0 : split_lines(table_text, used, table, 0);
}

static void find_user(const char *name, struct identity *who, char *login)
{
	char *field[7];
	unsigned int uid = 0, number = 0;
	int i, found = 0, numeric = parse_number(name, &number), count = load_table("/etc/passwd");

	for (i = 0; i < count && !found; i++) {
		if (split_fields(table[i], field, 7) < 6 || !parse_number(field[2], &uid))
			continue;
		if (numeric ? uid != number : strcmp(field[0], name) != 0)
			continue;
		found = 1;
		who->uid = uid;
		if (!parse_number(field[3], &who->gid))
			who->gid = 0;
		strlcpy(login, field[0], 256);
		strlcpy(who->home, field[5][0] ? field[5] : "/", sizeof(who->home));
	}
	if (!found && !numeric)
		fail("the image's user is not in /etc/passwd: ", name, 0);
	if (!found)
		who->uid = number;
}

static void find_groups(const char *group, const char *login, struct identity *who)
{
	char *field[4];
	unsigned int gid = 0;
	int i, found = 0, numeric = group && parse_number(group, &who->gid), count = load_table("/etc/group");

	for (i = 0; i < count && !numeric; i++) {
		if (split_fields(table[i], field, 4) < 3 || !parse_number(field[2], &gid))
			continue;
		if (group && !strcmp(field[0], group)) {
			who->gid = gid;
			found = 1;
		}
		if (!group && *login && is_member(field[3], login) && who->group_count < MAX_GROUPS)
			who->groups[who->group_count++] = gid;
	}
	if (group && !numeric && !found)
		fail("the image's group is not in /etc/group: ", group, 0);
}

static void resolve_user(struct identity *who)
{
	char login[256] = "";
	char *group = strchr(user_text, ':');

	memset(who, 0, sizeof(*who));
	strlcpy(who->home, "/", sizeof(who->home));
	if (group)
		*group++ = 0;
	find_user(user_text[0] ? user_text : "0", who, login);
	if (user_text[0] || group)
		find_groups(group && *group ? group : NULL, login, who);
}

static void become(const struct identity *who)
{
	if (__sysret(my_syscall2(__NR_setgroups, who->group_count, who->groups)) < 0 ||
	    __sysret(my_syscall1(__NR_setgid, who->gid)) < 0 || __sysret(my_syscall1(__NR_setuid, who->uid)) < 0)
		fail("cannot become the image's user ", user_text, errno);
}
