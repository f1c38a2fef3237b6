#!/usr/bin/env bash
# All checks and tests, with everything that they need: bash tests/run.sh [OPTIONS OF PYTEST]
#
# As root on Debian this installs Chromium, Node and Python where they are missing; the rest goes into .venv and node_modules.
# What cannot be had is skipped, with the line that brings it; CI=true refuses that.
set -euo pipefail
cd "$(dirname "$0")/.."
export OMP_NUM_THREADS=1 PYTHONUNBUFFERED=1 HF_HUB_OFFLINE=1 GRADIO_ANALYTICS_ENABLED=False DEBIAN_FRONTEND=noninteractive
unset PYTHONDONTWRITEBYTECODE # or every process that the tests start compiles torch and the rest again, which takes most of its start

have() { command -v "$1" >/dev/null; }
can_install() { have apt-get && [ "$(id -u)" = 0 ]; }

find_python() { # one that can make an environment, of a version that the package runs on
  local name
  for name in python3.11 python3.12 python3; do
    if have "$name" && "$name" -c "import ensurepip, sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 13))" 2>/dev/null; then
      echo "$name"
      return
    fi
  done
  return 1
}

bring_browser_and_node() {
  local packages=()
  have chromium || have chromium-browser || have google-chrome || packages+=(chromium)
  have node || packages+=(nodejs)
  have npm || packages+=(npm)
  if [ ${#packages[@]} -gt 0 ] && can_install; then
    apt-get install -y -qq --no-install-recommends "${packages[@]}" >/dev/null || echo "apt-get could not install ${packages[*]}"
  fi
  if have npm; then npm install --silent || echo "npm install failed"; fi
}

if can_install && ! { have chromium && have npm && find_python >/dev/null; }; then apt-get update -qq || true; fi
if can_install && ! find_python >/dev/null; then apt-get install -y -qq --no-install-recommends python3 python3-venv >/dev/null; fi
python=$(find_python) || { echo "Python 3.11 or 3.12 with venv must be there: apt-get install python3 python3-venv" >&2; exit 1; }

bring_browser_and_node & # beside pip
[ -x .venv/bin/python ] || "$python" -m venv .venv
# Most modules are never imported: who imports one first compiles it.
.venv/bin/python -m pip install --quiet --no-compile --disable-pip-version-check -r requirements-dev.txt
wait $!

resolving=
if [ "${CI:-}" = true ]; then # the versions go together on a Space's Python, too: what packages say of themselves is read alone
  .venv/bin/python -m pip install --quiet --dry-run --ignore-installed --use-feature=fast-deps --python-version 3.12 \
    --only-binary=:all: --target "$(mktemp -d)" -r requirements.txt -c constraints.txt & # beside the tests
  resolving=$!
fi

.venv/bin/python -m pytest -q -n 2 -rs --durations=10 "$@"
[ -z "$resolving" ] || wait "$resolving" || { echo "requirements.txt and constraints.txt must go together on Python 3.12" >&2; exit 1; }
