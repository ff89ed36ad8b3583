"""The page's modules become one script."""

import re
from importlib import resources

import pytest

from fastdino.page.page import web_parts
from fastdino.page.script import bundle

WEB = resources.files("fastdino.page").joinpath("web")


def test_each_module_comes_once_and_after_those_it_imports_from():
    text = bundle(
        {
            "start": 'import {b} from "./b.js";\nimport {a} from "./a.js";\nshow(a + b);\n',
            "b": 'import {a} from "./a.js";\nexport const b = a + 1;\n',
            "a": "const hidden = 1;\nexport const a = hidden;\n",
            "unused": "export const c = 1;\n",
        }
    )
    assert re.findall(r"^modules\.(\w+) =", text, re.M) == ["a", "b", "start"]
    assert "const {a} = modules.a;\nconst b = a + 1;\nreturn {b};" in text
    assert "return {a};" in text
    assert not re.search(r"^(import|export)", text, re.M)


@pytest.mark.parametrize(
    ("sources", "said"),
    [
        ({"start": 'import {a} from "./a.js";\n', "a": "const a = 1;\n"}, "does not export a"),
        ({"start": 'import {a} from "./a.js";\n'}, "no module a"),
        (
            {
                "start": 'import {a} from "./a.js";\n',
                "a": 'import {b} from "./b.js";\nexport const a = 1;\n',
                "b": 'import {a} from "./a.js";\nexport const b = 1;\n',
            },
            "in a circle: start -> a -> b -> a",
        ),
        ({"start": 'import a from "./a.js";\n'}, "not understood: import a"),
        ({"start": "export default 1;\n"}, "not understood: export default"),
        ({"start": "export let a = 1;\n"}, "not understood: export let"),
        ({}, "the page: no module start"),
    ],
)
def test_what_cannot_be_put_together_is_told(sources: dict[str, str], said: str):
    with pytest.raises(ValueError, match=said):
        bundle(sources)


def test_every_module_is_part_of_the_page_and_says_what_belongs_there():
    script = web_parts()["script"]
    for file in WEB.iterdir():
        if file.name.endswith(".js"):
            assert f"modules.{file.name.removesuffix('.js')} = " in script, file.name
            head = file.read_text(encoding="utf-8").split("\nimport")[0].split("\nexport")[0]
            assert "Belongs here:" in head, file.name
