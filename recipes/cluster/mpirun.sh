#!/bin/bash
# Machines without Slurm, as many ranks as the slots of the hostfile:  sh recipes/cluster/mpirun.sh
# One machine needs no such script:  build/cldlua --ranks 8 RECIPE ...
cldlua=${CLDLUA:-$PWD/build/cldlua}
recipe=${RECIPE:-recipes/imagenet_mocov2_cld.lua}
data=${DATA:-/imagenet}
name=${NAME:-mocov2-cld}
options=${OPTIONS:-}

# mpirun notices a machine that is cut off only by TCP's keepalive, here after 3 + 3 * 8 seconds. That is a little
# before the ranks give the machine up (30 s); they then have 8 seconds to say which one it was.
exec mpirun --hostfile "${HOSTFILE:-recipes/cluster/hostfile}" --bind-to none \
	--mca oob_tcp_keepalive_time 3 --mca oob_tcp_keepalive_intvl 8 --mca oob_tcp_keepalive_probes 3 \
	--mca odls_base_sigkill_timeout 8 \
	"$cldlua" "$recipe" --data "$data" --name "$name" --resume $options
