"""What may happen to bytes on their way: overwritten, cut, doubled, moved."""

from hypothesis import strategies as st


@st.composite
def damaged(draw: st.DrawFn, original: bytes, *, hot: int = 0) -> bytes:
    """Return the bytes after one to four changes; half of them fall into the first ``hot`` bytes."""
    data = bytearray(original)
    for _ in range(draw(st.integers(1, 4))):
        last = max(len(data) - 1, 0)
        places = st.integers(0, last) if not hot else st.integers(0, min(hot, last)) | st.integers(0, last)
        at, size = draw(places), draw(st.sampled_from([1, 1, 1, 2, 4, 8, 12]))
        match draw(
            st.sampled_from(["overwrite", "overwrite", "overwrite", "flip", "cut", "insert", "double"])
        ):
            case "overwrite":
                data[at : at + size] = draw(st.binary(min_size=size, max_size=size))
            case "flip" if data:
                data[at] ^= 1 << draw(st.integers(0, 7))
            case "cut":
                del data[at : at + size]
            case "insert":
                data[at:at] = draw(st.binary(min_size=1, max_size=size))
            case "double":
                data[at:at] = data[at : at + size]
    return bytes(data)
