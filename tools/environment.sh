# Sourced by the scripts beside it, from the root of the repository.
# shellcheck shell=bash

# Prints the path of a Python of at least 3.10, or fails with a message.
_find_python() {
  local candidate
  for candidate in python3 python3.13 python3.12 python3.11 python3.10; do
    if command -v "$candidate" >/dev/null 2>&1 &&
      "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null; then
      command -v "$candidate"
      return 0
    fi
  done
  echo "error: no Python of at least 3.10 found (tried python3 and python3.13 to" \
    "python3.10). Install one and put it on the PATH." >&2
  return 1
}

# Prints the hash of a file.
_hash_of() {
  .venv/bin/python -c \
    'import hashlib, sys; print(hashlib.sha256(open(sys.argv[1], "rb").read()).hexdigest())' \
    "$1"
}

# Makes .venv with everything that pyproject.toml asks for; does nothing if that is done.
prepare_environment() {
  local python installed hash
  if [[ ! -x .venv/bin/python ]]; then
    python="$(_find_python)" || return 1
    echo "== Making .venv with $python"
    "$python" -m venv .venv || return 1
  fi
  hash="$(_hash_of pyproject.toml)" || return 1
  installed="$(cat .venv/.installed 2>/dev/null || true)"
  if [[ "$hash" != "$installed" ]]; then
    echo "== Installing into .venv what pyproject.toml asks for"
    .venv/bin/python -m pip install --progress-bar on \
      -e ".[test,legacy,probability,plots,kernels]" || return 1
    echo "$hash" >.venv/.installed
  fi
}

# Installs one more extra of pyproject.toml into .venv; does nothing if that is done.
prepare_extra() {
  local hash
  hash="$(_hash_of pyproject.toml)" || return 1
  if [[ "$hash" != "$(cat ".venv/.installed_$1" 2>/dev/null || true)" ]]; then
    echo "== Installing into .venv the extra $1"
    .venv/bin/python -m pip install --progress-bar on -e ".[$1]" || return 1
    echo "$hash" >".venv/.installed_$1"
  fi
}
