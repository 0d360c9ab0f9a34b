"""The public operators: value functions turned into functions and methods of tensors."""
