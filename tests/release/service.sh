#!/bin/sh
# Starts a copy of this system, as system.sh makes it, by systemd, which runs probe.sh there. The third argument is the folder
# for what that says.
set -eu
./system.sh "$1" "$2" probe.sh
mkdir "$1/root/mnt/said"
mount --bind "$3" "$1/root/mnt/said"
cd "$1/root"

# Nothing starts but what the probe wants: what is enabled here is not, and this is no first boot, at which systemd would
# enable what it thinks good. Debian asks policy-rc.d, where there is one, whether a package may start what it brings.
find etc/systemd/system -name '*.wants' -prune -exec rm -rf {} +
rm -f usr/sbin/policy-rc.d
echo 5a11b0475a11b0475a11b0475a11b047 >etc/machine-id
cat >etc/systemd/system/probe.service <<'UNIT'
[Service]
Type=oneshot
ExecStart=/bin/sh /mnt/probe.sh
StandardOutput=append:/mnt/said/said
StandardError=inherit
ExecStopPost=/bin/systemctl --force --force poweroff
UNIT
printf '[Unit]\nWants=probe.service\n' >etc/systemd/system/probe.target
exec chroot . setpriv --bounding-set -sys_time,-sys_module,-syslog env -i container=test PATH=/usr/sbin:/usr/bin:/sbin:/bin \
	/lib/systemd/systemd --unit=probe.target --log-target=console
