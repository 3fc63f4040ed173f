/* Everything that the C side offers to Lua: one table, one line per file. lua/cld/init.lua builds `cld` on it. */
#include "bindings/bindings.h"

/* clang-format off */
static const luaL_Reg openers[] = {
    {"autograd", cldL_open_autograd},
    {"cuda", cldL_open_cuda},
    {"data", cldL_open_data},
    {"dataset", cldL_open_dataset},
    {"dist", cldL_open_dist},
    {"embed", cldL_open_embed},
    {"files", cldL_open_files},
    {"download", cldL_open_download},
    {"graph", cldL_open_graph},
    {"image", cldL_open_image},
    {"io", cldL_open_io},
    {"json", cldL_open_json},
    {"nn", cldL_open_nn},
    {"loader", cldL_open_loader},
    {"losses", cldL_open_losses},
    {"optim", cldL_open_optim},
    {"picture", cldL_open_picture},
    {"plot", cldL_open_plot},
    {"scope", cldL_open_scope},
    {"screen", cldL_open_screen},
    {"system", cldL_open_system},
    {"tensor", cldL_open_tensor},
    {"text", cldL_open_text},
    {"views", cldL_open_views},
    {NULL, NULL},
};
/* clang-format on */

__attribute__((visibility("default"))) int luaopen_cld_core(lua_State *L) {
    lua_newtable(L);
    for (const luaL_Reg *o = openers; o->name; o++) {
        lua_pushcfunction(L, o->func);
        lua_call(L, 0, 1);
        lua_setfield(L, -2, o->name);
    }
    return 1;
}
