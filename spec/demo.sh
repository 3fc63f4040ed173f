# What `make demo`, `make demo-images` and `make demo-moco` do: toy data, the real recipe on it, small enough for two
# cores, and what it learned beside raw pixels and no training; of MoCo v2 + CLD by a linear classifier as well.
#
#   sh spec/demo.sh demo|demo-images|demo-moco BUILD SEED
#
# A bank or a queue of random rows upsets so small a run: it is filled with the untrained network's features first. One
# demo of a kind and seed at a time; the last one's folder is removed under the lock that a run has on its own.
demo=$1 build=$2 seed=$3
name=$demo-$seed
run=$build/runs/$name

case $demo in
demo)
	toy=$build/toy-$seed recipe=cifar10_npid_cld.lua what="toy images in CIFAR-10's file layout"
	data_options= options="--clusters 64 --epochs 14 --fill-epochs 1" tested=1000 ;;
demo-images)
	toy=$build/toy-images-$seed recipe=folder_npid_cld.lua what="toy images of 60 to 220 pixels a side, JPEG and PNG files"
	data_options="--layout files --train 2000 --test 500"
	options="--size 32 --augment base --clusters 64 --epochs 14 --fill-epochs 1" tested=500 ;;
demo-moco)
	toy=$build/toy-moco-$seed recipe=folder_mocov2_cld.lua what="toy images of 60 to 220 pixels a side, JPEG and PNG files"
	data_options="--layout files --train 2000 --test 500"
	options="--size 32 --small --augment base --dim 64 --block 64 --queue 512 --moco-m 0.99 --lr 0.15 --clusters 32
		--schedule cosine --epochs 16 --knn-every 4" tested=500 ;;
*)
	echo "demo.sh: no demo is called '$demo'"; exit 2 ;;
esac

fail() { echo "$demo: $*"; exit 1; }

command -v flock >/dev/null || fail "there is no flock here (Debian: util-linux)"

exec 9>"$build/$name.lock" || exit 1
flock -n -E 75 9 || [ $? != 75 ] ||
	fail "another 'make $demo' with SEED=$seed is going on in $build; give this one another SEED"

if [ ! -d "$toy" ]; then
	rm -rf "$toy.new"
	"$build/cldlua" recipes/make_toy_data.lua --out "$toy.new" --seed "$seed" $data_options >/dev/null &&
		mv "$toy.new" "$toy" || exit 1
	echo "$toy: $what"
fi

for old in "$run" "$run-linear"; do
	[ ! -e "$old" ] || flock -n -E 75 "$old" rm -rf "$old" || { [ $? != 75 ] ||
		fail "a run is going on in $old; wait for its end, or give this one another SEED"; }
done

[ $demo = demo-moco ] && echo "$name: 16 epochs are short, so the key encoder's momentum is 0.99 and not 0.999"
"$build/cldlua" recipes/$recipe --data "$toy" $options --width 16 --batch-size 128 --warmup-epochs 2 --seed "$seed" \
	--runs "$build/runs" --name "$name" &&
	echo "kNN accuracy on $toy, $tested test images of ten textures:" &&
	"$build/cldlua" recipes/knn.lua --checkpoint "$run/checkpoint.safetensors" --baselines || exit 1

[ $demo != demo-moco ] || {
	echo "the same network frozen, and a linear classifier on its features:" &&
		"$build/cldlua" recipes/linear.lua --checkpoint "$run/checkpoint.safetensors" --epochs 5 --lr 3 \
			--runs "$build/runs" --name "$name-linear"
}
