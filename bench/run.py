"""Run the benches named on the command line, or all of them."""

import sys

from boot import bench_boot
from describe import bench_describe
from documents import bench_documents
from images import bench_images
from verifications import bench_verifications

BENCHES = {
    "boot": bench_boot,
    "describe": bench_describe,
    "documents": bench_documents,
    "images": bench_images,
    "verifications": bench_verifications,
}

if __name__ == "__main__":
    names = sys.argv[1:] or list(BENCHES)
    if unknown := [name for name in names if name not in BENCHES]:
        sys.exit(f"bench: no bench is called {unknown[0]!r}; there are {', '.join(BENCHES)}")
    for name in names:
        BENCHES[name]()
