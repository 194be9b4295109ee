"""Loading plugins: the entry points of the group `ld3m_plugin`, the built-ins among them.

They are loaded in a fixed order, the host's own distribution first, each on its own: a plugin that does not import, raises, or
misspells a hook leaves a `PluginRecord` that says so, and all others go on. (pluggy's own loader would skip an entry point whose
name is taken in silence, and would end at the first one that does not import.)

`LD3M_PLUGINS=a,b` loads only these third-party plugins (by distribution or entry-point name), `LD3M_PLUGINS=` none.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from functools import partial
from importlib.metadata import EntryPoint, entry_points
from typing import Any

import pluggy

from ld3m_plugin import hookspecs
from ld3m_plugin.errors import DuplicateBackendError, PluginLoadError, nearest
from ld3m_plugin.registry.registered_names import KINDS, Backend, Owner, PluginRecord, Registry, canonical, reason

_HOOK_OF_KIND = {kind: f"register_{kind}s" for kind in KINDS}


def build_registry(found: Iterable[EntryPoint] | None = None, environ: Mapping[str, str] | None = None) -> Registry:
    """Load plugins into a new registry.

    Args:
        found: entry points to load; default: all installed ones of the group.
        environ: where `LD3M_PLUGINS` is looked up; default: the process's environment.
    """
    registry = Registry()
    points = list(entry_points(group=hookspecs.PROJECT) if found is None else found)
    points = _chosen(points, (os.environ if environ is None else environ).get("LD3M_PLUGINS"), registry)
    for point in sorted(points, key=lambda p: (not _owner(p).is_host, _owner(p).distribution, p.name)):
        record = PluginRecord(_owner(point))
        registry.records.append(record)
        try:
            plugin = point.load()
        except (Exception, SystemExit) as error:  # a stranger's module may raise anything, also a script's exit
            record.problems.append(f"does not import: {reason(error)}")
            continue
        _register_plugin(registry, record, plugin)
    return registry


def _register_plugin(registry: Registry, record: PluginRecord, plugin: object) -> None:
    problem = _version_problem(plugin)
    if problem:
        record.problems.append(problem)
        return
    manager = pluggy.PluginManager(hookspecs.PROJECT)
    manager.register(plugin)
    implemented = {caller.name: caller for caller in manager.get_hookcallers(plugin) or ()}
    for unknown in sorted(implemented.keys() - set(_HOOK_OF_KIND.values())):
        record.problems.append(f"there is no hook {unknown!r}; {nearest(unknown, _HOOK_OF_KIND.values())}")
    for kind, hook in _HOOK_OF_KIND.items():
        if hook in implemented:
            try:
                # One specification at a time: an error in one hook stops no other.
                manager.add_hookspecs(type("Spec", (), {hook: staticmethod(getattr(hookspecs, hook))}))
                implemented[hook](register=partial(_register, registry, record, kind))
            except pluggy.PluginValidationError:
                record.problems.append(f"{hook} must have one argument, named `register`")
            except (Exception, SystemExit) as error:
                record.problems.append(f"{hook} raised {reason(error)}")


def _version_problem(plugin: object) -> str | None:
    """Why a plugin that states an `api_version` cannot be loaded, or None."""
    wanted = getattr(plugin, "api_version", None)
    if wanted is None:
        return None
    if not isinstance(wanted, int) or isinstance(wanted, bool) or wanted < 1:
        return f"api_version = {wanted!r} is not a whole number of at least 1"
    if wanted > hookspecs.API_VERSION:
        return f"needs plugin API {wanted}, this version has {hookspecs.API_VERSION}: update ld3m-plugin"
    return None


def _register(
    registry: Registry,
    record: PluginRecord,
    kind: str,
    name: str,
    factory: Any,
    summary: str = "",
    options: str | None = None,
) -> None:
    try:
        registry.add(Backend(kind, name, factory, summary, record.owner, options))
        record.has_names = True
    except (DuplicateBackendError, PluginLoadError) as error:
        # Recorded, not raised: the plugin's other names are still good.
        record.problems.append(str(error))


def _chosen(points: list[EntryPoint], wanted: str | None, registry: Registry) -> list[EntryPoint]:
    if wanted is None:
        return points
    names = {canonical(name) for name in wanted.split(",") if name.strip()}
    kept = [p for p in points if _owner(p).is_host or names & {canonical(p.name), canonical(_owner(p).distribution)}]
    seen = {canonical(name) for p in kept for name in (p.name, _owner(p).distribution)}
    for missing in sorted(names - seen):
        owner = Owner(missing, "(not installed)", "")
        registry.records.append(PluginRecord(owner, ["named in LD3M_PLUGINS and not installed"]))
    return kept


def _owner(point: EntryPoint) -> Owner:
    if point.dist is None:
        return Owner(point.name, "(unknown)", "")
    # A half-removed distribution has no metadata, and so no name: it must not end the loading of the others.
    metadata = point.dist.metadata
    return Owner(point.name, metadata["Name"] or "(unknown)", metadata["Version"] or "")
