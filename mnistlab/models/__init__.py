"""The 28 experiments by family, the controls, and `build`, which makes a model."""

from mnistlab.models import conv2, conv3, conv5, conv7, mlp
from mnistlab.models.controls import CONTROLS
from mnistlab.models.experiment import Experiment, build

FAMILIES: dict[str, tuple[Experiment, ...]] = {
    "mlp": mlp.FAMILY,
    "conv2": conv2.FAMILY,
    "conv3": conv3.FAMILY,
    "conv5": conv5.FAMILY,
    "conv7": conv7.FAMILY,
}
COLLECTION = {experiment.name: experiment for experiment in sum(FAMILIES.values(), ())}
