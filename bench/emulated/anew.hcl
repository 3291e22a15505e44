# Read after the other two where a build is measured: what makes the Python environment runs, whatever
# the cache holds; what is below it stays. (`--set TARGET.no-cache-filter=...` would say it on the
# command line, but buildx 0.13 drops it without a word.)

target "upstream" {
  no-cache-filter = ["environment", "stand-in"]
}

target "custom" {
  no-cache-filter = ["environment", "custom"]
}

target "download" {
  no-cache-filter = ["download"]
}

target "emulated" {
  no-cache-filter = ["emulated"]
}
