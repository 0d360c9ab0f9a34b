"""Items that are blocks of rows and columns of one of several matrices."""
from __future__ import annotations

from jtorch.codegen.library.kernel_text import inline
from jtorch.codegen.library.language import index_div, index_mod


@inline
def block_of(item: int, row_blocks: int, col_blocks: int, rows: int, cols: int) -> tuple[int, int, int]:
    """The number of the matrix, and the first row and column of the block of rows x cols that an item is."""
    c0 = index_mod(item, col_blocks) * cols
    above = index_div(item, col_blocks)
    r0 = index_mod(above, row_blocks) * rows
    batch = index_div(above, row_blocks)
    return batch, r0, c0
