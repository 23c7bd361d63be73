#!/bin/sh
# Run systemd as the first process of a PID namespace, in a cgroup of ours, on a root of its own made of /usr alone.
# Usage: systemd.sh FOLDER CGROUP WORKLOAD, inside `unshare --mount --pid --fork`
set -eu
root=$1 cgroup=$2 workload=$3
echo 0 >"$cgroup/cgroup.procs"
exec unshare --cgroup sh -euc '
root=$1
mount -t tmpfs tmpfs "$root"
cd "$root"
mkdir usr etc run var tmp proc sys dev ctl etc/systemd etc/systemd/system
for name in bin sbin lib lib64; do [ -d /usr/$name ] && ln -s usr/$name $name; done
mount --bind /usr usr && mount -o remount,bind,ro usr
cp "$2" workload
mount --rbind "$3" ctl
mount -t proc proc proc
mount -t tmpfs tmpfs sys
mkdir -p sys/fs/cgroup && mount -t cgroup2 cgroup2 sys/fs/cgroup
mount -t tmpfs tmpfs dev
for each in "null 1 3" "zero 1 5" "random 1 8" "urandom 1 9"; do set -- $each; mknod -m 666 dev/$1 c $2 $3; done
echo root:x:0:0:root:/:/bin/sh >etc/passwd
echo root:x:0: >etc/group
echo 0123456789abcdef0123456789abcdef >etc/machine-id
printf "[Unit]\nDefaultDependencies=no\nAllowIsolate=yes\n" >etc/systemd/system/idle.target
export container=tests
exec chroot . /usr/lib/systemd/systemd --system --unit=idle.target --log-target=console --log-level=info
' sh "$root" "$workload" "$root.ctl"
