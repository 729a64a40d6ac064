"""The Engine API's JSON to the model. Pure; called by ``docker`` and ``events``.

Only what is used is looked at, and that is validated: another engine, a proxy or a broken one may say anything.
"""

import re
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.alias_generators import to_pascal

from onedock.nodeside.engine_json import UNLIMITED_BYTES
from onedock.reconcilers.errors import TransientError
from onedock.reconcilers.model import (
    LABEL_INSTANCE,
    LABEL_SPEC,
    LABEL_VM,
    Container,
    ContainerId,
    Phase,
    VmId,
)

_VM = re.compile(r"[0-9]{1,10}")
_CONTAINER = r"^[0-9a-f]{64}$"
_IMAGE = r"^sha256:[0-9a-f]{64}$"


@dataclass(frozen=True, slots=True)
class Image:
    """An image as far as it matters to us."""

    id: str
    names: tuple[str, ...]
    """All its references, by tag and by digest."""
    working_dir: str


class _Answer(BaseModel):
    """The part of an answer that is used; the engine's field names are ours in PascalCase."""

    model_config = ConfigDict(alias_generator=to_pascal, frozen=True)


class _State(_Answer):
    status: Phase
    pid: int = 0
    exit_code: int = 0
    oom_killed: bool = Field(default=False, alias="OOMKilled")
    error: str = ""
    started_at: str = ""
    finished_at: str = ""


class _Config(_Answer):
    image: str
    labels: dict[str, str] | None = None


class _HostConfig(_Answer):
    cpu_shares: int = 0
    cpu_quota: int = 0
    memory: int = 0
    pids_limit: int | None = None


class _Inspected(_Answer):
    id: str = Field(pattern=_CONTAINER)
    name: str
    state: _State
    config: _Config
    host_config: _HostConfig


class _Listed(_Answer):
    id: str = Field(pattern=_CONTAINER)
    names: list[str] = Field(min_length=1)
    image: str
    labels: dict[str, str] | None = None
    state: Phase


class _ImageConfig(_Answer):
    working_dir: str = ""


class _InspectedImage(_Answer):
    id: str = Field(pattern=_IMAGE)
    repo_tags: list[str] | None = None
    repo_digests: list[str] | None = None
    config: _ImageConfig | None = None


class _ListedImage(_Answer):
    repo_digests: list[str] | None = None


class _Sized(_Answer):
    size_rw: int = Field(default=0, ge=0)


_LIST = TypeAdapter(list[_Listed])
_IMAGES = TypeAdapter(list[_ListedImage])


def inspected_container(answer: object) -> Container:
    """The container of ``GET /containers/<id>/json``. TransientError: the answer makes no sense."""
    try:
        seen = _Inspected.model_validate(answer)
    except ValidationError as error:
        raise _senseless(error) from error
    labels = seen.config.labels or {}
    limits = seen.host_config
    return Container(
        id=ContainerId(seen.id),
        name=seen.name.removeprefix("/"),
        vm=labelled_vm(labels),
        instance=labels.get(LABEL_INSTANCE, ""),
        spec_digest=labels.get(LABEL_SPEC, ""),
        image=seen.config.image,
        phase=seen.state.status,
        pid=seen.state.pid,
        exit_code=seen.state.exit_code,
        oom_killed=seen.state.oom_killed,
        error=seen.state.error,
        started_at=seen.state.started_at,
        finished_at=seen.state.finished_at,
        limits=(
            limits.cpu_shares,
            max(limits.cpu_quota, 0),
            0 if limits.memory >= UNLIMITED_BYTES else limits.memory,
            max(limits.pids_limit or 0, 0),
        ),
    )


def listed_containers(answer: object) -> tuple[Container, ...]:
    """Our containers of ``GET /containers/json``, without what only inspect tells.

    One senseless entry makes the whole list worthless: a container left out would look removed. Raises
    TransientError then.
    """
    try:
        listed = _LIST.validate_python(answer)
    except ValidationError as error:
        raise _senseless(error) from error
    found = []
    for seen in listed:
        labels = seen.labels or {}
        vm = labelled_vm(labels)
        if vm is None:
            continue
        container = Container(
            id=ContainerId(seen.id),
            name=seen.names[0].removeprefix("/"),
            vm=vm,
            instance=labels.get(LABEL_INSTANCE, ""),
            spec_digest=labels.get(LABEL_SPEC, ""),
            image=seen.image,
            phase=seen.state,
        )
        found.append(container)
    return tuple(found)


def inspected_image(answer: object) -> Image:
    """The image of ``GET /images/<name>/json``. TransientError: the answer makes no sense."""
    try:
        seen = _InspectedImage.model_validate(answer)
    except ValidationError as error:
        raise _senseless(error) from error
    names = (*(seen.repo_tags or ()), *(seen.repo_digests or ()))
    return Image(id=seen.id, names=names, working_dir=seen.config.working_dir if seen.config else "")


def pinned_images(answer: object) -> tuple[str, ...]:
    """Every ``repository@digest`` of ``GET /images/json``. TransientError: the answer makes no sense."""
    try:
        return tuple(name for image in _IMAGES.validate_python(answer) for name in image.repo_digests or ())
    except ValidationError as error:
        raise _senseless(error) from error


def layer_bytes(answer: object) -> int:
    """The size of the writable layer in ``GET /containers/<id>/json?size=1``. TransientError as above."""
    try:
        return _Sized.model_validate(answer).size_rw
    except ValidationError as error:
        raise _senseless(error) from error


def labelled_vm(labels: dict[str, str]) -> VmId | None:
    """The VM that a container's labels name; None when they name none of ours."""
    label = labels.get(LABEL_VM, "")
    return VmId(int(label)) if _VM.fullmatch(label) else None


def _senseless(error: ValidationError) -> TransientError:
    first = error.errors(include_input=False, include_url=False)[0]
    where = ".".join(map(str, first["loc"]))
    return TransientError(f"the engine's answer is not understood: {where}: {first['msg']}")
