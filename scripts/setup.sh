# shellcheck shell=bash
# Sourced by quickstart and test: makes .venv and installs this package, once.
# A second call finds the stamp of the first and returns at once.

cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1

say() { printf '%s\n' "$*" >&2; }
fail() { say "error: $*"; exit 2; }

supported() { # whether the interpreter $1 runs and has a version this package supports
    "$1" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] < (3, 14))' 2>/dev/null
}

find_python() { # print a supported interpreter: $PYTHON if set, else the first that is found
    local candidate
    if [ -n "${PYTHON:-}" ]; then
        supported "$PYTHON" || fail "PYTHON=$PYTHON does not run or is not Python 3.10 to 3.13"
        printf '%s\n' "$PYTHON"
        return
    fi
    for candidate in python3 python3.13 python3.12 python3.11 python3.10; do
        if supported "$candidate"; then
            printf '%s\n' "$candidate"
            return
        fi
    done
    fail "needs Python 3.10 to 3.13; python3 is $(python3 --version 2>&1 || true)." \
        "Install one of them, or name one: PYTHON=/path/to/python3 bash $0"
}

fingerprint() { # what an installation depends on: package, pins, Python, and where it lies
    {
        .venv/bin/python -VV
        pwd
        cat pyproject.toml constraints.txt
    } | .venv/bin/python -c 'import hashlib, sys; print(hashlib.sha256(sys.stdin.buffer.read()).hexdigest())'
}

minor() { "$1" -c 'import sys; print(*sys.version_info[:2], sep=".")'; }

# setup EXTRAS STAMP [STAMP...]: install .[EXTRAS] and write the first stamp, unless one of the
# stamps (this one, or that of a larger installation) is already up to date.
setup() {
    local extras=$1 stamp=.venv/.installed-$2 other python mark pip
    shift
    if [ -e .venv ] && ! supported .venv/bin/python; then
        say ".venv has no working Python 3.10 to 3.13: making it again"
        rm -rf .venv
    fi
    if [ -e .venv ] && [ -n "${PYTHON:-}" ]; then
        python=$(find_python)
        if [ "$(minor "$python")" != "$(minor .venv/bin/python)" ]; then
            say ".venv has another Python than $PYTHON: making it again"
            rm -rf .venv
        fi
    fi
    if [ ! -e .venv ]; then
        python=$(find_python)
        say "making .venv with $("$python" --version 2>&1)"
        "$python" -m venv .venv || {
            rm -rf .venv
            fail "$python cannot make a virtual environment (on Debian: apt-get install python3-venv)"
        }
    fi
    mark=$(fingerprint)
    for other in "$@"; do
        if [ "$(cat ".venv/.installed-$other" 2>/dev/null)" = "$mark" ]; then
            return
        fi
    done
    # Stamped only at the very end, so that an interrupted installation is resumed.
    rm -f "$stamp"
    say "installing gamma_nlp[$extras] into .venv (once; a minute or more, mostly downloads)"
    .venv/bin/python -m pip --version >/dev/null 2>&1 || .venv/bin/python -m ensurepip >/dev/null ||
        fail ".venv has no pip: delete .venv and run the same command again"
    pip=(.venv/bin/python -m pip install --disable-pip-version-check)
    [ -t 2 ] || pip+=(--quiet)
    "${pip[@]}" --editable ".[$extras]" --constraint constraints.txt ||
        fail "the installation failed (see above); run the same command again to continue"
    printf '%s\n' "$mark" >"$stamp"
}
