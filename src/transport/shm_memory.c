/* SPDX-License-Identifier: MIT */
/*
 * Huge pages: a memfd of the machine's reserved ones where that is wanted and there are
 * enough, else an aligned one that the kernel may back with them (shmem_enabled).
 */
#include "transport/shm_memory.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/page.h"
#include "transport/shm_tp.h"

#define HUGE_PAGE_BYTES ((size_t)2 << 20)
/* memfd_create(2): log2 of the size, so that it is not the machine's default of perhaps 1 GiB. */
#define HUGE_PAGE_FLAG (21u << 26)
#define SEALS_OF_DAEMON (F_SEAL_SHRINK | F_SEAL_GROW)
/* Nobody maps it for writing or punches holes any more; what is mapped stays writable. */
#define SEALS_OF_CLIENT (F_SEAL_FUTURE_WRITE | F_SEAL_SEAL)
#define SEALS_READ_ONLY (SEALS_OF_DAEMON | F_SEAL_WRITE | F_SEAL_SEAL)
#define STAT_BLOCK_BYTES 512u /* of st_blocks, stat(3) */

/* Maps @fd where huge pages fit. */
static int
map_aligned(int fd, size_t length_bytes, int protection, uint8_t **ret_base)
{
	const size_t align = length_bytes >= HUGE_PAGE_BYTES ? HUGE_PAGE_BYTES : 0;
	uint8_t *place = mmap(NULL, length_bytes + align, PROT_NONE,
			      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	size_t head = 0;
	int r;

	if (place == MAP_FAILED)
		return -errno;
	if (align)
		head = (align - (uintptr_t)place % align) % align;
	if (mmap(place + head, length_bytes, protection, MAP_SHARED | MAP_FIXED, fd, 0) ==
	    MAP_FAILED) {
		r = -errno;
		(void)munmap(place, length_bytes + align);
		return r;
	}
	if (head > 0)
		(void)munmap(place, head);
	if (align - head > 0)
		(void)munmap(place + head + length_bytes, align - head);
	*ret_base = place + head;
	return 0;
}

/* Every page is there afterwards, and locked where that is allowed; never SIGBUS. */
static int
populate(uint8_t *base, size_t length_bytes)
{
	return madvise(base, length_bytes, MADV_POPULATE_WRITE) < 0 ? -errno : 0;
}

static int
create(size_t length_bytes, unsigned int flags, struct shm_memory *m)
{
	int r;

	m->fd = memfd_create("slabswap-slab", MFD_CLOEXEC | MFD_ALLOW_SEALING | flags);
	if (m->fd < 0)
		return -errno;
	if (ftruncate(m->fd, (off_t)length_bytes) < 0 ||
	    fcntl(m->fd, F_ADD_SEALS, SEALS_OF_DAEMON) < 0) {
		r = -errno;
		goto err_close;
	}
	r = map_aligned(m->fd, length_bytes, PROT_READ | PROT_WRITE, &m->base);
	if (r < 0)
		goto err_close;
	(void)madvise(m->base, length_bytes, MADV_HUGEPAGE);
	r = populate(m->base, length_bytes);
	if (r < 0)
		goto err_unmap;
	return 0;

err_unmap:
	(void)munmap(m->base, length_bytes);
err_close:
	(void)close(m->fd);
	return r;
}

int
shm_memory_new(struct tp *tp, size_t length_bytes, bool huge, void **ret_base)
{
	struct shm_tp *shm = container_of(tp, struct shm_tp, tp);
	struct shm_memory *m;
	int r = -ENOMEM;

	if (length_bytes == 0 || length_bytes % PAGE_BYTES)
		return -EINVAL;
	m = calloc(1, sizeof(*m));
	if (!m)
		return -ENOMEM;
	m->length_bytes = length_bytes;
	if (huge && length_bytes % HUGE_PAGE_BYTES == 0)
		r = create(length_bytes, MFD_HUGETLB | HUGE_PAGE_FLAG, m);
	if (r < 0)
		r = create(length_bytes, 0, m);
	if (r < 0) {
		free(m);
		return r;
	}
	(void)pthread_mutex_lock(&shm->lock);
	list_add_tail(&shm->memories, &m->node);
	(void)pthread_mutex_unlock(&shm->lock);
	*ret_base = m->base;
	return 0;
}

static struct shm_memory *
find(struct shm_tp *shm, const void *base)
{
	struct shm_memory *found = NULL;
	struct list *node;

	(void)pthread_mutex_lock(&shm->lock);
	list_foreach (node, &shm->memories) {
		struct shm_memory *m = container_of(node, struct shm_memory, node);

		if (m->base == base) {
			found = m;
			break;
		}
	}
	(void)pthread_mutex_unlock(&shm->lock);
	return found;
}

void
shm_memory_free(struct tp *tp, void *base)
{
	struct shm_tp *shm = container_of(tp, struct shm_tp, tp);
	struct shm_memory *m = find(shm, base);

	if (!m)
		return;
	(void)pthread_mutex_lock(&shm->lock);
	list_del(&m->node);
	(void)pthread_mutex_unlock(&shm->lock);
	(void)munmap(m->base, m->length_bytes);
	(void)close(m->fd);
	free(m);
}

static int
copy_sealed(const void *bytes, size_t length_bytes, int *ret_fd)
{
	const int fd = memfd_create("slabswap-page", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	ssize_t n;

	if (fd < 0)
		return -errno;
	n = write(fd, bytes, length_bytes);
	if (n != (ssize_t)length_bytes || fcntl(fd, F_ADD_SEALS, SEALS_READ_ONLY) < 0) {
		(void)close(fd);
		return -ENOMEM;
	}
	*ret_fd = fd;
	return 0;
}

/* The descriptor that a grant of it sends. */
static int
prepare_lending(struct tp_region *region)
{
	const struct shm_memory *m;

	if (region->lend == TP_LEND_READ)
		return copy_sealed(region->mem, region->length_bytes, &region->fd);
	if (region->lend == TP_LEND_NOT)
		return 0;
	m = find(shm_tp_of(region), region->mem);
	if (!m || m->length_bytes != region->length_bytes)
		return -EINVAL;
	region->fd = m->fd;
	return 0;
}

int
shm_region_register(struct tp *tp, void *base, size_t length_bytes, enum tp_lend lend,
		    struct tp_region **ret_region)
{
	struct tp_region *region;
	int r;

	if (!base || length_bytes == 0)
		return -EINVAL;
	region = calloc(1, sizeof(*region));
	if (!region)
		return -ENOMEM;
	region->base.tp = tp;
	region->mem = base;
	region->length_bytes = length_bytes;
	region->lend = lend;
	region->fd = -1;
	r = prepare_lending(region);
	if (r < 0) {
		free(region);
		return r;
	}
	atomic_init(&region->grants, 0);
	atomic_init(&region->is_spent, false);
	atomic_fetch_add(&shm_tp_of(region)->regions, 1);
	*ret_region = region;
	return 0;
}

int
shm_region_release(struct tp_region *region)
{
	if (atomic_load(&region->grants) > 0)
		return -EBUSY;
	atomic_fetch_sub(&shm_tp_of(region)->regions, 1);
	if (region->lend == TP_LEND_READ)
		(void)close(region->fd);
	free(region);
	return 0;
}

bool
shm_region_is_spent(const struct tp_region *region)
{
	return atomic_load(&region->is_spent);
}

static int
refuse(const char *why, const char **ret_why)
{
	*ret_why = why;
	return -EPROTO;
}

/* After our own mapping of it: from here on no page can be taken away. */
static int
check_and_seal(int fd, uint64_t length_bytes, bool is_read_only, const char **ret_why)
{
	struct stat st;

	if (!is_read_only && fcntl(fd, F_ADD_SEALS, SEALS_OF_CLIENT) < 0)
		return refuse("its memory cannot be sealed against holes", ret_why);
	if (fstat(fd, &st) < 0 || (uint64_t)st.st_size != length_bytes)
		return refuse("its memory is not as long as it says", ret_why);
	if ((uint64_t)st.st_blocks * STAT_BLOCK_BYTES < length_bytes)
		return refuse("its memory is not all there", ret_why);
	return 0;
}

static int
map_checked(int fd, uint64_t length_bytes, uint8_t **ret_base, bool *ret_is_read_only,
	    const char **ret_why)
{
	int seals, r;

	if (length_bytes % PAGE_BYTES || length_bytes > INT64_MAX)
		return refuse("its memory has no whole pages", ret_why);
	seals = fcntl(fd, F_GET_SEALS);
	if (seals < 0 || (seals & SEALS_OF_DAEMON) != SEALS_OF_DAEMON)
		return refuse("its memory is not sealed against shrinking", ret_why);
	*ret_is_read_only = seals & F_SEAL_WRITE;
	r = map_aligned(fd, length_bytes, PROT_READ | (*ret_is_read_only ? 0 : PROT_WRITE),
			ret_base);
	if (r == -EPERM || r == -EACCES || r == -EINVAL)
		return refuse("its memory cannot be mapped", ret_why);
	if (r < 0)
		return r;
	r = check_and_seal(fd, length_bytes, *ret_is_read_only, ret_why);
	if (r < 0)
		(void)munmap(*ret_base, length_bytes);
	return r;
}

int
shm_memory_map(int fd, uint64_t length_bytes, uint8_t **ret_base, bool *ret_is_read_only,
	       const char **ret_why)
{
	int r;

	*ret_why = NULL;
	r = map_checked(fd, length_bytes, ret_base, ret_is_read_only, ret_why);
	(void)close(fd);
	if (r < 0)
		return r;
	(void)madvise(*ret_base, length_bytes, MADV_HUGEPAGE);
	(void)madvise(*ret_base, length_bytes, MADV_DONTFORK);
	(void)madvise(*ret_base, length_bytes, MADV_DONTDUMP);
	return 0;
}
