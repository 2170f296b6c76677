"""The tables: architectures, scores, 2019's own and ours beside them, verdicts.

Each returns a `Table`, or what 2019 used (`PrettyTable`, `DataFrame`).
"""

from mnistlab.tables.architectures import definition, diagram, sizes, summary
from mnistlab.tables.base import Table, amount, record_link
from mnistlab.tables.board import leader_board, missing, pairs, scores
from mnistlab.tables.contradictions_2019 import contradictions
from mnistlab.tables.of_2019 import (
    as_2019,
    beside_2019,
    reported_2019,
    row_beside_2019,
    table_2019,
)
from mnistlab.tables.verdicts import conclusion, conclusions, inputs_of_b
