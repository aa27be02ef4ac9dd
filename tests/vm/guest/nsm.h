/* What programs of test enclaves need of /dev/nsm: the one ioctl of Linux's driver, requests, and what an answer is to
 * the byte (nitro-tools.md, sections 5.1 and 5.2). */
#include <stdint.h>
#include <string.h>
#include <sys/ioctl.h>

#define RAW 0xC0200A00u
#define MOST 0x3000
#define LITERAL(text) (text), sizeof(text) - 1

struct message { uint64_t request, request_len, response, response_len; };
struct answer { uint8_t bytes[MOST + 16]; size_t len; };

static inline int exchange(int file, struct answer *to, const void *request, size_t len)
{
	struct message m = {(uintptr_t)request, len, (uintptr_t)to->bytes, MOST};

	to->len = 0;
	if (ioctl(file, RAW, &m))
		return 0;
	to->len = m.response_len;
	return 1;
}

static inline size_t head(uint8_t *to, int major, unsigned number)
{
	if (number < 24)
		return to[0] = major << 5 | number, 1;
	if (number < 256)
		return to[0] = major << 5 | 24, to[1] = number, 2;
	return to[0] = major << 5 | 25, to[1] = number >> 8, to[2] = number, 3;
}

static inline size_t text(uint8_t *to, const char *word)
{
	size_t n = head(to, 3, strlen(word));

	memcpy(to + n, word, strlen(word));
	return n + strlen(word);
}

static inline size_t bytes(uint8_t *to, const void *from, size_t len)
{
	size_t n = head(to, 2, len);

	memcpy(to + n, from, len);
	return n + len;
}

static inline size_t begin(uint8_t *to, const char *name, int fields)
{
	size_t n = head(to, 5, 1);

	n += text(to + n, name);
	return n + head(to + n, 5, fields);
}

static inline int extend_with(int file, struct answer *to, unsigned index, const void *data, size_t len)
{
	uint8_t request[8192];
	size_t n = begin(request, "ExtendPCR", 2);

	n += text(request + n, "index");
	n += head(request + n, 0, index);
	n += text(request + n, "data");
	return exchange(file, to, request, n + bytes(request + n, data, len));
}

/* Ask for a document; a negative length is null. */
static inline int attest(int file, struct answer *to, const void *user, int ul, const void *nonce, int nl, const void *key, int kl)
{
	static const char *names[] = {"user_data", "nonce", "public_key"};
	const void *values[] = {user, nonce, key};
	int lengths[] = {ul, nl, kl};
	uint8_t request[8192];
	size_t n = begin(request, "Attestation", 3);

	for (int i = 0; i < 3; i++) {
		n += text(request + n, names[i]);
		if (lengths[i] < 0)
			request[n++] = 0xf6;
		else
			n += bytes(request + n, values[i], lengths[i]);
	}
	return exchange(file, to, request, n);
}

/* --- what an answer is, to the byte --- */

static inline int is(const struct answer *a, const void *expected, size_t len)
{
	return a->len == len && !memcmp(a->bytes, expected, len);
}

static inline int starts(const struct answer *a, const void *expected, size_t len)
{
	return a->len >= len && !memcmp(a->bytes, expected, len);
}

static inline int is_error(const struct answer *a, const char *code)
{
	uint8_t expected[64];
	size_t n = head(expected, 5, 1);

	n += text(expected + n, "Error");
	return is(a, expected, n + text(expected + n, code));
}

static inline const uint8_t *extended(const struct answer *a)
{
	static const char before[] = "\xa1\x69" "ExtendPCR" "\xa1\x64" "data\x58\x30";

	return a->len == sizeof before - 1 + 48 && starts(a, LITERAL(before)) ? a->bytes + sizeof before - 1 : NULL;
}

static inline const uint8_t *document(const struct answer *a, size_t *len)
{
	static const char before[] = "\xa1\x6b" "Attestation" "\xa1\x68" "document\x59", sign1[] = "\x84\x44\xa1\x01\x38\x22\xa0\x59";
	const uint8_t *p = a->bytes + sizeof before - 1;

	if (a->len < 1000 || !starts(a, LITERAL(before)))
		return NULL;
	*len = p[0] << 8 | p[1];
	return a->len == sizeof before + 1 + *len && !memcmp(p + 2, sign1, sizeof sign1 - 1) ? p + 2 : NULL;
}

static inline const uint8_t *random_bytes(const struct answer *a)
{
	static const char before[] = "\xa1\x69" "GetRandom" "\xa1\x66" "random\x59\x01\x00";

	return a->len == sizeof before - 1 + 256 && starts(a, LITERAL(before)) ? a->bytes + sizeof before - 1 : NULL;
}
