"""Apple's chips: what a plan needs to know of them, and where it is from.

What this file is: a table. What it is not: measurements; nothing here was run on a Mac.

Bandwidth, GPU cores and memory are those of Apple's newsroom (apple.com/newsroom) and
technical specifications (support.apple.com/en-us/NUMBER), named above each row. They
were compared in November 2026 with public collections of those pages, not with the
pages themselves. Apple gives operations per second for two chips only, 2.6 and 3.6
TFLOPS for M1 and M2; they are cores × 128 lanes × 2 × clock, and so are all others
here, with clocks that third parties give (MacRumors' forum, hmc-tech.com). Half and
single precision are equally fast. An M5 has matrix units beside the lanes: "over 4x the
peak GPU compute for AI" of an M4 with as many cores (Apple, October 2025 and March
2026).
"""

from dataclasses import dataclass

from mm15_mlx.config import UserError

# What a Mac lets the GPU use of its memory: MLX's recommended working set is about
# that; `sudo sysctl iogpu.wired_limit_mb=N` raises it.
GPU_SHARE = 0.75
# Of the peak, what is reached: our assumption, measured by nobody here. The public
# table to check it against is llama.cpp's discussion 4167 (LLaMA-7B on Apple chips).
COMPUTE, BANDWIDTH = 0.6, 0.6
LAYER_S = 50e-6  # a layer's kernels cost at least this per token (our assumption)
# GHz. Third parties' for M1 to M4 (M4: 1.47 to 1.68 are found); that of M5 is M4's,
# assumed.
_CLOCKS = {"m1": 1.296, "m2": 1.398, "m3": 1.398, "m4": 1.578, "m5": 1.578}  # GHz
_MATRIX = {"m5": 4.0}  # times the lanes


@dataclass(frozen=True)
class Rates:
    """What a machine does in a second: operations of each phase, bytes of a step; and
    the seconds that each layer's step costs beside its bytes."""

    encode: float
    connect: float
    prefill: float
    step_bytes: float
    layer_s: float = 0.0


@dataclass(frozen=True)
class Chip:
    """One kind of a chip: GB/s, GPU cores, and the memory (GB) it is sold with."""

    name: str
    bandwidth: float
    cores: int
    memory: tuple[int, ...]

    @property
    def tflops(self) -> float:
        family = self.name[:2]
        lanes = self.cores * 128 * 2 * _CLOCKS[family] / 1e3
        return lanes * _MATRIX.get(family, 1.0)

    @property
    def rates(self) -> Rates:
        flop = self.tflops * 1e12 * COMPUTE
        return Rates(flop, flop, flop, self.bandwidth * 1e9 * BANDWIDTH, LAYER_S)


CHIPS = (
    # Newsroom, 10 November 2020, "Apple unleashes M1"; 111883. Apple names no
    # bandwidth: LPDDR4X-4266 on 128 bits (Wikipedia, Apple M1).
    Chip("m1", 68, 8, (8, 16)),
    # Newsroom, 18 October 2021, "Introducing M1 Pro and M1 Max".
    Chip("m1-pro", 200, 16, (16, 32)),
    Chip("m1-max", 400, 32, (32, 64)),
    # Newsroom, 8 March 2022, "Apple unveils M1 Ultra".
    Chip("m1-ultra", 800, 64, (64, 128)),
    # Newsroom, 6 June 2022, "Apple unveils M2".
    Chip("m2", 100, 10, (8, 16, 24)),
    # Newsroom, 17 January 2023, "Apple unveils M2 Pro and M2 Max".
    Chip("m2-pro", 200, 19, (16, 32)),
    Chip("m2-max", 400, 38, (32, 64, 96)),
    # Newsroom, 5 June 2023, "Apple introduces M2 Ultra".
    Chip("m2-ultra", 800, 76, (64, 128, 192)),
    # Newsroom, 30 October 2023, "Apple unveils M3, M3 Pro, and M3 Max"; 117735 (M3),
    # 117736 and 117737 (Pro and Max).
    Chip("m3", 100, 10, (8, 16, 24)),
    Chip("m3-pro", 150, 18, (18, 36)),
    Chip("m3-max", 300, 30, (36, 96)),
    Chip("m3-max", 400, 40, (48, 64, 128)),
    # Newsroom, 5 March 2025, "Apple reveals M3 Ultra"; 122211.
    Chip("m3-ultra", 819, 80, (96, 256, 512)),
    # Newsroom, 7 May 2024, "Apple introduces M4 chip"; the bandwidth: the next.
    Chip("m4", 120, 10, (16, 24, 32)),
    # Newsroom, 30 October 2024, "Apple introduces M4 Pro and M4 Max"; 121553, 121554.
    Chip("m4-pro", 273, 20, (24, 48, 64)),
    Chip("m4-max", 410, 32, (36,)),
    Chip("m4-max", 546, 40, (48, 64, 128)),
    # Newsroom, 15 October 2025, "Apple unleashes M5"; 126320.
    Chip("m5", 153, 10, (16, 24, 32)),
    # Newsroom, 3 March 2026, "Apple debuts M5 Pro and M5 Max"; 126318.
    Chip("m5-pro", 307, 20, (24, 48, 64)),
    Chip("m5-max", 460, 32, (36,)),
    Chip("m5-max", 614, 40, (48, 64, 128)),
)


def names() -> list[str]:
    """Every chip's name, once, in order."""
    return list(dict.fromkeys(chip.name for chip in CHIPS))


def find(name: str, memory_gb: float | None) -> Chip:
    """The chip of that name and memory (GB); without one, the fullest kind of it.

    Raises UserError with the names, or with the memory that the chip is sold with.
    """
    kinds = [chip for chip in CHIPS if chip.name == name]
    if not kinds:
        raise UserError(f"--chip is {name!r}; it must be cpu, {', '.join(names())}")
    if memory_gb is None:
        return kinds[-1]
    for chip in kinds:
        if memory_gb in chip.memory:
            return chip
    sold = ", ".join(str(size) for chip in kinds for size in chip.memory)
    raise UserError(f"--memory-gb is {memory_gb:g}; an {name} is sold with {sold} GB")


def named(device: str) -> str | None:
    """The table's name of a device as MLX calls it, `Apple M4 Max`; None: not in it."""
    name = device.lower().removeprefix("apple ").strip().replace(" ", "-")
    return name if name in names() else None
