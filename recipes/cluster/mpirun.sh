#!/bin/bash
# Machines without Slurm, as many ranks as the slots of the hostfile:  sh recipes/cluster/mpirun.sh
# One machine needs no such script:  build/cldlua --ranks 8 RECIPE ...
cldlua=${CLDLUA:-$PWD/build/cldlua}
recipe=${RECIPE:-recipes/imagenet_mocov2_cld.lua}
data=${DATA:-/imagenet}
name=${NAME:-mocov2-cld}
options=${OPTIONS:-}

# Of a machine that is cut off mpirun hears by TCP's keepalive: after 3 + 3 * 8 seconds here, else never. That is a
# little before the ranks give it up (30 s), which then have 8 seconds to say which one it was.
exec mpirun --hostfile "${HOSTFILE:-recipes/cluster/hostfile}" --bind-to none \
	--mca oob_tcp_keepalive_time 3 --mca oob_tcp_keepalive_intvl 8 --mca oob_tcp_keepalive_probes 3 \
	--mca odls_base_sigkill_timeout 8 \
	"$cldlua" "$recipe" --data "$data" --name "$name" --resume $options
