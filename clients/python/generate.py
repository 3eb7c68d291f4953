"""Generates the Python client from proto/ into a folder: generate.py FOLDER."""

import sys
from importlib.resources import files
from pathlib import Path

from grpc_tools import protoc

PROTO = Path(__file__).resolve().parents[2] / "proto"


def main() -> int:
    if len(sys.argv) != 2:
        print("usage: generate.py FOLDER", file=sys.stderr)
        return 2
    out = Path(sys.argv[1])
    out.mkdir(parents=True, exist_ok=True)
    # google/api comes with googleapis-common-protos, so only our own protos are generated.
    ours = sorted(str(path) for path in PROTO.glob("xmpp/**/*.proto"))
    return protoc.main(
        [
            "protoc",
            f"--proto_path={PROTO}",
            f"--proto_path={files('grpc_tools') / '_proto'}",
            f"--python_out={out}",
            f"--pyi_out={out}",
            f"--grpc_python_out={out}",
            *ours,
        ]
    )


if __name__ == "__main__":
    sys.exit(main())
