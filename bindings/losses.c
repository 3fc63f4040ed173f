/* cld.losses in C: the functions without state; lua/cld/losses.lua builds the bank and the queue on them. */
#include "bindings/bindings.h"

#include <string.h>

#include "runtime/losses/losses.h"

/* bank_loss(features, memory, index, temperature, momentum) */
static int bank_loss(lua_State *L) {
    cld_tensor *f = cldL_check_tensor(L, 1), *memory = cldL_check_tensor(L, 2),
               *index = cldL_check_tensor(L, 3);
    cld_bank_params p = {.temperature = luaL_checknumber(L, 4), .momentum = luaL_checknumber(L, 5)};
    cld_tensor **out = cldL_new_tensor(L);
    *out = cld_bank_loss(f, memory, index, &p);
    return cldL_result(L, *out);
}

/* bank_nce_loss(features, memory, index, negatives, z, temperature, momentum) */
static int bank_nce_loss(lua_State *L) {
    cld_tensor *f = cldL_check_tensor(L, 1), *memory = cldL_check_tensor(L, 2),
               *index = cldL_check_tensor(L, 3);
    cld_tensor *negatives = cldL_check_tensor(L, 4), *z = cldL_check_tensor(L, 5);
    cld_bank_params p = {.temperature = luaL_checknumber(L, 6), .momentum = luaL_checknumber(L, 7)};
    cld_tensor **out = cldL_new_tensor(L);
    *out = cld_bank_nce_loss(f, memory, index, negatives, z, &p);
    return cldL_result(L, *out);
}

/* sample_negatives(draws, rows, count, size) -> i64 (rows, count); increments draws */
static int sample_negatives(lua_State *L) {
    cld_tensor *draws = cldL_check_tensor(L, 1);
    lua_Integer rows = luaL_checkinteger(L, 2), count = luaL_checkinteger(L, 3),
                size = luaL_checkinteger(L, 4);
    cld_tensor **out = cldL_new_tensor(L);
    *out = cld_sample_negatives(rows, count, size, draws);
    return cldL_result(L, *out);
}

/* queue_loss(query, key, queue, temperature) */
static int queue_loss(lua_State *L) {
    cld_tensor *query = cldL_check_tensor(L, 1), *key = cldL_check_tensor(L, 2),
               *queue = cldL_check_tensor(L, 3);
    double temperature = luaL_checknumber(L, 4);
    cld_tensor **out = cldL_new_tensor(L);
    *out = cld_queue_loss(query, key, queue, temperature);
    return cldL_result(L, *out);
}

/* enqueue(queue, pointer, keys[, condition]) */
static int enqueue(lua_State *L) {
    cld_tensor *queue = cldL_check_tensor(L, 1), *pointer = cldL_check_tensor(L, 2),
               *keys = cldL_check_tensor(L, 3);
    cld_tensor *condition = cldL_opt_tensor(L, 4);
    cldL_check_status(L, cld_enqueue(queue, pointer, keys, condition));
    return 0;
}

/* enqueue_after(loss, queue, pointer, keys) -> loss */
static int enqueue_after(lua_State *L) {
    cld_tensor *loss = cldL_check_tensor(L, 1), *queue = cldL_check_tensor(L, 2),
               *pointer = cldL_check_tensor(L, 3), *keys = cldL_check_tensor(L, 4);
    cld_tensor **out = cldL_new_tensor(L);
    *out = cld_enqueue_after(loss, queue, pointer, keys);
    return cldL_result(L, *out);
}

/* nt_xent(z1, z2, temperature) */
static int nt_xent(lua_State *L) {
    cld_tensor *z1 = cldL_check_tensor(L, 1), *z2 = cldL_check_tensor(L, 2);
    double temperature = luaL_checknumber(L, 3);
    cld_tensor **out = cldL_new_tensor(L);
    *out = cld_nt_xent(z1, z2, temperature);
    return cldL_result(L, *out);
}

/* kmeans(x, k, iterations) -> labels, centroids */
static int kmeans(lua_State *L) {
    cld_tensor *x = cldL_check_tensor(L, 1);
    lua_Integer k = luaL_checkinteger(L, 2), iterations = luaL_checkinteger(L, 3);
    cld_tensor **empty = cldL_new_tensor(L), **labels = cldL_new_tensor(L), **centroids = cldL_new_tensor(L);
    *centroids = cld_kmeans(labels, empty, x, k, iterations, 1);
    cldL_result(L, *centroids);
    return 2;
}

/* normalized_cuts(x, {eigenvectors, clusters, iterations}) -> labels, centroids, eigenvalues */
static int normalized_cuts(lua_State *L) {
    static const char *const names[] = {"eigenvectors", "clusters", "iterations", NULL};
    cld_tensor *x = cldL_check_tensor(L, 1);
    cldL_check_fields(L, 2, "normalized_cuts", names);
    int64_t clusters = cldL_field_integer(L, 2, "clusters", 128);
    int64_t iterations = cldL_field_integer(L, 2, "iterations", 5);
    int64_t eigenvectors = cldL_field_integer(L, 2, "eigenvectors", 0);
    cld_tensor **empty = cldL_new_tensor(L), **labels = cldL_new_tensor(L), **centroids = cldL_new_tensor(L);
    cld_tensor **values = cldL_new_tensor(L);
    *centroids = cld_normalized_cuts(labels, empty, values, x, eigenvectors, clusters, iterations, 1);
    cldL_result(L, *centroids);
    return 3;
}

/* cld(g1, g2, {grouping, eigenvectors, clusters, iterations, temperature, detach_centroids, block}) -> loss, group
 * accuracy, share of empty groups */
static int cross_level(lua_State *L) {
    static const char *const names[] = {"grouping",    "eigenvectors",     "clusters", "iterations",
                                        "temperature", "detach_centroids", "block",    NULL};
    cld_tensor *g1 = cldL_check_tensor(L, 1), *g2 = cldL_check_tensor(L, 2);
    cldL_check_fields(L, 3, "cld", names);
    const char *grouping = cldL_field_string(L, 3, "grouping", "kmeans");
    bool is_cut = strcmp(grouping, "ncut") == 0;
    if (!is_cut && strcmp(grouping, "kmeans") != 0)
        return luaL_error(L, "cld: grouping must be 'kmeans' or 'ncut', got '%s'", grouping);
    cld_group_params p = {.grouping = is_cut ? CLD_BY_NORMALIZED_CUTS : CLD_BY_KMEANS,
                          .eigenvectors = cldL_field_integer(L, 3, "eigenvectors", 0),
                          .clusters = cldL_field_integer(L, 3, "clusters", 128),
                          .iterations = cldL_field_integer(L, 3, "iterations", 5),
                          .temperature = cldL_field_number(L, 3, "temperature", 0.2),
                          .detach_centroids = cldL_field_boolean(L, 3, "detach_centroids", false),
                          .block = cldL_field_integer(L, 3, "block", 0)};
    cld_tensor **loss = cldL_new_tensor(L), **accuracy = cldL_new_tensor(L), **empty = cldL_new_tensor(L);
    *loss = cld_cross_level_loss(accuracy, empty, g1, g2, &p);
    cldL_result(L, *loss);
    return 3;
}

/* nearest(memory, queries, k) -> similarities, index */
static int nearest(lua_State *L) {
    cld_tensor *memory = cldL_check_tensor(L, 1), *queries = cldL_check_tensor(L, 2);
    lua_Integer k = luaL_checkinteger(L, 3);
    cld_tensor **similarities = cldL_new_tensor(L), **index = cldL_new_tensor(L);
    *similarities = cld_nearest(index, memory, queries, k);
    cldL_result(L, *similarities);
    return 2;
}

/* vote(similarities, labels, {k, classes, temperature}) -> class scores */
static int vote(lua_State *L) {
    static const char *const names[] = {"k", "classes", "temperature", NULL};
    cld_tensor *similarities = cldL_check_tensor(L, 1), *labels = cldL_check_tensor(L, 2);
    cldL_check_fields(L, 3, "vote", names);
    cld_vote_params p = {.k = cldL_field_integer(L, 3, "k", 0),
                         .classes = cldL_field_integer(L, 3, "classes", 0),
                         .temperature = cldL_field_number(L, 3, "temperature", 0)};
    cld_tensor **out = cldL_new_tensor(L);
    *out = cld_vote(similarities, labels, &p);
    return cldL_result(L, *out);
}

int cldL_open_losses(lua_State *L) {
    static const luaL_Reg functions[] = {
        {"bank_loss", bank_loss},
        {"bank_nce_loss", bank_nce_loss},
        {"sample_negatives", sample_negatives},
        {"queue_loss", queue_loss},
        {"enqueue", enqueue},
        {"enqueue_after", enqueue_after},
        {"nt_xent", nt_xent},
        {"kmeans", kmeans},
        {"normalized_cuts", normalized_cuts},
        {"cld", cross_level},
        {"nearest", nearest},
        {"vote", vote},
        {NULL, NULL},
    };
    luaL_newlib(L, functions);
    return 1;
}
