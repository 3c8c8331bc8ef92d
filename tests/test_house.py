"""The house as a whole: which module knows which."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("fusion", "whisper_live", "language_models", "voices", "realtime", "wyoming_server")


def our_modules() -> dict[str, Path]:
    """The program's modules by their dotted names."""
    paths = [path for package in PACKAGES for path in (ROOT / package).rglob("*.py")]
    paths += [ROOT / f"{name}.py" for name in ("main", "llm_service", "tts_service", "web_service")]
    return {
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
        for path in paths
    }


def imports(name: str, known: dict[str, Path]) -> set[str]:
    """Our modules that a module imports as it is itself imported."""
    found: set[str] = set()
    todo: list[ast.stmt] = list(ast.parse(known[name].read_text()).body)
    while todo:
        node = todo.pop()
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            named = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= named if named <= known.keys() else {*named, node.module}
        elif isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            todo += node.orelse
        elif isinstance(node, ast.If | ast.Try | ast.With | ast.ClassDef):
            todo += [child for child in ast.walk(node) if isinstance(child, ast.stmt)][1:]
    return {module for module in found if module in known and module != name}


def circle(graph: dict[str, set[str]]) -> list[str]:
    """Some path that comes back to where it began; empty when there is none."""
    done: set[str] = set()

    def walk(name: str, path: list[str]) -> list[str]:
        if name in path:
            return [*path[path.index(name) :], name]
        if name in done:
            return []
        for next_one in sorted(graph[name]):
            if found := walk(next_one, [*path, name]):
                return found
        done.add(name)
        return []

    return next((found for name in graph if (found := walk(name, []))), [])


def test_no_module_imports_itself_by_way_of_others() -> None:
    known = our_modules()
    assert circle({name: imports(name, known) for name in known}) == []


def test_a_circle_is_found() -> None:
    assert circle({"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": set()}) == ["b", "c", "b"]
    assert circle({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == []


@pytest.mark.parametrize("package", ["fusion"])
def test_what_all_share_knows_nobody(package: str) -> None:
    known = our_modules()
    for name in known:
        if name.partition(".")[0] == package:
            strangers = {each for each in imports(name, known) if not each.startswith(package)}
            assert strangers == set(), f"{name} imports {strangers}"
