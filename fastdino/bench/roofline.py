"""What a training step costs on paper, beside the limits of cards.

Belongs here: counting a step's parameters, operations and bytes from its settings, and the times
that a card's limits leave for them. Does not: measuring anything (``gpu``); needs no torch.

Two things bound a step: how fast a card multiplies and how fast it moves bytes. The longer of the
two times is what a program cannot go below that makes a kernel of each product and of each chain of
operations on single elements. A third bound is how fast the host hands over kernels: not counted.
"""

from dataclasses import dataclass

from fastdino.training.settings import EncoderSettings, TrainingSettings

# Of the head of the default objective, see ``training.objectives.fastdino``.
HEAD_HIDDEN, HEAD_WIDTH, EVERY, HEAD_POSITIONS = 512, 128, 4, 16
# Muon's iterations to make an update orthogonal.
MUON_ITERATIONS = 5
BACKWARD = 2  # times the operations of a forward pass
# Bytes that a block moves for each position and channel if every chain of operations on single
# elements is one kernel; the residual is in float32, what is multiplied in bfloat16. The perceptron
# of the last block is only at positions that are asked for. Forward: convolution and norm read 4
# and write 2, expanding reads 2 and writes 8, contracting reads 8 and writes 2, the residual reads
# 6 and writes 4. Backward: each of the two products reads its gradient twice and its input, and
# writes another (20 each), convolution and norm move 14, the residual 8.
CONVOLUTION_BYTES, PERCEPTRON_BYTES = 6 + 14, 30 + 48
# The same of what merges positions, for each number that goes in or comes out.
MERGE_BYTES = 3 * 2
# A parameter's weight, gradient and momentum are read, weight and momentum written, in float32;
# each of Muon's iterations passes over it in bfloat16 some eight times.
PARAMETER_BYTES = 5 * 4
MUON_BYTES = MUON_ITERATIONS * 8 * 2


@dataclass(frozen=True)
class Card:
    """What its maker says that a card can do at most.

    Attributes:
        name: what it is called.
        flops: dense bfloat16 matrix operations a second.
        bytes_per_s: to and from its memory.
    """

    name: str
    flops: float
    bytes_per_s: float


CARDS = (
    Card("H100 SXM", 989e12, 3.35e12),
    Card("A100 80GB SXM", 312e12, 2.04e12),
    Card("RTX 4090", 165e12, 1.01e12),
)


@dataclass(frozen=True)
class StepCost:
    """What one step of the default objective costs.

    Attributes:
        parameters: that are learned, encoder and head.
        flops: operations of the encoder, forward and backward.
        other_flops: those of the head, the loss and the optimiser.
        moved_bytes: what goes to and from memory at the least, see ``CONVOLUTION_BYTES``.
    """

    parameters: int
    flops: float
    other_flops: float
    moved_bytes: float

    def seconds(self, card: Card) -> tuple[float, float]:
        """The least that a step takes on a card: for its operations, and for its bytes."""
        return (self.flops + self.other_flops) / card.flops, self.moved_bytes / card.bytes_per_s


def step_cost(settings: TrainingSettings, frames_per_s: float) -> StepCost:
    """Count what one step costs.

    Args:
        settings: the recipe; its objective is the default one.
        frames_per_s: of the spectrograms.
    """
    shape = settings.encoder
    crops = settings.songs * settings.crops
    frames = round(settings.crop_s * frames_per_s)
    head = [(shape.dim, HEAD_HIDDEN), (HEAD_HIDDEN, HEAD_WIDTH)]
    matrices = [*encoder_matrices(shape), *head]
    parameters = sum(a * b + b for a, b in matrices) + _other_parameters(shape)
    projected = 2 * crops * (frames / shape.stride / EVERY) * sum(a * b for a, b in head)
    answers = 2 * crops * HEAD_POSITIONS * settings.songs * HEAD_WIDTH
    muon = sum(
        MUON_ITERATIONS * 2 * min(a, b) ** 2 * (2 * max(a, b) + min(a, b)) for a, b in matrices
    )
    return StepCost(
        parameters,
        shape.learning_flops(crops * frames, EVERY),
        (1 + BACKWARD) * (projected + answers) + (muon if settings.optimizer == "muon" else 0),
        _activation_bytes(shape, crops * frames)
        + 2 * crops * frames * shape.n_mels
        + parameters * (PARAMETER_BYTES + (MUON_BYTES if settings.optimizer == "muon" else 0)),
    )


def encoder_matrices(shape: EncoderSettings) -> list[tuple[int, int]]:
    """Inputs and outputs of every matrix of an encoder."""
    matrices, before = [], shape.n_mels
    for width, depth, stride in zip(shape.widths, shape.depths, shape.strides, strict=True):
        hidden = shape.expansion * width
        matrices += [(stride * before, width), *[(width, hidden), (hidden, width)] * depth]
        before = width
    return matrices


def _other_parameters(shape: EncoderSettings) -> int:
    """Those of an encoder that are in no matrix and no matrix's bias."""
    blocks = sum(
        depth * width * (shape.kernel + 1 + 2 + 1)  # convolution, norm, scale
        for width, depth in zip(shape.widths, shape.depths, strict=True)
    )
    return blocks + 2 * (shape.widths[0] + sum(shape.widths))


def _activation_bytes(shape: EncoderSettings, n_frames: int) -> float:
    total, positions, before = 0.0, float(n_frames), shape.n_mels
    for width, depth, stride in zip(shape.widths, shape.depths, shape.strides, strict=True):
        positions /= stride
        block = width * (CONVOLUTION_BYTES + PERCEPTRON_BYTES)
        total += positions * (depth * block + (stride * before + width) * MERGE_BYTES)
        before = width
    return total - (1 - 1 / EVERY) * positions * before * PERCEPTRON_BYTES
