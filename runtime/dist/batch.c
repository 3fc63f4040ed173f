/* The current batch: which of its rows belong to this rank. */
#include "kernels/parts.h"
#include "runtime/dist/dist.h"

static cld_batch_share at_hand; /* {0}: data that is the same on all ranks */

int64_t cld_batch_begin(int64_t total, int64_t block, int world, int rank) {
    int64_t blocks = block > 0 ? cld_block_count(total, block) : 0;
    if (blocks < world) { /* the larger ones first, as with blocks */
        const cld_parts rows = {.blocks = world};
        return cld_part_begin(&rows, total, rank);
    }
    const cld_parts of_blocks = {.blocks = world}, of_rows = {.blocks = (int)blocks};
    return cld_part_begin(&of_rows, total, (int)cld_part_begin(&of_blocks, blocks, rank));
}

cld_batch_share cld_split_batch(int64_t total, int64_t block, int world, int rank) {
    cld_batch_share share = {.total = total, .block = block, .rows = total};
    bool of_one = world == 1 && (cld_dist_alone() || cld_dist_ranks().world > 1);
    if (of_one || total < world) return share;
    share.split = true;
    share.begin = cld_batch_begin(total, block, world, rank);
    share.rows = cld_batch_begin(total, block, world, rank + 1) - share.begin;
    return share;
}

cld_status cld_set_batch_at_hand(const cld_batch_share *share) {
    CLD_TRY(cld_pending_settle());
    at_hand = share ? *share : (cld_batch_share){0};
    return CLD_OK;
}

cld_batch_share cld_batch_at_hand(void) { return at_hand; }

double cld_batch_weight(void) {
    if (at_hand.split) return (double)at_hand.rows / (double)at_hand.total;
    return 1.0 / cld_dist_ranks().world;
}

cld_status cld_images_of_batch(cld_batch_share *out, const char *op, int64_t images) {
    cld_ranks r = cld_dist_ranks();
    *out = at_hand;
    if (!at_hand.split) {
        *out = (cld_batch_share){.total = images, .rows = images};
        return CLD_OK;
    }
    if (images == at_hand.rows) return CLD_OK;
    if (at_hand.total % r.world == 0 && at_hand.rows == at_hand.total / r.world) {
        *out = (cld_batch_share){
            .split = true, .total = images * r.world, .begin = images * r.rank, .rows = images};
        return CLD_OK;
    }
    return cld_fail(
        CLD_INVALID,
        "%s: got %lld images on this rank; expected its %lld of the batch of %lld, which is split over %d "
        "ranks. For rows that are the same on all ranks, use cld.dist.whole_batch()",
        op, (long long)images, (long long)at_hand.rows, (long long)at_hand.total, r.world);
}

bool cld_batch_spans(const cld_batch_share *share, int64_t block) {
    if (!share->split) return false;
    int64_t blocks = cld_block_count(share->total, block);
    if (blocks == 1) return true;
    const cld_parts cut = {.blocks = (int)blocks};
    int world = cld_dist_ranks().world, next = 0;
    for (int rank = 1; rank < world; rank++) { /* does every rank begin where a block begins? */
        int64_t begin = cld_batch_begin(share->total, share->block, world, rank);
        while (next < blocks && cld_part_begin(&cut, share->total, next) < begin) next++;
        if (next == blocks || cld_part_begin(&cut, share->total, next) != begin) return true;
    }
    return false;
}
