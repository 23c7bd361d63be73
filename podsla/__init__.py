"""The face: the command line, and later the client inside pods. The only package that knows all the others."""
