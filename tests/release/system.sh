#!/bin/sh
# Makes a copy of this system in the namespaces that it is started in: an overlay whose writes go into memory. What is of the
# whole machine, as are the kernel's settings and its devices, can only be read there. Arguments: a folder for it, the folder
# of a release, and files that the copy is to have in /mnt. The copy is then $1/root.
set -eu
mount -t tmpfs copy "$1"
mkdir "$1/upper" "$1/work" "$1/root"
mount -t overlay overlay -o "lowerdir=/,upperdir=$1/upper,workdir=$1/work" "$1/root"
(
	cd "$1/root"
	mount -t proc proc proc
	mount --bind proc/sys proc/sys
	mount --bind proc/sys/net proc/sys/net # which is this namespace's alone
	mount -o remount,bind,ro proc/sys
	mount -t sysfs -o ro sysfs sys
	mount -t cgroup2 cgroup2 sys/fs/cgroup
	mount -t tmpfs -o mode=755 dev dev
	mkdir dev/pts dev/shm
	mount -t devpts -o newinstance,ptmxmode=666 devpts dev/pts
	mknod -m 666 dev/null c 1 3
	mknod -m 666 dev/zero c 1 5
	mknod -m 666 dev/full c 1 7
	mknod -m 666 dev/random c 1 8
	mknod -m 666 dev/urandom c 1 9
	mknod -m 666 dev/tty c 5 0
	ln -s pts/ptmx dev/ptmx
	ln -s /proc/self/fd dev/fd
	mount -t tmpfs run run
	mount -t tmpfs -o mode=1777 tmp tmp
	mount -t tmpfs mnt mnt
)
cp "$2"/*_"$(dpkg --print-architecture)".deb "$3" "$1/root/mnt/"
