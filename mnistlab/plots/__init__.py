"""Draw digits, learning curves, weights, scores and errors; knows nothing about Keras.

A function that draws one panel takes `ax=None`, draws only there and returns it. One
that needs several panels returns its figure. None of them shows or saves. Each gives
its figure an alternative text.
"""

from mnistlab.plots.curves import learning_curve, learning_curves, plt_dynamic
from mnistlab.plots.errors import (
    agreement,
    confusion,
    errors_by_digit,
    lost_digits,
    reliability,
    share_wrong,
)
from mnistlab.plots.images import (
    digit,
    digit_grid,
    error_gallery,
    label_counts,
    normalizations,
)
from mnistlab.plots.look import alt_text, describe_figures
from mnistlab.plots.riddles import beginnings_of_d2, first_epochs
from mnistlab.plots.scores import (
    accuracies,
    accuracy_against,
    costs,
    gaps,
    pair_differences,
    then_and_now,
)
from mnistlab.plots.verdicts import conclusion, conclusions
from mnistlab.plots.weights import feature_maps, filters, weight_violins
