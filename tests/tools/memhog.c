/* SPDX-License-Identifier: MIT */
/*
 * memhog - fills memory with a pattern and reads it back, to see whether swap keeps it.
 *
 * Every word depends on the seed, the page's number and the round that wrote the page, so a
 * page of zeros, another page and an old copy of the right page are all noticed.  Each pass
 * reads all pages in a new random order and, but for the last, rewrites a quarter of them;
 * none with --keep: then the kernel has no reason to write anything out again.
 * With --unique, only so much of a page is hard to compress, as in the pages of real programs.
 * Several threads share a pass, as those of a real program: one page fault at a time is slow.
 * For a soak it goes on until a time is over and says every few seconds how far it is: who
 * watches it from outside a machine that hangs has nothing else to see that by.
 */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#define PAGE_SIZE 4096u
#define PAGE_WORDS (PAGE_SIZE / sizeof(uint64_t))
#define MAX_ROUNDS 1000u
#define MAX_THREADS 64u
#define REPORTED_MISMATCHES 10u
#define REPORT_SECONDS 5u
#define NSEC_PER_SEC UINT64_C(1000000000)
#define WORD_STEP UINT64_C(0x9e3779b97f4a7c15)

struct hog {
	uint64_t *memory;
	uint64_t pages;
	uint64_t seed;
	size_t unique_words; /* at the start of a page; the others are like the last of them */
	unsigned rounds;
	unsigned threads;
	bool frees;
	bool keeps; /* does not rewrite */
	/* When to stop, in the middle of a pass too; 0: after all rounds. */
	_Atomic uint64_t end_ns;
	unsigned round;	       /* the pass that the threads are in */
	_Atomic uint64_t next; /* position in the pass that no thread has taken */
	_Atomic uint64_t done; /* pages of the pass that are done */
	_Atomic uint64_t mismatches;
	_Atomic uint64_t checked;
	_Atomic uint64_t longest_ns; /* that a page took, most of it in page faults */
	_Atomic uint64_t report_ns;  /* when the next line about the progress is due */
	unsigned rounds_done;
	double write_seconds;
	double round_seconds[MAX_ROUNDS];
};

/* Static: mlockall() covers it before the pattern exists. */
static struct hog the_hog;

/* The finisher of splitmix64. */
static uint64_t
mix(uint64_t x)
{
	x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
	return x ^ (x >> 31);
}

static uint64_t
now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * NSEC_PER_SEC + (uint64_t)now.tv_nsec;
}

static double
now_seconds(void)
{
	return (double)now_ns() / (double)NSEC_PER_SEC;
}

static bool
is_time_up(const struct hog *hog, uint64_t now)
{
	return hog->end_ns != 0 && now >= hog->end_ns;
}

/* With --seconds it is blocked: then the time is over when the next line is due. */
static bool
is_told_to_end(void)
{
	sigset_t pending;

	return sigpending(&pending) == 0 && sigismember(&pending, SIGTERM) == 1;
}

/* After each page: how long it took since @start, and now and then a line. Returns the time. */
static uint64_t
page_done(struct hog *hog, uint64_t start)
{
	uint64_t now = now_ns();
	uint64_t longest = hog->longest_ns;
	uint64_t due = hog->report_ns;

	while (now - start > longest &&
	       !atomic_compare_exchange_weak(&hog->longest_ns, &longest, now - start))
		;
	if (hog->end_ns != 0 && now >= due &&
	    atomic_compare_exchange_strong(&hog->report_ns, &due,
					   now + REPORT_SECONDS * NSEC_PER_SEC)) {
		fprintf(stderr,
			"memhog: checked %" PRIu64 ", round %u, longest %" PRIu64 " ms, %" PRIu64
			" mismatches\n",
			hog->checked, hog->round, hog->longest_ns / 1000000, hog->mismatches);
		if (is_told_to_end())
			hog->end_ns = now;
	}
	return now;
}

static uint64_t *
page_at(const struct hog *hog, uint64_t page)
{
	return hog->memory + page * PAGE_WORDS;
}

static uint64_t
first_word(const struct hog *hog, uint64_t page, unsigned round)
{
	return mix(mix(hog->seed + page * WORD_STEP) + round);
}

static int
is_rewritten_in(const struct hog *hog, uint64_t page, unsigned round)
{
	return !hog->keeps && round < hog->rounds && mix(first_word(hog, page, round) + 1) % 4 == 0;
}

/* The round whose content a page has before @round: computed, so that nothing is remembered. */
static unsigned
last_written_before(const struct hog *hog, uint64_t page, unsigned round)
{
	while (--round > 0)
		if (is_rewritten_in(hog, page, round))
			return round;
	return 0;
}

/* From word @i to the next. */
static uint64_t
word_step(const struct hog *hog, size_t i)
{
	return i < hog->unique_words ? WORD_STEP : 0;
}

static void
write_page(struct hog *hog, uint64_t page, unsigned round)
{
	uint64_t *word = page_at(hog, page);
	uint64_t value = first_word(hog, page, round);

	for (size_t i = 0; i < PAGE_WORDS; i++) {
		word[i] = value;
		value += word_step(hog, i);
	}
}

static int
page_holds(const struct hog *hog, uint64_t page, unsigned round)
{
	const uint64_t *word = page_at(hog, page);
	uint64_t value = first_word(hog, page, round);
	uint64_t difference = 0;

	for (size_t i = 0; i < PAGE_WORDS; i++) {
		difference |= word[i] ^ value;
		value += word_step(hog, i);
	}
	return difference == 0;
}

static int
page_is_zero(const struct hog *hog, uint64_t page)
{
	const uint64_t *word = page_at(hog, page);
	uint64_t bits = 0;

	for (size_t i = 0; i < PAGE_WORDS; i++)
		bits |= word[i];
	return bits == 0;
}

static void
report_mismatch(const struct hog *hog, uint64_t page, unsigned expected)
{
	if (page_is_zero(hog, page)) {
		fprintf(stderr, "memhog: page %" PRIu64 " is all zeros\n", page);
		return;
	}
	for (unsigned round = 0; round <= hog->round; round++) {
		if (page_holds(hog, page, round)) {
			fprintf(stderr,
				"memhog: page %" PRIu64 " is of round %u, should be of round %u\n",
				page, round, expected);
			return;
		}
	}
	fprintf(stderr, "memhog: page %" PRIu64 " holds something else: %016" PRIx64 "\n", page,
		*page_at(hog, page));
}

static void
check_page(struct hog *hog, uint64_t page, unsigned round)
{
	unsigned expected = last_written_before(hog, page, round);

	if (page_holds(hog, page, expected))
		return;
	if (atomic_fetch_add(&hog->mismatches, 1) < REPORTED_MISMATCHES)
		report_mismatch(hog, page, expected);
}

/*
 * A permutation of 0 .. pages-1 that needs no table: four Feistel steps permute the next
 * power of four; what falls outside goes round again.
 */
static uint64_t
permute(uint64_t index, uint64_t pages, uint64_t key)
{
	unsigned half_bits = 1;
	uint64_t mask;

	while (UINT64_C(1) << (2 * half_bits) < pages)
		half_bits++;
	mask = (UINT64_C(1) << half_bits) - 1;
	do {
		uint64_t left = index >> half_bits;
		uint64_t right = index & mask;

		for (unsigned step = 0; step < 4; step++) {
			uint64_t next = left ^ (mix(right + mix(key + step)) & mask);

			left = right;
			right = next;
		}
		index = left << half_bits | right;
	} while (index >= pages);
	return index;
}

static void
show_progress(const struct hog *hog, const char *what, unsigned round, uint64_t done)
{
	uint64_t tenth = hog->pages / 10;

	if (hog->end_ns == 0 && tenth != 0 && done % tenth == 0)
		fprintf(stderr, "memhog: %s %u: %" PRIu64 " %%, %" PRIu64 " mismatches\n", what,
			round, done / tenth * 10, hog->mismatches);
}

static void
write_all(struct hog *hog)
{
	double start = now_seconds();
	uint64_t now = now_ns();

	for (uint64_t page = 0; page < hog->pages && !is_time_up(hog, now); page++) {
		write_page(hog, page, 0);
		show_progress(hog, "write", 0, page + 1);
		now = page_done(hog, now);
	}
	hog->write_seconds = now_seconds() - start;
	fprintf(stderr, "memhog: write done\n");
}

/* Each page is taken by one thread of the pass, so nobody else looks at it or writes it. */
static void *
read_some(void *arg)
{
	struct hog *hog = arg;
	const unsigned round = hog->round;
	uint64_t now = now_ns();
	uint64_t i;

	while (!is_time_up(hog, now) && (i = atomic_fetch_add(&hog->next, 1)) < hog->pages) {
		uint64_t page = permute(i, hog->pages, hog->seed + round);

		check_page(hog, page, round);
		atomic_fetch_add(&hog->checked, 1);
		if (is_rewritten_in(hog, page, round))
			write_page(hog, page, round);
		if (hog->frees && round == hog->rounds)
			(void)madvise(page_at(hog, page), PAGE_SIZE, MADV_DONTNEED);
		show_progress(hog, "round", round, atomic_fetch_add(&hog->done, 1) + 1);
		now = page_done(hog, now);
	}
	return NULL;
}

/* Returns 0 or an error number. */
static int
read_all(struct hog *hog, unsigned round)
{
	pthread_t threads[MAX_THREADS];
	double start = now_seconds();
	unsigned started = 0;
	int r = 0;

	hog->round = round;
	hog->next = 0;
	hog->done = 0;
	while (started < hog->threads - 1 && r == 0) {
		r = pthread_create(&threads[started], NULL, read_some, hog);
		if (r == 0)
			started++;
	}
	(void)read_some(hog);
	while (started > 0)
		(void)pthread_join(threads[--started], NULL);
	if (r == 0 && hog->done == hog->pages) {
		if (round <= MAX_ROUNDS)
			hog->round_seconds[round - 1] = now_seconds() - start;
		hog->rounds_done = round;
	}
	return r;
}

static void
print_result(const struct hog *hog)
{
	printf("{\"pages\": %" PRIu64 ", \"rounds\": %u, \"checked\": %" PRIu64
	       ", \"mismatches\": %" PRIu64 ", \"longest_ms\": %" PRIu64
	       ", \"write_seconds\": %.3f, \"round_seconds\": [",
	       hog->pages, hog->rounds_done, hog->checked, hog->mismatches,
	       hog->longest_ns / 1000000, hog->write_seconds);
	for (unsigned i = 0; i < hog->rounds_done && i < MAX_ROUNDS; i++)
		printf("%s%.3f", i == 0 ? "" : ", ", hog->round_seconds[i]);
	printf("]}\n");
}

static void
usage(void)
{
	fputs("usage: memhog --size BYTES[K|M|G] [--rounds N | --seconds N] [--threads N]\n"
	      "              [--free] [--keep] [--seed N] [--unique PERCENT]\n"
	      "Writes a pattern over BYTES of memory, then reads it back N times (default 2),\n"
	      "or until N seconds are over or SIGTERM comes, then in the middle of a pass, with N\n"
	      "threads (default 1), and with --free frees a page after its last check. With "
	      "--keep\n"
	      "it rewrites none.\n"
	      "With --unique only so much of each page (default 100 %) is hard to compress.\n"
	      "Exit status: 0 every page was right, 1 some were not, 2 it could not run.\n",
	      stderr);
	exit(2);
}

static uint64_t
parse_number(const char *text, const char *suffixes)
{
	const char *suffix;
	char *end;
	uint64_t value;

	errno = 0;
	value = strtoull(text, &end, 0);
	if (errno != 0 || end == text)
		usage();
	if (*end == '\0')
		return value;
	suffix = strchr(suffixes, *end);
	if (suffix == NULL || end[1] != '\0')
		usage();
	return value << (10 * (suffix - suffixes + 1));
}

static void
parse_options(struct hog *hog, int argc, char **argv)
{
	static const struct option options[] = {
		{"size", required_argument, NULL, 's'},
		{"rounds", required_argument, NULL, 'r'},
		{"threads", required_argument, NULL, 't'},
		{"free", no_argument, NULL, 'f'},
		{"keep", no_argument, NULL, 'k'},
		{"seed", required_argument, NULL, 'e'},
		{"seconds", required_argument, NULL, 'd'},
		{"unique", required_argument, NULL, 'u'},
		{NULL, 0, NULL, 0},
	};
	uint64_t rounds = 2, threads = 1, seconds = 0, unique = 100;
	int option;

	while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
		switch (option) {
		case 's':
			hog->pages = parse_number(optarg, "KMG") / PAGE_SIZE;
			break;
		case 'r':
			rounds = parse_number(optarg, "");
			break;
		case 't':
			threads = parse_number(optarg, "");
			break;
		case 'f':
			hog->frees = true;
			break;
		case 'k':
			hog->keeps = true;
			break;
		case 'e':
			hog->seed = parse_number(optarg, "");
			break;
		case 'd':
			seconds = parse_number(optarg, "");
			break;
		case 'u':
			unique = parse_number(optarg, "");
			break;
		default:
			usage();
		}
	}
	if (optind != argc || hog->pages == 0 || rounds == 0 || rounds > MAX_ROUNDS ||
	    threads == 0 || threads > MAX_THREADS || unique > 100)
		usage();
	hog->unique_words = PAGE_WORDS * unique / 100;
	hog->threads = (unsigned)threads;
	hog->rounds = seconds == 0 ? (unsigned)rounds : UINT_MAX;
	hog->end_ns = seconds == 0 ? 0 : now_ns() + seconds * NSEC_PER_SEC;
}

int
main(int argc, char **argv)
{
	struct hog *hog = &the_hog;

	parse_options(hog, argc, argv);
	if (hog->end_ns != 0) {
		sigset_t term;

		(void)sigemptyset(&term);
		(void)sigaddset(&term, SIGTERM);
		(void)sigprocmask(SIG_BLOCK, &term, NULL);
	}

	/* Before the pattern's memory exists: only that may be swapped out. */
	if (mlockall(MCL_CURRENT) != 0)
		fprintf(stderr, "memhog: mlockall: %s\n", strerror(errno));
	hog->memory = mmap(NULL, hog->pages * PAGE_SIZE, PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (hog->memory == MAP_FAILED) {
		fprintf(stderr, "memhog: mmap: %s\n", strerror(errno));
		return 2;
	}

	write_all(hog);
	for (unsigned round = 1; round <= hog->rounds && !is_time_up(hog, now_ns()); round++) {
		int r = read_all(hog, round);

		if (r != 0) {
			fprintf(stderr, "memhog: cannot start a thread: %s\n", strerror(r));
			return 2;
		}
	}
	print_result(hog);
	return hog->mismatches == 0 ? 0 : 1;
}
