"""Names of images: what they mean to a registry, to a container store and to nitro-cli."""

from pathlib import Path

import pytest

from cloister.build.source import SourceName
from cloister.fetch import FetchError, ImageName, image_named, is_local

DIGEST = "sha256:" + "0f" * 32


@pytest.mark.parametrize(
    ("text", "registry", "storage", "short"),
    [
        ("hello", "docker.io/library/hello:latest", "localhost/hello:latest", "hello"),
        ("hello:v1", "docker.io/library/hello:v1", "localhost/hello:v1", "hello"),
        ("team/hello:v1", "docker.io/team/hello:v1", "localhost/team/hello:v1", "team/hello"),
        ("a/b/c", "docker.io/a/b/c:latest", "localhost/a/b/c:latest", "a/b/c"),
        ("quay.io/hello", "quay.io/hello:latest", "quay.io/hello:latest", "quay.io/hello"),
        ("localhost/hello:v1", "localhost/hello:v1", "localhost/hello:v1", "localhost/hello"),
        ("host:5000/hello", "host:5000/hello:latest", "host:5000/hello:latest", "host:5000/hello"),
        ("[::1]:5000/a", "[::1]:5000/a:latest", "[::1]:5000/a:latest", "[::1]:5000/a"),
        ("docker.io/a", "docker.io/library/a:latest", "docker.io/library/a:latest", "docker.io/a"),
        (f"a/b@{DIGEST}", f"docker.io/a/b@{DIGEST}", f"localhost/a/b@{DIGEST}", "a/b"),
        (f"a/b:v1@{DIGEST}", f"docker.io/a/b@{DIGEST}", f"localhost/a/b@{DIGEST}", "a/b"),
        ("docker://h.example/a:b", "h.example/a:b", "h.example/a:b", "h.example/a"),
        ("docker-daemon:a:b", "docker.io/library/a:b", "localhost/a:b", "a"),
    ],
)  # fmt: skip
def test_name_is_completed_as_docker_does(text: str, registry: str, storage: str, short: str) -> None:
    """A name without host is Docker Hub's, or buildah's localhost; without tag it is latest."""
    name = ImageName.parse(text)
    assert (name.in_registry, name.in_storage[0], name.short) == (registry, storage, short)
    assert image_named(text) == name


def test_store_may_know_a_short_name_by_two_hosts() -> None:
    """What buildah built comes before what Docker Hub had; a host in the name leaves no choice."""
    assert ImageName.parse("hello").in_storage == ("localhost/hello:latest", "docker.io/library/hello:latest")
    assert ImageName.parse("quay.io/a").in_storage == ("quay.io/a:latest",)


def test_the_stores_own_notation_is_left_to_skopeo() -> None:
    """A driver and directories before the name, or an id, are not ours to read."""
    for text in ("containers-storage:[vfs@/a+/b]localhost/x:1", "containers-storage:@0123456789ab"):
        assert ImageName.parse(text).in_storage == (text.partition(":")[2],)
    assert ImageName.parse("containers-storage:[vfs@/a+/b]localhost/x:1").short == "localhost/x"
    assert ImageName.parse("containers-storage:@0123456789ab").short == ""


@pytest.mark.parametrize(
    "text",
    [
        "", ":", "-v", "Hello", "a//b", "a/", "/a", "a:", "a:-b", "a b", "a\nb", "a\x1b[2J", "../a", "./a",
        "a:b:c", "a@sha256:12", "a" * 1025, "docker://", "docker://--creds=x", "docker-daemon:-a", "ä",
        "docker://a?b", "containers-storage:a b",
    ],
)  # fmt: skip
def test_what_is_no_name_is_refused(text: str) -> None:
    """Options, paths, control characters and upper case are one sentence, before any program is started."""
    with pytest.raises(FetchError, match="is no image's name"):
        ImageName.parse(text)


def test_files_and_paths_are_not_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a prefix or the first characters make a path, and what exists, is the builder's to read."""
    monkeypatch.chdir(tmp_path)
    assert image_named("hello") is not None
    (tmp_path / "hello").mkdir()
    for source in ("hello", "./other", "../other", "/other", "~other", "Other", "a b"):
        assert image_named(source) is None
    with pytest.raises(FetchError, match="is no image's name"):
        image_named("docker://A")


@pytest.mark.parametrize("prefix", ["dir", "tar", "oci", "oci-archive", "docker-archive"])
def test_builder_and_fetcher_agree_on_what_is_local(prefix: str, tmp_path: Path) -> None:
    """A prefix that the builder reads is not looked for, although the whole would be an image's name too."""
    assert is_local(f"{prefix}:x")
    assert image_named(f"{prefix}:x") is None
    assert SourceName.parse(f"{prefix}:{tmp_path}").transport == prefix
