/* SPDX-License-Identifier: MIT */
/* lock_holder.h - who holds the flock of a file: "is locked" alone sends people searching. */
#ifndef BACKUP_LOCK_HOLDER_H
#define BACKUP_LOCK_HOLDER_H

#define LOCK_HOLDER_BYTES 64

/* "slabswap-nbd (process 123)", or "another process" when /proc does not tell.  Blocks. */
void lock_holder_describe(int fd, char ret_text[LOCK_HOLDER_BYTES]);

#endif /* BACKUP_LOCK_HOLDER_H */
