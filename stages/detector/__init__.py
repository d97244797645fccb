"""The library that the stages share. Nothing here reads params.yaml, knows a path, or runs by itself."""
