#!/bin/sh
# deb.sh BUILD VERSION: BUILD/package/cldlua_VERSION-1_ARCH.deb from what `make install` put into BUILD/package/root. The
# libraries for MPI and CUDA, if they were built, become cldlua-mpi and cldlua-cuda, so that cldlua itself needs neither
# MPI nor CUDA. The maintainer is whoever builds it: DEBFULLNAME and DEBEMAIL, as in Debian's tools, or git's user.
set -eu
package=$1/package version=$2-1 root=$1/package/root source=$PWD
for tool in dpkg-deb dpkg-shlibdeps strip gzip; do
  command -v $tool >/dev/null || { echo "deb: no $tool here: install dpkg-dev, binutils and gzip" >&2; exit 1; }
done
architecture=$(dpkg --print-architecture)
name=${DEBFULLNAME:-$(git config user.name || echo "The cldlua authors")}
email=${DEBEMAIL:-$(git config user.email || echo "root@$(hostname -f)")}
rm -rf "$package"/debian "$package"/cldlua-*-root "$package"/cldlua*.deb
mkdir "$package/debian"

# dpkg-shlibdeps reads the names of the packages here.
{
  printf 'Source: cldlua\nMaintainer: %s <%s>\n' "$name" "$email"
  for one in cldlua cldlua-mpi cldlua-cuda; do printf '\nPackage: %s\nArchitecture: any\nDescription: -\n' $one; done
} >"$package/debian/control"

# depends ROOT: the packages of the shared libraries that its files are linked with. A library that is in no package,
# such as NVIDIA's unpacked by hand, is left to the user.
depends() {
  # shellcheck disable=SC2046 # a list of files
  if ! (cd "$package" && dpkg-shlibdeps -O --ignore-missing-info $(binaries "$1")) >"$package/debian/depends" 2>"$package/debian/said"
  then
    cat "$package/debian/said" >&2
    return 1
  fi
  sed -n 's/^shlibs:Depends=//p' "$package/debian/depends"
}

# binaries ROOT: its compiled files.
binaries() { find "$1" -type f \( -name '*.so' -o -path '*/bin/cldlua' \); }

# pack NAME ROOT FIELDS: makes the .deb. FIELDS are lines of the control file; standard input is the description.
pack() {
  binaries "$2" | xargs strip --strip-unneeded
  find "$2" -name '*.so' -exec chmod 644 {} +
  mkdir -p "$2/DEBIAN" "$2/usr/share/doc/$1"
  {
    printf 'Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\nUpstream-Name: cldlua\n\nFiles: *\n'
    sed -n 's/^Copyright (c) /Copyright: /p' "$source/LICENSE"
    printf 'License: Expat\n'
    sed -n '/^Permission/,$p' "$source/LICENSE" | sed 's/^$/./; s/^/ /'
  } >"$2/usr/share/doc/$1/copyright"
  printf 'cldlua (%s) unstable; urgency=medium\n\n  * Built from the source tree.\n\n -- %s <%s>  %s\n' "$version" "$name" "$email" \
    "$(date -R)" | gzip -9n >"$2/usr/share/doc/$1/changelog.Debian.gz"
  find "$2" -type d -exec chmod 755 {} +
  (cd "$2" && find usr -type f -exec md5sum {} + | sort -k 2) >"$2/DEBIAN/md5sums"
  {
    printf 'Package: %s\nSource: cldlua\nVersion: %s\nArchitecture: %s\nMaintainer: %s <%s>\n' "$1" "$version" "$architecture" \
      "$name" "$email"
    printf 'Installed-Size: %s\nSection: science\nPriority: optional\n' "$(du -sk --exclude=DEBIAN "$2" | cut -f 1)"
    printf '%s\n' "$3"
    cat
  } | grep . >"$2/DEBIAN/control"
  dpkg-deb --root-owner-group --build "$2" "$package/$1_${version}_$architecture.deb" >/dev/null
  ls -s -h "$package/$1_${version}_$architecture.deb"
}

# part NAME LIBRARY: moves the library to a root of its own, if make has built it.
part() {
  [ -e "$root/usr/lib/cldlua/$2" ] || return 1
  mkdir -p "$package/$1-root/usr/lib/cldlua"
  mv "$root/usr/lib/cldlua/$2" "$package/$1-root/usr/lib/cldlua/"
  needs=$(depends "$1-root")
}

if part cldlua-mpi libcld_mpi.so; then
  pack cldlua-mpi "$package/cldlua-mpi-root" "Depends: cldlua (= $version), openmpi-bin, $needs" <<'TEXT'
Description: several processes for cldlua, by MPI
 The library with which a training of cldlua runs as a job of several
 processes: cldlua --ranks, mpirun, srun.
TEXT
fi
if part cldlua-cuda libcld_cuda.so; then
  pack cldlua-cuda "$package/cldlua-cuda-root" "Depends: cldlua (= $version), $needs" <<'TEXT'
Description: NVIDIA GPUs for cldlua
 The library with which cldlua computes on NVIDIA GPUs. It needs NVIDIA's
 driver, cuBLAS and cuDNN, of NVIDIA's packages or of Python's wheels, which
 are looked for at run time.
TEXT
fi
rmdir --ignore-fail-on-non-empty "$root/usr/lib/cldlua" 2>/dev/null || true

rm -f "$root/usr/share/doc/cldlua/LICENSE"
[ ! -e "$root/usr/share/man/man1/cldlua.1" ] || gzip -9nf "$root/usr/share/man/man1/cldlua.1"
needs=$(depends root)
pack cldlua "$root" "Depends: lua-argparse, $needs
Recommends: libcurl4, libarchive13
Suggests: cldlua-cuda, cldlua-mpi, lua5.4" <<'TEXT'
Description: Lua runtime that trains self-supervised image encoders
 A C runtime with an embedded Lua that trains image encoders without labels,
 by NPID, MoCo, MoCo v2, InfoMin, BYOL and SimCLR, each with and without CLD,
 and evaluates them. It needs no Python.
 .
 The interpreter, a module for lua5.4, and the recipes.
TEXT
rm -rf "$package/debian" "$package"/cldlua-*-root
