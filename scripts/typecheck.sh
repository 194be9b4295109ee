#!/bin/sh
# Type checkers do not run setuptools' import hook; show them the package as the wheel lays it out.
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
view=$root/.typecheck
rm -rf "$view"
mkdir -p "$view/ld3m_plugin"
ln -s "$root"/ld3m_plugin/* "$root/generators" "$root/objectives" "$view/ld3m_plugin/"
cd "$view" && exec mypy --config-file "$root/pyproject.toml" "$@"
