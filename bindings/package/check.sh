#!/bin/sh
# check.sh BUILD [MIRROR]: installs and uses the packages that `make deb rock` has made. It takes a few minutes, most of
# them for the rock's build, and ends with "N passed, N failed". With a Debian mirror, as root, and if debootstrap is
# there, the Debian package is also installed in a clean system: make package-check MIRROR=http://deb.debian.org/debian
set -u
package=$(cd "$1" && pwd)/package mirror=${2:-} passed=0 failed=0
place=$(mktemp -d /tmp/cld-package.XXXXXX)
trap 'rm -rf "$place"' EXIT

# check WHAT COMMAND...: its output is shown if it fails.
check() {
  what=$1
  shift
  if said=$("$@" 2>&1); then
    passed=$((passed + 1))
    echo "passed  $what"
  else
    failed=$((failed + 1))
    printf 'failed  %s\n%s\n' "$what" "$said"
  fi
}
skip() { echo "not run  $1: $2"; }

# uses BIN LUADIR CDIR: the interpreter and a stock Lua compute with what is installed, from another folder.
code='print(require "cld".ones(2, 3):sum():item())'
uses() {
  cd / && env -u LUA_PATH -u LUA_CPATH "$1" -e "$code" | grep -qx 6.0 &&
    LUA_PATH="$2/?.lua;$2/?/init.lua;;" LUA_CPATH="$3/?.so;;" lua5.4 -e "$code" | grep -qx 6.0
}

unpack() { for deb in "$package"/*.deb; do dpkg -x "$deb" "$place/deb" || return 1; done; }
check "the Debian packages unpack" unpack
usr=$place/deb/usr
check "what is in them runs" uses "$usr/bin/cldlua" "$usr/share/lua/5.4" "$usr/lib/lua/5.4"
no_errors() { ! lintian --fail-on error "$package"/*.deb 2>&1 | grep '^E:'; }
if command -v lintian >/dev/null; then check "lintian finds no error" no_errors; else skip lintian "not here"; fi

tree=$place/rock
build_rock() { CUDA_ARCH= luarocks --lua-version 5.4 --tree "$tree" build --deps-mode none "$package"/*.src.rock; }
remove_rock() { luarocks --lua-version 5.4 --tree "$tree" remove cldlua && [ -z "$(find "$tree" -name '*cld*')" ]; }
if command -v luarocks >/dev/null; then
  check "the rock builds" build_rock
  check "what it has built runs" uses "$tree/bin/cldlua" "$tree/share/lua/5.4" "$tree/lib/lua/5.4"
  check "the rock is removed whole" remove_rock
else
  skip "the rock" "no luarocks here"
fi

root=$place/root
bootstrap() { debootstrap --variant=minbase "$(. /etc/os-release && echo "$VERSION_CODENAME")" "$root" "$mirror"; }
in_root() { chroot "$root" sh -euc "export DEBIAN_FRONTEND=noninteractive; $1"; }
install() {
  cp "$package"/cldlua_*.deb "$root/tmp/" && cp /etc/resolv.conf "$root/etc/" &&
    in_root 'apt-get update -qq; apt-get install -y -qq --no-install-recommends /tmp/cldlua_*.deb lua5.4'
}
train() {
  in_root "cd /root; recipes=/usr/share/cldlua/recipes
    cldlua \$recipes/make_toy_data.lua --out toy --train 40 --test 20
    cldlua \$recipes/cifar10_npid_cld.lua --data toy --width 16 --epochs 1 --batch-size 20 --clusters 5
    lua5.4 -e '$code' | grep -x 6.0"
}
remove() { in_root 'apt-get remove -y -qq cldlua; ! ls /usr/bin/cldlua /usr/lib/lua/5.4/cld /usr/share/lua/5.4/cld'; }
if [ -n "$mirror" ] && command -v debootstrap >/dev/null && [ "$(id -u)" = 0 ]; then
  check "a clean system" bootstrap
  check "takes the Debian package and what it needs" install
  check "trains with it" train
  check "and lets it go" remove
else
  skip "a clean system" "needs MIRROR=, debootstrap and root"
fi
echo "$passed passed, $failed failed"
[ $failed = 0 ]
