// The thinnest face of io_uring that reading needs. Opaque on purpose: liburing.h redefines types that
// Swift's Glibc module knows too, so only uring.c sees it. Functions that can fail return -errno.
#ifndef SONDE_CURING_H
#define SONDE_CURING_H
#include <stddef.h>
#include <stdint.h>

typedef struct sonde_ring sonde_ring;

/// One finished read: the tag it was queued with, and the bytes read or -errno.
typedef struct {
    uint64_t tag;
    int32_t result;
} sonde_completion;

/// Opens a ring for `depth` reads in flight from the descriptor `file`. The first thread that submits owns
/// the ring from then on; it may be opened by another.
int sonde_ring_open(sonde_ring **out, uint32_t depth, int file);

/// Closes the ring; the kernel cancels what is still under way.
void sonde_ring_close(sonde_ring *ring);

/// Registers the memory that all reads go to. Without it (memlock limit, over 1 GiB) reads still work and
/// cost the kernel a lookup of their pages each.
int sonde_ring_register_arena(sonde_ring *ring, void *base, size_t size);

/// Registers the descriptor, which saves its lookup on each read. Reads work without.
int sonde_ring_register_file(sonde_ring *ring);

/// 1 where completions are run by the owner's own waiting (SINGLE_ISSUER, DEFER_TASKRUN), 0 on old kernels.
int sonde_ring_defers(const sonde_ring *ring);

/// Queues a read; it goes out with the next submit. -EBUSY where `depth` reads are queued already.
int sonde_ring_queue_read(sonde_ring *ring, void *to, uint32_t size, uint64_t offset, uint64_t tag);

/// 1 where the file lies on a filesystem in memory (tmpfs, ramfs), which takes O_DIRECT and ignores it.
int sonde_file_in_memory(int file);

/// Sends nothing through the ring and waits for it: 0 where the kernel takes every call that reads need.
int sonde_ring_probe(sonde_ring *ring);

/// Hands queued reads to the kernel, and no more.
int sonde_ring_push(sonde_ring *ring);

/// Hands queued reads to the kernel and runs what has completed, without waiting.
int sonde_ring_submit(sonde_ring *ring);

/// The same, then waits until at least `least` completions can be reaped.
int sonde_ring_submit_and_wait(sonde_ring *ring, uint32_t least);

/// After the kernel has refused a submit: takes back what was queued and not handed over, then waits until all of the
/// `in_flight` reads that it has are complete, and drops their results. 0, or -ETIMEDOUT where for `patience`
/// milliseconds none came.
int sonde_ring_settle(sonde_ring *ring, uint32_t in_flight, uint32_t patience);

/// For tests: the next `calls` submits and waits are refused with `error` (an errno), and so is what settling asks
/// where there are calls left.
void sonde_ring_refuse(sonde_ring *ring, int error, uint32_t calls);

/// Takes up to `capacity` completions and returns how many.
uint32_t sonde_ring_reap(sonde_ring *ring, sonde_completion *out, uint32_t capacity);
#endif
