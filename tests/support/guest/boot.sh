#!/bin/sh
# Second script of the test guest, in its root: what a distribution's start does, as far as the tests need it.
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8
mount -t proc proc /proc
modprobe openvswitch

case " $(cat /proc/cmdline) " in
    *" onedock.init=systemd "*)
        cp /project/tests/support/guest/onedock-tests.service /etc/systemd/system/
        exec /lib/systemd/systemd
        ;;
esac

mount -t sysfs sysfs /sys
mount -t cgroup2 cgroup2 /sys/fs/cgroup
echo "+cpu +io +memory +pids" >/sys/fs/cgroup/cgroup.subtree_control
mount -t tmpfs tmpfs /run
mount -t tmpfs tmpfs /tmp
mount -t tmpfs tmpfs /var/tmp
mount -t tmpfs tmpfs /dev/shm -o X-mount.mkdir
mkdir /run/lock /run/netns
ln -s /proc/self/fd /dev/fd
for descriptor in 0:stdin 1:stdout 2:stderr; do
    ln -s "/proc/self/fd/${descriptor%:*}" "/dev/${descriptor#*:}"
done
hostname guest
ip link set lo up
/project/tests/support/guest/tests.sh
busybox poweroff -f
