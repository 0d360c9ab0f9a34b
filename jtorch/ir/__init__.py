"""What a program is: values, graphs, operations, and rewrites of graphs."""
