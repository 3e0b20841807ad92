"""A small machine for the target of file types: a folder of files, and an installed model with the layout of ``magika``."""

from __future__ import annotations

import json

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

TYPES = ("python", "json", "png", "elf", "txt", "randombytes")
ENDINGS = {"python": ["py"], "json": ["json"], "png": ["png"], "elf": ["elf"], "txt": ["txt"], "randombytes": []}
_WIDTH = 2048


def write_files(folder, count, rng):
    """``count`` different files of each of five endings, and as many without one that begin as ELF binaries do."""
    for number in range(count):
        words = " ".join(f"name_{value}" for value in rng.integers(1000, size=60))
        for name, data in {
            f"m{number}.py": f"import os\ndef f{number}():\n    return '{words}'\n".encode(),
            f"d{number}.json": json.dumps({"id": number, "values": words.split()}).encode(),
            f"i{number}.png": b"\x89PNG\r\n\x1a\n" + rng.integers(256, size=700, dtype=np.uint8).tobytes(),
            f"t{number}.txt": f"{number} {words[:400]}.".encode(),
            f"n{number}.cfg": f"{number} = {words[:50]}".encode(),
            f"b{number}": b"\x7fELF" + rng.integers(40, size=3000, dtype=np.uint8).tobytes(),
        }.items():
            (folder / name).write_bytes(data)


def install_model(site):
    """A package ``magika`` with a model that tells types by their first byte: scores (n, 6) of ``bytes`` (n, 2048)."""
    model, config = site / "magika" / "models" / "tiny", site / "magika" / "config"
    model.mkdir(parents=True)
    config.mkdir()
    (site / "magika" / "__init__.py").write_text("")
    settings = {"beg_size": 1024, "end_size": 1024, "target_labels_space": list(TYPES)}
    (model / "config.min.json").write_text(json.dumps(settings))
    known = {name: {"extensions": endings} for name, endings in ENDINGS.items()}
    (config / "content_types_kb.min.json").write_text(json.dumps(known))
    onnx.save(_first_byte_model(), model / "model.onnx")


def _first_byte_model():
    """Softmax of logits that a table has for the first code, the sharper the larger the mean of all codes."""
    table = np.zeros((257, len(TYPES)), np.float32)
    table[:, TYPES.index("randombytes")] = 1.0
    for byte, name in (
        (ord("i"), "python"),
        (ord("{"), "json"),
        (0x89, "png"),
        (0x7F, "elf"),
        *((ord(c), "txt") for c in "0123456789"),
    ):
        table[byte, TYPES.index(name)] = 5.0
    nodes = [
        helper.make_node("Gather", ["bytes", "zero"], ["first"], axis=1),
        helper.make_node("Gather", ["table", "first"], ["looked_up"], axis=0),
        helper.make_node("Cast", ["bytes"], ["numbers"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["numbers"], ["mean"], axes=[1], keepdims=1),
        helper.make_node("Mul", ["mean", "scale"], ["sharpness"]),
        helper.make_node("Mul", ["looked_up", "sharpness"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["target_label"], axis=1),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("bytes", TensorProto.INT32, ["n", _WIDTH])],
        [helper.make_tensor_value_info("target_label", TensorProto.FLOAT, ["n", len(TYPES)])],
        [
            numpy_helper.from_array(np.array(0, np.int64), "zero"),
            numpy_helper.from_array(np.array(1 / 128, np.float32), "scale"),
            numpy_helper.from_array(table, "table"),
        ],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
