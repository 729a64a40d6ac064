#!/bin/busybox sh
# First process of the test guest: finds its disks, then becomes systemd or runs the tests itself, by `onedock.init=`.
#
#   vda  Debian, may be written to: qemu throws it away       vdb  Python packages       vdc  this project as a tar archive
busybox=/bin/busybox
$busybox mount -t devtmpfs none /dev
for module in /modules/*; do
    $busybox insmod "$module"
done
$busybox mount -t ext4 -o noatime /dev/vda /root
$busybox mkdir -p /root/python /root/project
$busybox mount -t ext4 -o ro,noatime /dev/vdb /root/python
$busybox tar -x -f /dev/vdc -C /root/project
$busybox mount --move /dev /root/dev
exec $busybox switch_root /root /bin/sh /project/tests/support/guest/boot.sh
