// The only file that includes liburing.h.
#define _GNU_SOURCE
#include "CUring.h"
#include <errno.h>
#include <liburing.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>

struct sonde_ring {
    struct io_uring ring;
    int file;
    int file_registered;
    int arena_registered;
    int defers;
    /// Rings start disabled, so that the thread that first submits becomes the single issuer.
    int disabled;
    /// Calls that are refused without being made, and with what.
    uint32_t refused_calls;
    int refusal;
};

int sonde_ring_open(sonde_ring **out, uint32_t depth, int file) {
    sonde_ring *ring = calloc(1, sizeof *ring);
    if (!ring) return -ENOMEM;
    ring->file = file;
    int result = -EINVAL;
#if defined(IORING_SETUP_SINGLE_ISSUER) && defined(IORING_SETUP_DEFER_TASKRUN)
    // Completion work runs when the owner waits, not by interrupting its scans.
    const unsigned flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_R_DISABLED;
    result = io_uring_queue_init(depth, &ring->ring, flags);
    if (result == 0) ring->defers = ring->disabled = 1;
#endif
    if (result == -EINVAL) result = io_uring_queue_init(depth, &ring->ring, 0);
    if (result < 0) {
        free(ring);
        return result;
    }
    *out = ring;
    return 0;
}

void sonde_ring_close(sonde_ring *ring) {
    io_uring_queue_exit(&ring->ring);
    free(ring);
}

int sonde_ring_register_arena(sonde_ring *ring, void *base, size_t size) {
    struct iovec all = {.iov_base = base, .iov_len = size};
    int result = io_uring_register_buffers(&ring->ring, &all, 1);
    ring->arena_registered = result == 0;
    return result;
}

int sonde_ring_register_file(sonde_ring *ring) {
    int result = io_uring_register_files(&ring->ring, &ring->file, 1);
    ring->file_registered = result == 0;
    return result < 0 ? result : 0;
}

int sonde_ring_defers(const sonde_ring *ring) { return ring->defers; }

int sonde_ring_queue_read(sonde_ring *ring, void *to, uint32_t size, uint64_t offset, uint64_t tag) {
    struct io_uring_sqe *entry = io_uring_get_sqe(&ring->ring);
    if (!entry) return -EBUSY;
    int file = ring->file_registered ? 0 : ring->file;
    if (ring->arena_registered) {
        io_uring_prep_read_fixed(entry, file, to, size, offset, 0);
    } else {
        io_uring_prep_read(entry, file, to, size, offset);
    }
    if (ring->file_registered) entry->flags |= IOSQE_FIXED_FILE;
    entry->user_data = tag;
    return 0;
}

void sonde_ring_refuse(sonde_ring *ring, int error, uint32_t calls) {
    ring->refusal = error;
    ring->refused_calls = calls;
}

/// What comes before each call that enters the kernel.
static int enable(sonde_ring *ring) {
    if (ring->refused_calls > 0) {
        ring->refused_calls--;
        return -ring->refusal;
    }
    if (!ring->disabled) return 0;
    // io_uring_enable_rings is declared by liburing 2.3 and not exported by its library.
    if (syscall(SYS_io_uring_register, ring->ring.ring_fd, IORING_REGISTER_ENABLE_RINGS, NULL, 0) != 0)
        return -errno;
    ring->disabled = 0;
    return 0;
}

int sonde_ring_probe(sonde_ring *ring) {
    struct io_uring_sqe *entry = io_uring_get_sqe(&ring->ring);
    if (!entry) return -EBUSY;
    io_uring_prep_nop(entry);
    int result = sonde_ring_submit_and_wait(ring, 1);
    if (result < 0) return result;
    sonde_completion done;
    return sonde_ring_reap(ring, &done, 1) == 1 ? 0 : -EIO;
}

int sonde_ring_push(sonde_ring *ring) {
    int result = enable(ring);
    if (result < 0) return result;
    result = io_uring_submit(&ring->ring);
    return result < 0 ? result : 0;
}

int sonde_ring_submit(sonde_ring *ring) {
    int result = enable(ring);
    if (result < 0) return result;
    result = ring->defers ? io_uring_submit_and_get_events(&ring->ring) : io_uring_submit(&ring->ring);
    return result < 0 ? result : 0;
}

int sonde_ring_submit_and_wait(sonde_ring *ring, uint32_t least) {
    int result = enable(ring);
    if (result < 0) return result;
    result = io_uring_submit_and_wait(&ring->ring, least);
    return result < 0 ? result : 0;
}

/// Takes back the entries that the kernel has not consumed: it looks at them only when it is entered.
static uint32_t withdraw(struct io_uring *ring) {
    const unsigned consumed = __atomic_load_n(ring->sq.khead, __ATOMIC_ACQUIRE);
    const uint32_t count = ring->sq.sqe_tail - consumed;
    ring->sq.sqe_head = ring->sq.sqe_tail = consumed;
    __atomic_store_n(ring->sq.ktail, consumed, __ATOMIC_RELEASE);
    return count;
}

int sonde_ring_settle(sonde_ring *ring, uint32_t in_flight, uint32_t patience) {
    const uint32_t withdrawn = withdraw(&ring->ring);
    uint32_t left = in_flight > withdrawn ? in_flight - withdrawn : 0;
    uint32_t waited = 0;
    while (left > 0) {
        // Most completions arrive by themselves; those of a ring that defers them only when it is entered, which is
        // tried again however often it is refused.
        if (enable(ring) == 0) (void)io_uring_get_events(&ring->ring);
        const uint32_t ready = io_uring_cq_ready(&ring->ring);
        if (ready > 0) {
            io_uring_cq_advance(&ring->ring, ready);
            left -= ready < left ? ready : left;
            waited = 0;
            continue;
        }
        if (waited == patience) return -ETIMEDOUT;
        usleep(1000);
        waited++;
    }
    return 0;
}

uint32_t sonde_ring_reap(sonde_ring *ring, sonde_completion *out, uint32_t capacity) {
    struct io_uring_cqe *entry;
    unsigned head;
    uint32_t count = 0;
    io_uring_for_each_cqe(&ring->ring, head, entry) {
        if (count == capacity) break;
        out[count].tag = entry->user_data;
        out[count].result = entry->res;
        count++;
    }
    io_uring_cq_advance(&ring->ring, count);
    return count;
}

int sonde_file_in_memory(int file) {
    enum { TMPFS = 0x01021994 };
    const unsigned long ramfs = 0x858458f6;
    struct statfs filesystem;
    if (fstatfs(file, &filesystem) != 0) return 0;
    return filesystem.f_type == TMPFS || (unsigned long)filesystem.f_type == ramfs;
}
