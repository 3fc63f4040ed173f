/* cld.core.embed: maps of features. lua/cld/eval.lua has them as cld.eval.pca and cld.eval.tsne. */
#include "bindings/bindings.h"
#include "runtime/embed/embed.h"

/* --- pca(features (n, d), dims) -> f32 (n, dims): the rows minus their mean, along the directions of the largest
 * variance, largest first (Pearson, 1901). The sign of each axis makes the largest entry of its direction positive. */
static int embed_pca(lua_State *L) {
    cld_tensor *x = cldL_check_tensor(L, 1);
    lua_Integer dims = luaL_checkinteger(L, 2);
    cld_tensor **out = cldL_new_tensor(L);
    *out = cld_pca(x, dims);
    return cldL_result(L, *out);
}

static cld_tsne_params check_params(lua_State *L, int arg) {
    static const char *const names[] = {"perplexity", "angle", "iterations", "seed", NULL};
    cldL_check_fields(L, arg, "tsne", names);
    return (cld_tsne_params){.perplexity = cldL_field_number(L, arg, "perplexity", 30),
                             .angle = cldL_field_number(L, arg, "angle", 0.3),
                             .iterations = cldL_field_integer(L, arg, "iterations", 1000),
                             .seed = (uint64_t)cldL_field_integer(L, arg, "seed", 0)};
}

/* --- tsne(features (n, d)[, {perplexity = 30, iterations = 1000, angle = 0.3, seed = 0}]) -> f32 (n, 2), kl: points
 * in the plane that are near each other if their rows are, by t-SNE with the Barnes-Hut tree (van der Maaten, 2014),
 * and the remaining Kullback-Leibler divergence. It starts from the first two principal components and steps as
 * scikit-learn does; the number of threads and the machine's load do not change the result. */
static int embed_tsne(lua_State *L) {
    cld_tensor *x = cldL_check_tensor(L, 1);
    cld_tsne_params p = check_params(L, 2);
    double kl = 0;
    cld_tensor **out = cldL_new_tensor(L);
    *out = cld_tsne(&kl, x, &p);
    cldL_result(L, *out);
    lua_pushnumber(L, kl);
    return 2;
}

/* --- tsne_gradient(features (n, d), points (n, 2)[, {perplexity, angle}]) -> f64 (n, 2), kl: the gradient, along
 * which tsne steps, and the divergence of these points; angle = 0 takes all pairs, without the tree. */
static int embed_tsne_gradient(lua_State *L) {
    cld_tensor *x = cldL_check_tensor(L, 1), *y = cldL_check_tensor(L, 2);
    cld_tsne_params p = check_params(L, 3);
    double kl = 0;
    cld_tensor **out = cldL_new_tensor(L);
    *out = cld_tsne_gradient(&kl, x, y, &p);
    cldL_result(L, *out);
    lua_pushnumber(L, kl);
    return 2;
}

int cldL_open_embed(lua_State *L) {
    static const luaL_Reg functions[] = {
        {"pca", embed_pca}, {"tsne", embed_tsne}, {"tsne_gradient", embed_tsne_gradient}, {NULL, NULL}};
    luaL_newlib(L, functions);
    return 1;
}
