#!/bin/sh
# Usage: install.sh PYTHON VENV [DETECTRON2]
# Makes the virtual environment VENV with the pinned dependencies, Detectron2 and this package (editable).
# DETECTRON2 is a pip requirement; without it the hash-checked wheel of requirements/detectron2.txt is taken.
set -eu
python=$1 venv=$2 detectron2=${3:-}
cd "$(dirname "$0")/.."

"$python" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 12))' || {
    echo "error: $python is $("$python" --version 2>&1); Python 3.10, 3.11 or 3.12 is needed (make PYTHON=python3.11 ...)" >&2
    exit 1
}
"$python" -m venv "$venv"
pip() { "$venv/bin/python" -m pip --disable-pip-version-check "$@"; }

pip install --quiet --progress-bar off -r requirements/base.txt
if [ -n "$detectron2" ]; then
    echo "detectron2: $detectron2"
    pip install --no-build-isolation "$detectron2"
else
    echo "detectron2: the wheel of requirements/detectron2.txt"
    # The wheel is tagged for Python 3.10; --target takes its Python part on the others too.
    site=$("$venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
    pip install --quiet --require-hashes --no-deps --upgrade --python-version 3.10 --only-binary=:all: \
        --target "$site" -r requirements/detectron2.txt
fi
pip install --quiet --no-deps --no-build-isolation -e .
"$venv/bin/python" -c 'import epl_d2, torch; print(f"epl_d2 {epl_d2.__version__}, torch {torch.__version__}, CUDA {torch.cuda.is_available()}")'
