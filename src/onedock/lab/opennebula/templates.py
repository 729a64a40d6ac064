"""Template text and its attributes (protocol reference 5.8).

A template maps upper-case names to the values given for them; a value is a text or a vector of texts. OpenNebula keeps
attributes sorted by name wherever it prints them, so insertion order only matters between values of one name.
"""

import re
from typing import TypeAlias
from xml.etree import ElementTree

Vector: TypeAlias = dict[str, str]
Value: TypeAlias = str | Vector
Template: TypeAlias = dict[str, list[Value]]

_SKIP = re.compile(r"(?:\s+|,|#[^\n]*)*")
_NAME = re.compile(r"([A-Za-z0-9_.]+)\s*=\s*")
_QUOTED = re.compile(r'"((?:\\"|[^"])*)"')
_BARE = re.compile(r'[^\s=#\[\],"]+')


class TemplateError(ValueError):
    """The text is no template; the message says where it stops being one."""


def parse(text: str) -> Template:
    """Reads template text, or the XML form that language bindings send.

    Args:
        text: ``NAME = value`` lines with vectors ``NAME = [ K = v ]``, or ``<TEMPLATE>…</TEMPLATE>``.

    Raises:
        TemplateError: The text does not follow the syntax.
    """
    if text.lstrip().startswith("<"):
        return _from_xml(text)
    template: Template = {}
    position = _skip(text, 0)
    while position < len(text):
        name, position = _name(text, position)
        if text.startswith("[", position):
            vector, position = _vector(text, position + 1)
            put(template, name, vector)
        else:
            value, position = _value(text, position)
            put(template, name, value)
        position = _skip(text, position)
    return template


def _skip(text: str, position: int) -> int:
    match = _SKIP.match(text, position)
    return match.end() if match else position


def _name(text: str, position: int) -> tuple[str, int]:
    match = _NAME.match(text, position)
    if match is None:
        raise TemplateError(f"syntax error at {text[position : position + 20]!r}; expected NAME = value")
    return match.group(1).upper(), match.end()


def _value(text: str, position: int) -> tuple[str, int]:
    if match := _QUOTED.match(text, position):
        return match.group(1).replace('\\"', '"'), match.end()
    if match := _BARE.match(text, position):
        return match.group(0), match.end()
    raise TemplateError(f"syntax error at {text[position : position + 20]!r}; expected a value")


def _vector(text: str, position: int) -> tuple[Vector, int]:
    vector: Vector = {}
    position = _skip(text, position)
    while not text.startswith("]", position):
        name, position = _name(text, position)
        vector[name], position = _value(text, position)
        position = _skip(text, position)
    return vector, position + 1


def _from_xml(text: str) -> Template:
    try:
        root = ElementTree.fromstring(text)  # noqa: S314 - expat refuses external entities, bindings send small texts
    except ElementTree.ParseError as error:
        raise TemplateError(f"syntax error in XML template: {error}") from error
    template: Template = {}
    for element in root:
        vector = {child.tag.upper(): child.text or "" for child in element}
        put(template, element.tag, vector or element.text or "")
    return template


def put(template: Template, name: str, value: Value) -> None:
    """Adds one more value to ``name``."""
    template.setdefault(name.upper(), []).append(value)


def get(template: Template, name: str, default: str = "") -> str:
    """First text of ``name``; ``default`` when there is none or it is a vector."""
    for value in template.get(name, []):
        return value if isinstance(value, str) else default
    return default


def vectors(template: Template, name: str) -> list[Vector]:
    """All vectors of ``name``: the objects themselves, so changing them changes the template."""
    return [value for value in template.get(name, []) if isinstance(value, dict)]


def cdata(name: str, text: str) -> str:
    """One element whose text is a CDATA section."""
    return f"<{name}><![CDATA[{text.replace(']]>', ']]]]><![CDATA[>')}]]></{name}>"


def to_xml(template: Template) -> str:
    """The attributes as oned prints them: sorted by name, every text in CDATA."""
    parts: list[str] = []
    for name in sorted(template):
        for value in template[name]:
            parts.append(cdata(name, value) if isinstance(value, str) else vector_xml(name, value))
    return "".join(parts)


def vector_xml(name: str, vector: Vector) -> str:
    """One vector attribute, its parts sorted by name."""
    return f"<{name}>{''.join(cdata(key, vector[key]) for key in sorted(vector))}</{name}>"
