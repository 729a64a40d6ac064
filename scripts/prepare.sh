#!/bin/sh
# What `make` needs before it can do anything, made once and left alone afterwards:
#
#   prepare.sh venv        .venv in the checkout with ONEDock (editable), its tests and its lint tools
#   prepare.sh packages    the programs that tests and demo start; as root installed with apt
#
# Says what it changes, and nothing when there is nothing to do. Exit 3: a program is missing and cannot be installed.
set -eu

root=$(cd "$(dirname "$0")/.." && pwd)
venv=$root/.venv

say() {
    printf '==> %s\n' "$*"
}

fail() {
    status=$1
    shift
    printf '==> %s\n' "$@" >&2
    exit "$status"
}

as_root() {
    [ "$(id -u)" = 0 ]
}

have() {
    PATH=$PATH:/usr/sbin:/sbin command -v "$1" >/dev/null 2>&1
}

# Services of these packages are neither started nor enabled: tests and demo start daemons of their own, and whoever
# wants Docker on this machine decides that for himself. policy-rc.d is what Debian's packages ask before a start.
apt_install() {
    have apt-get || fail 3 "missing: $*" "this is no Debian: install these packages' programs by hand, then run make again"
    as_root || fail 3 "missing packages: $*" "run as root:  apt-get install $*"
    say "installing packages: $*"
    policy=/usr/sbin/policy-rc.d
    made_policy=
    if [ ! -e "$policy" ]; then
        printf '#!/bin/sh\nexit 101\n' >"$policy"
        chmod 755 "$policy"
        made_policy=yes
    fi
    log=$(mktemp)
    trap 'rm -f "$log"; [ -z "$made_policy" ] || rm -f "$policy"' EXIT
    trap 'exit 130' INT TERM
    export DEBIAN_FRONTEND=noninteractive
    # The lists of a fresh machine are empty or old: renewed only when they do not serve.
    if ! apt-get -qq --no-install-recommends install "$@" </dev/null >"$log" 2>&1; then
        apt-get -qq update </dev/null >"$log" 2>&1 || { cat "$log" >&2; fail 1 "apt-get update failed, see above"; }
        apt-get -qq --no-install-recommends install "$@" </dev/null >"$log" 2>&1 ||
            { cat "$log" >&2; fail 1 "apt-get install failed, see above"; }
    fi
    rm -f "$log"
    [ -z "$made_policy" ] || rm -f "$policy"
    trap - EXIT INT TERM
}

prepare_packages() {
    missing=
    services=
    need() { # program, package, its services
        if ! have "$1"; then
            missing="$missing $2"
            shift 2
            services="$services $*"
        fi
    }
    need dockerd docker.io docker.service docker.socket
    need containerd containerd containerd.service
    need runc runc
    need docker-registry docker-registry docker-registry.service
    need skopeo skopeo
    need ip iproute2
    need iptables iptables
    need nft nftables
    need nsenter util-linux
    need chromium chromium # tests only: the web page
    need qemu-system-x86_64 qemu-system-x86 # tests only: a guest with the kernel features that this machine lacks
    need debootstrap debootstrap # tests only: its root
    need mke2fs e2fsprogs # tests only: its disks
    need faketime faketime # tests only: a node whose clock is off
    # Its DHCP server is for tests only, its client is the nodes'.
    for applet in httpd udhcpc udhcpd; do
        /bin/busybox --list 2>/dev/null | grep -qx "$applet" || { missing="$missing busybox-static" && break; }
    done
    [ -n "$missing" ] || return 0
    # shellcheck disable=SC2086  # words
    apt_install $missing
    if [ -n "$services" ] && have systemctl && [ -d /run/systemd/system ]; then
        # shellcheck disable=SC2086  # words
        systemctl --quiet disable $services >/dev/null 2>&1 || true
        say "not started and not enabled:$services"
    fi
}

find_python() {
    for python in ${PYTHON:-python3 python3.11 python3.12 python3.13 python3.14}; do
        if have "$python" && "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
            printf '%s\n' "$python"
            return
        fi
    done
}

prepare_venv() {
    stamp=$venv/.made-of
    wanted=$(cksum <"$root/pyproject.toml")
    if [ -x "$venv/bin/python" ] && [ "$(cat "$stamp" 2>/dev/null)" = "$wanted" ]; then
        return 0
    fi
    python=$(find_python)
    if [ -z "$python" ]; then
        apt_install python3 python3-venv
        python=$(find_python)
        [ -n "$python" ] || fail 3 "ONEDock needs Python 3.11 or newer; set PYTHON=/path/to/python3 and run make again"
    fi
    # Debian splits venv off; its ensurepip tells whether it is there.
    "$python" -c 'import ensurepip, venv' 2>/dev/null || apt_install python3-venv
    if [ ! -x "$venv/bin/pip" ]; then
        say "making $venv with $("$python" --version)"
        "$python" -m venv "$venv"
    fi
    say "installing ONEDock, its tests and its lint tools into $venv"
    # --group is younger than the pip of Debian 12.
    "$venv/bin/python" -m pip --disable-pip-version-check -qq install --upgrade 'pip>=25.1'
    (cd "$root" && "$venv/bin/python" -m pip --disable-pip-version-check -qq --no-input \
        install --editable . --group test --group lint)
    printf '%s\n' "$wanted" >"$stamp"
}

case ${1:-} in
    venv) prepare_venv ;;
    packages) prepare_packages ;;
    *) fail 2 "usage: $0 venv|packages" ;;
esac
