/* A segment is memory from the device's own allocator; its blocks lie in it one after the other. A free block merges
 * with free neighbours at once, and is found best fit, through bins of sizes, four for each power of two. Small blocks
 * come from small segments, so that a long-lived scalar does not split the memory that an activation needs. A new
 * segment has at least an eighth of what its pool already holds, so that there are few segments, and their blocks merge
 * into large ones. */
#include "kernels/cuda/pool.h"

#include <stdlib.h>

#include "kernels/cuda/device.h"

#define UNIT          512u
#define SMALL         (1u << 20) /* blocks up to this size are small */
#define SMALL_SEGMENT (2u << 20)
#define LARGE_SEGMENT (32u << 20)
#define SEGMENT_UNIT  (2u << 20)
#define BINS          128

/* On the host every block is its own segment, of exactly its bytes, and is freed when it is released. So writing past
 * its end is detected, and reading uninitialized memory gives NaN. CLD_HOST_CACHE in the environment makes it work as
 * on the GPU. CLD_CUDA_EXACT makes the GPU work as the host does, for compute-sanitizer, which only knows CUDA's own
 * allocations. */
static bool is_exact(void) {
    static int exact = -1;
#ifdef CLD_ON_HOST
    if (exact < 0) exact = getenv("CLD_HOST_CACHE") == NULL;
#else
    if (exact < 0) exact = getenv("CLD_CUDA_EXACT") != NULL;
#endif
    return exact;
}

typedef enum state {
    FREE,  /* in a bin of its pool */
    TAKEN, /* in the table */
    HELD   /* released, but set aside for a graph: in the graph's list */
} state;

typedef struct block {
    struct segment *segment;
    char *data;
    size_t bytes;
    state state;
    struct block *before, *after; /* neighbours in the segment */
    struct block *next,
        **previous; /* in its bin, the table's chain or a graph's list; previous: the pointer to this */
} block;

typedef struct segment {
    cld_pool *pool;
    block *first;
    bool small, touched; /* touched: handed out since it came to this pool */
    struct segment *next, **previous;
} segment;

struct cld_pool {
    segment *segments;
    block *bins[2][BINS];          /* of large and of small segments */
    uint64_t filled[2][BINS / 64]; /* one bit per nonempty bin */
    size_t reserved;
    block *held; /* of a graph */
};

static cld_pool general;
static cld_pool *capturing; /* if set, allocations come from here */
static cld_memory_info totals;

/* ---- lists, bins ---------------------------------------------------------------------------------------------------- */

static void link_block(block **list, block *b) {
    b->next = *list;
    b->previous = list;
    if (b->next) b->next->previous = &b->next;
    *list = b;
}

static void unlink_block(block *b) {
    *b->previous = b->next;
    if (b->next) b->next->previous = b->previous;
}

static void link_segment(cld_pool *pool, segment *s) {
    s->pool = pool;
    s->touched = false;
    s->next = pool->segments;
    s->previous = &pool->segments;
    if (s->next) s->next->previous = &s->next;
    pool->segments = s;
}

static void unlink_segment(segment *s) {
    *s->previous = s->next;
    if (s->next) s->next->previous = s->previous;
}

static int bin_of(size_t bytes) {
    uint64_t units = bytes / UNIT;
    if (units < 4) return (int)units;
    int log = 63 - __builtin_clzll(units); /* the two bits after the highest say which quarter */
    int bin = (log - 1) * 4 + (int)(units >> (log - 2) & 3);
    return bin < BINS ? bin : BINS - 1;
}

static void put_free(block *b) {
    cld_pool *pool = b->segment->pool;
    int small = b->segment->small, bin = bin_of(b->bytes);
    b->state = FREE;
    link_block(&pool->bins[small][bin], b);
    pool->filled[small][bin / 64] |= (uint64_t)1 << bin % 64;
}

static void take_free(block *b) {
    cld_pool *pool = b->segment->pool;
    int small = b->segment->small, bin = bin_of(b->bytes);
    unlink_block(b);
    if (!pool->bins[small][bin]) pool->filled[small][bin / 64] &= ~((uint64_t)1 << bin % 64);
}

/* The first nonempty bin from this one on, or BINS. */
static int next_filled(const cld_pool *pool, int small, int bin) {
    for (int word = bin / 64; word < BINS / 64; word++) {
        uint64_t bits = pool->filled[small][word];
        if (word == bin / 64) bits &= ~(uint64_t)0 << bin % 64;
        if (bits) return word * 64 + __builtin_ctzll(bits);
    }
    return BINS;
}

static block *find_free(const cld_pool *pool, int small, size_t bytes) {
    bool exact = is_exact();
    for (int bin = bin_of(bytes); (bin = next_filled(pool, small, bin)) < BINS; bin++) {
        block *best = NULL;
        for (block *b = pool->bins[small][bin]; b; b = b->next)
            if ((exact ? b->bytes == bytes : b->bytes >= bytes) && (!best || b->bytes < best->bytes))
                best = b;
        if (best || exact) return best;
    }
    return NULL;
}

/* ---- the table of blocks that are handed out, by address -------------------------------------------------------------- */

static block **table;
static size_t slots, entries; /* slots: a power of two */

static block **slot_of(block **in, size_t count, const void *data) {
    return &in[((uintptr_t)data / UNIT * 0x9E3779B97F4A7C15u >> 20) & (count - 1)];
}

static bool grow_table(void) {
    size_t count = slots ? 2 * slots : 1024;
    block **larger = calloc(count, sizeof *larger);
    if (!larger) return slots > 0; /* the table stays, and its chains get longer */
    for (size_t i = 0; i < slots; i++)
        while (table[i]) {
            block *b = table[i];
            unlink_block(b);
            link_block(slot_of(larger, count, b->data), b);
        }
    free(table);
    table = larger;
    slots = count;
    return true;
}

static block *find_taken(const void *data) {
    if (!slots) return NULL;
    block *b = *slot_of(table, slots, data);
    while (b && b->data != data) b = b->next;
    return b;
}

static void *hand_out(block *b) {
    b->state = TAKEN;
    b->segment->touched = true;
    link_block(slot_of(table, slots, b->data), b);
    entries++;
    totals.in_use += b->bytes;
    if (totals.in_use > totals.peak) totals.peak = totals.in_use;
    return b->data;
}

/* ---- segments --------------------------------------------------------------------------------------------------------- */

static size_t rounded(size_t bytes, size_t unit) { return (bytes + unit - 1) / unit * unit; }

static size_t segment_size(const cld_pool *pool, size_t bytes) {
    if (is_exact()) return bytes;
    if (bytes <= SMALL) return SMALL_SEGMENT;
    size_t least = pool->reserved / 8 > LARGE_SEGMENT ? pool->reserved / 8 : LARGE_SEGMENT;
    return rounded(bytes > least ? bytes : least, SEGMENT_UNIT);
}

/* A free block that is a whole new segment. */
static cld_status add_segment(block **out, cld_pool *pool, size_t bytes) {
    size_t size = segment_size(pool, bytes), least = is_exact() ? bytes : rounded(bytes, SEGMENT_UNIT);
    segment *s = calloc(1, sizeof *s);
    block *b = calloc(1, sizeof *b);
    void *data = NULL;
    cld_status status = s && b ? cld_cuda_malloc(&data, size) : cld_fail(CLD_NOMEM, "out of host memory");
    if (status == CLD_NOMEM && s && b && size > least) status = cld_cuda_malloc(&data, size = least);
    if (status != CLD_OK) {
        free(s);
        free(b);
        return status;
    }
    s->small = bytes <= SMALL;
    s->first = b;
    *b = (block){.segment = s, .data = data, .bytes = size};
    link_segment(pool, s);
    pool->reserved += size;
    totals.reserved += size;
    put_free(b);
    *out = b;
    return CLD_OK;
}

static bool is_all_free(const segment *s) { return s->first->state == FREE && !s->first->after; }

/* The whole segment is free. */
static void give_back(segment *s) {
    block *b = s->first;
    take_free(b);
    unlink_segment(s);
    s->pool->reserved -= b->bytes;
    totals.reserved -= b->bytes;
    cld_cuda_free(b->data);
    free(b);
    free(s);
}

static void move_segment(segment *s, cld_pool *to) {
    cld_pool *from = s->pool;
    size_t bytes = 0;
    for (block *b = s->first; b; b = b->after) {
        bytes += b->bytes;
        if (b->state == FREE) take_free(b);
    }
    unlink_segment(s);
    link_segment(to, s);
    from->reserved -= bytes;
    to->reserved += bytes;
    for (block *b = s->first; b; b = b->after)
        if (b->state == FREE) put_free(b);
}

/* ---- blocks ----------------------------------------------------------------------------------------------------------- */

/* Shortens the block to `bytes`; the rest becomes a free block. */
static void split(block *b, size_t bytes) {
    size_t rest = b->bytes - bytes;
    if (is_exact() || rest < (b->segment->small ? UNIT : SMALL)) return;
    block *r = malloc(sizeof *r);
    if (!r) return; /* then the block stays whole */
    *r = (block){
        .segment = b->segment, .data = b->data + bytes, .bytes = rest, .before = b, .after = b->after};
    if (r->after) r->after->before = r;
    b->after = r;
    b->bytes = bytes;
    put_free(r);
}

/* Merges b with its right neighbour. */
static void absorb(block *b) {
    block *right = b->after;
    b->bytes += right->bytes;
    b->after = right->after;
    if (b->after) b->after->before = b;
    free(right);
}

static void make_free(block *b) {
    if (b->after && b->after->state == FREE) {
        take_free(b->after);
        absorb(b);
    }
    if (b->before && b->before->state == FREE) {
        b = b->before;
        take_free(b);
        absorb(b);
    }
    put_free(b);
    if (is_exact() && b->segment->pool == &general) give_back(b->segment);
}

cld_status cld__pool_allocate(void **out, size_t bytes) {
    cld_pool *pool = capturing ? capturing : &general;
    size_t size = is_exact() ? bytes + (bytes == 0) : bytes ? rounded(bytes, UNIT) : UNIT;
    *out = NULL;
    if (bytes > SIZE_MAX / 2) return cld_fail(CLD_NOMEM, "out of memory");
    if (entries >= slots && !grow_table()) return cld_fail(CLD_NOMEM, "out of host memory");
    block *b = find_free(pool, size <= SMALL, size);
    if (!b) CLD_TRY(add_segment(&b, pool, size));
    take_free(b);
    split(b, size);
    *out = hand_out(b);
    return CLD_OK;
}

void cld__pool_release(void *data) {
    block *b = find_taken(data);
    if (!b) return;
    unlink_block(b);
    entries--;
    totals.in_use -= b->bytes;
    if (capturing && b->segment->pool != capturing) {
        b->state = HELD;
        link_block(&capturing->held, b);
    } else {
        make_free(b);
    }
}

void cld__pool_empty(void) {
    for (segment *s = general.segments, *next; s; s = next) {
        next = s->next;
        if (is_all_free(s)) give_back(s);
    }
}

cld_memory_info cld__pool_info(void) { return totals; }
void cld__pool_set_peak(size_t bytes) { totals.peak = bytes > totals.in_use ? bytes : totals.in_use; }

/* ---- graphs ------------------------------------------------------------------------------------------------------------- */

static void move_free_segments(cld_pool *from, cld_pool *to, bool touched_too) {
    for (segment *s = from->segments, *next; s; s = next) {
        next = s->next;
        if (is_all_free(s) && (touched_too || !s->touched)) move_segment(s, to);
    }
}

cld_pool *cld__pool_begin_graph(void) {
    cld_pool *pool = calloc(1, sizeof *pool);
    if (!pool) return NULL;
    move_free_segments(&general, pool, true); /* the graph can use what the steps before it used */
    return capturing = pool;
}

void cld__pool_end_graph(void) {
    move_free_segments(capturing, &general, false);
    capturing = NULL;
}

void cld__pool_free_graph(cld_pool *pool) {
    while (pool->segments) move_segment(pool->segments, &general);
    while (pool->held) {
        block *b = pool->held;
        unlink_block(b);
        make_free(b);
    }
    free(pool);
    if (!is_exact()) return;
    cld__pool_empty();
}
