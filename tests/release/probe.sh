#!/bin/sh
# Installs the daemon's package where systemd runs, and has it serve.
set -eu
export DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8 HOME=/mnt
trap 'journalctl --no-pager -u sallyportd | tail -n 50' EXIT

is() { # is STATE: the daemon is in it
	state=$(systemctl is-active sallyportd || true)
	[ "$state" = "$1" ] || {
		echo "the daemon is $state and not $1"
		systemctl --no-pager --full status sallyportd || true
		exit 1
	}
}
ready() {
	for _ in $(seq 100); do
		[ "$(curl -ks https://127.0.0.1/readyz)" != ready ] || return 0
		sleep 0.1
	done
	echo "the daemon does not serve"
	return 1
}
main() { systemctl show --property MainPID --value sallyportd; }

ip link set lo up
ip link add eth1 type veth peer name wire
ip link set wire up

# Installed, it waits for a configuration.
dpkg --install /mnt/sallyportd_*.deb
is inactive
systemctl start sallyportd
is inactive

cd /etc/sallyport
cp sallyport.yaml.example sallyport.yaml
cp access.yaml.example access.yaml
systemctl start sallyportd
is active
ready
! ip link show eth1 2>/dev/null || { echo "the host still has the NIC"; exit 1; }

# The worker has no right that the unit has given, and both are behind its filter.
worker=$(pgrep --parent "$(main)")
for want in "CapEff:	0000000000000000" "CapAmb:	0000000000000000" "NoNewPrivs:	1" "Seccomp:	2" "Uid:	$(id -u sallyport)"; do
	grep -q "^$want" "/proc/$worker/status" || { echo "the worker's status lacks $want"; cat "/proc/$worker/status"; exit 1; }
done
sallyportd enrol-code --user ann --url https://bastion.example
systemctl reload sallyportd
is active

# An upgrade starts it anew.
before=$(main)
dpkg --install /mnt/sallyportd_*.deb
is active
ready
[ "$(main)" != "$before" ] || { echo "the old daemon is still there"; exit 1; }

# Removed, it is gone, and the host has its NIC again.
dpkg --remove sallyportd
is inactive
ip link show eth1
dpkg --purge sallyportd
trap - EXIT
echo "all done"
