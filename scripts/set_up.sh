#!/usr/bin/env bash
# Makes the virtual environment. Usage: scripts/set_up.sh VENV [cpu|cuda]
#
# On Linux the default wheel of torch is a CUDA build of several gigabytes. With `cpu` the CPU
# build is taken, and what pip would install is looked at before anything is downloaded. Everything
# else comes from requirements.lock, each file with a hash that pip checks.
set -euo pipefail
cd "$(dirname "$0")/.."
venv=$1
build=${2:-cpu}
torch=$(grep '^torch==' constraints.txt)

python=""
for name in "${PYTHON:-}" python3.11 python3.12 python3.13 python3; do
    if [ -n "$name" ] && "$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
        python=$name
        break
    fi
done
if [ -z "$python" ]; then
    echo "graphwright needs Python 3.11 or newer (Debian, Ubuntu: apt install python3.11-venv)" >&2
    exit 2
fi
"$python" -m venv "$venv"
pip="$venv/bin/python -m pip --disable-pip-version-check"

if [ "$build" = cpu ]; then
    plan=$($pip install --dry-run --quiet --ignore-installed --report - "$torch" 2>/dev/null || true)
    if [ -z "$plan" ] || grep -qE '"name": "(nvidia|cuda)-' <<<"$plan"; then
        $pip install --no-deps --index-url https://download.pytorch.org/whl/cpu "$torch"
    else
        $pip install --quiet --no-deps "$torch"
    fi
else
    $pip install "$torch"
fi
$pip install --quiet --no-deps --require-hashes --requirement requirements.lock
$pip install --quiet --no-deps --no-build-isolation --editable .
$pip check
if [ "$build" = cpu ]; then
    "$venv/bin/python" -c 'import sys, torch; sys.exit(torch.version.cuda is not None)' || {
        echo "this is a CUDA build of torch; remove $venv, or ask for one with TORCH=cuda" >&2
        exit 2
    }
fi
touch "$venv/.complete"
