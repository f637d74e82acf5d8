#!/bin/sh
# Installs the packages beside it, uses what they bring, and takes them off again. Its argument is their version.
set -eu
version=$1
cd /mnt

fail() {
	echo "$*" >&2
	exit 1
}
says() { # says WHAT COMMAND…: the command's output has WHAT
	what=$1
	shift
	out=$("$@" 2>&1) || fail "$*: $out"
	case $out in
	*"$what"*) ;;
	*) fail "$*: lacks $what: $(echo "$out" | head -n 20)" ;;
	esac
}

dpkg --install ./*.deb

# The client.
says "sallyport $version, protocol" sallyport version
says "sallyport ssh - run ssh" sallyport ssh --help
says "sign in to an appliance" man sallyport
says "Those for all commands are in sallyport(1)." man sallyport ssh
says "admin approvals approve" bash -c '
	. /usr/share/bash-completion/bash_completion
	_completion_loader sallyport || [ $? = 124 ]
	COMP_WORDS=(sallyport a) COMP_CWORD=1
	_sallyport
	printf "%s\n" "${COMPREPLY[@]}" | grep -e admin -e approv | sort | tr "\n" " "'
says "sessions" fish -c 'complete -C "sallyport sess"'
says "ions " timeout 60 zsh -f -c '
	zmodload zsh/zpty
	zpty shell zsh -f -i
	zpty -w shell "autoload -Uz compinit && compinit -D -u && print rea\"\"dy"
	zpty -r -m shell out "*ready*"
	zpty -w -n shell "sallyport sess"$'"'\\t'"'
	zpty -r -m shell out "*ions *"
	print -r -- "$out"'

# The daemon: ready to be configured, and not running.
says "sallyportd $version linux/" sallyportd version
says "Run the appliance." man 8 sallyportd
says "root:sallyport 750" stat -c %U:%G\ %a /etc/sallyport
says "/nonexistent:/usr/sbin/nologin" getent passwd sallyport
[ -L /etc/systemd/system/multi-user.target.wants/sallyportd.service ] || fail "the unit is not enabled"
unit=/usr/lib/systemd/system/sallyportd.service
out=$(systemd-analyze verify "$unit" 2>&1) || fail "$out"
[ -z "$out" ] || fail "systemd-analyze: $out"
! sallyportd check 2>/dev/null || fail "there is a configuration before somebody has made one"
(
	cd /etc/sallyport
	cp sallyport.yaml.example sallyport.yaml
	cp access.yaml.example access.yaml
)
says "" sallyportd check
says "" setpriv --reuid sallyport --regid sallyport --clear-groups sallyportd check
(
	cd /usr/share/doc/sallyportd
	for f in README.md docs/configuration.md docs/access.md copyright third-party-licenses.txt.gz; do [ -s "$f" ] || fail "there is no $f"; done
)

# An upgrade keeps what is the administrator's.
echo changed >>/etc/sallyport/sallyport.yaml.example
mkdir -m 0700 /var/lib/sallyport
chown sallyport: /var/lib/sallyport
echo kept >/var/lib/sallyport/state
dpkg --force-confdef --force-confold --install ./sallyportd_*.deb
says "changed" tail -n 1 /etc/sallyport/sallyport.yaml.example
says "kept" cat /var/lib/sallyport/state

# Removal keeps it too, gives the NICs back, and a purge keeps nothing.
ip link add probe0 type veth peer name probe1
mkdir -m 0700 -p /run/sallyport/netns
touch /run/sallyport/netns/hub
unshare --net=/run/sallyport/netns/hub true
ip link set probe0 netns /run/sallyport/netns/hub
dpkg --remove sallyportd sallyport
says "probe0" ip link show probe0
! [ -e /usr/bin/sallyportd ] || fail "the daemon is still there"
! [ -e "$unit" ] || fail "the unit is still there"
says "kept" cat /var/lib/sallyport/state
[ -e /etc/sallyport/access.yaml ] || fail "removal took the configuration"
dpkg --purge sallyportd
! getent passwd sallyport || fail "the user is still there"
! getent group sallyport || fail "the group is still there"
for left in /etc/sallyport /var/lib/sallyport /run/sallyport /etc/systemd/system/multi-user.target.wants/sallyportd.service; do
	! [ -e "$left" ] && ! [ -L "$left" ] || fail "$left is left behind"
done
