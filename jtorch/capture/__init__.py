"""Where user code becomes graphs: the eager recorder and tracing."""
