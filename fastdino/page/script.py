"""The page's modules as the one script that its HTML file holds.

Belongs here: the order of the modules, and what stands for ``import`` and ``export`` between them.
Does not: what is in the modules.

A page opened from disk may load no module from beside it, so each becomes a function that is called
once, after those that it imports from; what it exports is a value of ``modules``.
"""

import re
from collections.abc import Mapping

IMPORT = re.compile(r'^import \{([^}]*)\} from "\./(\w+)\.js";\n', re.M)
EXPORT = re.compile(r"^export (const|function|class) ([\w$]+)", re.M)
OTHER = re.compile(r"^(?:import|export)\b.*", re.M)


def bundle(sources: Mapping[str, str]) -> str:
    """All that the module ``start`` imports, and it, each once and after what it imports from.

    Args:
        sources: text of each module by its name; ``import {a, b} from "./name.js";`` at the start
            of a line and ``export const`` before what is exported are all that they may use.

    Raises:
        ValueError: an import of what is not exported, in a circle, or in other words.
    """
    done: dict[str, str] = {}
    exported: dict[str, list[str]] = {}

    def visit(name: str, importers: tuple[str, ...]) -> None:
        if name in done:
            return
        if name in importers:
            raise ValueError(f"modules import in a circle: {' -> '.join((*importers, name))}")
        if name not in sources:
            raise ValueError(f"{importers[-1] if importers else 'the page'}: no module {name}")
        for _, other in IMPORT.findall(sources[name]):
            visit(other, (*importers, name))

        def taken(found: re.Match[str]) -> str:
            names = [word.strip() for word in found[1].split(",") if word.strip()]
            if missing := set(names) - set(exported[found[2]]):
                raise ValueError(f"{name}: {found[2]} does not export {', '.join(sorted(missing))}")
            return f"const {{{', '.join(names)}}} = modules.{found[2]};\n"

        text = IMPORT.sub(taken, sources[name])
        exported[name] = [found[2] for found in EXPORT.finditer(text)]
        text = EXPORT.sub(r"\1 \2", text)
        if other := OTHER.search(text):
            raise ValueError(f"{name}: this is not understood: {other[0]}")
        given = ", ".join(exported[name])
        done[name] = f"modules.{name} = (() => {{\n{text}return {{{given}}};\n}})();\n"

    visit("start", ())
    return '"use strict";\nconst modules = {};\n' + "".join(done.values())
