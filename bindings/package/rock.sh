#!/bin/sh
# rock.sh BUILD VERSION COMMIT MAKEFILE...: BUILD/package/cldlua-VERSION.tar.gz, the sources with the Makefile and the makefiles
# of spec/ that it includes, and cldlua-VERSION-1.rockspec, from which luarocks builds them; and if luarocks is installed, both
# in one file, cldlua-VERSION-1.src.rock. ROCK_URL is where the archive can be fetched; without it the rockspec names the
# local file.
set -eu
package=$1/package version=$2 commit=$3
name=cldlua-$version
shift 3
mkdir -p "$package"
rm -f "$package"/cldlua-*.rockspec "$package"/cldlua-*.src.rock "$package"/cldlua-*.tar.gz
tar --sort=name --owner=0 --group=0 --numeric-owner --transform "s|^|$name/|" -czf "$package/$name.tar.gz" \
  Makefile README.md LICENSE runtime bindings lua recipes kernels "$@"
md5=$(md5sum <"$package/$name.tar.gz")
cat >"$package/$name-1.rockspec" <<ROCKSPEC
rockspec_format = "3.0"
package = "cldlua"
version = "$version-1"
source = {
  url = "${ROCK_URL:-file://$(cd "$package" && pwd)/$name.tar.gz}",
  dir = "$name",
  md5 = "${md5%% *}",
}
description = {
  summary = "Trains self-supervised image encoders",
  detailed = "A C runtime for Lua that trains image encoders without labels: NPID, MoCo, MoCo v2, InfoMin, BYOL and"
    .. " SimCLR, each with and without CLD. With an interpreter of its own, cldlua, and recipes.",
  license = "MIT",
}
supported_platforms = { "linux" }
dependencies = { "lua >= 5.4, < 5.5", "argparse >= 0.7" }
external_dependencies = {
  DNNL = { header = "dnnl.h" },
  JANSSON = { header = "jansson.h" },
  JPEG = { header = "jpeglib.h" },
  PNG = { header = "png.h" },
  ZLIB = { header = "zlib.h" },
}
build = {
  type = "make",
  variables = { LUA_CFLAGS = "-I\$(LUA_INCDIR)", COMMIT = "$commit" },
  install_variables = {
    BINDIR = "\$(BINDIR)", CDIR = "\$(LIBDIR)", LUADIR = "\$(LUADIR)", PLUGINDIR = "\$(LIBDIR)/cld",
    RECIPESDIR = "\$(PREFIX)/recipes", DOCDIR = "\$(PREFIX)/doc", MANDIR = "\$(PREFIX)/man", PCDIR = "",
  },
}
ROCKSPEC
if command -v luarocks >/dev/null; then
  (cd "$package" && luarocks --lua-version 5.4 pack "$name-1.rockspec" >/dev/null)
else
  echo "rock: no luarocks here, so there is no $name-1.src.rock" >&2
fi
ls -s -h "$package/$name"*
