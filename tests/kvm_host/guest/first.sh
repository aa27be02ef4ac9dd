#!/bin/busybox sh
# The test host's first program. Its root is the real host's, read-only over 9p, under an overlay in memory.
# What goes on from here is the exchange's `start`.
set -eu
busybox=/bin/busybox
at() { $busybox mount -t "$1" ${3:+-o "$3"} "$1" "/root/$2"; }

$busybox mkdir -p /proc /lower /upper /root
$busybox mount -t proc proc /proc
for module in $($busybox cat /modules/order); do
  $busybox insmod "/modules/$module.ko"
done
share=trans=virtio,version=9p2000.L,msize=512000
$busybox mount -t 9p -o "$share,cache=loose,ro" host /lower
$busybox mount -t tmpfs -o mode=0755 upper /upper
$busybox mkdir /upper/files /upper/work
$busybox mount -t overlay -o lowerdir=/lower,upperdir=/upper/files,workdir=/upper/work overlay /root
at proc proc
at sysfs sys
at devtmpfs dev
$busybox mkdir -p /root/dev/pts /root/dev/shm
at devpts dev/pts
at tmpfs dev/shm mode=1777
at tmpfs run mode=0755
at cgroup2 sys/fs/cgroup
$busybox mkdir /root/run/exchange
$busybox mount -t 9p -o "$share" exchange /root/run/exchange
$busybox ifconfig lo 127.0.0.1 up
$busybox umount /proc
exec $busybox switch_root /root /bin/sh /run/exchange/start
