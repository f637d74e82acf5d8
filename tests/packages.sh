#!/bin/sh
# Installs the programs that the tests run for real, where they are missing: Debian and its relatives.
set -eu

need=""
want() { # want COMMAND PACKAGE
	command -v "$1" >/dev/null 2>&1 || [ -x "/usr/sbin/$1" ] || need="$need $2"
}
want ip iproute2
want sshd openssh-server
want ssh openssh-client
want rsync rsync
want git git
want curl curl
want openssl openssl
want setpriv util-linux
want systemctl systemd
want tcpdump tcpdump
want xfreerdp freerdp2-x11
want freerdp-shadow-cli freerdp2-shadow-x11
want winpr-hash winpr-utils
want Xvfb xvfb
want openbox openbox
want xterm xterm
want xdotool xdotool
want import imagemagick
want tesseract tesseract-ocr
want xrdp xrdp
want weston weston
want xclip xclip
want xdpyinfo x11-utils
want e2fsck e2fsprogs
want sgdisk gdisk
want nginx nginx-light
want haproxy haproxy
want stunnel4 stunnel4
want dbus-run-session dbus-daemon
want gnome-keyring-daemon gnome-keyring
want virsh libvirt-clients
want libvirtd libvirt-daemon
want xmllint libxml2-utils
want shellcheck shellcheck
want qemu-system-x86_64 qemu-system-x86
want qemu-img qemu-utils
want mkfs.vfat dosfstools
want mcopy mtools
want genisoimage genisoimage
want sbverify sbsigntool
want sfdisk fdisk
want chromium chromium
want node nodejs
want npm npm
want lintian lintian
want mandoc mandoc
want man man-db
want zsh zsh
want htop htop
want vim vim
want unzip unzip
want fish fish
want adduser adduser
want systemd-analyze systemd
want python3 python3
[ -e /usr/share/bash-completion/bash_completion ] || need="$need bash-completion"
ls /usr/lib/postgresql/*/bin/postgres >/dev/null 2>&1 || want postgres postgresql
[ -e /usr/lib/nginx/modules/ngx_stream_module.so ] || need="$need libnginx-mod-stream"
[ -e /usr/lib/xorg/modules/libxorgxrdp.so ] || need="$need xorgxrdp"
[ -e /usr/lib/x86_64-linux-gnu/libvirt/connection-driver/libvirt_driver_qemu.so ] || need="$need libvirt-daemon-driver-qemu"
[ -e /usr/share/OVMF/OVMF_CODE_4M.fd ] || need="$need ovmf"
[ -e /usr/share/fonts/truetype/dejavu/DejaVuSansMono.ttf ] || need="$need fonts-dejavu-core"
[ -z "$need" ] && exit 0

if ! command -v apt-get >/dev/null 2>&1; then
	echo "the tests need these packages, under their Debian names:$need" >&2
	exit 1
fi
export DEBIAN_FRONTEND=noninteractive
# The tests start the servers that they need. Debian asks this file whether an installed one may start by itself.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
	trap 'rm -f "$policy"' EXIT INT TERM
	printf '#!/bin/sh\nexit 101\n' >"$policy"
	chmod +x "$policy"
fi
apt-get update -qq
# shellcheck disable=SC2086
apt-get install -y -qq --no-install-recommends $need >/dev/null
# Nor at the next boot, where they were not there before.
for service in nginx haproxy stunnel4 postgresql; do
	case "$need " in
	*" $service "* | *" $service-light "*) [ ! -d /run/systemd/system ] || systemctl --quiet disable "$service" ;;
	esac
done
