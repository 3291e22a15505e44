# Read after the bake file where the cold build of a model is measured: the environment comes out the
# same as before, to the byte, so whatever is made of it would come from the cache. None of these
# stages mounts a cache, which would be emptied.

target "model-tried" {
  no-cache-filter = ["with-environment", "tried"]
}

target "model" {
  no-cache-filter = ["with-environment", "model"]
}
