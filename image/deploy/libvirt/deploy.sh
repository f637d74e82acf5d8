#!/bin/sh
# Makes an appliance out of an image and a configuration, on this machine's libvirt, and starts it.
set -eu

here=$(dirname "$0")
usage() {
	cat <<END
usage: deploy.sh [options] IMAGE CONFIG [FILE...]
       deploy.sh --remove NAME

IMAGE is sallyport-VERSION-kvm.qcow2 or .raw, CONFIG the configuration, FILE
what the configuration names: access.yaml, certificates, keys.

  --name NAME       of the domain; default sallyport
  --public NET      bridge:NAME or network:NAME; default bridge:br-public,
                    none for an appliance with one NIC
  --private NET     the same; default bridge:br-private
  --memory MIB      default 512
  --cpus N          default 2
  --disk SIZE       of the disk, whose tail keeps data; default 4G
  --dir DIR         where the disks are; default /var/lib/libvirt/images
  --type TYPE       kvm, or qemu where there is no KVM; default kvm
  --print           prints the domain's XML and does nothing
  --remove NAME     stops the domain and removes it with its disks
END
}
fail() {
	echo "deploy.sh: $*" >&2
	exit 1
}
want() { # want COMMAND PACKAGE
	command -v "$1" >/dev/null 2>&1 || [ -x "/usr/sbin/$1" ] || fail "there is no $1; install $2"
}

name=sallyport public=bridge:br-public private=bridge:br-private memory=512 cpus=2 disk=4G
dir=/var/lib/libvirt/images type=kvm print="" remove=""
while [ $# -gt 0 ]; do
	case $1 in
	--print) print=yes && shift && continue ;;
	--help | -h) usage && exit 0 ;;
	--name | --public | --private | --memory | --cpus | --disk | --dir | --type | --remove)
		[ $# -ge 2 ] || fail "$1 wants a value"
		;;
	--*) fail "there is no option $1; --help lists them" ;;
	*) break ;;
	esac
	case $1 in
	--name) name=$2 ;;
	--public) public=$2 ;;
	--private) private=$2 ;;
	--memory) memory=$2 ;;
	--cpus) cpus=$2 ;;
	--disk) disk=$2 ;;
	--dir) dir=$2 ;;
	--type) type=$2 ;;
	--remove) name=$2 remove=yes ;;
	esac
	shift 2
done

# All of these end up in XML and in sed's commands.
plain() { # plain WHAT VALUE
	case $2 in
	"" | *[!A-Za-z0-9._/:-]*) fail "$1 \"$2\" may have letters, digits and . _ / : - only" ;;
	esac
}
number() { # number WHAT VALUE
	case $2 in
	"" | *[!0-9]*) fail "$1 \"$2\" is not a number" ;;
	esac
}
plain --name "$name"
plain --dir "$dir"
case $name in */* | .* | -*) fail "--name \"$name\" is not a name" ;; esac
case $dir in /*) ;; *) fail "--dir \"$dir\" must begin with /" ;; esac
number --memory "$memory"
number --cpus "$cpus"
case $type in kvm | qemu) ;; *) fail "--type is kvm or qemu" ;; esac

export LIBVIRT_DEFAULT_URI="${LIBVIRT_DEFAULT_URI:-qemu:///system}"
reach() {
	want virsh libvirt-clients
	virsh uri >/dev/null || fail "libvirt does not answer; is libvirtd running, and may you use it?"
}
exists() { virsh dominfo "$name" >/dev/null 2>&1; }
discard() { rm -f "$dir/$name.qcow2" "$dir/$name-config.img" "$dir/$name.log"; }

if [ -n "$remove" ]; then
	reach
	exists || fail "there is no domain \"$name\"; virsh list --all shows those that there are"
	disk=$(virsh domblklist "$name" | awk '$1 == "vda" { print $2 }')
	[ "$(basename "$disk")" = "$name.qcow2" ] || fail "the disk of \"$name\" is ${disk:-missing}: deploy.sh has not made this domain"
	dir=$(dirname "$disk")
	virsh destroy "$name" >/dev/null 2>&1 || true # it may be off
	virsh undefine --nvram "$name" >/dev/null
	discard
	echo "removed $name"
	exit 0
fi

# An interface line of domain.xml with another network behind it.
nic() { # nic OPTION NET OLD
	plain "$1" "$2"
	kind=${2%%:*} net=${2#*:}
	case $2 in
	bridge:?* | network:?*) ;;
	*) fail "$1 \"$2\" must be bridge:NAME or network:NAME" ;;
	esac
	echo "s|type='bridge'><source bridge='$3'/>|type='$kind'><source $kind='$net'/>|"
}
if [ "$public" = none ]; then
	first="/<source bridge='br-public'/d"
else
	first=$(nic --public "$public" br-public)
fi
second=$(nic --private "$private" br-private)
cpu=host-model
[ "$type" = kvm ] || cpu=maximum # there is no host's model to emulate
domain() {
	sed -e "s|<domain type='kvm'>|<domain type='$type'>|" -e "s|<name>sallyport<|<name>$name<|" \
		-e "s|>512</memory>|>$memory</memory>|" -e "s|>2</vcpu>|>$cpus</vcpu>|" \
		-e "s|/var/lib/libvirt/images/sallyport|$dir/$name|" -e "s|'host-model'|'$cpu'|" -e "$first" -e "$second" "$here/domain.xml"
}
if [ -n "$print" ]; then
	domain
	exit 0
fi

[ $# -ge 2 ] || { usage >&2 && exit 2; }
image=$1 config=$2
shift 2
want qemu-img qemu-utils
want mkfs.vfat dosfstools
want mcopy mtools
PATH=$PATH:/usr/sbin
for file in "$image" "$config" "$@"; do
	[ -r "$file" ] || fail "$file cannot be read"
done
[ -d "$dir" ] || fail "there is no folder $dir; make it or give --dir"
reach
exists && fail "there is a domain \"$name\" already; give another --name, or remove it: deploy.sh --remove $name"
for file in "$dir/$name.qcow2" "$dir/$name-config.img"; do
	[ ! -e "$file" ] || fail "$file is there already, and no domain $name; move it away"
done

trap discard EXIT
trap 'exit 1' INT TERM
umask 077 # the configuration has secrets
qemu-img convert -O qcow2 "$image" "$dir/$name.qcow2"
qemu-img resize -q "$dir/$name.qcow2" "$disk"
mkfs.vfat -F 32 -s 1 -n CIDATA -C "$dir/$name-config.img" 65536 >/dev/null
mcopy -i "$dir/$name-config.img" "$config" ::sallyport.yaml
for file in "$@"; do
	mcopy -i "$dir/$name-config.img" "$file" "::$(basename "$file")"
done
domain | virsh define --validate /dev/stdin >/dev/null
trap 'virsh undefine --nvram "$name" >/dev/null 2>&1; discard' EXIT
virsh start "$name" >/dev/null
virsh autostart "$name" >/dev/null
trap - EXIT
echo "started $name; virsh console $name shows what it says"
