"""Unused images leave a node after the grace, and nothing else ever does."""

from types import SimpleNamespace
from typing import Any, cast

import pytest

from onedock.config.settings import RegistrySettings
from onedock.controller.image_cache import ImageCache

REPOSITORY = "127.0.0.1:5000/onedock"
OURS = f"{REPOSITORY}/image-7@sha256:{'a' * 64}"
OTHER = f"{REPOSITORY}/image-8@sha256:{'b' * 64}"
FOREIGN = f"docker.io/library/alpine@sha256:{'c' * 64}"


class Engine:
    """Holds images."""

    def __init__(self) -> None:
        self.images = {OURS, OTHER, FOREIGN}

    async def pinned_images(self) -> tuple[str, ...]:
        return tuple(self.images)

    async def remove_image(self, image: str) -> None:
        self.images.remove(image)


@pytest.fixture
def engine() -> Engine:
    return Engine()


def node(engine: Engine) -> Any:
    return cast("Any", SimpleNamespace(name="node1", engine=engine))


async def test_an_unused_image_goes_after_the_grace(engine: Engine) -> None:
    cache = ImageCache(RegistrySettings(unused_image_keep_s=100))
    await cache.sweep(node(engine), [OTHER], now=0)
    await cache.sweep(node(engine), [OTHER], now=99)
    assert engine.images == {OURS, OTHER, FOREIGN}
    await cache.sweep(node(engine), [OTHER], now=100)
    assert engine.images == {OTHER, FOREIGN}


async def test_use_begins_the_grace_anew(engine: Engine) -> None:
    cache = ImageCache(RegistrySettings(unused_image_keep_s=100))
    await cache.sweep(node(engine), [OTHER], now=0)
    await cache.sweep(node(engine), [OTHER, OURS], now=50)
    await cache.sweep(node(engine), [OTHER], now=120)
    assert OURS in engine.images
    await cache.sweep(node(engine), [OTHER], now=220)
    assert OURS not in engine.images


async def test_zero_keeps_nothing(engine: Engine) -> None:
    await ImageCache(RegistrySettings(unused_image_keep_s=0)).sweep(node(engine), [], now=0)
    assert engine.images == {FOREIGN}
