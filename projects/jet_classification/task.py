"""Which particle started this jet? Five classes from the hardest constituents, for a trigger at the LHC."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np

from codesign.blocks.deep_sets import DeepSets
from codesign.blocks.dense import Dense
from codesign.blocks.linear_interaction import LinearInteraction
from codesign.blocks.mlp_mixer import MlpMixer
from codesign.core.architecture import Architecture
from codesign.core.errors import InvalidValueError, unknown_name
from codesign.core.plugins import load_sibling
from codesign.core.space import Repeat, SearchSpace, one_of, ordered
from codesign.core.task import Data, Objective, Task

CLASSES = ("gluon", "quark", "W", "Z", "top")
PARTICLES = (8, 16, 32, 64)  # powers of two, over which a mean is exact in hardware


def task(particles: int = 8, space: str = "buildable") -> Task:
    """Return the task.

    Args:
        particles: How many of the hardest constituents of each jet are used.
        space: "buildable", or "deep_sets" for the part of it that is the founding paper's.

    Raises:
        InvalidValueError: The number of particles is not one that is benchmarked.
        UnknownNameError: There is no such space.
    """
    if particles not in PARTICLES:
        allowed = ", ".join(map(str, PARTICLES))
        raise InvalidValueError(f"The jets have {particles} particles; allowed: {allowed}.")
    if space not in SPACES:
        raise unknown_name("search space of jet_classification", space, SPACES)
    options = {"particles": particles, "space": space}
    defaults = zip(options.items(), task.__defaults__ or (), strict=True)
    changed = [f"{key}={value}" for (key, value), default in defaults if value != default]
    return Task(
        name=Path(__file__).parent.name + (":" if changed else "") + ",".join(changed),
        title=f"Jet classification from {particles} particles",
        input_shape=(particles, 3),
        input_meaning=("pt / (p95 - p5)", "eta_rel / (p95 - p5)", "phi_rel / (p95 - p5)"),
        output_meaning=CLASSES,
        load=partial(_load, particles=particles),
        loss="cross_entropy",
        score=score,
        objectives=(Objective("error"), Objective("lut_estimate", limit=200_000)),
        space=SPACES[space](particles),
        baselines=baselines(particles),
        source="doi:10.5281/zenodo.3602260; arXiv 2402.01876; arXiv 2501.05515",
    )


def _load(folder: Path, particles: int) -> Data:
    data: Data = load_sibling(__file__, "data").load(folder, particles)
    return data


def score(outputs: np.ndarray, targets: np.ndarray) -> dict[str, float]:
    """Return accuracy and error of class scores (n, 5) against class indices (n,)."""
    accuracy = float(np.mean(outputs.argmax(axis=1) == targets))
    return {"accuracy": accuracy, "error": 1.0 - accuracy}


def deep_sets_space(particles: int) -> SearchSpace:
    """Return the paper's Deep Sets space, and beside it networks that see the particles in their order.

    The first block is either Deep Sets (phi of 1 to 4 layers, the last one its bottleneck) or a dense layer on all
    particles at once; 0 to 3 dense layers and the output follow. GELU is left out, since its lookup tables cost
    more than a leaky ReLU, and layer norms, since no hardware view builds them exactly.

    Source: Weitz et al., arXiv 2501.05515, section 4.2.
    """
    width = ordered(4, 8, 16, 32, 64, 128)
    activation, norm = one_of("relu", "leaky_relu"), one_of("none", "batch")
    dense = Dense(width, activation, norm)
    bottleneck = ordered(1, 2, 4, 8, 16, 32, 64)
    phi = (Repeat(width, (0, 1, 2, 3)), bottleneck)
    deep_sets = DeepSets(phi, activation, norm, aggregation=one_of("mean", "max"))
    return SearchSpace((particles, 3), (one_of(deep_sets, dense), Repeat(dense, (0, 1, 2, 3)), Dense(5, "identity")))


def buildable_space(particles: int) -> SearchSpace:
    """Return the Deep Sets space with, in front of it, what tells particles of one another: today's best jet networks.

    First stands nothing, or one or two linear interactions that sum up all particles alike or weigh each by its place
    in the order of transverse momentum, or an MLP mixer.

    Source: Que et al., JEDI-linear, arXiv 2508.15468; Sun et al., MLP-Mixers on FPGAs, arXiv 2503.03103.
    """
    activation, norm = one_of("relu", "leaky_relu"), one_of("none", "batch")
    interaction = LinearInteraction(ordered(4, 8, 16, 32), one_of("mean", "ordered"), activation, norm)
    mixer = MlpMixer(ordered(4, 8, 16), ordered(4, 8, 16), activation, norm)
    deep_sets = deep_sets_space(particles)
    first = one_of(None, Repeat(interaction, (1, 2)), mixer)
    return SearchSpace(deep_sets.input_shape, (first, *deep_sets.blocks))


SPACES = {"buildable": buildable_space, "deep_sets": deep_sets_space}
ODAGIU_MLP = {
    8: (120, 60, 32, 64, 64, 64, 32, 44),
    16: (88, 88, 44, 44, 44),
    32: (84, 88, 32, 32, 44, 32, 44),
}  # hidden widths for each number of particles, as the authors' code configures them: fastmachinelearning/l1-jet-id


def baselines(particles: int = 8) -> dict[str, Architecture]:
    """Return the published networks; the Deep Sets with the widths they have for 8 particles.

    Batch norms of the Deep Sets act on the particle axis in phi and on features in rho, and their last layer has an
    activation. Two have a GELU, built as a table; their leaky ReLU has a slope of 0.01, here it has 1/8.

    Source: Odagiu et al., arXiv 2402.01876 (its MLP, which has other widths for each number of particles and none for
    64, and its Deep Sets as Weitz et al. express it); Weitz et al., arXiv 2501.05515 (large to tiny, from its log).
    """
    relu, leaky, gelu, batch, none = "relu", "leaky_relu", "gelu", "batch", "none"
    rows = {
        "odagiu_deep_sets": (
            DeepSets((32, 32, 32), relu, none),
            Dense(16, relu), Dense(5, gelu),
        ),
        "nac_large": (
            DeepSets((32, 32), relu, batch, norm_axis=0),
            Dense(32, relu, batch), Dense(64, relu), Dense(5, leaky, batch),
        ),
        "nac_medium": (
            DeepSets((32, 16), relu, batch, norm_axis=0),
            Dense(64, relu, batch), Dense(8, leaky, batch), Dense(32, relu, batch), Dense(5, relu, batch),
        ),
        "nac_small": (
            DeepSets((8, 8), (leaky, relu), (batch, none), norm_axis=0),
            Dense(16, leaky, batch), Dense(16, relu, batch), Dense(5, leaky),
        ),
        "nac_tiny": (
            DeepSets((16,), relu, batch, norm_axis=0),
            Dense(8, relu, batch), Dense(8, gelu), Dense(4, relu), Dense(5, relu, batch),
        ),
    }  # fmt: skip
    if particles in ODAGIU_MLP:
        rows["odagiu_mlp"] = (*map(Dense, ODAGIU_MLP[particles]), Dense(5, "identity"))
    return {name: Architecture((particles, 3), blocks) for name, blocks in rows.items()}
