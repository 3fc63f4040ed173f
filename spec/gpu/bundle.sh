#!/bin/sh
# bundle.sh BUILD: fills BUILD/bundle, whose binary make has just linked, with what a bare Linux lacks: shared
# libraries, Lua modules, recipes, specs with busted, the benchmark's peers. CUDA, cuBLAS and cuDNN are found on the
# machine where it runs. Then packs the folder as BUILD/cldlua-bundle.tar.gz.
set -eu
build=$1 out=$1/bundle
command -v dpkg >/dev/null || { echo "bundle: needs Debian's dpkg, to find busted's files" >&2; exit 1; }

rm -rf "$out/lua" "$out/recipes" "$out/spec" "$out/build/lib"
mkdir -p "$out/build/lib"

# Shared libraries: all except the C library's own, which must be the system's.
ldd "$out/build/cldlua" | sed -n 's/.*=> \(\/[^ ]*\) .*/\1/p' |
grep -vE '/(libc|libm|libdl|librt|libpthread|libresolv)\.so' | while read -r library; do
  cp -L "$library" "$out/build/lib/"
done
[ -e "$build/libcld_cuda.so" ] || { echo "bundle: make has built no $build/libcld_cuda.so" >&2; exit 1; }
cp "$build/libcld_cuda.so" "$out/build/"
[ ! -e "$build/libcld_mpi.so" ] || cp "$build/libcld_mpi.so" "$out/build/" # MPI itself is the machine's
mkdir -p "$out/build/spec" "$out/build/cuda/spec"
cp "$build/spec/cuda_libraries" "$out/build/spec/"
find "$build/cuda/spec" -type f -executable -exec cp {} "$out/build/cuda/spec/" \;
strip --strip-unneeded "$out/build/cldlua" "$out"/build/libcld_*.so "$out"/build/spec/* "$out"/build/cuda/spec/*

# Lua modules: ours, argparse, and busted with its dependencies, including C modules.
cp -r lua recipes "$out/"
cp "$build/lua/cld/help/text.lua" "$out/lua/cld/help/"
mkdir -p "$out/spec" "$out/spec/bench"
cp -r spec/*.lua spec/support spec/fixtures spec/gpu "$out/spec/"
cp spec/bench/*.lua spec/bench/*.py "$out/spec/bench/"
cp .busted "$out/"
packages='lua-argparse lua-busted lua-cliargs lua-dkjson lua-filesystem lua-luassert lua-mediator lua-penlight lua-say
  lua-system lua-term'
for file in $(dpkg -L $packages | grep -E '/lua/5\.4/.*\.(lua|so)$'); do
  name=${file#*/lua/5.4/}
  mkdir -p "$(dirname "$out/lua/$name")"
  cp -L "$file" "$out/lua/$name"
done
cp /usr/bin/busted "$out/lua/busted-runner.lua"

for what in check bench; do
  cat >"$out/gpu-$what" <<WRAPPER
#!/bin/sh
# make gpu-$what, in this folder.
cd "\$(dirname "\$0")" && LUA_CPATH="\$PWD/lua/?.so;;" exec build/cldlua spec/gpu/$what.lua "\$@"
WRAPPER
  chmod +x "$out/gpu-$what"
done
cat >"$out/README" <<'TEXT'
cldlua, to be run where it lies: build/cldlua recipes/cifar10_npid_cld.lua --data ...
sh spec/gpu/first_ten_minutes.sh runs all that is most telling, with a limit and a log each.
./gpu-check compares the GPU with the CPU; ./gpu-bench measures it, against PyTorch where python3 (or PEER_PYTHON) has it.
TEXT
tar -C "$build" -czf "$build/cldlua-bundle.tar.gz" bundle
du -sh "$out" "$build/cldlua-bundle.tar.gz"
