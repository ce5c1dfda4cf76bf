/* SPDX-License-Identifier: MIT */
/* Answers of a name service: the first byte says what was asked, the others are the message. */
#include "programs/dns_answer.h"

#include <errno.h>

#include <arpa/inet.h>

#include "fuzz.h"

#define TARGETS_MAX 8u

int
LLVMFuzzerInitialize(int *argc, char ***argv)
{
	(void)argc;
	(void)argv;
	return 0;
}

static void
check_host(const char *host)
{
	FUZZ_CHECK(memchr(host, '\0', DNS_HOST_BYTES));
	for (; *host; host++)
		FUZZ_CHECK((*host >= 'a' && *host <= 'z') || (*host >= '0' && *host <= '9') ||
			   *host == '-' || *host == '_' || *host == '.');
}

static void
srv(const uint8_t *message, size_t size)
{
	struct dns_srv targets[TARGETS_MAX];
	uint32_t count = 0, ttl_s = 0;
	const int r = dns_answer_srv(message, size, targets, TARGETS_MAX, &count, &ttl_s);

	FUZZ_CHECK(r == 0 || r == -EBADMSG);
	if (r < 0)
		return;
	for (uint32_t i = 0; i < count && i < TARGETS_MAX; i++) {
		check_host(targets[i].host);
		FUZZ_CHECK(i == 0 || targets[i - 1].priority <= targets[i].priority);
	}
}

static void
ip(const uint8_t *message, size_t size, uint16_t type)
{
	char text[DNS_IP_BYTES];
	uint8_t address[16];
	uint32_t ttl_s = 0;
	const int r = dns_answer_ip(message, size, type, text, &ttl_s);

	FUZZ_CHECK(r == 0 || r == -ENOENT || r == -EBADMSG);
	if (r == 0)
		FUZZ_CHECK(inet_pton(type == DNS_TYPE_A ? AF_INET : AF_INET6, text, address) == 1);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint8_t *copy;

	if (size == 0)
		return 0;
	copy = fuzz_copy(data + 1, size - 1);
	switch (data[0] % 3) {
	case 0:
		srv(copy, size - 1);
		break;
	case 1:
		ip(copy, size - 1, DNS_TYPE_A);
		break;
	default:
		ip(copy, size - 1, DNS_TYPE_AAAA);
		break;
	}
	free(copy);
	return 0;
}
