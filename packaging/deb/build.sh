#!/usr/bin/env bash
# Builds onedock_*.deb (the programs, in /opt/onedock, with all that they import), onedock-frontend_*.deb and
# onedock-node_*.deb (what each role needs besides) in the directory given, or dist/. Needs python3-venv and dpkg-deb.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
out=$(mkdir -p "${1:-$root/dist}" && cd "${1:-$root/dist}" && pwd)
python=${PYTHON:-/usr/bin/python3}
stage=$(mktemp -d)
trap 'rm -rf "$stage"' EXIT
umask 022

version=$("$python" -c 'import sys, tomllib; print(tomllib.load(open(sys.argv[1], "rb"))["project"]["version"])' \
    "$root/pyproject.toml" | sed 's/\.dev/~dev/')
minor=$("$python" -c 'import sys; print(sys.version_info.minor)')
architecture=$(dpkg --print-architecture)

# The environment is made where it will not stay: its own path is in a few files of bin/ and in pyvenv.cfg.
tree=$stage/onedock
home=$tree/opt/onedock
"$python" -m venv "$home"
# Built from a copy: setuptools leaves its traces in the tree that it builds.
mkdir "$stage/source"
cp -r "$root/src" "$root/pyproject.toml" "$root/README.md" "$root/LICENSE" "$stage/source/"
rm -rf "$stage/source/src/onedock.egg-info"
"$home/bin/pip" -q --disable-pip-version-check install --no-compile "$stage/source[events]"
"$home/bin/pip" -q --disable-pip-version-check uninstall -y setuptools pip
find "$home" -name __pycache__ -type d -prune -exec rm -rf {} +
grep -rlIF "$tree" "$home/bin" "$home/pyvenv.cfg" | xargs -r sed -i "s|$tree||g"
find "$home" -name direct_url.json -delete

mkdir -p "$tree/usr/bin"
for program in onedock onedock-controller onedock-agent; do
    ln -s "/opt/onedock/bin/$program" "$tree/usr/bin/$program"
done

# package NAME DEPENDS SUMMARY DETAIL [RECOMMENDS]
package() {
    local name=$1 depends=$2 summary=$3 detail=$4 recommends=${5:-} top=$stage/$1
    mkdir -p "$top/DEBIAN" "$top/usr/share/doc/$name"
    cp "$root/LICENSE" "$top/usr/share/doc/$name/copyright"
    cat >"$top/DEBIAN/control" <<CONTROL
Package: $name
Version: $version
Architecture: $([[ $name = onedock ]] && echo "$architecture" || echo all)
Maintainer: ONEDock maintainers <onedock@localhost>
Section: admin
Priority: optional
Installed-Size: $(du -sk "$top" | cut -f1)
Depends: $depends${recommends:+
Recommends: $recommends}
Description: $summary
 $detail
CONTROL
    if [[ -d $here/$name ]]; then
        install -m 755 -t "$top/DEBIAN" "$here/$name"/*
    fi
    dpkg-deb --root-owner-group --build "$top" "$out" >/dev/null
    echo "$out/${name}_${version}_$([[ $name = onedock ]] && echo "$architecture" || echo all).deb"
}

package onedock "python3 (>= 3.$minor), python3 (<< 3.$((minor + 1)))" \
    "OpenNebula runs Docker containers as if they were VMs" \
    "The programs of ONEDock: controller, agent, and the command onedock."
package onedock-frontend "onedock (= $version), skopeo" \
    "ONEDock on the front-end of an OpenNebula" \
    "What the front-end needs; onedock install frontend then registers the drivers."
package onedock-node "onedock (= $version), docker.io | docker-ce, runc | containerd.io" \
    "ONEDock on a node with a Docker engine" \
    "What a node needs; onedock install node then registers the runtime." \
    "nftables, udhcpc | busybox | busybox-static"
