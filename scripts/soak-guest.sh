# soak-guest.sh ROUNDS DIR: the part of soak.sh that runs in the guest.
rounds=$1
cd "$2"

# verified NAME FLAG...: fio writes a file and verifies it, or says why not.
verified() {
	name=$1
	shift
	fio --name="$name" --filename="$name" --verify=crc32c --verify_fatal=1 --fallocate=none --randseed="$round" "$@" >/tmp/fio 2>&1 || {
		cat /tmp/fio
		echo "round $round: fio $name failed"
		exit 1
	}
	sed -nE 's/.*issued rwts: total=([0-9]+),([0-9]+),.*/\1 \2/p' /tmp/fio >>/tmp/issued
	rm "$name"
}

round=1
while [ "$round" -le "$rounds" ]; do
	# A file of up to 256 KiB, and one that is larger than a message and what is read ahead.
	/tools/posix fsx -seed "$round" -ops 8000 fsx
	/tools/posix fsx -seed "$round" -ops 2000 -size 4194304 fsx
	verified buffered --rw=randrw --bsrange=512-64k --size=8m --ioengine=psync
	verified mapped --rw=randwrite --bs=4k --size=4m --ioengine=mmap
	verified synced --rw=write --bs=16k --size=2m --fsync=16 --ioengine=psync
	awk -v round="$round" '{ r += $1; w += $2 } END {
		print "after round " round ": fsx " round * 10000 " operations, fio " r " reads and " w " writes" }' /tmp/issued
	round=$((round + 1))
done
