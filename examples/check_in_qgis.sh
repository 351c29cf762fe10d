#!/bin/sh
# Open an image in QGIS, without a screen: is it valid, georeferenced, coloured, and transparent where it has no data?
# Installs Debian's python3-qgis if no Python has QGIS.
#
#     examples/check_in_qgis.sh synth.tif picture.png
set -eu
if [ $# -ne 2 ]; then
    echo "usage: $0 IMAGE PICTURE.png" >&2
    exit 2
fi

python_with_qgis() {
    for candidate in /usr/bin/python3 python3; do
        if "$candidate" -c "import qgis.core" 2>/dev/null; then
            echo "$candidate"
            return
        fi
    done
}

python=$(python_with_qgis)
if [ -z "$python" ]; then
    sudo=""
    [ "$(id -u)" -eq 0 ] || sudo="sudo"
    $sudo apt-get update -q >&2
    $sudo apt-get install -q -y --no-install-recommends python3-qgis >&2
    python=$(python_with_qgis)
fi
exec "$python" "$(dirname "$0")/check_in_qgis.py" "$1" "$2"
