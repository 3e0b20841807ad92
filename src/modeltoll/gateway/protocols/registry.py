"""All serving protocols by name. A new one is one file and one line here, or an entry point ``modeltoll.protocols``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from modeltoll.names import EMBEDDINGS, SCORE_KINDS, TOKENS
from modeltoll.plugins import Registry

if TYPE_CHECKING:
    from modeltoll.plugins import Factory

__all__ = ["PROTOCOLS", "SAMPLE_BEGINNING", "SAMPLE_TEXT", "ProtocolSpec"]

_HERE = "modeltoll.gateway.protocols"
SAMPLE_TEXT = "The quick brown fox jumps over the lazy dog."  # of sample requests
SAMPLE_BEGINNING = "The quick brown fox"  # of those that are to be continued


@dataclass(frozen=True, slots=True, eq=False)
class ProtocolSpec:
    """The properties of a protocol that settings, assembly, ``init`` and ``check`` use before it is made.

    ``factory`` makes a ``ServingProtocol`` of that name; its keyword arguments are the options of the settings. It raises
    ``SettingsError`` where it cannot. ``kinds`` are the output kinds that it can serve. ``names_model``: requests name
    their model in the member ``model`` of the body. ``texts``: inputs are texts, not rows of numbers. ``sample`` is a
    harmless request without ``model``; None where ``ask`` writes one of rows. ``needs_output`` and ``needs_labels``:
    settings must give ``output.name`` or ``output.labels``. ``json_path``: the options are the section ``json_path``.
    ``named_inputs``: requests name the model's inputs, so that settings should declare them.

    ``discover`` is, or names, ``async (probe: Probe, model: str | None) -> Sequence[DiscoveredModel]``: the models of a
    server that speaks the protocol, or the one that is named. The first result that is not empty is used: built-in
    protocols are tried in the order of their lines, then those of other packages.
    """

    name: str
    factory: Factory
    kinds: tuple[str, ...] = SCORE_KINDS
    names_model: bool = False
    texts: bool = False
    sample: Mapping[str, object] | None = None
    needs_output: bool = False
    needs_labels: bool = False
    json_path: bool = False
    named_inputs: bool = False
    discover: Factory | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """Its one name."""
        return (self.name,)


PROTOCOLS: Registry[ProtocolSpec] = Registry(
    "protocol",
    "modeltoll.protocols",
    ProtocolSpec,
    (
        ProtocolSpec(
            "oip",
            f"{_HERE}.oip:OpenInference",
            needs_output=True,
            named_inputs=True,
            discover=f"{_HERE}.discoverers:oip",
        ),
        ProtocolSpec(
            "labels",
            f"{_HERE}.label_lists:LabelLists",
            kinds=("probabilities", "logits"),
            texts=True,
            sample={"inputs": SAMPLE_TEXT},
            needs_labels=True,
            discover=f"{_HERE}.discoverers:text_embeddings_inference",
        ),
        ProtocolSpec(
            "vllm-classify",
            f"{_HERE}.vllm_classify:VllmClassify",
            names_model=True,
            texts=True,
            sample={"input": SAMPLE_TEXT},
            discover=f"{_HERE}.discoverers:openai",
        ),
        ProtocolSpec(
            "openai-embeddings",
            f"{_HERE}.openai_embeddings:OpenAIEmbeddings",
            kinds=(EMBEDDINGS,),
            names_model=True,
            texts=True,
            sample={"input": SAMPLE_TEXT},
        ),
        ProtocolSpec(
            "openai-chat",
            f"{_HERE}.openai_chat:OpenAIChat",
            kinds=(TOKENS,),
            names_model=True,
            texts=True,
            sample={"messages": [{"role": "user", "content": SAMPLE_TEXT}], "max_tokens": 8},
        ),
        ProtocolSpec(
            "openai-completions",
            f"{_HERE}.openai_completions:OpenAICompletions",
            kinds=(TOKENS,),
            names_model=True,
            texts=True,
            sample={"prompt": SAMPLE_BEGINNING, "max_tokens": 8},
        ),
        ProtocolSpec(
            "openai-responses",
            f"{_HERE}.openai_responses:OpenAIResponses",
            kinds=(TOKENS,),
            names_model=True,
            texts=True,
            sample={"input": SAMPLE_TEXT, "max_output_tokens": 16},
        ),
        ProtocolSpec(
            "openai",
            f"{_HERE}.openai_text:OpenAIText",
            kinds=(TOKENS,),
            names_model=True,
            texts=True,
            sample={"messages": [{"role": "user", "content": SAMPLE_TEXT}], "max_tokens": 8},
        ),
        ProtocolSpec(
            "v1", f"{_HERE}.tensorflow_serving:TensorFlowServing", named_inputs=True, discover=f"{_HERE}.discoverers:v1"
        ),
        ProtocolSpec(
            "mlflow", f"{_HERE}.mlflow:MlflowScoring", named_inputs=True, discover=f"{_HERE}.discoverers:mlflow"
        ),
        ProtocolSpec("json", f"{_HERE}.json_path:from_settings", json_path=True),
    ),
)
