"""XML from outside, parsed so that it cannot hurt: no document type, no own entities, bounded in size."""

import re
from collections.abc import Iterator
from typing import cast
from xml.etree.ElementTree import Element, ParseError, XMLPullParser, fromstring

from onedock.reconcilers.errors import TerminalError

SIZE_LIMIT = 64 * 1024 * 1024
"""Characters. A pool of 10 000 VMs has 23 million."""

_CHUNK = 4096
"""Characters parsed at once: few enough for the elements to be still in the processor's cache when they are read."""
_BEGINS_WITH_ELEMENT = re.compile(r"\s*(?:<\?xml\s[^>]*\?>\s*)?<[A-Za-z_]")


class XmlError(TerminalError):
    """A text is no acceptable XML, or lacks what it must have."""


def parse_xml(text: str, *, limit: int = SIZE_LIMIT) -> Element:
    """The root element of ``text``, of at most ``limit`` characters. Raises XmlError.

    A document type, the only place for entity declarations, can only stand before the root element: a text
    that does not begin with an element is refused unread. (``<!DOCTYPE`` inside CDATA is harmless and does
    occur: users put web pages into their context.)
    """
    _refuse(text, limit)
    try:
        return fromstring(text)  # noqa: S314 - without a document type there is nothing to expand or to fetch
    except (ParseError, UnicodeEncodeError) as error:
        raise XmlError(f"XML is broken: {error}") from error


def parse_children(text: str, *, limit: int = SIZE_LIMIT) -> Iterator[Element]:
    """The elements right below the root of a long ``text``, one at a time: each is emptied when the next is asked for.

    A pool never is in memory as a tree, and other threads run meanwhile. Raises XmlError, see ``parse_xml``.
    """
    _refuse(text, limit)
    parser: XMLPullParser[Element] = XMLPullParser(("start", "end"))
    depth = 0
    try:
        for start in range(0, len(text), _CHUNK):
            parser.feed(text[start : start + _CHUNK])
            for event, element in cast("Iterator[tuple[str, Element]]", parser.read_events()):
                depth += 1 if event == "start" else -1
                if event == "end" and depth == 1:
                    yield element
                    element.clear()
        parser.close()
    except (ParseError, UnicodeEncodeError) as error:
        raise XmlError(f"XML is broken: {error}") from error


def _refuse(text: str, limit: int) -> None:
    if len(text) > limit:
        raise XmlError(f"XML is too large: {len(text)} characters, at most {limit} are read")
    if not _BEGINS_WITH_ELEMENT.match(text):
        if "<!DOCTYPE" in text:
            raise XmlError("XML with a DOCTYPE is refused: OpenNebula sends none")
        raise XmlError(f"not XML, it begins with {text[:20]!r}")


def required_text(element: Element, path: str) -> str:
    """The text of the first element at ``path``, stripped. Raises XmlError if it is empty or absent."""
    text = (element.findtext(path) or "").strip()
    if not text:
        raise XmlError(f"XML lacks {element.tag}/{path}")
    return text
