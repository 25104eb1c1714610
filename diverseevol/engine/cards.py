"""What GPUs can do by their vendors' data sheets: peaks of dense products, memory, bandwidth. No peak is ever reached.

NVIDIA's sheets print the peaks of half precision for matrices of which half the entries are zero: what counts here is
half of that. Consumer cards: products in half precision that are summed in float32.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from diverseevol.errors import InputError, meant

RESERVED = 1.5e9  # bytes that CUDA, its libraries and fragments of memory take


@dataclass(frozen=True)
class Card:
    """A GPU.

    Attributes:
        half: peak of dense products in bfloat16 (float16 where it has no bfloat16), in TFLOP/s.
        float32: peak of products in float32, in TFLOP/s.
        memory: GB.
        bandwidth: of its memory, in GB/s.
        source: where these numbers are printed.
        reported: what torch calls it.
        bfloat16: whether it multiplies bfloat16.
    """

    half: float
    float32: float
    memory: float
    bandwidth: float
    source: str = "given by the user"
    reported: tuple[str, ...] = ()
    bfloat16: bool = True

    def __post_init__(self) -> None:
        for name in ("half", "float32", "memory", "bandwidth"):
            if not getattr(self, name) > 0:
                raise InputError(f"card.{name} is {getattr(self, name)}; it must be above 0")

    def peak(self, arithmetic: int) -> float:
        """FLOP/s of products of numbers of so many bytes."""
        return 1e12 * (self.half if arithmetic == 2 else self.float32)

    @property
    def usable(self) -> float:
        """Bytes that a program can use."""
        return 1e9 * self.memory - RESERVED


CARDS: Mapping[str, Card] = MappingProxyType({
    "H200": Card(
        989, 67, 141, 4800, "NVIDIA H200 Tensor Core GPU data sheet", ("NVIDIA H200",)
    ),
    "H100": Card(
        989, 67, 80, 3350, "NVIDIA H100 Tensor Core GPU data sheet, SXM", ("NVIDIA H100 80GB HBM3",)
    ),
    "H100-PCIe": Card(
        756, 51, 80, 2000, "NVIDIA H100 PCIe GPU product brief", ("NVIDIA H100 PCIe",)
    ),
    "H100-NVL": Card(
        835, 60, 94, 3900, "NVIDIA H100 Tensor Core GPU data sheet, NVL", ("NVIDIA H100 NVL",)
    ),
    "A100-80GB": Card(
        312, 19.5, 80, 2039, "NVIDIA A100 Tensor Core GPU data sheet, SXM", ("NVIDIA A100-SXM4-80GB",)
    ),
    "A100-80GB-PCIe": Card(
        312, 19.5, 80, 1935, "NVIDIA A100 Tensor Core GPU data sheet, PCIe", ("NVIDIA A100 80GB PCIe",)
    ),
    "A100-40GB": Card(
        312, 19.5, 40, 1555, "NVIDIA A100 Tensor Core GPU data sheet of 2020",
        ("NVIDIA A100-SXM4-40GB", "NVIDIA A100-PCIE-40GB"),
    ),
    "L40S": Card(362, 91.6, 48, 864, "NVIDIA L40S data sheet", ("NVIDIA L40S",)),
    "L4": Card(121, 30.3, 24, 300, "NVIDIA L4 Tensor Core GPU data sheet", ("NVIDIA L4",)),
    "A10": Card(125, 31.2, 24, 600, "NVIDIA A10 Tensor Core GPU data sheet", ("NVIDIA A10",)),
    "A10G": Card(70, 35, 24, 600, "NVIDIA A10G data sheet for AWS", ("NVIDIA A10G",)),
    "RTX-5090": Card(
        209.5, 104.8, 32, 1792, "NVIDIA RTX Blackwell GPU architecture white paper", ("NVIDIA GeForce RTX 5090",)
    ),
    "RTX-4090": Card(
        165.2, 82.6, 24, 1008, "NVIDIA Ada GPU architecture white paper", ("NVIDIA GeForce RTX 4090",)
    ),
    "RTX-3090": Card(
        71, 35.6, 24, 936, "NVIDIA Ampere GA102 GPU architecture white paper", ("NVIDIA GeForce RTX 3090",)
    ),
    "V100-32GB": Card(
        125, 15.7, 32, 900, "NVIDIA V100 Tensor Core GPU data sheet, SXM2", ("Tesla V100-SXM2-32GB",), False
    ),
    "V100-16GB": Card(
        125, 15.7, 16, 900, "NVIDIA V100 Tensor Core GPU data sheet, SXM2", ("Tesla V100-SXM2-16GB",), False
    ),
    "T4": Card(65, 8.1, 16, 300, "NVIDIA T4 Tensor Core GPU data sheet", ("Tesla T4",), False),
    "MI300X": Card(1307.4, 163.4, 192, 5300, "AMD Instinct MI300X accelerator data sheet", ("AMD Instinct MI300X",)),
})  # fmt: skip


def card_named(name: str) -> Card:
    """A card of the table.

    Raises:
        InputError: there is none of that name.
    """
    if name not in CARDS:
        raise InputError(
            f"card={name}: not in the table{meant(name, CARDS)}; choose from {', '.join(CARDS)}, or give its data "
            f"sheet's numbers: 'card={{half: TFLOP/s, float32: TFLOP/s, memory: GB, bandwidth: GB/s}}'"
        )
    return CARDS[name]


def card_reported(device: str) -> str | None:
    """The name in the table of what torch reports; None where it is not there, for nothing is guessed."""
    return next((name for name, card in CARDS.items() if device in card.reported), None)
